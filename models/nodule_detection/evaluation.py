"""Evaluation: nodules not trained on in chests not trained on, and controls that must stay silent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import ModelError
from ainode.models.following.grid import Grid
from ainode.models.nodule_detection.card import read_card
from ainode.models.nodule_detection.dataset import Chest, Nodule, chests_of, nodules_of
from ainode.models.nodule_detection.examples import hits, implanted_scans, is_near
from ainode.models.nodule_detection.froc import RATES, Points, curve, sensitivity_at, threshold_at
from ainode.models.nodule_detection.implanting import Implant
from ainode.models.nodule_detection.model import NoduleDetector, distinct
from ainode.models.nodule_detection.search import Search, search_of
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import Baseline, Evaluation, Part
from ainode.models.training.metrics import grouped_proportion
from ainode.models.training.plots import froc_plot
from ainode.models.training.shortcuts import Facts, facts, pixel_baseline, shortcut_baselines

SMALLEST_MM = 6.0
RATE = 4.0
"""false marks a scan, of the goal"""
_EXAMPLES = 48
"""the training nodules that the baselines are fitted on"""
_NODULES_OF_A_FAMILIAR_CHEST = 24
_SEEDS: Mapping[Part, int] = {"train": 100, "test": 200}
_MISSED = -1.0
"""the score of an implant without a candidate: below every probability"""


@dataclass(frozen=True, slots=True)
class Case:
    """An implant, or a candidate of a chest as it is.

    Shapes: picture (24, 24), the middle slice of the fine cube.
    Units: mm; `score` is the highest probability, `strength` that of the candidate before the network.
    """

    key: str
    diameter_mm: float
    is_nodule: bool
    score: float
    strength: float
    picture: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Marks:
    """The results on the scans of one chest: the implants, and the probabilities of marks on nothing implanted."""

    chest: str
    implants: tuple[Case, ...]
    false_scores: NDArray[np.float64]
    scans: int


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the weights' results on one part of `data`, with the figures of every chest."""
    card = read_card()
    name = f"{card.name}/{card.network}"
    if name not in weights:
        raise ModelError(f"{name}: no weights of that name")
    nodules, learned = nodules_of(data, part), nodules_of(data, "train")
    chests = {of: chests_of(data, of) for of in ("train", "test")}
    with tempfile.TemporaryDirectory() as cache:
        model = NoduleDetector.load({card.network: weights[name]}, execution=Execution(Path(cache), "cpu"))
        tested = [_marks(model, chest, chests["train"][0], nodules, _SEEDS[part]) for chest in chests[part]]
        # The training's own chests, with the same nodules: they tell whether the chest matters.
        large = [nodule for nodule in nodules if nodule.diameter_mm >= SMALLEST_MM][:_NODULES_OF_A_FAMILIAR_CHEST]
        others = chests["train"] if part == "test" else ()
        familiar = [_marks(model, chest, chests["test"][0], large, _SEEDS[part]) for chest in others]
        plain = [case for chest in chests[part] for case in _plain_cases(model, chest)]
        examples = _examples(model, chests["train"], learned[:_EXAMPLES])
    cases = [case for marks in tested for case in marks.implants] + plain
    points = curve([case.score for case in _nodules(tested, SMALLEST_MM)], *_false(tested))
    return _evaluation(cases, examples, model.calibration.threshold, _figures(tested, familiar, plain, model), points)


def _evaluation(
    cases: Sequence[Case], examples: Sequence[Case], threshold: float, further: Mapping[str, object], froc: Points
) -> Evaluation:
    """Return the results of cases, each a nodule or none, beside baselines that were fitted on the examples."""
    score = np.clip([case.score for case in cases], 0, 1)
    truth = np.asarray([case.is_nodule for case in examples])
    return Evaluation(
        class_names=("other", "nodule"),
        labels=np.asarray([int(case.is_nodule) for case in cases]),
        probabilities=np.stack([1 - score, score], axis=1),
        groups=np.asarray([case.key for case in cases]),
        positive=("nodule",),
        threshold=threshold,
        baselines={
            **shortcut_baselines(_facts(examples), truth, np.asarray([case.key for case in examples]), _facts(cases)),
            **pixel_baseline([c.picture for c in examples], truth, [c.picture for c in cases]),
            "candidates alone, by roundness": Baseline(np.asarray([case.strength for case in cases]), "part"),
        },
        further={**further, "froc_curve": froc},
        drawings={"froc.png": partial(froc_plot, froc)},
    )


def _facts(cases: Iterable[Case]) -> list[Facts]:
    """Return the shortcuts of cases: noise and grays around the middle, which is left out."""
    rows = []
    for case in cases:
        rim = np.concatenate([case.picture[:5], case.picture[-5:]])
        rows.append(facts(rim))
    return rows


