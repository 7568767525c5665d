"""Labelled pictures in a folder, in one of three layouts; no lesion is in two parts.

- `manifest.csv` names file, label, split and group, and may name diagnosis and box; the files lie in SPLIT/LABEL/
- `PART/benign` and `PART/malignant`
- `upper_extremity/benign` and `upper_extremity/malignant`, or `benign` and `malignant`: split here, by a seed
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from ainode.models.errors import ModelError
from ainode.models.skin_lesion.augment import Box
from ainode.models.skin_lesion.preprocess import Picture, rgb
from ainode.models.training.experiment import Part

CLASSES = ("benign", "malignant")
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_FOLDS = 5
_SPLIT_SEED = 0
_ORIGINAL = "upper_extremity"
# The columns of pictures and lesions in the tables of HAM10000 and of the ISIC archive.
_PICTURE_COLUMNS = ("file", "image_id", "isic_id", "image_name", "image")
_LESION_COLUMNS = ("lesion_id", "group")


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture's file, its class (1 is malignant), the lesion that the picture shows, and what a manifest adds."""

    path: Path
    label: int
    group: str
    diagnosis: str = ""
    confirmed_by: str = ""
    box: Box | None = None


def pictures_of_part(data: Path, part: Part) -> tuple[LabelledPicture, ...]:
    """Return the pictures of one part, in the order of their paths.

    Raises: ModelError if the part lacks one of the classes, or the split has too few lesions.
    """
    manifest = data / "manifest.csv"
    folder = next((place for place in (data / _ORIGINAL, data) if (place / CLASSES[1]).is_dir()), None)
    if manifest.is_file():
        pictures = _sorted(_rows(manifest, part))
    elif folder is not None:
        whole = _sorted(_files(folder, _lesions(data)))
        training, test = split_indices(whole, _SPLIT_SEED)
        pictures = tuple(whole[i] for i in np.sort(training if part == "train" else test))
    else:
        pictures = _sorted(_files(data / part, {}))
    if {picture.label for picture in pictures} != {0, 1}:
        raise ModelError(
            f"{data}: the part {part} needs benign and malignant pictures: {part}/benign/*.jpg, {part}/malignant/*.jpg"
        )
    return pictures


def _sorted(pictures: Iterator[LabelledPicture]) -> tuple[LabelledPicture, ...]:
    return tuple(sorted(pictures, key=lambda picture: picture.path))


def _rows(manifest: Path, part: Part) -> Iterator[LabelledPicture]:
    """Yield the pictures of a part in the manifest."""
    for row in _table(manifest):
        if row["split"] == part and row["label"] in CLASSES:
            path = manifest.parent / part / row["label"] / row["file"]
            yield LabelledPicture(
                path, CLASSES.index(row["label"]), row["group"], row.get("dx", ""), row.get("dx_type", ""), _box(row)
            )


def _box(row: Mapping[str, str]) -> Box | None:
    values = [row.get(f"box_{side}", "") for side in ("top", "bottom", "left", "right")]
    top, bottom, left, right = (int(value) for value in values) if all(values) else (0, 0, 0, 0)
    return (top, bottom, left, right) if bottom > top and right > left else None


def _table(path: Path) -> list[Mapping[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _files(folder: Path, lesions: Mapping[str, str]) -> Iterator[LabelledPicture]:
    """Yield the pictures in the folders of the classes; a picture without a lesion's name is a lesion of its own."""
    for label, name in enumerate(CLASSES):
        for path in (folder / name).glob("*"):
            if path.suffix.lower() in _SUFFIXES:
                yield LabelledPicture(path, label, lesions.get(path.stem, f"{name}/{path.stem}"))


def _lesions(data: Path) -> Mapping[str, str]:
    """Return the lesion of each picture by the picture's name, from the tables beside the pictures."""
    lesions: dict[str, str] = {}
    for path in sorted(data.glob("*.csv")):
        for row in _table(path):
            names = [row[column] for column in _PICTURE_COLUMNS if row.get(column)]
            groups = [row[column] for column in _LESION_COLUMNS if row.get(column)]
            if names and groups:
                lesions[Path(names[0]).stem] = groups[0]
    return lesions


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


def split_indices(pictures: Sequence[LabelledPicture], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of four fifths of the pictures and of a fifth.

    No lesion is in both, and both have the same shares of the classes.

    Raises: ModelError if a class has fewer than five lesions.
    """
    labels, groups = [picture.label for picture in pictures], [picture.group for picture in pictures]
    for label, name in enumerate(CLASSES):
        lesions = {picture.group for picture in pictures if picture.label == label}
        if len(lesions) < _FOLDS:
            raise ModelError(f"{len(lesions)} {name} lesions to train on; at least {_FOLDS} are needed")
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    four_fifths, fifth = next(folds.split(np.zeros(len(labels)), labels, groups))
    return np.asarray(four_fifths), np.asarray(fifth)
