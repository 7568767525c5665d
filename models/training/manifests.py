"""Labelled sets that a manifest.csv describes: a row for each picture, its part in the column `split`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ainode.models.errors import ModelError
from ainode.models.training.experiment import Part
from ainode.models.training.pictures import refuse_damaged
from ainode.models.training.text_files import Row, table_rows

_PARTS: tuple[Part, ...] = ("train", "test")


def rows_of_part(data: Path, name: str, part: Part) -> tuple[Path, list[Row]]:
    """Return the folder of a set and the rows of one part, in the order of the manifest.

    `data` is the folder of the set, or holds it as `name`.

    Raises: ModelError if there is no manifest, it lacks a column, or it has nothing of the part.
    """
    folder = data if (data / "manifest.csv").is_file() else data / name
    rows = [row for row in manifest_rows(folder, name, ("group",)) if row["split"] == part]
    if not rows:
        raise ModelError(f"{folder}: nothing of the part {part} in manifest.csv")
    return folder, rows


def manifest_rows(folder: Path, name: str, columns: Iterable[str] = (), parts: Sequence[str] = _PARTS) -> list[Row]:
    """Return all rows of a set's manifest, which names `file`, `split` and the columns that are given.

    Raises: ModelError if there is no manifest, it lacks a column, a row has no file or none of the parts, or a group is
    in two parts.
    """
    path = folder / "manifest.csv"
    if not path.is_file():
        raise ModelError(f"{path}: not there; --data names the folder that holds {name}")
    rows = list(table_rows(path, ("file", "split", *columns)))
    part_of_group: dict[str, str] = {}
    for row in rows:
        if not row["file"] or row["split"] not in parts:
            raise row.refusal(f"file {row['file']!r}, split {row['split']!r}; split is {' or '.join(parts)}")
        group = row.get("group")
        if group and part_of_group.setdefault(group, row["split"]) != row["split"]:
            raise row.refusal(f"the group {group} is in two parts")
    return rows


def gray_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture as grays; (rows, columns).

    Raises: ModelError if it is absent or damaged.
    """
    refuse_damaged(path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), np.uint8)
