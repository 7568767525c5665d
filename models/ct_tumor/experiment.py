"""Training and evaluation of both organs' networks; the data set's classes tell the organ.

lung      ainode train ct_tumor --data lung_ct_iqoth
pancreas  python -m ainode.models.ct_tumor.phantoms --out DIR, then ainode train ct_tumor --data DIR
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.ct_tumor.dataset import Slices, classes_of_parts, read_slices
from ainode.models.errors import ModelError
from ainode.models.training.experiment import Baseline, Evaluation, Part, TrainingOptions
from ainode.models.training.shortcuts import shortcut_baselines

# Augmented copies of every slice; each copy takes a minute on two cores.
_COPIES = 8
# The inverse of the baseline's penalty, from the data set's own description.
_BASELINE_STRENGTH = 1.0
_VALIDATION = "validation"


def organ_of(data: Path) -> Organ:
    """Return the organ whose classes are those of a data set's part `train`.

    Raises: ModelError if no organ has these classes.
    """
    classes = classes_of_parts(data).get("train", frozenset())
    for organ in read_card().organs:
        if classes == frozenset(organ.class_names):
            return organ
    expected = " or ".join(", ".join(organ.class_names) for organ in read_card().organs)
    raise ModelError(f"{data}: its part train has the classes {sorted(classes)}; {expected} were expected")


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train the organ's network on the part `train`; return its file by its name in the manifest.

    An epoch is one augmented copy of every slice. Without `resume`, the features of an earlier call are deleted.
    """
    from ainode.models.ct_tumor import training  # noqa: PLC0415  # brings TensorFlow, which evaluation does not need
    from ainode.models.running.keras_network import save_half  # noqa: PLC0415

    organ = organ_of(data)
    slices = read_slices(data, "train", organ)
    if not options.resume:
        for path in out.glob("**/features_*.npy"):
            path.unlink()
    copies = _COPIES if options.epochs is None else options.epochs
    rounds = training.features(organ, slices, out / "train", copies=copies, seed=options.seed)
    choice = training.cross_validated_choice(slices, rounds, seed=options.seed)
    head = training.fitted_head(slices.labels, training.patient_weights(slices.groups), rounds, choice.strength)
    studies, logits = slices, choice.logits
    if _VALIDATION in classes_of_parts(data):
        studies = read_slices(data, _VALIDATION, organ)
        logits = head(training.features(organ, studies, out / _VALIDATION, copies=0, seed=options.seed)[0])
    rule = training.study_rule(
        logits, studies.labels, studies.groups, positive=organ.positive_index, temperature=choice.temperature
    )
    path = out / organ.file
    save_half(training.network_with(organ, head), path, rule.metadata())
    _write_log(out, organ, slices, choice.logits, rule)
    return {f"{read_card().name}/{organ.name}": path}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the network's results on every slice of a part, beside baselines of shortcuts and 16 x 16 pixels."""
    # Both modules import torch, which training does not need.
    from ainode.models.ct_tumor.model import TumorModel  # noqa: PLC0415
    from ainode.models.running.runtime import Execution  # noqa: PLC0415

    organ = organ_of(data)
    slices = read_slices(data, part, organ)
    name = f"{read_card().name}/{organ.name}"
    with tempfile.TemporaryDirectory() as cache:
        model = TumorModel.load(weights[name], organ, execution=Execution(Path(cache), "cpu"))
        probabilities = model.probabilities(slices.pictures)
    training = read_slices(data, "train", organ)
    is_ill, pixels = training.labels == organ.positive_index, _baseline_scores(training, slices, organ.positive_index)
    return Evaluation(
        class_names=organ.class_names,
        labels=slices.labels,
        probabilities=probabilities,
        groups=slices.groups,
        positive=(organ.positive,),
        threshold=model.calibration.threshold,
        baselines=shortcut_baselines(training.shortcuts, is_ill, training.groups, slices.shortcuts)
        | {"logistic regression on 16 x 16 pixels": Baseline(pixels, "pixels")},
        weights=(name,),
        further=_figures_of_classes(slices.labels, probabilities, slices.groups, organ.class_names),
    )


def _figures_of_classes(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], groups: NDArray[np.str_], names: Sequence[str]
) -> Mapping[str, object]:
    """Return the area under the curve of each class against the rest, and the confusion of the classes."""
    from ainode.models.training.metrics import auc, bootstrap_estimate  # noqa: PLC0415

    predicted = probabilities.argmax(axis=1)
    return {
        "auc_of_class": {
            name: asdict(bootstrap_estimate(auc, labels == number, probabilities[:, number], groups))
            for number, name in enumerate(names)
        },
        "confusion": [
            [int((predicted[labels == number] == column).sum()) for column in range(len(names))]
            for number in range(len(names))
        ],
    }


def _baseline_scores(training: Slices, tested: Slices, positive: int) -> NDArray[np.float64]:
    """Return the scores of a logistic regression on thumbnails, fitted on the training slices."""
    model = LogisticRegression(C=_BASELINE_STRENGTH, max_iter=2000)
    model.fit(training.thumbnails.reshape(len(training.labels), -1) / 255, training.labels == positive)
    return np.asarray(model.predict_proba(tested.thumbnails.reshape(len(tested.labels), -1) / 255)[:, 1])


def _write_log(out: Path, organ: Organ, slices: Slices, logits: NDArray[np.float64], rule: Calibration) -> None:
    """Write the calibration, and its figures on slices whose patient was left out."""
    from ainode.models.training.metrics import auc, bootstrap_estimate  # noqa: PLC0415

    probabilities = rule.probabilities(logits)
    scores = probabilities[:, organ.positive_index]
    is_ill = slices.labels == organ.positive_index
    log = {
        "calibration": rule.metadata(),
        "left-out slices": {
            f"AUC of {organ.positive}": str(bootstrap_estimate(auc, is_ill, scores, slices.groups)),
            "accuracy": float((probabilities.argmax(axis=1) == slices.labels).mean()),
        },
    }
    (out / f"log_{organ.name}.json").write_text(json.dumps(log, indent=2) + "\n", "utf-8")
