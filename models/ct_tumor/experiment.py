"""How the networks of both organs are trained and put to the test; the data set's classes say which organ.

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
from ainode.models.ct_tumor.dataset import Slices, parts, read
from ainode.models.errors import ModelError
from ainode.models.training.experiment import Baseline, Evaluated, Part, TrainingOptions
from ainode.models.training.shortcuts import shortcut_baselines

# Augmented copies of every slice; each is a minute on two cores.
_COPIES = 8
# Of the baseline's penalty, as the data set's own description has it.
_BASELINE_STRENGTH = 1.0
_VALIDATION = "validation"


def organ_of(data: Path) -> Organ:
    """Return the organ whose classes the part `train` of a data set has.

    Raises: ModelError if there is none.
    """
    found = parts(data).get("train", frozenset())
    for organ in read_card().organs:
        if found == frozenset(organ.class_names):
            return organ
    known = " or ".join(", ".join(organ.class_names) for organ in read_card().organs)
    raise ModelError(f"{data}: its part train has the classes {sorted(found)}; {known} were expected")


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train the organ's network on the part `train`; return its file by its name in the manifest.

    An epoch is one augmented copy of every slice. Without `resume`, features of an earlier call are made anew.
    """
    from ainode.models.ct_tumor import training  # noqa: PLC0415  # brings TensorFlow, which evaluation does not need
    from ainode.models.running.keras_network import save_half  # noqa: PLC0415

    organ = organ_of(data)
    slices = read(data, "train", organ)
    if not options.resume:
        for old in out.glob("**/features_*.npy"):
            old.unlink()
    copies = _COPIES if options.epochs is None else options.epochs
    rounds = training.features(organ, slices, out / "train", copies=copies, seed=options.seed)
    choice = training.chosen(slices, rounds, seed=options.seed)
    head = training.fitted(slices.labels, training.patient_weights(slices.groups), rounds, choice.strength)
    studies, logits = slices, choice.logits
    if _VALIDATION in parts(data):
        studies = read(data, _VALIDATION, organ)
        logits = head(training.features(organ, studies, out / _VALIDATION, copies=0, seed=options.seed)[0])
    rule = training.study_rule(
        logits, studies.labels, studies.groups, positive=organ.positive_index, temperature=choice.temperature
    )
    path = out / organ.file
    save_half(training.network_with(organ, head), path, rule.metadata())
    _write_log(out, organ, slices, choice.logits, rule)
    return {f"{read_card().name}/{organ.name}": path}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluated:
    """Return what the network says of every slice of a part, what 16 x 16 pixels say, and what shortcuts say."""
    # They bring torch, which training does not need.
    from ainode.models.ct_tumor.model import TumorModel  # noqa: PLC0415
    from ainode.models.running.runtime import Execution  # noqa: PLC0415

    organ = organ_of(data)
    slices = read(data, part, organ)
    name = f"{read_card().name}/{organ.name}"
    with tempfile.TemporaryDirectory() as cache:
        model = TumorModel.load(weights[name], organ, execution=Execution(Path(cache), "cpu"))
        probabilities = model.probabilities(slices.pictures)
    seen = read(data, "train", organ)
    ill, pixels = seen.labels == organ.positive_index, _baseline(seen, slices, organ.positive_index)
    return Evaluated(
        class_names=organ.class_names,
        labels=slices.labels,
        probabilities=probabilities,
        groups=slices.groups,
        positive=(organ.positive,),
        threshold=model.calibration.threshold,
        baselines=shortcut_baselines(seen.shortcuts, ill, seen.groups, slices.shortcuts)
        | {"logistic regression on 16 x 16 pixels": Baseline(pixels, "pixels")},
        weights=(name,),
        further=_of_classes(slices.labels, probabilities, slices.groups, organ.class_names),
    )


def _of_classes(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], groups: NDArray[np.str_], names: Sequence[str]
) -> Mapping[str, object]:
    """Return the area under the curve of each class against the rest, and how each is read."""
    from ainode.models.training.metrics import auc, bootstrapped  # noqa: PLC0415

    read_as = probabilities.argmax(axis=1)
    return {
        "auc_of_class": {
            name: asdict(bootstrapped(auc, labels == i, probabilities[:, i], groups)) for i, name in enumerate(names)
        },
        "confusion": [[int((read_as[labels == i] == k).sum()) for k in range(len(names))] for i in range(len(names))],
    }


def _baseline(seen: Slices, asked: Slices, positive: int) -> NDArray[np.float64]:
    model = LogisticRegression(C=_BASELINE_STRENGTH, max_iter=2000)
    model.fit(seen.thumbnails.reshape(len(seen.labels), -1) / 255, seen.labels == positive)
    return np.asarray(model.predict_proba(asked.thumbnails.reshape(len(asked.labels), -1) / 255)[:, 1])


def _write_log(out: Path, organ: Organ, slices: Slices, logits: NDArray[np.float64], rule: Calibration) -> None:
    """Write what was chosen, and how it does on slices whose patient was left out."""
    from ainode.models.training.metrics import auc, bootstrapped  # noqa: PLC0415

    each = rule.probabilities(logits)
    scores = each[:, organ.positive_index]
    ill = slices.labels == organ.positive_index
    log = {
        "calibration": rule.metadata(),
        "left-out slices": {
            f"AUC of {organ.positive}": str(bootstrapped(auc, ill, scores, slices.groups)),
            "accuracy": float((each.argmax(axis=1) == slices.labels).mean()),
        },
    }
    (out / f"log_{organ.name}.json").write_text(json.dumps(log, indent=2) + "\n", "utf-8")
