"""Training and evaluation of the model from the command line.

`data` is a folder with manifest.csv and volumes, a folder with CT-0 and CT-23 of NIfTI files, or an empty folder, into
which phantoms are drawn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.ct_pneumonia.card import read_card
from ainode.models.ct_pneumonia.checkpoints import save_half
from ainode.models.ct_pneumonia.dataset import Volumes, stored_volumes, synthetic_volumes
from ainode.models.ct_pneumonia.folders import LAYOUT, class_volumes, has_class_folders, training_volumes
from ainode.models.ct_pneumonia.model import PneumoniaModel
from ainode.models.ct_pneumonia.training import train as train_network
from ainode.models.running.runtime import Execution
from ainode.models.training.choice import choice_beside, write_choice
from ainode.models.training.experiment import Baseline, Evaluation, Part, TrainingOptions
from ainode.models.training.metrics import youden_threshold
from ainode.models.training.parts import refuse_strange_folder
from ainode.models.training.progress import counted_off
from ainode.models.training.shortcuts import pixel_baseline, shortcut_baselines

CLASS_NAMES = ("Normal", "Abnormal")
TRAIN, VALIDATION, TEST = (240, 0), (60, 1), (120, 2)
"""the number and the seed of the phantoms of each part"""
# Ground glass and consolidation; healthy lung is darker, most soft tissue is denser.
_DENSE_LUNG = (-700, -100)
_HELD_BACK = 5
_OWN_FILES = ("synthetic_*.npz",)
_LAYOUTS = f"manifest.csv, or {LAYOUT}"


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train on the part `train`; return the weight file by its name in the manifest.

    The threshold is chosen on the validation volumes, where they are of both classes, and kept in `out`.
    Raises: ModelError if the folder is neither empty nor has a layout, or a volume in it cannot be read.
    """
    card = read_card()
    training, validation = _training_volumes(data, options.seed)
    network = train_network((training, validation), out, options, size=card.size)
    path = out / card.file
    save_half(network, path)
    if len(np.unique(validation.labels)) == len(CLASS_NAMES):
        model = PneumoniaModel.load(path, execution=Execution(out, "torch-cpu"), card=card)
        threshold = round(youden_threshold(validation.labels, _probabilities(model, validation)), 3)
        write_choice(out, {"threshold": threshold})
    return {card.weights: path}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the weights' results on one part of the data.

    The threshold is that of the weights' training, or, of the shipped weights, that of the card.
    Raises: as `train`.
    """
    card = read_card()
    threshold = choice_beside(weights.values()).get("threshold", card.threshold)
    training = _volumes_of_part(data, "train")
    volumes = training if part == "train" else _volumes_of_part(data, part)
    with tempfile.TemporaryDirectory() as cache:
        model = PneumoniaModel.load(weights[card.weights], execution=Execution(Path(cache)), card=card)
        ill = _probabilities(model, volumes)
    dense = ((volumes.values > _DENSE_LUNG[0]) & (volumes.values < _DENSE_LUNG[1])).mean(axis=(1, 2, 3))
    return Evaluation(
        class_names=CLASS_NAMES,
        labels=volumes.labels,
        probabilities=np.stack([1 - ill, ill], axis=1),
        groups=volumes.groups,
        positive=("Abnormal",),
        threshold=threshold,
        baselines={
            **shortcut_baselines(training.shortcuts(), training.labels, training.groups, volumes.shortcuts()),
            **pixel_baseline(_middle_slices(training), training.labels, _middle_slices(volumes)),
            "share of voxels from -700 to -100 HU": Baseline(dense.astype(np.float64), "shortcut"),
        },
    )


def _probabilities(model: PneumoniaModel, volumes: Volumes) -> NDArray[np.float64]:
    """Return the probability of pneumonia of each volume.

    Every volume gets the same noise: the node takes a seed from the study, and these volumes have no study.
    """
    seed = model.card.seed
    return np.asarray(
        [
            model.predict(volume.astype(np.float32), seed).probability
            for volume in counted_off(volumes.values, "volumes")
        ]
    )


def _middle_slices(volumes: Volumes) -> NDArray[np.int16]:
    return volumes.values[:, volumes.values.shape[1] // 2]


def _volumes_of_part(data: Path, part: Part) -> Volumes:
    if (data / "manifest.csv").is_file():
        return stored_volumes(data, part)
    if has_class_folders(data):
        return class_volumes(data, part)
    refuse_strange_folder(data, _OWN_FILES, _LAYOUTS)
    count, seed = TRAIN if part == "train" else TEST
    return synthetic_volumes(data, count=count, seed=seed)


def _training_volumes(data: Path, seed: int) -> tuple[Volumes, Volumes]:
    """Return the volumes that a training learns from, and, of other groups, the volumes that score its epochs."""
    if (data / "manifest.csv").is_file():
        volumes = stored_volumes(data, "train")
        names = np.unique(volumes.groups)
        is_validation = np.isin(volumes.groups, names[:: max(2, min(_HELD_BACK, len(names)))])
        return volumes.only(~is_validation), volumes.only(is_validation)
    if has_class_folders(data):
        return training_volumes(data, seed)
    refuse_strange_folder(data, _OWN_FILES, _LAYOUTS)
    training, validation = (synthetic_volumes(data, count=count, seed=number) for count, number in (TRAIN, VALIDATION))
    return training, validation
