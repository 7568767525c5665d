"""Nodules of LIDC-IDRI in Hounsfield units, and whole chests to implant the nodules in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import ModelError
from ainode.models.following.grid import Grid, Values
from ainode.models.nodule_detection.lungs import Lungs, lungs_of
from ainode.models.training.experiment import Part

NODULES, CHESTS = "nodule_lidc_hu", "chest_backgrounds"
AXES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
CHESTS_OF: dict[Part, tuple[str, ...]] = {"train": ("normal001", "luna_normal_1"), "test": ("luna_normal_2",)}
# Two of the chests do not tell their pixel size: the lungs are 29 cm wide at this size (SOURCE.md of the set).
_IN_PLANE_MM = 0.6
# A pixel of 8 bits of such a chest: 0 is -1350, 255 is 150 Hounsfield units (SOURCE.md of the set).
_GRAY_STEP, _GRAY_ZERO, _OUTSIDE_HU = 1500 / 255, -1350.0, -1024.0
# Below these slices the lungs of a chest are blank in its file (right lung from 23 to 30, left lung from 28 to 30).
_FIRST_SLICE = {"luna_normal_2": 31}
_BALL = np.pi / 6
_PLACES = 5000


@dataclass(frozen=True, slots=True)
class Nodule:
    """A nodule cut from its CT, with the readers' outline.

    Shapes: values float32 and mask bool (Z, Y, X), axes to the head, the back and the left.
    Units: Hounsfield units; spacing (z, y, x) and `diameter_mm`, the readers' diameter, in mm.
    """

    values: Values = field(repr=False)
    mask: NDArray[np.bool_] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    diameter_mm: float
    patient: str

    @property
    def outline_diameter_mm(self) -> float:
        """Return the diameter of a ball of the outline's volume."""
        return float(np.cbrt(self.mask.sum() * np.prod(self.spacing_mm) / _BALL))


@dataclass(frozen=True, slots=True)
class Chest:
    """A chest without a reported nodule, its lungs, and the columns of the scan in which examples are taken."""

    name: str
    scan: Grid = field(repr=False)
    lungs: Lungs = field(repr=False)
    columns: tuple[float, float] = (-np.inf, np.inf)

    def lung_voxels(self, random: np.random.Generator) -> NDArray[np.float64]:
        """Return voxel indices (n, 3) of the scan, spread by chance over the lungs within the columns."""
        cells = np.argwhere(self.lungs.grid.values > 0)
        drawn = cells[random.integers(len(cells), size=_PLACES)]
        voxels = self.scan.indices(self.lungs.grid.positions(drawn))
        return voxels[self.has_columns(voxels)]

    def has_columns(self, voxels: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which voxel indices (n, 3) lie within the columns."""
        low, high = self.columns
        return np.asarray((voxels[:, 2] >= low) & (voxels[:, 2] < high))

    def halves(self) -> tuple[Chest, Chest]:
        """Return the chest twice: with the columns of the right lung, and with those of the left lung."""
        places = np.argwhere(self.lungs.grid.values > 0)
        middle = float(np.median(self.scan.indices(self.lungs.grid.positions(places))[:, 2]))
        return replace(self, columns=(-np.inf, middle)), replace(self, columns=(middle, np.inf))


def nodules_of(data: Path, part: Part) -> tuple[Nodule, ...]:
    """Return the nodules of one part of the data set.

    Raises: ModelError if the folder lacks the part.
    """
    table = _table(data / NODULES / f"{part}.npz")
    ends = table["offset"]
    masks = np.unpackbits(table["mask_packed"])[: ends[-1]].astype(bool)
    return tuple(
        Nodule(
            values=table["hu"][first:last].reshape(shape).astype(np.float32),
            mask=masks[first:last].reshape(shape),
            spacing_mm=_triple(spacing),
            diameter_mm=float(diameter),
            patient=str(patient),
        )
        for first, last, shape, spacing, diameter, patient in zip(
            ends[:-1],
            ends[1:],
            table["shape"],
            table["spacing"],
            table["diameter_mm"],
            table["patient"],
            strict=True,
        )
    )


def chests_of(data: Path, part: Part) -> tuple[Chest, ...]:
    """Return the chests of one part of the data set.

    Raises: ModelError if the folder lacks a chest, or a chest shows no lungs.
    """
    return tuple(_chest(data / CHESTS / f"{name}.npz") for name in CHESTS_OF[part])


def _chest(path: Path) -> Chest:
    """Return the chest in a file."""
    table = _table(path)
    if "hu" in table:
        values = table["hu"].astype(np.float32)
    else:
        gray = table["grey"]
        values = np.maximum(np.round(gray * np.float32(_GRAY_STEP) + np.float32(_GRAY_ZERO)), np.float32(_OUTSIDE_HU))
        values[gray == 0] = _OUTSIDE_HU
    z, y, x = _triple(table["spacing"])
    spacing = (z, y, x) if np.isfinite([y, x]).all() else (z, _IN_PLANE_MM, _IN_PLANE_MM)
    scan = Grid(values[_FIRST_SLICE.get(path.stem, 0) :], (0.0, 0.0, 0.0), spacing, AXES)
    lungs = lungs_of(scan)
    if not isinstance(lungs, Lungs):
        raise ModelError(f"{path}: {lungs.reason}")
    return Chest(path.stem, scan, lungs)


def _table(path: Path) -> dict[str, Any]:
    """Return the arrays in a file by name."""
    if not path.is_file():
        raise ModelError(f"{path} is missing; --data names the folder that holds {NODULES} and {CHESTS}")
    with np.load(path) as table:
        return {name: table[name] for name in table.files}


def _triple(numbers: NDArray[np.generic]) -> tuple[float, float, float]:
    """Return three numbers as plain floats."""
    z, y, x = (float(number) for number in numbers)
    return (z, y, x)
