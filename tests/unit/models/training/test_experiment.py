"""What `ainode train` and `ainode evaluate` do for any model, with one whose answers are known."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ainode.models.errors import ModelError, installation
from ainode.models.training import experiment
from ainode.models.training.experiment import Baseline, Evaluation, Part, TrainingOptions


def _evaluated() -> Evaluation:
    """Return four cases of each of three classes; one malignant case is taken for benign."""
    labels = np.repeat(np.arange(3), 4)
    probabilities = np.full((12, 3), 0.1)
    probabilities[np.arange(12), labels] = 0.8
    probabilities[11] = (0.1, 0.8, 0.1)
    return Evaluation(
        class_names=("normal", "benign", "malignant"),
        labels=labels,
        probabilities=probabilities,
        groups=np.asarray([f"patient {number // 2}" for number in range(12)]),
        positive=("malignant",),
        baselines={"constant": Baseline(np.zeros(12), "pixels")},
    )


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a model named `known` that trains at once."""
    module = ModuleType("ainode.models.known.experiment")

    def train(_: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
        (out / "log.csv").write_text("epoch,loss,score,seconds\n0,1.0,0.5,90\n1,0.5,0.7,60\n", "utf-8")
        (out / "weights.bin").write_bytes(bytes([options.seed]))
        return {"known/only": out / "weights.bin"}

    def evaluate(_: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
        assert part == "test"
        assert weights["known/only"].read_bytes() == b"\x07"
        return _evaluated()

    module.train, module.evaluate = train, evaluate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ainode.models.known", ModuleType("ainode.models.known"))
    monkeypatch.setitem(sys.modules, "ainode.models.known.experiment", module)
    return "known"


def test_what_was_trained_is_evaluated_from_its_folder(known: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    experiment.train(known, tmp_path, out, TrainingOptions(seed=7))
    assert (out / "loss.png").stat().st_size > 1000
    experiment.evaluate(known, tmp_path, experiment.finished_weights(out), tmp_path / "report", run=out)
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text("utf-8"))
    # The malignant case that is scored like the others costs half of its 8 pairs of 32.
    assert metrics["auc"]["value"] == pytest.approx(1 - 4 / 32)
    assert metrics["accuracy"]["value"] == pytest.approx(11 / 12)
    assert (metrics["cases"], metrics["groups"]) == (12, 6)
    assert metrics["baselines"]["constant"]["auc"]["value"] == 0.5
    assert metrics["weights"] == {"known/only": hashlib.sha256(b"\x07").hexdigest()}
    # Four malignant cases of two patients: the interval is of patients, and says how many there are.
    assert (metrics["sensitivity"]["n"], metrics["sensitivity"]["groups"]) == (4, 2)
    assert metrics["training_minutes"] == 2.5
    assert metrics["curves"]["losses"] == {"": {"epoch": [0, 1], "loss": [1.0, 0.5], "score": [0.5, 0.7]}}
    assert metrics["curves"]["confusion"]["counts"] == [[4, 0, 0], [0, 4, 0], [0, 1, 3]]
    pictures = {path.name for path in (tmp_path / "report").glob("*.png")}
    assert pictures == {"roc.png", "precision_recall.png", "calibration.png", "confusion.png"}


def test_the_classes_that_are_read_agree_with_sensitivity_and_specificity_at_the_threshold() -> None:
    scores = np.asarray([0.1, 0.3, 0.45, 0.42, 0.6, 0.9])
    found = Evaluation(
        class_names=("benign", "malignant"),
        labels=np.asarray([0, 0, 0, 1, 1, 1]),
        probabilities=np.stack([1 - scores, scores], axis=1),
        groups=np.arange(6).astype(str),
        positive=("malignant",),
        threshold=0.4,
    )
    assert found.predicted.tolist() == [0, 0, 1, 1, 1, 1]
    metrics = experiment.figures(found)
    assert metrics["sensitivity"]["value"] == 1  # type: ignore[index]
    assert metrics["specificity"]["value"] == pytest.approx(2 / 3)  # type: ignore[index]
    assert metrics["accuracy"]["value"] == pytest.approx(5 / 6)  # type: ignore[index]
    assert metrics["classes"] == {
        "benign": {"precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(4 / 5), "n": 3},
        "malignant": {"precision": pytest.approx(3 / 4), "recall": 1.0, "f1": pytest.approx(6 / 7), "n": 3},
    }


def test_precision_recall_and_f1_of_each_class_are_scikit_learns() -> None:
    from sklearn.metrics import precision_recall_fscore_support

    found = _evaluated()
    expected = np.stack(precision_recall_fscore_support(found.labels, found.predicted), axis=1)
    for row, ours in zip(expected, experiment.class_figures(found).values(), strict=True):
        assert list(ours.values()) == pytest.approx(row.tolist())


def test_a_figure_of_a_class_that_divides_by_no_case_is_null_and_not_0() -> None:
    found = replace(_evaluated(), probabilities=np.tile([1.0, 0.0, 0.0], (12, 1)))
    assert experiment.class_figures(found)["malignant"] == {"precision": None, "recall": 0.0, "f1": 0.0, "n": 4}
    json.dumps(experiment.class_figures(found), allow_nan=False)


def test_a_training_never_overwrites_another(known: str, tmp_path: Path) -> None:
    experiment.train(known, tmp_path, tmp_path / "run", TrainingOptions())
    with pytest.raises(ModelError, match="not empty"):
        experiment.train(known, tmp_path, tmp_path / "run", TrainingOptions())
    experiment.train(known, tmp_path, tmp_path / "run", TrainingOptions(resume=True))


def test_an_unknown_model_and_an_unfinished_training_are_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model named 'nothing'"):
        experiment.experiment("nothing")
    with pytest.raises(ModelError, match=r"no weights\.json"):
        experiment.finished_weights(tmp_path)


def test_a_training_says_first_what_it_does_and_where_nothing_is_resumed(
    known: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    experiment.train(known, tmp_path, out, TrainingOptions(epochs=3, resume=True))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"train known on {tmp_path} into {out}: 3 epochs, seed 0, cpu")
    assert "after its first epoch, it goes on with --resume" in first
    assert second == f"nothing to resume in {out}: begins anew"
    (out / "network").mkdir()
    (out / "network" / "last.pt").touch()
    experiment.train(known, tmp_path, out, TrainingOptions(resume=True))
    assert "nothing to resume" not in capsys.readouterr().err


def test_an_evaluation_says_first_what_is_evaluated_and_then_how_many_cases(
    known: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.train(known, tmp_path, tmp_path / "run", TrainingOptions(seed=7))
    capsys.readouterr()
    experiment.evaluate(known, tmp_path, experiment.finished_weights(tmp_path / "run"), tmp_path / "report")
    first, second = capsys.readouterr().err.splitlines()
    assert (
        first == f"evaluate known on the part test of {tmp_path}: known/only; the figures go to {tmp_path / 'report'}"
    )
    assert second.startswith("12 cases were read")


def test_a_package_that_is_imported_late_and_missing_is_said_with_the_command_of_a_checkout(
    known: str, tmp_path: Path
) -> None:
    def train(*_: object) -> Mapping[str, Path]:
        raise ModuleNotFoundError("No module named 'absent'", name="absent")

    sys.modules["ainode.models.known.experiment"].train = train  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"known: absent is missing; .*-c constraints\.txt -e '\.\[models,train\]'"):
        experiment.train(known, tmp_path, tmp_path / "run", TrainingOptions())


def test_node_and_models_name_the_same_installation() -> None:
    from ainode.node.errors import installation as of_the_node

    assert installation("models", "detect") == of_the_node("models", "detect")
