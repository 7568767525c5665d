"""Training and evaluation: the single-scan ensemble on LIDC-IDRI, the heads over time on synthetic nodules."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ainode.models.lung_nodule import lidc, temporal_training
from ainode.models.lung_nodule.card import read_card
from ainode.models.lung_nodule.lidc import Nodules
from ainode.models.lung_nodule.lidc_training import imagenet_weights, train_ensemble
from ainode.models.lung_nodule.model import probability, slice_recipe
from ainode.models.lung_nodule.patches import CUBE
from ainode.models.lung_nodule.temporal_training import Cases
from ainode.models.running.runtime import Execution, runner
from ainode.models.training.experiment import Baseline, Evaluation, Part, TrainingOptions
from ainode.models.training.progress import counted_off
from ainode.models.training.shortcuts import Facts, facts, pixel_baseline, shortcut_baselines

_PIXELS = slice(16, 48)
Phantoms = Mapping[Part, tuple[int, int]]
PHANTOMS: Phantoms = {"train": (0, 140), "test": (2, 40)}
"""the seed and the number of the phantoms of each part"""


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train both shipped profiles, on `train.npz` of nodule3d_lidc in `data` and on phantoms; return their files."""
    card = read_card()
    return {
        f"{card.name}/lidc": train_ensemble(data, out / "lidc", options, imagenet_weights()),
        f"{card.name}/temporal": temporal_training.train(out / "temporal", options),
    }


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the single-scan weights' results on LIDC's nodules in `data`; without them, the results over time."""
    return (
        _single_scan_result(data, weights, part) if (data / f"{part}.npz").is_file() else over_time(data, weights, part)
    )


def _single_scan_result(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the ensemble's results on every nodule, run as in the node, beside the baselines."""
    card, nodules, training = read_card(), lidc.read(data, part), lidc.read(data, "train")
    pictures = nodules.middle_pictures(range(len(nodules.labels)))
    with tempfile.TemporaryDirectory() as cache:
        run = runner(slice_recipe(weights[f"{card.name}/lidc"]), Execution(Path(cache), "torch-cpu"))
        score = np.array([probability(run(picture[None])[0]) for picture in counted_off(pictures, "nodules")])
    return Evaluation(
        class_names=("benign", "malignant"),
        labels=nodules.labels,
        probabilities=np.stack([1 - score, score], axis=1),
        groups=nodules.patients,
        positive=("malignant",),
        threshold=card.threshold,
        baselines={
            **shortcut_baselines(_facts(training), training.labels, training.patients, _facts(nodules)),
            "size alone, of the radiologists' outlines": Baseline(nodules.areas(), "anatomy"),
            "logistic regression on 32 x 32 pixels": Baseline(_pixel_scores(training, nodules), "pixels"),
        },
        weights=(f"{card.name}/lidc",),
    )


def _facts(nodules: Nodules) -> list[Facts]:
    """Return the shortcuts of every nodule: those of its middle slice, and the number of its slices."""
    rows = range(len(nodules.labels))
    return [facts(nodules.slices[nodules.middle(row)], {"slices": nodules.count[row]}) for row in rows]


def over_time(data: Path, weights: Mapping[str, Path], part: Part, *, phantoms: Phantoms = PHANTOMS) -> Evaluation:
    """Return the results of the weights over time on phantoms at three dates; `data` is the folder of the phantoms."""
    card = read_card()
    name = f"{card.name}/temporal"
    training, tested = (
        temporal_training.drawn_cases(*phantoms[name_of_part], data) for name_of_part in ("train", part)
    )
    scores_by_dates = temporal_training.probabilities_of_file(weights[name], tested)
    score = scores_by_dates[3]
    latest = [cases.cubes[:, -1, CUBE // 2].astype(np.float32) for cases in (training, tested)]
    return Evaluation(
        class_names=("benign", "malignant"),
        labels=tested.labels,
        probabilities=np.stack([1 - score, score], axis=1),
        groups=np.asarray([f"phantom {number}" for number in range(len(score))]),
        positive=("malignant",),
        threshold=card.threshold,
        baselines={
            **shortcut_baselines(
                _facts_of_dates(training), training.labels, np.arange(len(training.labels)), _facts_of_dates(tested)
            ),
            **pixel_baseline(latest[0], training.labels, latest[1]),
            "size alone, as drawn, at the last date": Baseline(tested.diameters_mm[:, -1], "anatomy"),
            "these weights, two dates": Baseline(scores_by_dates[2], "part"),
            "these weights, one date": Baseline(scores_by_dates[1], "part"),
        },
        weights=(name,),
    )


def _facts_of_dates(cases: Cases) -> list[Facts]:
    """Return the shortcuts of each case's cubes, of all dates."""
    return [
        {
            f"{name} of date {date}": value
            for date, cube in enumerate(cubes, start=1)
            for name, value in facts(cube.astype(np.float32)).items()
        }
        for cubes in cases.cubes
    ]


def _pixel_scores(training: Nodules, tested: Nodules) -> NDArray[np.float64]:
    """Return the scores of a logistic regression on the middle pixels, fitted on the training nodules."""

    def pixels(nodules: Nodules) -> NDArray[np.float64]:
        middles = nodules.middle_pictures(range(len(nodules.labels)))
        return middles[:, 0, _PIXELS, _PIXELS].reshape(len(middles), -1).astype(np.float64)

    regression = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500)).fit(
        pixels(training), training.labels
    )
    return np.asarray(regression.decision_function(pixels(tested)), np.float64)
