"""The served model's results on one part of a data set, and the baselines that a model must beat."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ainode.models.running.runtime import Execution
from ainode.models.skin_lesion.augment import Box
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.dataset import CLASSES, LabelledPicture, pictures_of_part, read_pictures
from ainode.models.skin_lesion.model import SkinLesionModel
from ainode.models.skin_lesion.preprocess import Picture
from ainode.models.skin_lesion.robustness import Cases, further_figures
from ainode.models.training.experiment import Baseline, Evaluation, Part
from ainode.models.training.progress import counted_off
from ainode.models.training.shortcuts import facts, pixel_baseline, shortcut_baselines


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the calibrated probabilities of the model, run as in the node, and baselines fitted on the part `train`.

    `weights` has the file by its name in the manifest, `skin_lesion/lesion_cells`.
    """
    card, labelled = read_card(), pictures_of_part(data, part)
    pictures = read_pictures(labelled)
    paths = {name.removeprefix(f"{card.name}/"): path for name, path in weights.items()}
    labels = np.array([item.label for item in labelled], np.int64)
    with tempfile.TemporaryDirectory() as cache:
        model = SkinLesionModel.load(paths, execution=Execution(Path(cache)), card=card)
        predictions = [model.predict(picture) for picture in counted_off(pictures, "pictures")]
        probabilities = np.array([prediction.calibrated for prediction in predictions])
        cases = Cases(labelled, pictures, predictions)
        further = further_figures(model, cases)
    predicted = (probabilities > model.calibration.threshold).astype(np.int64)
    report = classification_report(labels, predicted, labels=[0, 1], target_names=CLASSES, digits=3, zero_division=0)
    return Evaluation(
        class_names=CLASSES,
        labels=labels,
        probabilities=np.stack([1 - probabilities, probabilities], axis=1),
        groups=np.array([item.group for item in labelled]),
        positive=("malignant",),
        threshold=model.calibration.threshold,
        baselines=_baselines(pictures_of_part(data, "train"), labelled, pictures),
        further=further,
        drawings={"classification_report.txt": partial(_write, text=report)},
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def _baselines(
    training: Sequence[LabelledPicture], tested: Sequence[LabelledPicture], tested_pictures: Sequence[Picture]
) -> dict[str, Baseline]:
    """Return the baselines: of shortcuts, of a thumbnail, of colors, and of the area of the lesion's box."""
    labels = [labelled.label for labelled in training]
    pictures = read_pictures(training)
    training_facts = [facts(picture.mean(axis=2)) for picture in pictures]
    tested_facts = [facts(picture.mean(axis=2)) for picture in tested_pictures]
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(
        _colors(pictures), labels
    )
    color_scores = np.asarray(regression.predict_proba(_colors(tested_pictures))[:, 1], np.float64)
    boxes = [item.box for item in tested if item.box is not None]
    areas = np.array([_area(box) for box in boxes], np.float64)
    return {
        **shortcut_baselines(training_facts, labels, [labelled.group for labelled in training], tested_facts),
        **pixel_baseline(pictures, labels, tested_pictures),
        "logistic regression on color mean and spread": Baseline(color_scores, "shortcut"),
        **({"area of the lesion's box": Baseline(areas, "anatomy")} if len(boxes) == len(tested) else {}),
    }


def _area(box: Box) -> int:
    top, bottom, left, right = box
    return (bottom - top) * (right - left)


def _colors(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    return np.array([np.concatenate([picture.mean((0, 1)), picture.std((0, 1))]) for picture in pictures], np.float64)
