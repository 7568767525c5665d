"""Chest CT in folders by class, as MosMedData and its example in Keras have them: `CT-0/*.nii.gz`, `CT-23/*.nii.gz`.

The volumes have no split of their own: a third of the files of each class, drawn by their names, is the part `test`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ainode.models.ct_pneumonia.air import reason_moved_air
from ainode.models.ct_pneumonia.dataset import CELL, Volumes
from ainode.models.ct_pneumonia.lungs import lung_slices
from ainode.models.ct_pneumonia.nifti import Scan, read_scan
from ainode.models.ct_pneumonia.preprocess import SHAPE, WINDOW, network_input
from ainode.models.errors import ModelError
from ainode.models.training.copies import groups_with_copies
from ainode.models.training.experiment import Part
from ainode.models.training.parts import held_out, refuse_files

log = logging.getLogger(__name__)

_HEALTHY = "CT-0"
_ILL = ("CT-1", "CT-2", "CT-3", "CT-4", "CT-23")
LAYOUT = f"{_HEALTHY}/*.nii.gz and {', '.join(_ILL)} with at least one of the latter, as MosMedData has them"
_SUFFIXES = (".nii", ".nii.gz")
_TEST_SHARE, _TEST_SEED = 1 / 3, 0
"""fixed, so that a training and a later evaluation divide the same files alike"""
_VALIDATION_SHARE = 1 / 5


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """One volume's file, its class (1 is ill) and its name among the files of both classes, which copies share."""

    path: Path
    label: int
    group: str


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One volume as the network takes it, and the number of slices, their distance and the size of a pixel before."""

    values: NDArray[np.int16]
    scan: tuple[float, float, float]


def has_class_folders(data: Path) -> bool:
    """Return whether a folder has the layout, whole or in part."""
    return any(data.glob("CT-*/"))


def files_of_part(data: Path, part: Part) -> tuple[LabelledFile, ...]:
    """Return the files of one part: two thirds of each class are `train`, one third is `test`.

    Copies of a file are in one part.

    Raises: ModelError if a folder of a class has an unknown name, a class has too few files, or a file is healthy and
    ill.
    """
    unknown = sorted(path.name for path in data.glob("CT-*/") if path.name not in {_HEALTHY, *_ILL})
    if unknown:
        raise ModelError(f"{data}: no class named {', '.join(unknown)}; looked for {LAYOUT}")
    files = [
        LabelledFile(path, int(name != _HEALTHY), f"{'healthy' if name == _HEALTHY else 'ill'} {path.name}")
        for name in (_HEALTHY, *_ILL)
        for path in sorted((data / name).rglob("*"))
        if path.name.lower().endswith(_SUFFIXES) and not path.name.startswith(".")
    ]
    if len({file.label for file in files}) < 2:  # noqa: PLR2004  # healthy and ill
        raise ModelError(f"{data}: healthy and ill volumes are needed; looked for {LAYOUT}")
    labels = [file.label for file in files]
    groups = groups_with_copies([file.path for file in files], labels, [file.group for file in files])
    files = [replace(file, group=group) for file, group in zip(files, groups, strict=True)]
    is_test = held_out(labels, groups, share=_TEST_SHARE, seed=_TEST_SEED)
    chosen = is_test if part == "test" else ~is_test
    return tuple(file for file, is_of_part in zip(files, chosen, strict=True) if is_of_part)


def class_volumes(data: Path, part: Part) -> Volumes:
    """Return the volumes of one part, each cut to the lungs and resized as the node does it.

    Raises: ModelError with the name of each file that cannot be read, and why.
    """
    return _volumes(files_of_part(data, part))


def training_volumes(data: Path, seed: int) -> tuple[Volumes, Volumes]:
    """Return the volumes of the part `train` to learn from, and a fifth of each class, which scores the epochs.

    Raises: ModelError as `class_volumes`.
    """
    files = files_of_part(data, "train")
    labels, groups = [file.label for file in files], [file.group for file in files]
    is_validation = held_out(labels, groups, share=_VALIDATION_SHARE, seed=seed)
    volumes = _volumes(files)
    return volumes.only(~is_validation), volumes.only(is_validation)


def _volumes(files: Sequence[LabelledFile]) -> Volumes:
    """Return the volumes of files; of each volume 2 MiB stay in memory."""
    with ThreadPoolExecutor(2) as pool:
        read = list(tqdm(pool.map(_prepared, files), total=len(files), desc="volumes", leave=False, mininterval=2.0))
    refuse_files([reason for reason in read if isinstance(reason, str)])
    prepared = [volume for volume in read if not isinstance(volume, str)]
    log.info("%d volumes read", len(prepared))
    return Volumes(
        np.stack([volume.values for volume in prepared]),
        np.asarray([file.label for file in files], np.int64),
        np.asarray([file.group for file in files]),
        np.full((len(files), *(size // CELL for size in SHAPE)), np.nan, np.float32),
        np.asarray([volume.scan for volume in prepared], np.float64),
    )


def _prepared(file: LabelledFile) -> _Prepared | str:
    """Return a file's volume, or why it is refused."""
    try:
        scan = read_scan(file.path)
    except ModelError as error:
        return str(error)
    slices = lung_slices(scan.values, scan.spacing_mm[0])
    if not slices:
        return f"{file.path}: no aerated lung on any of {len(scan.values)} slices; a chest in Hounsfield units is read"
    if reason := reason_moved_air(scan.values):
        return f"{file.path}: {reason}"
    return _Prepared(_resized(scan, slices), (float(len(slices)), scan.spacing_mm[0], scan.spacing_mm[2]))


def _resized(scan: Scan, slices: range) -> NDArray[np.int16]:
    """Return slices of a scan on the network's grid, (64, 128, 128), in Hounsfield units within the window."""
    low, high = WINDOW
    scaled = network_input(scan.values[slices.start : slices.stop])[0, 0].transpose(2, 1, 0)
    return np.asarray(np.rint(scaled * (high - low) + low), np.int16)
