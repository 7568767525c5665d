"""How well the tumor is found and outlined on slices that hold one, by patient, beside what the place alone reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.pancreas_tumor.baselines import Prior, boosted, middle_of
from ainode.models.pancreas_tumor.card import Marking
from ainode.models.pancreas_tumor.dataset import Slices
from ainode.models.pancreas_tumor.healthy import false_marks
from ainode.models.pancreas_tumor.model import PancreasModel
from ainode.models.pancreas_tumor.plots import draw_dice, draw_goals, draw_slices
from ainode.models.pancreas_tumor.regions import Mask, agreed, center_of, dice, regions_of
from ainode.models.training.experiment import Baseline, Evaluation
from ainode.models.training.metrics import bootstrap_estimate

Maps = NDArray[np.float32]
Figures = Mapping[str, Any]

GOAL_CENTER, GOAL_DICE = 0.50, 0.50
"""the middle of the region lies in the tumor; the mean Dice where it does"""
_NEAR = 10.0
"""pixels of the picture"""
_IOU = 0.3
# Every so many rows and columns, a pixel of the frame is a case of the ROC and of the calibration.
_CASE_STEP = 8
# The pictures do not tell the size of a pixel: a body of 360 mm is 240 pixels wide.
_PIXEL_MM = 1.5
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a rule draws on each slice.

    Shapes: masks (n, 256, 256); centers (n, 2), row and column, NaN where nothing is drawn.
    """

    masks: Mask
    centers: NDArray[np.float64]


def evaluation_of(model: PancreasModel, training: Slices, tested: Slices) -> Evaluation:
    """Return the evaluation: its cases are pixels of the frames, the figures of regions stand beside."""
    frames = tested.frames()
    maps = model.probabilities(tested.pictures, list(frames))
    prior = Prior.of(training)
    place = prior.maps(frames)
    rules = {
        "this network": drawn_of(maps, model.card.marking),
        "place alone": _of_prior(prior, place, tested),
        "box of the median size": _boxes(prior, tested),
        "middle of the picture": _middles(tested),
    }
    regions = {name: _figures(drawn, tested) for name, drawn in rules.items()}
    scored = _scored_pixels(place)
    probabilities = maps[scored].astype(np.float64)
    return Evaluation(
        class_names=("No tumor", "Tumor"),
        labels=tested.masks[scored].astype(np.int64),
        probabilities=np.stack([1 - probabilities, probabilities], axis=1),
        groups=np.broadcast_to(tested.patients[:, None, None], tested.masks.shape)[scored],
        positive=("Tumor",),
        threshold=model.card.marking.least_peak,
        baselines={
            "shortcut: place in the body": Baseline(place[scored].astype(np.float64), "shortcut", "share of training"),
            "gradient boosting on grays and place": Baseline(
                boosted(training, tested)[scored].astype(np.float64), "pixels"
            ),
        },
        further={
            **regions["this network"],
            "rules": {name: figures for name, figures in regions.items() if name != "this network"},
            "goals": _goals(regions["this network"]),
            "false_marks_per_scan": false_marks(model),
        },
        drawings=_drawings(regions, rules["this network"], tested),
    )


def drawn_of(maps: Maps, marking: Marking) -> Drawn:
    """Return the surest region of each slice, each slice alone."""
    masks, centers = np.zeros(maps.shape, bool), np.full((len(maps), 2), np.nan)
    for number, probabilities in enumerate(maps):
        regions = regions_of(probabilities[None], marking, (marking.least_mm, _PIXEL_MM, _PIXEL_MM))
        if regions:
            masks[number] = regions[0].mask[0]
            centers[number] = center_of(masks[number], agreed(probabilities[None])[0])
    return Drawn(masks, centers)


def _of_prior(prior: Prior, place: Maps, tested: Slices) -> Drawn:
    centers = np.array([prior.center_on(picture) for picture in tested.pictures])
    return Drawn(place > prior.threshold, centers)


def _boxes(prior: Prior, tested: Slices) -> Drawn:
    centers = np.array([prior.center_on(picture) for picture in tested.pictures])
    return Drawn(np.stack([prior.box_on(picture) for picture in tested.pictures]), centers)


