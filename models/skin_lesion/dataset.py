"""Labelled pictures in a folder, in one of three layouts; no lesion is in two parts.

- `manifest.csv` names file, label, split and group, and may name diagnosis and box; the files lie in SPLIT/LABEL/
- `PART/benign` and `PART/malignant`
- `upper_extremity/benign` and `upper_extremity/malignant`, or `benign` and `malignant`: split here, by a seed
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from ainode.models.errors import ModelError, UnusablePicture
from ainode.models.skin_lesion.augment import Box
from ainode.models.skin_lesion.preprocess import Picture, refuse_unusable, rgb
from ainode.models.training.copies import groups_with_copies
from ainode.models.training.experiment import Part
from ainode.models.training.manifests import manifest_rows
from ainode.models.training.parts import refuse_files
from ainode.models.training.pictures import refuse_damaged
from ainode.models.training.text_files import Row, table_rows

CLASSES = ("benign", "malignant")
_PARTS: tuple[Part, ...] = ("train", "test")
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_FOLDS = 5
_LEAST_LESIONS = 10
"""of a class: two of each are left out then, and of one alone the AUC that chooses the epoch is 0 or 1"""
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
    """Return the pictures of one part, in the order of their paths; lesions that share a file are one lesion.

    Raises: ModelError if a table or a folder holds what is not understood, a file is of two classes or in both parts,
    the part lacks one of the classes, or the split has too few lesions.
    """
    manifest = data / "manifest.csv"
    folder = next((place for place in (data / _ORIGINAL, data) if (place / CLASSES[1]).is_dir()), None)
    if folder is not None and not manifest.is_file():
        whole = _without_copies(_sorted(_files(folder, _lesions(data, folder))))
        training, test = split_indices(whole, _SPLIT_SEED)
        pictures = tuple(whole[i] for i in np.sort(training if part == "train" else test))
    else:
        rows = _rows(manifest) if manifest.is_file() else {name: _files(data / name, {}) for name in _PARTS}
        parts = {name: _sorted(members) for name, members in rows.items()}
        whole = _without_copies([*parts["train"], *parts["test"]], [name for name in parts for _ in parts[name]])
        first = len(parts["train"])
        pictures = whole[:first] if part == "train" else whole[first:]
    if {picture.label for picture in pictures} != {0, 1}:
        raise ModelError(
            f"{data}: the part {part} needs benign and malignant pictures: {part}/benign/*.jpg, {part}/malignant/*.jpg"
        )
    return pictures


def _sorted(pictures: Iterable[LabelledPicture]) -> tuple[LabelledPicture, ...]:
    return tuple(sorted(pictures, key=lambda picture: picture.path))


def _without_copies(
    pictures: Sequence[LabelledPicture], parts: Sequence[str] | None = None
) -> tuple[LabelledPicture, ...]:
    """Return the pictures with one lesion for all that share a file; `parts` are those of a set that has its own."""
    groups = groups_with_copies(
        [picture.path for picture in pictures],
        [picture.label for picture in pictures],
        [picture.group for picture in pictures],
        parts,
    )
    return tuple(replace(picture, group=group) for picture, group in zip(pictures, groups, strict=True))


def _rows(manifest: Path) -> Mapping[Part, list[LabelledPicture]]:
    """Return the pictures of the parts in the manifest."""
    parts: dict[Part, list[LabelledPicture]] = {part: [] for part in _PARTS}
    for row in manifest_rows(manifest.parent, "the pictures", ("label", "group")):
        if row["label"] not in CLASSES:
            raise row.refusal(f"label {row['label']!r}; {' or '.join(CLASSES)} is read")
        part: Part = "train" if row["split"] == "train" else "test"
        path = manifest.parent / part / row["label"] / row["file"]
        label = CLASSES.index(row["label"])
        parts[part].append(
            LabelledPicture(path, label, row["group"], row.get("dx", ""), row.get("dx_type", ""), _box(row))
        )
    return parts


def _box(row: Row) -> Box | None:
    values = [row.get(f"box_{side}", "") for side in ("top", "bottom", "left", "right")]
    try:
        top, bottom, left, right = (int(value) for value in values) if all(values) else (0, 0, 0, 0)
    except ValueError as error:
        raise row.refusal(f"the edges of a box are whole pixels, not {', '.join(values)}") from error
    return (top, bottom, left, right) if bottom > top and right > left else None


def _files(folder: Path, lesions: Mapping[str, str]) -> Iterator[LabelledPicture]:
    """Yield the pictures in the folders of the classes; a picture without a lesion's name is a lesion of its own.

    Raises: ModelError with the name of all else that lies there; what begins with a dot is left out.
    """
    places = [
        (label, path)
        for label, name in enumerate(CLASSES)
        for path in sorted((folder / name).glob("*"))
        if not path.name.startswith(".")
    ]
    refuse_files([reason for _, path in places if (reason := _reason_strange(path))])
    for label, path in places:
        yield LabelledPicture(path, label, lesions.get(path.stem, f"{CLASSES[label]}/{path.stem}"))


def _reason_strange(path: Path) -> str:
    """Return why a file or folder in the folder of a class is no picture to learn from; '' for a picture."""
    if path.is_dir():
        return f"{path}: a folder; pictures are read beside it, none in it: move them up, or the folder away"
    if path.suffix.lower() not in _SUFFIXES:
        return f"{path}: {', '.join(sorted(_SUFFIXES))} are read; save the picture as such, or move the file away"
    return ""


def _lesions(data: Path, folder: Path) -> Mapping[str, str]:
    """Return the lesion of each picture by the picture's name, from the tables beside the pictures.

    Raises: ModelError if a table has no column of pictures or none of lesions, or the tables name none of the pictures.
    """
    lesions: dict[str, str] = {}
    tables = sorted(data.glob("*.csv"))
    for table in tables:
        for row in table_rows(table):
            picture, lesion = _entry(row, _PICTURE_COLUMNS), _entry(row, _LESION_COLUMNS)
            if picture and lesion:
                lesions[Path(picture).stem] = lesion
    stems = {path.stem for name in CLASSES for path in (folder / name).glob("*")}
    if tables and not stems & set(lesions):
        raise ModelError(
            f"{', '.join(map(str, tables))}: no lesion of any picture; a table beside the pictures names them by "
            f"{' or '.join(_PICTURE_COLUMNS)}, and their lesions by {' or '.join(_LESION_COLUMNS)}: move another away"
        )
    return lesions


def _entry(row: Row, columns: Sequence[str]) -> str:
    """Return the first entry of a row in some columns, of which the table needs one; '' if all are empty."""
    names = [name for name in columns if name in row]
    if not names:
        raise row.refusal(f"the table has no column {' or '.join(columns)}; there are {', '.join(row)}")
    return next((row[name] for name in names if row[name]), "")


def read_pictures(pictures: Sequence[LabelledPicture]) -> tuple[Picture, ...]:
    """Return picture files as RGB.

    Raises: ModelError with the name of each file that cannot be read, and why.
    """
    refusals, read = [], []
    for picture in pictures:
        try:
            read.append(read_picture(picture.path))
        except ModelError as error:
            refusals.append(str(error))
    refuse_files(refusals)
    return tuple(read)


def read_picture(path: Path) -> Picture:
    """Return a picture file as RGB.

    Raises: ModelError if it cannot be decoded to its end, or is one that the node would refuse.
    """
    refuse_damaged(path)
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ModelError(f"{path}: no picture that can be decoded")
    order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    channels = pixels.shape[2] if pixels.ndim == 3 else 1  # noqa: PLR2004  # rows, columns, samples
    try:
        picture = rgb(cv2.cvtColor(pixels, order[channels]) if channels in order else pixels)
        refuse_unusable(picture)
    except UnusablePicture as error:
        raise ModelError(f"{path}: {error}") from error
    return picture


def split_indices(pictures: Sequence[LabelledPicture], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of four fifths of the pictures and of a fifth.

    No lesion is in both, and both have the same shares of the classes.

    Raises: ModelError if a class has fewer than ten lesions.
    """
    labels, groups = [picture.label for picture in pictures], [picture.group for picture in pictures]
    for label, name in enumerate(CLASSES):
        lesions = {picture.group for picture in pictures if picture.label == label}
        if len(lesions) < _LEAST_LESIONS:
            raise ModelError(
                f"{len(lesions)} {name} lesions, of which a fifth is left out; at least {_LEAST_LESIONS} are needed"
            )
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    four_fifths, fifth = next(folds.split(np.zeros(len(labels)), labels, groups))
    return np.asarray(four_fifths), np.asarray(fifth)
