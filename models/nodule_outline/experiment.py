"""Training of the outline network, and its evaluation on nodules implanted in a chest of the part."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.following import Grid, Omission, Position
from ainode.models.nodule_outline import training
from ainode.models.nodule_outline.card import read_card
from ainode.models.nodule_outline.cells import cube
from ainode.models.nodule_outline.evaluation import (
    MASK_BLEND,
    WHOLE_BLEND,
    Outcome,
    grid_of,
    middle_of,
    outcome,
    scenes,
    silent_scenes,
    threshold_volume,
)
from ainode.models.nodule_outline.implant import Scene
from ainode.models.nodule_outline.model import OutlinedNodule, OutlineModel
from ainode.models.nodule_outline.nodules import Nodule, read_chests, read_nodules
from ainode.models.nodule_outline.plots import dice_plot, volume_plot
from ainode.models.nodule_outline.training import FARTHEST_MM, Source
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import Baseline, Evaluation, Part, TrainingOptions
from ainode.models.training.metrics import bootstrap_estimate, proportion
from ainode.models.training.progress import counted_off
from ainode.models.training.shortcuts import Facts, facts, pixel_baseline, shortcut_baselines

_EXAMPLES = 50
"""the nodules of the training part on which the baselines are fitted, and as many silent points"""
_THIRD = 3
"""every third nodule is also implanted with its whole cut-out, and measured by a threshold"""
_BANDS_MM = ((0.0, 6.0), (6.0, 15.0), (15.0, 99.0))
_Seen = tuple[Grid, Position]


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train on the nodules and the chests in `data`; return the file of the weights."""
    card = read_card()
    return {f"{card.name}/{card.network}": training.train(data, out, options)}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the outlines of implanted nodules, and whether the network tells nodules from points without one."""
    card, nodules, chests = read_card(), read_nodules(data, part), read_chests(data, part)
    name = f"{card.name}/{card.network}"
    source = Source(nodules, chests)
    placed = scenes(source, MASK_BLEND)
    points = [(grid_of(seen), middle_of(seen)) for seen in placed]
    silent = silent_scenes(chests, len(nodules) // 2)
    with tempfile.TemporaryDirectory() as cache:
        model = OutlineModel.load(weights[name], execution=Execution(Path(cache), "cpu"))
        outcomes = [outcome(model, seen) for seen in counted_off(placed, "nodules")]
        answers = [model.outline(*point) for point in silent]
        further = _further(model, source, placed, outcomes)
        nodules_or_reasons = [*(item.nodule for item in outcomes), *answers]
        score = np.array([_presence(model, *pair) for pair in zip(nodules_or_reasons, points + silent, strict=True)])
    outlined = sum(isinstance(answer, OutlinedNodule) for answer in answers)
    return Evaluation(
        class_names=("no nodule", "nodule"),
        labels=_labels(len(placed), len(silent)),
        probabilities=np.stack([1 - score, score], axis=1),
        groups=np.asarray([n.patient for n in nodules] + [f"point {number}" for number in range(len(silent))]),
        positive=("nodule",),
        threshold=card.threshold,
        baselines=_baselines(_examples(data), points + silent),
        weights=(name,),
        further={**further, "silent_points_with_an_outline": asdict(proportion(outlined, len(answers)))},
        drawings=_drawings(nodules, outcomes),
    )


def _drawings(nodules: Sequence[Nodule], outcomes: Sequence[Outcome]) -> Mapping[str, Callable[[Path], object]]:
    """Return the plots of Dice and of the volumes."""
    diameters, dice = np.array([(n.diameter_mm, item.dice) for n, item in zip(nodules, outcomes, strict=True)]).T
    volumes, readers = np.array([(item.volume_mm3, item.true_volume_mm3) for item in outcomes]).T
    return {"dice.png": partial(dice_plot, diameters, dice), "volumes.png": partial(volume_plot, volumes, readers)}


def _further(
    model: OutlineModel, source: Source, placed: Sequence[Scene], outcomes: Sequence[Outcome]
) -> Mapping[str, object]:
    """Return the figures of the outlines: at the middle, beside the middle, with the whole cut-out, by a threshold."""
    nodules, some = source.nodules, source.nodules[::_THIRD]
    whole = [outcome(model, seen) for seen in scenes(Source(some, source.chests), WHOLE_BLEND)]
    return {
        "outline": _outline_figures(nodules, outcomes),
        "outline_5_mm_beside": _outline_figures(nodules, [outcome(model, seen, FARTHEST_MM) for seen in placed]),
        "outline_of_whole_cut_outs": _outline_figures(some, whole),
        "threshold_without_network": _threshold_figures(
            [threshold_volume(seen) for seen in placed[::_THIRD]], outcomes[::_THIRD]
        ),
    }


def _examples(data: Path) -> list[_Seen]:
    """Return nodules and silent points of the training part, half of each, to fit baselines on."""
    chests, nodules = read_chests(data, "train"), read_nodules(data, "train")
    step = max(1, len(nodules) // _EXAMPLES)
    placed = [(grid_of(seen), middle_of(seen)) for seen in scenes(Source(nodules[::step], chests), MASK_BLEND)]
    return placed + silent_scenes(chests, len(placed))


def _labels(nodules: int, silent: int) -> NDArray[np.int64]:
    """Return 1 for each nodule, then 0 for each point without one."""
    return np.repeat([1, 0], [nodules, silent]).astype(np.int64)


def _presence(model: OutlineModel, nodule: OutlinedNodule | Omission, point: _Seen) -> float:
    """Return how sure the model is of a nodule at a point."""
    return nodule.presence if isinstance(nodule, OutlinedNodule) else model.highest_near(*point)


def _outline_figures(nodules: Sequence[Nodule], outcomes: Sequence[Outcome]) -> Mapping[str, object]:
    """Return Dice and error of the volume with intervals by patient, for all nodules and by the size of the nodule."""
    patients = np.asarray([nodule.patient for nodule in nodules])
    dice = np.array([item.dice for item in outcomes])
    error = np.array([item.volume_error for item in outcomes])
    drawn = [item.volume_mm3 / item.true_volume_mm3 for item in outcomes if item.volume_mm3]
    sizes = np.array([nodule.diameter_mm for nodule in nodules])
    bands = {
        f"dice_of_{low:.0f}_to_{high:.0f}_mm": asdict(
            bootstrap_estimate(_mean, dice[chosen], dice[chosen], patients[chosen])
        )
        for low, high in _BANDS_MM
        if (chosen := (sizes >= low) & (sizes < high)).any()
    }
    return {
        "dice": asdict(bootstrap_estimate(_mean, dice, dice, patients)),
        **bands,
        "median_volume_error": asdict(bootstrap_estimate(_median, error, error, patients)),
        "median_volume_by_readers": float(np.median(drawn)) if drawn else float("nan"),
        "without_outline": asdict(proportion(sum(item.volume_mm3 == 0 for item in outcomes), len(outcomes))),
    }


def _threshold_figures(volumes: Sequence[float], outcomes: Sequence[Outcome]) -> Mapping[str, object]:
    """Return how many nodules a threshold measures, and the error of the volume of these."""
    truth = np.array([item.true_volume_mm3 for item in outcomes])
    measured = np.isfinite(volumes)
    errors = np.abs(np.asarray(volumes)[measured] / truth[measured] - 1)
    return {
        "measured": asdict(proportion(int(measured.sum()), len(volumes))),
        "median_volume_error": float(np.median(errors)) if len(errors) else float("nan"),
    }


def _mean(values: NDArray[np.float64], _: NDArray[np.float64]) -> float:
    return float(values.mean())


def _median(values: NDArray[np.float64], _: NDArray[np.float64]) -> float:
    return float(np.median(values))


def _baselines(examples: Sequence[_Seen], cases: Sequence[_Seen]) -> Mapping[str, Baseline]:
    """Return the baselines, fitted on nodules and silent points of the training part, half of each."""
    shown, tested = list(_layers(examples)), list(_layers(cases))
    labels = _labels(len(examples) // 2, len(examples) - len(examples) // 2)
    dense = np.array([float(np.clip(layers[1], -1000, 400).max()) for layers in tested])
    return {
        **shortcut_baselines(_facts(shown), labels, np.arange(len(labels)), _facts(tested)),
        **pixel_baseline([layer for layer, _ in shown], labels, [layer for layer, _ in tested]),
        "the densest cell within 3 mm of the point": Baseline(dense, "anatomy"),
    }


def _layers(seen: Sequence[_Seen]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield the layer through each point, and the cells next to the point."""
    for scan, position_mm in seen:
        z, y, x = (float(index) for index in scan.indices(position_mm))
        values = cube(scan.values, scan.spacing_mm, (z, y, x)).values
        yield values[len(values) // 2], values[20:28, 20:28, 20:28]


def _facts(layers: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> list[Facts]:
    """Return the shortcuts of each point: those of the layer through the point."""
    return [facts(layer) for layer, _ in layers]