def _figures(
    tested: Sequence[Marks], familiar: Sequence[Marks], plain: Sequence[Case], model: NoduleDetector
) -> Mapping[str, object]:
    """Return the figures of the free-response ROC, of the controls and of each chest."""
    threshold = model.calibration.threshold
    controls = [case for marks in tested for case in marks.implants if not case.is_nodule]
    at_rate = threshold_at(*_false(tested), RATE)
    return {
        "froc": {
            f"nodules of {SMALLEST_MM:.0f} mm and more": _sensitivities(tested, SMALLEST_MM),
            "all nodules": _sensitivities(tested, 0.0),
        },
        "froc_of_chests": {marks.chest: _sensitivities([marks], SMALLEST_MM) for marks in (*tested, *familiar)},
        "chests_not_trained_on": [marks.chest for marks in tested],
        "with_a_candidate": asdict(
            grouped_proportion(
                [case.score >= 0 for case in _nodules(tested, SMALLEST_MM)],
                [case.key for case in _nodules(tested, SMALLEST_MM)],
            )
        ),
        "controls_silent": asdict(
            grouped_proportion([case.score <= at_rate for case in controls], [case.key for case in controls])
        ),
        "marks_at_threshold": {
            marks.chest: float((marks.false_scores > threshold).sum() / marks.scans) for marks in (*tested, *familiar)
        },
        "marks_of_chests_as_they_are": float(sum(case.score > threshold for case in plain) / len(tested)),
    }


def _nodules(marks: Iterable[Marks], smallest_mm: float) -> list[Case]:
    return [case for scans in marks for case in scans.implants if case.is_nodule and case.diameter_mm >= smallest_mm]


def _false(marks: Sequence[Marks]) -> tuple[NDArray[np.float64], int]:
    """Return the scores of false marks, and the number of scans."""
    return np.concatenate([scans.false_scores for scans in marks]), sum(scans.scans for scans in marks)


def _sensitivities(marks: Sequence[Marks], smallest_mm: float) -> Mapping[str, object]:
    """Return the part of the nodules that is marked at each number of false marks a scan, with intervals."""
    nodules = _nodules(marks, smallest_mm)
    scores, patients = [case.score for case in nodules], [case.key for case in nodules]
    return {f"{rate:.0f}": asdict(sensitivity_at(scores, patients, *_false(marks), rate)) for rate in RATES}


def _marks(model: NoduleDetector, chest: Chest, donor: Chest, nodules: Sequence[Nodule], seed: int) -> Marks:
    """Return the results on a chest with every nodule, and controls, implanted in turns."""
    implants: list[Case] = []
    false_scores, scans = [], 0
    for _, scan, places in implanted_scans((chest,), (donor,), nodules, 1, seed):
        search = search_of(scan)
        probabilities = model.probabilities(search)
        others = np.full(len(probabilities), fill_value=True)
        for implant in places:
            others &= ~is_near(search, scan, implant)
            implants.append(_implant_case(search, scan, implant, probabilities))
        rows = distinct(search.blobs.places, search.blobs.diameters, probabilities)
        false_scores.append(probabilities[[row for row in rows if others[row]]])
        scans += 1
    return Marks(chest.name, tuple(implants), np.concatenate(false_scores), scans)


def _implant_case(search: Search, scan: Grid, implant: Implant, probabilities: NDArray[np.float64]) -> Case:
    rows = np.flatnonzero(hits(search, scan, implant))
    best = rows[probabilities[rows].argmax()] if len(rows) else None
    place = search.cells.indices(scan.positions(implant.place))
    return Case(
        implant.patient,
        implant.diameter_mm,
        implant.is_nodule,
        score=_MISSED if best is None else float(probabilities[best]),
        strength=0.0 if best is None else float(search.blobs.strengths[rows].max()),
        picture=_picture(search, place),
    )


def _plain_cases(model: NoduleDetector, chest: Chest) -> list[Case]:
    """Return the candidates of a chest as it is: none is a nodule, as far as its source says."""
    search = search_of(chest.scan)
    probabilities = model.probabilities(search)
    blobs = search.blobs
    return [
        Case(
            f"{chest.name} {row}",
            0.0,
            is_nodule=False,
            score=float(probabilities[row]),
            strength=float(blobs.strengths[row]),
            picture=_picture(search, blobs.places[row]),
        )
        for row in distinct(blobs.places, blobs.diameters, probabilities)
    ]


def _examples(model: NoduleDetector, chests: Sequence[Chest], nodules: Sequence[Nodule]) -> list[Case]:
    """Return cases to fit baselines on: training nodules in the training's chests, and those chests as they are."""
    marks = [
        _marks(model, chest, chests[0], nodules[number :: len(chests)], _SEEDS["train"])
        for number, chest in enumerate(chests)
    ]
    implants = [case for scans in marks for case in scans.implants]
    return implants + [case for chest in chests for case in _plain_cases(model, chest)]


def _picture(search: Search, place: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the middle slice of the fine cube around a place."""
    cube = search.cubes(place[None])[0, 0]
    return np.asarray(cube[len(cube) // 2])
