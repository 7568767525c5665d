"""Training and evaluation: the one-scan ensemble on LIDC-IDRI, the one over time on synthetic nodules."""

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
from ainode.models.running.runtime import Execution, runner
from ainode.models.training.experiment import Evaluated, Part, TrainingOptions

_PIXELS = slice(16, 48)


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train both shipped profiles; `data` holds train.npz of nodule3d_lidc, the phantoms are drawn."""
    card = read_card()
    return {
        f"{card.name}/lidc": train_ensemble(data, out / "lidc", options, imagenet_weights()),
        f"{card.name}/temporal": temporal_training.train(out / "temporal", options),
    }


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluated:
    """Return what the one-scan ensemble says of every nodule, as it is served, beside the trivial rules."""
    card, nodules = read_card(), lidc.read(data, part)
    pictures = nodules.middle_pictures(range(len(nodules.labels)))
    with tempfile.TemporaryDirectory() as cache:
        run = runner(slice_recipe(weights[f"{card.name}/lidc"]), Execution(Path(cache), "torch-cpu"))
        score = np.array([probability(run(picture[None])[0]) for picture in pictures])
    return Evaluated(
        class_names=("benign", "malignant"),
        labels=nodules.labels,
        probabilities=np.stack([1 - score, score], axis=1),
        groups=nodules.patients,
        positive=("malignant",),
        threshold=card.threshold,
        baselines={
            "size alone, of the radiologists' outlines": nodules.areas(),
            "logistic regression on 32 x 32 pixels": _by_pixels(lidc.read(data, "train"), nodules),
        },
    )


def _by_pixels(train: Nodules, asked: Nodules) -> NDArray[np.float64]:
    def pixels(nodules: Nodules) -> NDArray[np.float64]:
        middles = nodules.middle_pictures(range(len(nodules.labels)))
        return middles[:, 0, _PIXELS, _PIXELS].reshape(len(middles), -1).astype(np.float64)

    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500)).fit(pixels(train), train.labels)
    return np.asarray(fitted.decision_function(pixels(asked)), np.float64)
