"""Labelled slices on disk: pictures in folders by part and class, and who belongs to whom in `manifest.csv`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.ct_tumor.card import Organ
from ainode.models.ct_tumor.preprocess import body_square
from ainode.models.errors import ModelError
from ainode.models.training.copies import groups_with_copies
from ainode.models.training.manifests import manifest_rows
from ainode.models.training.pictures import refuse_damaged
from ainode.models.training.shortcuts import Facts, facts

PARTS = ("train", "validation", "test")
_THUMBNAIL = 16


@dataclass(frozen=True, slots=True)
class Slices:
    """One part of a data set, framed as the network sees it.

    Shapes: pictures (n, side, side) uint8; thumbnails (n, 16, 16) uint8, of the pictures' middle squares as they came,
    for the baseline; labels (n,) class numbers; groups (n,): one word per patient, by which every split is made;
    shortcuts (n,), of the pictures as they came.
    """

    pictures: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    shortcuts: tuple[Facts, ...]


def read_slices(folder: Path, part: str, organ: Organ) -> Slices:
    """Return a part of the data set in `folder`, laid out as `<part>/<class>/<file>`.

    Raises: ModelError if the manifest is absent, lacks a column, names no picture of the part or an unknown class, or
    names a picture that is absent; or if a picture lies in two parts, or in two classes.
    """
    if not (folder / "manifest.csv").is_file():
        raise ModelError(f"{folder}/manifest.csv: absent; it names file, label, split and group (the patient)")
    whole = manifest_rows(folder, folder.name, ("label", "group"), PARTS)
    for row in whole:
        if row["label"] not in organ.class_names:
            raise row.refusal(f"label {row['label']!r} is no class of {organ.name}: {', '.join(organ.class_names)}")
    paths = [folder / row["split"] / row["label"] / row["file"] for row in whole]
    labels = [organ.class_names.index(row["label"]) for row in whole]
    groups = groups_with_copies(paths, labels, [row["group"] for row in whole], [row["split"] for row in whole])
    numbers = [number for number, row in enumerate(whole) if row["split"] == part]
    if not numbers:
        raise ModelError(f"{folder}/manifest.csv: no picture of the part {part}")
    pictures = [_picture(paths[number]) for number in numbers]
    return Slices(
        np.stack([body_square(picture, organ)[0] for picture in pictures]),
        np.stack([_thumbnail(picture) for picture in pictures]),
        np.asarray(labels)[numbers],
        np.asarray(groups)[numbers],
        tuple(facts(picture) for picture in pictures),
    )


def classes_of_parts(folder: Path) -> Mapping[str, frozenset[str]]:
    """Return the classes of every part of a data set, by its folders."""
    kinds = {
        folder_of_part.name: frozenset(kind.name for kind in folder_of_part.iterdir())
        for folder_of_part in folder.glob("*")
        if folder_of_part.is_dir()
    }
    return {part: names for part, names in kinds.items() if names}


def _picture(path: Path) -> NDArray[np.uint8]:
    refuse_damaged(path)
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise ModelError(f"{path}: the manifest names it, but it is no picture")
    return np.asarray(picture, np.uint8)


def _thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = picture.shape
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    square = picture[top : top + side, left : left + side]
    return np.asarray(cv2.resize(square, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA), np.uint8)
