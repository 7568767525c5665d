"""Radiographs with the four corners of their 17 vertebrae, T1 to L5.

A folder holds `spine_aasce` (manifest.csv and pictures, SpineWeb's data set 16), or is this set itself. An empty folder
stands for synthetic films.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.phantoms.spine import spine_radiograph
from ainode.models.spine_vertebrae.geometry import curves, largest
from ainode.models.training.experiment import Part
from ainode.models.training.manifests import gray_picture, rows_of_part

COUNT = 17
"""vertebrae of a film, the twelve thoracic and five lumbar ones"""
_SET = "spine_aasce"
# The first seed and the count of the synthetic films of each part, and their shape.
_SYNTHETIC: Mapping[Part, tuple[int, int]] = {"train": (0, 160), "test": (1000, 60)}
_SEED = 17
_SYNTHETIC_ROWS, _SYNTHETIC_ASPECT = 1024, (0.34, 0.5)


@dataclass(frozen=True, slots=True)
class Film:
    """A radiograph and what a person marked on it.

    Shapes: picture (rows, columns) uint8, larger is brighter; corners (17, 4, 2), x and y of the top left, top right,
    bottom left and bottom right corner of each vertebra from the top.
    Units: corners in pixels from the picture's upper left corner; the angle in degrees.
    """

    name: str
    patient: str
    picture: NDArray[np.uint8]
    corners: NDArray[np.float32]
    largest_angle: float
    has_right_corners: bool
    """whether the corners are in order: a person's slip exchanged some of them in every twentieth film"""


def films_of_part(data: Path, part: Part) -> tuple[Film, ...]:
    """Return the films of one part, in the order of the manifest; synthetic ones for a folder that holds nothing.

    Raises: ModelError if the folder holds something and no manifest, or no film of the part.
    """
    if is_synthetic(data):
        return _synthetic_films(part)
    folder, rows = rows_of_part(data, _SET, part)
    return tuple(_film(folder, row) for row in rows)


def is_synthetic(data: Path) -> bool:
    """Return whether a folder stands for synthetic films: it is there, and holds nothing."""
    return data.is_dir() and not any(data.iterdir())


def _synthetic_films(part: Part) -> tuple[Film, ...]:
    first, count = _SYNTHETIC[part]
    return tuple(_synthetic_film(seed) for seed in range(first, first + count))


def _synthetic_film(seed: int) -> Film:
    random = np.random.default_rng([_SEED, seed])
    columns = int(random.uniform(*_SYNTHETIC_ASPECT) * _SYNTHETIC_ROWS)
    drawn = spine_radiograph(random, rows=_SYNTHETIC_ROWS, columns=columns, view="AP", region="WHOLE", abnormal=False)
    return Film(
        name=f"synthetic {seed}",
        patient=f"synthetic {seed}",
        picture=(drawn.image >> 4).astype(np.uint8),
        corners=drawn.corners.astype(np.float32),
        largest_angle=largest(curves(drawn.corners)).angle,
        has_right_corners=True,
    )


def _film(folder: Path, row: Mapping[str, str]) -> Film:
    corners = np.array([(row[f"x{number}"], row[f"y{number}"]) for number in range(4 * COUNT)], np.float32)
    return Film(
        name=Path(row["file"]).stem,
        patient=row["group"],
        picture=gray_picture(folder / row["file"]),
        corners=corners.reshape(COUNT, 4, 2),
        largest_angle=float(row["max_cobb"]),
        has_right_corners=row["corners_ok"] == "1",
    )
