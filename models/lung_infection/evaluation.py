"""How well lung and infection are outlined: Dice and share by patient, beside rules that are given the lung."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.lung_infection.baselines import best_threshold, boosted
from ainode.models.lung_infection.dataset import INFECTION, LUNG, Slices
from ainode.models.lung_infection.model import InfectionModel
from ainode.models.lung_infection.outline import outlined
from ainode.models.lung_infection.plots import draw_dice, draw_shares, draw_slices
from ainode.models.training.experiment import Baseline, Evaluation
from ainode.models.training.metrics import bootstrap_estimate

Maps = NDArray[np.float32]
Mask = NDArray[np.bool_]
Figures = Mapping[str, Any]

# Every so many rows and columns, a pixel of the lung is a case of the ROC and of the calibration.
_CASE_STEP = 8
_PERCENT = 100.0
GOAL_DICE = 0.66
"""of the infection, the mean over patients; published in 3D 0.673, boosted pixels 0.603"""


def evaluation_of(model: InfectionModel, training: Slices, tested: Slices, healthy: Slices | None) -> Evaluation:
    """Return the evaluation: its cases are pixels of the lungs, the figures by patient stand beside."""
    maps = model.probabilities(tested.pictures)
    rules = boosted(training, tested)
    outlines = _outline_figures(model, maps, tested, healthy)
    rule_figures = _rule_figures(rules, boosted(training, training), training, tested)
    scored = _scored_pixels(tested)
    infected = maps[:, 1][scored].astype(np.float64)
    return Evaluation(
        class_names=("Lung", "Infection"),
        labels=(tested.masks[scored] == INFECTION).astype(np.int64),
        probabilities=np.stack([1 - infected, infected], axis=1),
        groups=np.broadcast_to(tested.patients[:, None, None], tested.masks.shape)[scored],
        positive=("Infection",),
        threshold=model.card.decision.infection,
        baselines={
            name: Baseline(rule[scored].astype(np.float64), "shortcut" if name.startswith("shortcut") else "pixels")
            for name, rule in rules.items()
        },
        further={**outlines, "baselines_by_patient": rule_figures},
        drawings=_drawings(outlines, rule_figures, tested, outlined(maps, model.card.decision)[1]),
    )


def dice_by_patient(outlined_pixels: Mask, truth: Mask, patients: NDArray[np.str_]) -> dict[str, float]:
    """Return the Dice of each patient, all slices of a patient together; 1 where neither has a pixel."""
    values = {}
    for patient in np.unique(patients):
        own = patients == patient
        both, total = (outlined_pixels[own] & truth[own]).sum(), outlined_pixels[own].sum() + truth[own].sum()
        values[str(patient)] = float(2 * both / total) if total else 1.0
    return values


def _outline_figures(model: InfectionModel, maps: Maps, tested: Slices, healthy: Slices | None) -> Figures:
    decision, patients = model.card.decision, tested.patients
    lung, infected = outlined(maps, decision)
    true_lung, true_infected = tested.masks >= LUNG, tested.masks == INFECTION
    shares, true_shares = _shares(lung, infected, patients), _shares(true_lung, true_infected, patients)
    errors = {patient: abs(shares[patient] - true_shares[patient]) for patient in shares}
    return {
        "dice": _by_patient(dice_by_patient(infected, true_infected, patients)),
        "dice_in_given_lung": _by_patient(
            dice_by_patient((maps[:, 1] > decision.infection) & true_lung, true_infected, patients)
        ),
        "lung_dice": _by_patient(dice_by_patient(lung, true_lung, patients)),
        "share_error_points": _by_patient(errors),
        "share_percent": {patient: {"outlined": shares[patient], "true": true_shares[patient]} for patient in shares},
        "healthy_share_percent": _healthy_shares(model, healthy) if healthy else {},
    }


def _healthy_shares(model: InfectionModel, healthy: Slices) -> Figures:
    return _shares(*outlined(model.probabilities(healthy.pictures), model.card.decision), healthy.patients)


def _rule_figures(
    rules: Mapping[str, Maps], in_training: Mapping[str, Maps], training: Slices, tested: Slices
) -> Figures:
    """Return Dice and share's error of each rule, thresholds from the training part; and of a constant share."""
    lung, infected = tested.masks >= LUNG, tested.masks == INFECTION
    true_shares = _shares(lung, infected, tested.patients)
    figures: dict[str, Any] = {}
    for name, rule in rules.items():
        chosen = (rule > best_threshold(in_training[name], training)) & lung
        shares = _shares(lung, chosen, tested.patients)
        figures[name] = {
            "dice": _by_patient(dice_by_patient(chosen, infected, tested.patients)),
            "share_error_points": _by_patient({name: abs(shares[name] - true_shares[name]) for name in shares}),
        }
    training_shares = _shares(training.masks >= LUNG, training.masks == INFECTION, training.patients)
    constant = float(np.median(list(training_shares.values())))
    errors = {patient: abs(constant - share) for patient, share in true_shares.items()}
    figures["median share of the training patients"] = {"share_error_points": _by_patient(errors)}
    return figures


def _shares(lung: Mask, infected: Mask, patients: NDArray[np.str_]) -> dict[str, float]:
    """Return the infected part of each patient's lungs in percent; 0 where no lung is outlined."""
    return {
        str(patient): _PERCENT * float(infected[patients == patient].sum() / max(1, lung[patients == patient].sum()))
        for patient in np.unique(patients)
    }


def _by_patient(values: Mapping[str, float]) -> Figures:
    """Return the mean over patients with its interval, and the value of each patient."""
    numbers = list(values.values())
    estimate = bootstrap_estimate(lambda drawn, _: float(drawn.mean()), numbers, numbers)
    return {**asdict(estimate), "patients": dict(values)}


def _scored_pixels(slices: Slices) -> Mask:
    chosen = np.zeros(slices.masks.shape, bool)
    chosen[:, ::_CASE_STEP, ::_CASE_STEP] = True
    return chosen & (slices.masks >= LUNG)


def _drawings(
    outlines: Figures, rule_figures: Figures, tested: Slices, infected: Mask
) -> Mapping[str, Callable[[Path], None]]:
    dices = {"this network, lung of its own": outlines["dice"]["patients"]}
    dices |= {name: figures["dice"]["patients"] for name, figures in rule_figures.items() if "dice" in figures}
    shares = outlines["share_percent"]
    columns = ({patient: share[name] for patient, share in shares.items()} for name in ("true", "outlined"))
    true, of_network = columns
    return {
        "dice.png": lambda path: draw_dice(path, dices, GOAL_DICE),
        "share.png": lambda path: draw_shares(path, true, of_network),
        "slices.png": lambda path: draw_slices(path, _typical_slices(tested, infected)),
    }


def _typical_slices(tested: Slices, infected: Mask) -> dict[str, tuple[NDArray[np.uint8], Mask, Mask]]:
    """Return of each patient the slice of median infection, with both outlines."""
    truth = tested.masks == INFECTION
    chosen = {}
    for patient in np.unique(tested.patients):
        numbers = np.flatnonzero(tested.patients == patient)
        number = numbers[np.argsort(truth[numbers].sum(axis=(1, 2)))[len(numbers) // 2]]
        chosen[str(patient)] = (tested.pictures[number], infected[number], truth[number])
    return chosen
