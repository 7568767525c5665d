"""How the model is trained and put to the test from the command line.

`data` is a folder with manifest.csv and volumes, or any other folder: phantoms are drawn into it then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.ct_pneumonia.card import read_card
from ainode.models.ct_pneumonia.checkpoints import save_half
from ainode.models.ct_pneumonia.dataset import Volumes, real, synthetic
from ainode.models.ct_pneumonia.model import PneumoniaModel
from ainode.models.ct_pneumonia.training import train as trained
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import Baseline, Evaluated, Part, TrainingOptions
from ainode.models.training.shortcuts import pixel_baseline, shortcut_baselines

CLASS_NAMES = ("Normal", "Abnormal")
TRAIN, VALIDATION, TEST = (240, 0), (60, 1), (120, 2)
"""phantoms: how many, and of which seed"""
# Ground glass and consolidation; healthy lung is below, soft tissue mostly above.
_DENSE_LUNG = (-700, -100)
_HELD_BACK = 5


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train on the part `train`; return the weight file by its name in the manifest."""
    card = read_card()
    network = trained(_training(data), out, options, size=card.size)
    path = out / card.file
    save_half(network, path)
    return {card.weights: path}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluated:
    """Return what the weights say of one part of the data."""
    card = read_card()
    volumes, seen = _part(data, part), _part(data, "train")
    with tempfile.TemporaryDirectory() as cache:
        model = PneumoniaModel.load(weights[card.weights], execution=Execution(Path(cache)), card=card)
        # Every volume from the same noise: its own seed belongs to a study, and there is none here.
        found = [model.predict(one.astype(np.float32), card.seed).probability for one in volumes.values]
    ill = np.asarray(found)
    dense = ((volumes.values > _DENSE_LUNG[0]) & (volumes.values < _DENSE_LUNG[1])).mean(axis=(1, 2, 3))
    return Evaluated(
        class_names=CLASS_NAMES,
        labels=volumes.labels,
        probabilities=np.stack([1 - ill, ill], axis=1),
        groups=volumes.groups,
        positive=("Abnormal",),
        threshold=card.threshold,
        baselines={
            **shortcut_baselines(seen.shortcuts(), seen.labels, seen.groups, volumes.shortcuts()),
            **pixel_baseline(_middle_slices(seen), seen.labels, _middle_slices(volumes)),
            "share of voxels from -700 to -100 HU": Baseline(dense.astype(np.float64), "shortcut"),
        },
    )


def _middle_slices(volumes: Volumes) -> NDArray[np.int16]:
    return volumes.values[:, volumes.values.shape[1] // 2]


def _part(data: Path, part: Part) -> Volumes:
    if (data / "manifest.csv").is_file():
        return real(data, part)
    count, seed = TRAIN if part == "train" else TEST
    return synthetic(data, count=count, seed=seed)


def _training(data: Path) -> tuple[Volumes, Volumes]:
    """Return volumes to learn from and, of other groups, volumes to choose by."""
    if not (data / "manifest.csv").is_file():
        learned, chosen_by = (synthetic(data, count=count, seed=seed) for count, seed in (TRAIN, VALIDATION))
        return learned, chosen_by
    volumes = real(data, "train")
    names = np.unique(volumes.groups)
    held = np.isin(volumes.groups, names[:: max(2, min(_HELD_BACK, len(names)))])
    return volumes.only(~held), volumes.only(held)