def _middles(tested: Slices) -> Drawn:
    middle = (np.array(tested.masks.shape[1:]) - 1) / 2
    return Drawn(np.zeros(tested.masks.shape, bool), np.tile(middle, (len(tested.masks), 1)))


def _figures(drawn: Drawn, tested: Slices) -> Figures:
    """Return the shares and Dice of a rule over all slices, with intervals by patient."""
    truth = tested.masks > 0
    hits = np.array([_is_in(center, mask) for center, mask in zip(drawn.centers, truth, strict=True)])
    near = np.array(
        [
            np.hypot(*(center - middle_of(mask))) <= _NEAR
            for center, mask in zip(drawn.centers, tested.masks, strict=True)
        ]
    )
    dices = np.array([dice(mask, true) for mask, true in zip(drawn.masks, truth, strict=True)])
    overlaps = dices / (2 - dices)
    figures = {
        "center_in_tumor": _estimate(hits, tested.patients),
        "center_in_tumor_by_patient": _estimate(_of_patients(hits, tested.patients), np.unique(tested.patients)),
        "center_within_10_pixels": _estimate(near, tested.patients),
        "slices_with_a_region": int(np.isfinite(drawn.centers[:, 0]).sum()),
    }
    if drawn.masks.any():
        figures |= {
            "dice": _estimate(dices, tested.patients),
            "iou_of_0_3": _estimate(overlaps >= _IOU, tested.patients),
        }
        if hits.any():
            figures["dice_of_hit_tumors"] = _estimate(dices[hits], tested.patients[hits])
    return figures


def _is_in(center: NDArray[np.float64], mask: Mask) -> bool:
    if not np.isfinite(center).all():
        return False
    row, column = np.clip(np.rint(center).astype(int), 0, np.array(mask.shape) - 1)
    return bool(mask[row, column])


def _of_patients(values: NDArray[Any], patients: NDArray[np.str_]) -> NDArray[np.float64]:
    return np.array([float(np.mean(values[patients == patient])) for patient in np.unique(patients)])


def _estimate(values: NDArray[Any], patients: NDArray[np.str_]) -> Figures:
    numbers = np.asarray(values, np.float64)
    estimate = bootstrap_estimate(lambda drawn, _: float(drawn.mean()), numbers, numbers, patients)
    return {**asdict(estimate), "patients": len(np.unique(patients))}


def _goals(figures: Figures) -> Figures:
    """Return each goal with its figure, and whether it was reached."""
    goals = {"center_in_tumor": GOAL_CENTER, "dice_of_hit_tumors": GOAL_DICE}
    values = {name: figures[name]["value"] if name in figures else 0.0 for name in goals}
    return {
        name: {"goal": goal, "value": values[name], "reached": values[name] >= goal} for name, goal in goals.items()
    }


def _scored_pixels(place: Maps) -> Mask:
    """Return every so many pixels of where a tumor of the training part lay, or near: elsewhere all is too easy."""
    chosen = np.zeros(place.shape, bool)
    chosen[:, ::_CASE_STEP, ::_CASE_STEP] = True
    return chosen & (place > 0)


def _drawings(regions: Mapping[str, Figures], drawn: Drawn, tested: Slices) -> Mapping[str, Callable[[Path], None]]:
    areas = tested.masks.sum(axis=(1, 2))
    dices = np.array([dice(mask, true > 0) for mask, true in zip(drawn.masks, tested.masks, strict=True)])
    centers = {name: figures["center_in_tumor"] for name, figures in regions.items()}
    chosen = np.linspace(0, len(areas) - 1, _SHOWN).astype(int)
    shown = [(tested.pictures[n], drawn.masks[n], tested.masks[n] > 0) for n in chosen]
    return {
        "centers.png": partial(draw_goals, shares=centers, goal=GOAL_CENTER),
        "dice.png": partial(draw_dice, areas=areas, dices=dices),
        "slices.png": partial(draw_slices, slices=shown),
    }
