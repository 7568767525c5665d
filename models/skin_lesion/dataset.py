"""Labelled pictures in a folder: `manifest.csv`, or `PART/benign` and `PART/malignant`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from ainode.models.errors import ModelError
from ainode.models.skin_lesion.preprocess import Picture, rgb
from ainode.models.training.experiment import Part

CLASSES = ("benign", "malignant")
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture's file, its class (1 is malignant) and the lesion that the picture shows."""

    path: Path
    label: int
    group: str


def pictures_of_part(data: Path, part: Part) -> tuple[LabelledPicture, ...]:
    """Return the pictures of one part; without a manifest each picture is a lesion of its own.

    The manifest has the columns file, label, split and group; the files lie in SPLIT/LABEL/.
    Raises: ModelError if the part lacks one of the classes.
    """
    manifest = data / "manifest.csv"
    pictures = tuple(
        sorted(_rows(manifest, part) if manifest.is_file() else _files(data / part), key=lambda picture: picture.path)
    )
    if {picture.label for picture in pictures} != {0, 1}:
        raise ModelError(
            f"{data}: the part {part} needs benign and malignant pictures: {part}/benign/*.jpg, {part}/malignant/*.jpg"
        )
    return pictures


def _rows(manifest: Path, part: Part) -> Iterator[LabelledPicture]:
    """Yield the pictures of a part in the manifest."""
    with manifest.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] == part and row["label"] in CLASSES:
                path = manifest.parent / part / row["label"] / row["file"]
                yield LabelledPicture(path, CLASSES.index(row["label"]), row["group"])


def _files(folder: Path) -> Iterator[LabelledPicture]:
    """Yield the pictures in the folders of the classes."""
    for label, name in enumerate(CLASSES):
        for path in (folder / name).glob("*"):
            if path.suffix.lower() in _SUFFIXES:
                yield LabelledPicture(path, label, f"{name}/{path.stem}")


def read_picture(path: Path) -> Picture:
    """Return a picture file as RGB.

    Raises: ModelError if it cannot be decoded.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ModelError(f"{path}: no picture that can be decoded")
    order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    channels = pixels.shape[2] if pixels.ndim == 3 else 1  # noqa: PLR2004  # rows, columns, samples
    return rgb(cv2.cvtColor(pixels, order[channels]) if channels in order else pixels)


def split_indices(pictures: tuple[LabelledPicture, ...], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the training pictures and of the validation pictures, a fifth.

    No lesion is in both, and both have the same shares of the classes.

    Raises: ModelError if a class has fewer than five lesions.
    """
    labels, groups = [picture.label for picture in pictures], [picture.group for picture in pictures]
    for label, name in enumerate(CLASSES):
        lesions = {picture.group for picture in pictures if picture.label == label}
        if len(lesions) < _FOLDS:
            raise ModelError(f"{len(lesions)} {name} lesions to train on; at least {_FOLDS} are needed")
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    training, validation = next(folds.split(np.zeros(len(labels)), labels, groups))
    return np.asarray(training), np.asarray(validation)
