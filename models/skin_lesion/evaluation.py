"""What the served model says of one part of a data set, and rules that any model must beat."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ainode.models.running.runtime import Execution
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.dataset import CLASSES, Labelled, listed, read
from ainode.models.skin_lesion.model import SkinLesionModel
from ainode.models.skin_lesion.preprocess import Picture
from ainode.models.training.experiment import Baseline, Evaluated, Part
from ainode.models.training.shortcuts import facts, pixel_baseline, shortcut_baselines


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluated:
    """Return calibrated probabilities of the model as it is served, and the baselines fitted on the part `train`.

    `weights` is by manifest name, `skin_lesion/efficientnet_lite0`.
    """
    card, pictures = read_card(), listed(data, part)
    paths = {name.removeprefix(f"{card.name}/"): path for name, path in weights.items()}
    with tempfile.TemporaryDirectory() as cache:
        model = SkinLesionModel.load(paths, execution=Execution(Path(cache)), card=card)
        found = np.array([model.predict(read(one.path)).calibrated for one in pictures])
    return Evaluated(
        class_names=CLASSES,
        labels=np.array([one.label for one in pictures], np.int64),
        probabilities=np.stack([1 - found, found], axis=1),
        groups=np.array([one.group for one in pictures]),
        positive=("malignant",),
        threshold=model.calibration.threshold,
        baselines=_baselines(listed(data, "train"), pictures),
    )


def _baselines(known: Sequence[Labelled], asked: Sequence[Labelled]) -> dict[str, Baseline]:
    """Return what is made of a thumbnail, of the mean and spread of the colors, and of frame, noise and grays."""
    labels = [one.label for one in known]
    pictures, shown = [read(one.path) for one in known], [read(one.path) for one in asked]
    grays, grays_shown = ([facts(picture.mean(axis=2)) for picture in some] for some in (pictures, shown))
    rule = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(_colors(pictures), labels)
    of_colors = np.asarray(rule.predict_proba(_colors(shown))[:, 1], np.float64)
    return {
        **shortcut_baselines(grays, labels, [one.group for one in known], grays_shown),
        **pixel_baseline(pictures, labels, shown),
        "logistic regression on color mean and spread": Baseline(of_colors, "shortcut"),
    }


def _colors(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    return np.array([np.concatenate([picture.mean((0, 1)), picture.std((0, 1))]) for picture in pictures], np.float64)
