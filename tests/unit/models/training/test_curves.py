from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ainode.models.training.curves import MOST_POINTS, curves, losses, precision_recall, roc
from ainode.models.training.experiment import Evaluation


def an_evaluation(cases: int = 400, seed: int = 0) -> Evaluation:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, cases)
    scores = np.clip(0.3 * labels + 0.7 * random.random(cases), 0, 1).round(2)
    probabilities = np.column_stack([1 - scores, scores])
    groups = np.arange(cases).astype(str)
    return Evaluation(("benign", "malignant"), labels, probabilities, groups, positive=("malignant",))


def test_the_points_are_those_of_scikit_learn() -> None:
    pytest.importorskip("sklearn")
    from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

    evaluation = an_evaluation()
    false_positive, true_positive, _ = roc_curve(evaluation.truth, evaluation.scores, drop_intermediate=False)
    np.testing.assert_allclose(
        roc(evaluation.truth, evaluation.scores), np.column_stack([false_positive, true_positive])
    )
    precision, recall, _ = precision_recall_curve(evaluation.truth, evaluation.scores)
    judged = np.column_stack([recall, precision])[:-1][::-1]
    np.testing.assert_allclose(precision_recall(evaluation.truth, evaluation.scores), judged)
    table = confusion_matrix(evaluation.labels, evaluation.predicted)
    assert curves(evaluation)["confusion"] == {"names": ("benign", "malignant"), "counts": table.tolist()}


def test_curves_are_json_of_a_bounded_size_and_keep_their_ends() -> None:
    points = json.loads(json.dumps(curves(an_evaluation(20_000))))
    assert points["roc"][0] == [0, 0]
    assert points["roc"][-1] == [1, 1]
    assert max(len(points["roc"]), len(points["precision_recall"])) <= MOST_POINTS
    assert sum(points["scores"]["positive"]) + sum(points["scores"]["negative"]) == 20_000
    assert sum(tenth["n"] for tenth in points["calibration"]) == 20_000
    assert all(tenth["low"] <= tenth["value"] <= tenth["high"] for tenth in points["calibration"])
    assert len(json.dumps(points)) < 10_000


def test_an_evaluation_of_a_single_class_has_no_curve_and_is_json_still() -> None:
    evaluation = an_evaluation()
    single = Evaluation(
        ("benign", "malignant"),
        np.zeros_like(evaluation.labels),
        evaluation.probabilities,
        evaluation.groups,
        positive=("malignant",),
    )
    points = json.loads(json.dumps(curves(single), allow_nan=False))
    assert (points["roc"], points["precision_recall"]) == ([], [])


def test_the_losses_of_every_network_of_a_training_are_told_without_its_clock(tmp_path: Path) -> None:
    for folder, epochs in (("", 3), ("resnet10t", 1000)):
        (tmp_path / folder).mkdir(exist_ok=True)
        rows = [f"{epoch},{1 / (epoch + 1)},0.001,{epoch * 9}\n" for epoch in range(epochs)]
        (tmp_path / folder / "log.csv").write_text("epoch,val_loss,learning_rate,seconds\n" + "".join(rows))
    columns = losses(tmp_path)
    assert set(columns) == {"", "resnet10t"}
    assert columns[""] == {"epoch": [0, 1, 2], "val_loss": [1, 1 / 2, 1 / 3]}
    assert len(columns["resnet10t"]["epoch"]) <= MOST_POINTS
