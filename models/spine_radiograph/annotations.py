"""Pictures with boxes in the layout of VinDr-SpineXR.

A folder holds `annotations/train.csv` and `annotations/test.csv`, and the pictures in `train_images/` and
`test_images/`, as IMAGE_ID.png. A row of a table is a box, or a picture with `No finding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ainode.models.errors import ModelError
from ainode.models.phantoms.spine import CLASS_NAMES
from ainode.models.training.copies import groups_with_copies
from ainode.models.training.experiment import Part
from ainode.models.training.parts import refuse_files
from ainode.models.training.text_files import Row, table_rows

Box = tuple[int, float, float, float, float]
"""class number, x0, y0, x1, y1 in pixels of the picture"""
_PARTS: tuple[Part, ...] = ("train", "test")
_COLUMNS = ("image_id", "study_id", "lesion_type", "xmin", "ymin", "xmax", "ymax")
_NO_FINDING = "no finding"
_OTHER = "Other lesions"
# The set names 13 lesions. As its authors did for their detector, those too rare for a class are "Other lesions".
# Source: Nguyen et al., MICCAI 2021, arXiv 2106.12930.
_CLASS_OF_LESION: Mapping[str, str] = {
    **{name.casefold(): name for name in CLASS_NAMES},
    "spondylolysthesis": "Spondylolisthesis",
    **dict.fromkeys(
        ("ankylosis", "enthesophytes", "fracture", "sclerotic lesion", "subchondral sclerosis", "foreign body"), _OTHER
    ),
}
# Two readers outlined one lesion when their boxes of one class share this part of their union.
_ONE_LESION = 0.5


@dataclass(frozen=True, slots=True)
class AnnotatedPicture:
    """One picture's file, the study that it belongs to and the boxes of its lesions; without a box it is normal."""

    path: Path
    study: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a table. `box` is None for `No finding`."""

    picture: str
    study: str
    reader: str
    box: Box | None


def is_annotated(data: Path) -> bool:
    """Return whether a folder has the layout, whole or in part."""
    return any(path.exists() for part in _PARTS for path in _paths(data, part))


def annotated_parts(data: Path) -> Mapping[Part, tuple[AnnotatedPicture, ...]]:
    """Return the pictures of both parts, in the order of their names; studies that share a file are one study.

    Raises: ModelError if a file or a column is missing, a row makes no sense, a lesion is unknown, a study or a file is
    in both parts, a file is both normal and abnormal, or a part lacks normal or abnormal pictures.
    """
    missing = [str(path) for part in _PARTS for path in _paths(data, part) if not path.exists()]
    if missing:
        raise ModelError(f"{data}: the layout of VinDr-SpineXR, but not there: {', '.join(missing)}")
    parts = {part: _pictures(data, part) for part in _PARTS}
    train, test = ({picture.study for picture in pictures} for pictures in parts.values())
    if shared := sorted(train & test):
        raise ModelError(f"{data}: {len(shared)} studies are in both parts, {shared[0]} among them")
    for part, pictures in parts.items():
        if len({bool(picture.boxes) for picture in pictures}) < 2:  # noqa: PLR2004  # normal and abnormal
            raise ModelError(f"{_paths(data, part)[0]}: both normal and abnormal pictures are needed")
    return _without_copies(parts)


def _without_copies(parts: Mapping[Part, tuple[AnnotatedPicture, ...]]) -> Mapping[Part, tuple[AnnotatedPicture, ...]]:
    whole = [(part, picture) for part, pictures in parts.items() for picture in pictures]
    studies = groups_with_copies(
        [picture.path for _, picture in whole],
        [bool(picture.boxes) for _, picture in whole],
        [picture.study for _, picture in whole],
        [part for part, _ in whole],
    )
    joined = [(part, replace(picture, study=study)) for (part, picture), study in zip(whole, studies, strict=True)]
    return {name: tuple(picture for part, picture in joined if part == name) for name in parts}


def _paths(data: Path, part: Part) -> tuple[Path, Path]:
    """Return the table and the folder of the pictures of a part."""
    return data / "annotations" / f"{part}.csv", data / f"{part}_images"


def _pictures(data: Path, part: Part) -> tuple[AnnotatedPicture, ...]:
    table, folder = _paths(data, part)
    rows_of_picture: dict[str, list[_Row]] = {}
    for row in _rows(table):
        rows_of_picture.setdefault(row.picture, []).append(row)
    # By the folder's own list: a name of the table never leads out of the folder.
    present = {path.name for path in folder.iterdir()}
    dicom = any(path.suffix.lower() in {".dicom", ".dcm"} for path in folder.iterdir())
    hint = "; the DICOM files must be converted to PNG" if dicom else ""
    names = sorted(rows_of_picture)
    refuse_files(
        [
            f"{folder}: no picture {name}.png, which {table.name} names{hint}"
            for name in names
            if f"{name}.png" not in present
        ]
    )
    refuse_files(
        [
            f"{table}: picture {name} is of two studies"
            for name in names
            if len({row.study for row in rows_of_picture[name]}) > 1
        ]
    )
    return tuple(
        AnnotatedPicture(folder / f"{name}.png", rows_of_picture[name][0].study, _distinct_boxes(rows_of_picture[name]))
        for name in names
    )


def _rows(table: Path) -> Iterator[_Row]:
    """Yield the rows of a table.

    Raises: ModelError with the number of the line.
    """
    for entries in table_rows(table, _COLUMNS):
        try:
            yield _row(entries)
        except ValueError as error:
            raise entries.refusal(str(error)) from error


def _row(entries: Row) -> _Row:
    """Return a row of a table as a value.

    Raises: ValueError with the reason.
    """
    picture, study, lesion = (entries[name].strip() for name in _COLUMNS[:3])
    if not picture or not study:
        raise ValueError("no image_id or no study_id")
    reader = entries.get("rad_id", "").strip()
    if lesion.casefold() == _NO_FINDING:
        return _Row(picture, study, reader, None)
    if lesion.casefold() not in _CLASS_OF_LESION:
        known = ", ".join(sorted(_CLASS_OF_LESION))
        raise ValueError(f"lesion_type {lesion!r}; known are {_NO_FINDING}, {known}")
    texts = [entries[name].strip() for name in _COLUMNS[3:]]
    if not all(texts):
        raise ValueError(f"{lesion} without the four edges of a box")
    x0, y0, x1, y1 = (float(text) for text in texts)
    if not (np.isfinite((x0, y0, x1, y1)).all() and x0 < x1 and y0 < y1):
        raise ValueError(f"a box from {x0:g}, {y0:g} to {x1:g}, {y1:g} has no area")
    return _Row(picture, study, reader, (CLASS_NAMES.index(_CLASS_OF_LESION[lesion.casefold()]), x0, y0, x1, y1))


def _distinct_boxes(rows: Iterable[_Row]) -> tuple[Box, ...]:
    """Return each lesion's box once: of a box that is repeated, or that two readers drew, the first row counts."""
    kept: list[_Row] = []
    for row in rows:
        if row.box is not None and not any(_is_repeated(row, earlier) for earlier in kept):
            kept.append(row)
    return tuple(row.box for row in kept if row.box is not None)


def _is_repeated(row: _Row, earlier: _Row) -> bool:
    if row.box is None or earlier.box is None or row.box[0] != earlier.box[0]:
        return False
    return row.box == earlier.box or (row.reader != earlier.reader and _overlap(row.box, earlier.box) >= _ONE_LESION)


def _overlap(box: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union."""
    corners = np.asarray([box[1:], other[1:]])
    low, high = corners[:, :2], corners[:, 2:]
    common = float(np.prod(np.clip(high.min(axis=0) - low.max(axis=0), 0, None)))
    return common / (float(np.prod(high - low, axis=1).sum()) - common)
