"""Cubes of isotropic cells around a point of a CT: the form in which the network sees a nodule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Triple = tuple[float, float, float]

SIDE = 48
"""cells along each side of a cube"""
CELL_MM = 0.7
WIDE_CELL_MM = 1.05
"""the side of a cell for nodules that do not fit into the usual cube"""
AIR_HU = -1024.0
# From air to dense soft tissue; calcium above looks like the densest soft tissue to the network.
_LOWEST_HU, _HIGHEST_HU = -1000.0, 400.0
# The reach of the channel that tells the network where the point is.
_REACH_MM = 15.0


@dataclass(frozen=True, slots=True)
class Cube:
    """The cells around a point of a volume.

    Shapes: values (48, 48, 48), axes as the volume's; the point lies in the middle, between the cells 23 and 24.
    Units: Hounsfield units; center (z, y, x) is the point in voxels of the volume; cell_mm is the side of a cell.
    """

    values: Array
    center: Triple
    spacing_mm: Triple
    cell_mm: float

    def voxels(self, cells: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the voxel indices (..., 3) of cell indices (..., 3)."""
        offsets = (np.asarray(cells, np.float64) - (SIDE - 1) / 2) * self.cell_mm
        return np.asarray(np.asarray(self.center) + offsets / np.asarray(self.spacing_mm), np.float64)


def cube(values: NDArray[np.generic], spacing_mm: Triple, center: Triple, cell_mm: float = CELL_MM) -> Cube:
    """Return the cells around a voxel index (z, y, x) of a volume (Z, Y, X), linear between voxels, air outside."""
    axes = [at + offsets_mm(cell_mm) / step for at, step in zip(center, spacing_mm, strict=True)]
    return Cube(sampled(values, axes, AIR_HU), center, spacing_mm, cell_mm)


def offsets_mm(cell_mm: float) -> NDArray[np.float64]:
    """Return the distances (48,) of the cells of one axis from the middle of a cube."""
    return np.asarray((np.arange(SIDE) - (SIDE - 1) / 2) * cell_mm, np.float64)


def sampled(values: NDArray[np.generic], axes: Sequence[NDArray[np.float64]], outside: float) -> Array:
    """Return the values at the crossings of three lists of voxel indices, linear between voxels.

    Half a voxel beyond the outermost centers still belongs to the volume.
    """
    inside = [(a >= -0.5) & (a <= size - 0.5) for a, size in zip(axes, values.shape, strict=True)]  # noqa: PLR2004
    low = [int(np.clip(np.floor(a.min()), 0, size - 1)) for a, size in zip(axes, values.shape, strict=True)]
    high = [int(np.clip(np.ceil(a.max()) + 1, b + 1, None)) for a, b in zip(axes, low, strict=True)]
    result = np.asarray(values[tuple(slice(b, t) for b, t in zip(low, high, strict=True))], np.float32)
    for axis, places in enumerate(axes):
        result = _along(result, axis, places - low[axis])
    result[~(inside[0][:, None, None] & inside[1][:, None] & inside[2])] = outside
    return result


def _along(values: Array, axis: int, places: NDArray[np.float64]) -> Array:
    """Return the values at places along one axis, linear between voxels, the edges held."""
    last = values.shape[axis] - 1
    at = np.clip(places, 0, last)
    low = np.minimum(at.astype(int), max(last - 1, 0))
    share = (at - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
    first, second = np.take(values, low, axis), np.take(values, np.minimum(low + 1, last), axis)
    return np.asarray(first + share * (second - first))


def pictures(values: Array, cell_mm: float) -> Array:
    """Return the network's input: HU from -1 to 1, and the nearness of each cell to the middle.

    Shapes: values (48, 48, 48) HU in; (2, 48, 48, 48) out.
    """
    scaled = (np.clip(values, _LOWEST_HU, _HIGHEST_HU) - _LOWEST_HU) * (2 / (_HIGHEST_HU - _LOWEST_HU)) - 1
    return np.stack([scaled, nearness(cell_mm)]).astype(np.float32)


def nearness(cell_mm: float) -> Array:
    """Return 1 at the middle of a cube, falling to 0 at 15 mm from the middle."""
    return np.clip(1 - distance_mm(cell_mm) / _REACH_MM, 0, 1).astype(np.float32)


def distance_mm(cell_mm: float) -> NDArray[np.float64]:
    """Return the distance of each cell of a cube from the middle."""
    offset = offsets_mm(cell_mm)
    return np.asarray(np.sqrt(offset[:, None, None] ** 2 + offset[:, None] ** 2 + offset**2))
