"""The choice of shares and threshold on the validation set, and the figures of a split."""

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
from ainode.models.spine_radiograph.detector_training import predicted_and_true_boxes
from ainode.models.spine_radiograph.model import SpineRadiographModel, sigmoid
from ainode.models.spine_radiograph.preprocess import classifier_input
from ainode.models.training.metrics import (
    auc,
    average_precision,
    bootstrap_estimate,
    brier,
    calibration_error,
    sensitivity_specificity,
    youden_threshold,
)
from ainode.models.training.plots import evaluation_plots

_LEAST_CONFIDENCE = 0.01


@dataclass(frozen=True, slots=True)
class Choice:
    """Each member's share and the threshold, chosen on the validation set."""

    weights: tuple[float, ...]
    threshold: float


def member_probabilities(model: SpineRadiographModel, stack: Stack) -> NDArray[np.float64]:
    """Return the members' probabilities (n, members) of a split, computed as in the node."""
    rows = []
    for picture in stack.pictures:
        logits, _ = model.classify(classifier_input(picture.astype(np.float32), model.card.side, model.card.resize))
        rows.append(sigmoid(logits[0]))
    return np.stack(rows)


def validation_choice(labels: NDArray[np.float32], members: NDArray[np.float64]) -> Choice:
    """Return the shares, in tenths, with the best area under the curve, and Youden's threshold.

    Every member has at least a tenth: the card promises an ensemble of all members.
    """
    tenths = [shares for shares in itertools.product(range(1, 11), repeat=members.shape[1]) if sum(shares) == 10]  # noqa: PLR2004
    best_tenths = max(tenths, key=lambda shares: auc(labels, members @ np.asarray(shares)))
    weights = tuple(shares / 10 for shares in best_tenths)
    return Choice(weights, round(youden_threshold(labels, members @ np.asarray(weights)), 3))


def classification_report(
    stack: Stack, members: NDArray[np.float64], names: tuple[str, ...], choice: Choice, out: Path
) -> Mapping[str, object]:
    """Write the plots of the classifiers on a split to `out`; return their figures."""
    out.mkdir(parents=True, exist_ok=True)
    scores = members @ np.asarray(choice.weights)
    sensitivity, specificity = sensitivity_specificity(stack.labels, scores, choice.threshold)
    predicted = scores > choice.threshold
    evaluation_plots(stack.labels, scores, out, confusion=(stack.labels, predicted, ("normal", "abnormal")))
    return {
        "auc": asdict(bootstrap_estimate(auc, stack.labels, scores)),
        "auc_of": {name: asdict(bootstrap_estimate(auc, stack.labels, members[:, i])) for i, name in enumerate(names)},
        "sensitivity": asdict(sensitivity),
        "specificity": asdict(specificity),
        "brier": brier(stack.labels, scores),
        "expected_calibration_error": calibration_error(stack.labels, scores),
        **figures_of_parts(stack, scores, choice.threshold),
    }


def figures_of_parts(stack: Stack, scores: NDArray[np.float64], threshold: float) -> Mapping[str, object]:
    """Return the figures by region and view, and among the pictures that show each class, alone or with others.

    Where nobody says region and view, there are no figures by them.
    """
    by_group = {
        str(group): asdict(bootstrap_estimate(auc, stack.labels[stack.groups == group], scores[stack.groups == group]))
        for group in np.unique(stack.groups[stack.groups != ""])
    }
    by_class = {}
    for kind in np.unique(stack.boxes[:, 1]).astype(int):
        shown = np.unique(stack.boxes[stack.boxes[:, 1] == kind, 0]).astype(int)
        sensitivity, _ = sensitivity_specificity(stack.labels[shown], scores[shown], threshold)
        by_class[CLASS_NAMES[kind]] = asdict(sensitivity)
    return {"auc_by_region_and_view": by_group, "sensitivity_by_class": by_class}


def detection_report(model: SpineRadiographModel, folder: Path, split: str, count: int) -> Mapping[str, float]:
    """Return COCO's average precision of the detector on a split."""
    detector = model.detector
    lenient_detector = Detector(detector.run, detector.class_names, detector.side, (_LEAST_CONFIDENCE,), detector.iou)
    return average_precision(*predicted_and_true_boxes(lenient_detector, folder, split, range(count)))


def write_report(report: Mapping[str, object], path: Path) -> None:
    """Write the figures as JSON."""
    path.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
