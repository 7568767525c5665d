"""Choosing on the validation set, and one evaluation on the test set."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.phantoms.spine import CLASS_NAMES
from ainode.models.spine_radiograph.dataset import Stack
from ainode.models.spine_radiograph.detector import Detector
from ainode.models.spine_radiograph.detector_training import found_and_true
from ainode.models.spine_radiograph.model import SpineRadiographModel, sigmoid
from ainode.models.spine_radiograph.preprocess import prepare
from ainode.models.training.metrics import (
    auc,
    average_precision,
    bootstrapped,
    brier,
    calibration_error,
    sensitivity_specificity,
    youden_threshold,
)
from ainode.models.training.plots import evaluation_plots

_LEAST_CONFIDENCE = 0.01


@dataclass(frozen=True, slots=True)
class Choice:
    """What the validation set decided: each member's share and the threshold."""

    weights: tuple[float, ...]
    threshold: float


def member_probabilities(model: SpineRadiographModel, stack: Stack) -> NDArray[np.float64]:
    """Return (n, members) probabilities of a split, as served."""
    rows = []
    for picture in stack.pictures:
        logits, _ = model.classify(prepare(picture.astype(np.float32), model.card.side, model.card.resize))
        rows.append(sigmoid(logits[0]))
    return np.stack(rows)


def chosen(labels: NDArray[np.float32], members: NDArray[np.float64]) -> Choice:
    """Return the shares, in tenths, of best area under the curve, and Youden's threshold.

    Every member keeps at least a tenth: an ensemble of one is not what the card says.
    """
    tenths = [w for w in itertools.product(range(1, 11), repeat=members.shape[1]) if sum(w) == 10]  # noqa: PLR2004
    best = max(tenths, key=lambda w: auc(labels, members @ np.asarray(w)))
    weights = tuple(w / 10 for w in best)
    return Choice(weights, round(youden_threshold(labels, members @ np.asarray(weights)), 3))


def classification_report(
    stack: Stack, members: NDArray[np.float64], names: tuple[str, ...], choice: Choice, out: Path
) -> Mapping[str, object]:
    """Return every figure of the classifiers on a split, and write the plots to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    scores = members @ np.asarray(choice.weights)
    sensitivity, specificity = sensitivity_specificity(stack.labels, scores, choice.threshold)
    read = scores > choice.threshold
    evaluation_plots(stack.labels, scores, out, confusion=(stack.labels, read, ("normal", "abnormal")))
    return {
        "auc": asdict(bootstrapped(auc, stack.labels, scores)),
        "auc_of": {name: asdict(bootstrapped(auc, stack.labels, members[:, i])) for i, name in enumerate(names)},
        "sensitivity": asdict(sensitivity),
        "specificity": asdict(specificity),
        "brier": brier(stack.labels, scores),
        "expected_calibration_error": calibration_error(stack.labels, scores),
        **parts_of(stack, scores, choice.threshold),
    }


def parts_of(stack: Stack, scores: NDArray[np.float64], threshold: float) -> Mapping[str, object]:
    """Return the figures by region and view, and among pictures that show each class (others may be there too)."""
    by_group = {
        str(group): asdict(bootstrapped(auc, stack.labels[stack.groups == group], scores[stack.groups == group]))
        for group in np.unique(stack.groups)
    }
    by_class = {}
    for kind in np.unique(stack.boxes[:, 1]).astype(int):
        shown = np.unique(stack.boxes[stack.boxes[:, 1] == kind, 0]).astype(int)
        sensitivity, _ = sensitivity_specificity(stack.labels[shown], scores[shown], threshold)
        by_class[CLASS_NAMES[kind]] = asdict(sensitivity)
    return {"auc_by_region_and_view": by_group, "sensitivity_by_class": by_class}


def detection_report(model: SpineRadiographModel, folder: Path, split: str, count: int) -> Mapping[str, float]:
    """Return COCO's average precision of the detector on a split."""
    served = model.detector
    asked = Detector(served.run, served.class_names, served.side, (_LEAST_CONFIDENCE,), served.iou)
    return average_precision(*found_and_true(asked, folder, split, range(count)))


def write_report(report: Mapping[str, object], path: Path) -> None:
    """Write the figures as JSON."""
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
