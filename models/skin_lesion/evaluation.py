"""The served model's results on one part of a data set, and the baselines that a model must beat."""

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
from ainode.models.skin_lesion.dataset import CLASSES, LabelledPicture, pictures_of_part, read_picture
from ainode.models.skin_lesion.model import SkinLesionModel
from ainode.models.skin_lesion.preprocess import Picture
from ainode.models.training.experiment import Baseline, Evaluation, Part
from ainode.models.training.shortcuts import facts, pixel_baseline, shortcut_baselines


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the calibrated probabilities of the model, run as in the node, and baselines fitted on the part `train`.

    `weights` has the file by its name in the manifest, `skin_lesion/efficientnet_lite0`.
    """
    card, pictures = read_card(), pictures_of_part(data, part)
    paths = {name.removeprefix(f"{card.name}/"): path for name, path in weights.items()}
    with tempfile.TemporaryDirectory() as cache:
        model = SkinLesionModel.load(paths, execution=Execution(Path(cache)), card=card)
        probabilities = np.array([model.predict(read_picture(picture.path)).calibrated for picture in pictures])
    return Evaluation(
        class_names=CLASSES,
        labels=np.array([picture.label for picture in pictures], np.int64),
        probabilities=np.stack([1 - probabilities, probabilities], axis=1),
        groups=np.array([picture.group for picture in pictures]),
        positive=("malignant",),
        threshold=model.calibration.threshold,
        baselines=_baselines(pictures_of_part(data, "train"), pictures),
    )


def _baselines(training: Sequence[LabelledPicture], tested: Sequence[LabelledPicture]) -> dict[str, Baseline]:
    """Return the baselines of a thumbnail, of the mean and spread of the colors, and of frame, noise and grays."""
    labels = [labelled.label for labelled in training]
    pictures = [read_picture(labelled.path) for labelled in training]
    tested_pictures = [read_picture(labelled.path) for labelled in tested]
    training_facts = [facts(picture.mean(axis=2)) for picture in pictures]
    tested_facts = [facts(picture.mean(axis=2)) for picture in tested_pictures]
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(
        _colors(pictures), labels
    )
    color_scores = np.asarray(regression.predict_proba(_colors(tested_pictures))[:, 1], np.float64)
    return {
        **shortcut_baselines(training_facts, labels, [labelled.group for labelled in training], tested_facts),
        **pixel_baseline(pictures, labels, tested_pictures),
        "logistic regression on color mean and spread": Baseline(color_scores, "shortcut"),
    }


def _colors(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    return np.array([np.concatenate([picture.mean((0, 1)), picture.std((0, 1))]) for picture in pictures], np.float64)
