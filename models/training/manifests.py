"""Labelled sets that a manifest.csv describes: a row for each picture, its part in the column `split`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ainode.models.errors import ModelError
from ainode.models.training.experiment import Part

Row = Mapping[str, str]


def rows_of_part(data: Path, name: str, part: Part) -> tuple[Path, list[Row]]:
    """Return the folder of a set and the rows of one part, in the order of the manifest.

    `data` is the folder of the set, or holds it as `name`.

    Raises: ModelError if there is no manifest, or it has nothing of the part.
    """
    folder = data if (data / "manifest.csv").is_file() else data / name
    rows = [row for row in manifest_rows(folder, name) if row["split"] == part]
    if not rows:
        raise ModelError(f"{folder}: nothing of the part {part} in manifest.csv")
    return folder, rows


def manifest_rows(folder: Path, name: str) -> list[Row]:
    """Return all rows of a set's manifest.

    Raises: ModelError if there is no manifest.
    """
    path = folder / "manifest.csv"
    if not path.is_file():
        raise ModelError(f"{path}: not there; --data names the folder that holds {name}")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def gray_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture as grays; (rows, columns)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), np.uint8)
