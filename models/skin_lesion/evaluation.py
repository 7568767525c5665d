"""What the served model says of one part of a data set, and two rules that any model must beat."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ainode.models.running.runtime import Execution
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.dataset import CLASSES, Labelled, listed, read
from ainode.models.skin_lesion.model import SkinLesionModel
from ainode.models.training.experiment import Evaluated, Part

_TINY = 16


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluated:
    """Return calibrated probabilities of the model as it is served, and the baselines fitted on the part `train`.

    `weights` is by manifest name, `skin_lesion/efficientnet_lite0`.
    """
    card, pictures = read_card(), listed(data, part)
    paths = {name.removeprefix(f"{card.name}/"): path for name, path in weights.items()}
    with tempfile.TemporaryDirectory() as cache:
        model = SkinLesionModel.load(paths, how=Execution(Path(cache)), card=card)
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


def _baselines(known: Sequence[Labelled], asked: Sequence[Labelled]) -> dict[str, NDArray[np.float64]]:
    """Return what logistic regression makes of a thumbnail, and of the mean and spread of the colors."""
    labels = [one.label for one in known]
    (tiny, colors), (tiny_asked, colors_asked) = _features(known), _features(asked)
    return {
        f"logistic regression on {_TINY} x {_TINY} pixels": _regressed(tiny, labels, tiny_asked),
        "logistic regression on color mean and spread": _regressed(colors, labels, colors_asked),
    }


def _features(pictures: Sequence[Labelled]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    tiny, colors = [], []
    for one in pictures:
        picture = read(one.path)
        tiny.append(cv2.resize(picture, (_TINY, _TINY), interpolation=cv2.INTER_AREA).ravel())
        colors.append(np.concatenate([picture.mean((0, 1)), picture.std((0, 1))]))
    return np.array(tiny, np.float64), np.array(colors, np.float64)


def _regressed(known: NDArray[np.float64], labels: Sequence[int], asked: NDArray[np.float64]) -> NDArray[np.float64]:
    rule = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(known, labels)
    return np.asarray(rule.predict_proba(asked)[:, 1], np.float64)
