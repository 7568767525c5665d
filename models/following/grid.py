"""A CT as an array with its place in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Position = tuple[float, float, float]
Values = NDArray[np.float32]
Vectors = NDArray[np.float64]

_HALF_VOXEL = 0.5

# Unit vectors of real headers are rounded to 6 decimals.
_ORTHOGONAL = 1e-3


@dataclass(frozen=True, slots=True)
class Omission:
    """The reason why a date or a measurement is left out: an answer, not an error."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A volume of Hounsfield units in the patient.

    Shapes: values (Z, Y, X) float32; axes: unit LPS vectors of the array's axes, nearest to head, back, left.
    Units: mm; positions are (x, y, z) in LPS; origin is the center of voxel (0, 0, 0).
    """

    values: Values = field(repr=False)
    origin_mm: Position
    spacing_mm: tuple[float, float, float]
    axes: tuple[Position, Position, Position]

    def __post_init__(self) -> None:
        """Refuse an array that is no volume, and axes or spacings that give its voxels no place."""
        axes = np.asarray(self.axes, np.float64)
        upright = axes.shape == (3, 3) and np.allclose(axes @ axes.T, np.eye(3), atol=_ORTHOGONAL)
        if self.values.ndim != 3 or min(self.values.shape) < 2 or min(self.spacing_mm) <= 0 or not upright:  # noqa: PLR2004
            shape, spacing = self.values.shape, self.spacing_mm
            raise ValueError(
                f"a grid needs 3 axes of 2 voxels or more and positive spacing, got {shape}, {spacing}, {self.axes}"
            )

    def positions(self, indices: Sequence[float] | NDArray[np.floating | np.integer]) -> Vectors:
        """Return the positions of voxel indices (..., 3), each (z, y, x)."""
        steps = np.asarray(indices, np.float64) * np.asarray(self.spacing_mm)
        return np.asarray(matrix_products(steps, np.asarray(self.axes).T) + np.asarray(self.origin_mm))

    def indices(self, positions_mm: Sequence[float] | NDArray[np.floating | np.integer]) -> Vectors:
        """Return the continuous indices (z, y, x) of positions (..., 3), also of positions outside of the volume."""
        offsets = np.asarray(positions_mm, np.float64) - np.asarray(self.origin_mm)
        return matrix_products(offsets, np.asarray(self.axes) / np.asarray(self.spacing_mm)[:, None])

    def holds(self, position_mm: Position) -> bool:
        """Return whether a position lies in a voxel of the volume."""
        index = self.indices(position_mm)
        return bool(((index >= -_HALF_VOXEL) & (index < np.asarray(self.values.shape) - _HALF_VOXEL)).all())

    def values_at(self, positions_mm: Vectors) -> Values:
        """Return the values at positions (..., 3), linear between voxels, NaN outside of the volume."""
        # Half a voxel beyond the last center still belongs to the scan.
        size = np.asarray(self.values.shape)
        index = self.indices(positions_mm)
        inside = ((index >= -_HALF_VOXEL) & (index <= size - _HALF_VOXEL)).all(axis=-1)
        values = map_coordinates(self.values, np.moveaxis(index, -1, 0), order=1, mode="nearest")
        return np.where(inside, values, np.float32(np.nan))

    def nearest_values(self, other: Grid) -> Values:
        """Return, for each voxel of a grid with the same axes, the value of this grid's nearest voxel."""
        first, last = (
            self.indices(other.positions(corner)) for corner in ((0, 0, 0), np.asarray(other.values.shape) - 1)
        )
        rows = [
            np.clip(np.rint(np.linspace(a, b, n)), 0, size - 1).astype(int)
            for a, b, n, size in zip(first, last, other.values.shape, self.values.shape, strict=True)
        ]
        return np.asarray(self.values[np.ix_(*rows)])

    def part_in(self, window: tuple[slice, ...]) -> Grid:
        """Return the grid of the voxels in a window; each slice of the window has a start."""
        first = self.positions([extent.start for extent in window])
        return Grid(self.values[window], triple(first), self.spacing_mm, self.axes)

    def coarser(self, spacing_mm: float) -> Grid:
        """Return the grid of the means over blocks of whole voxels, each block about `spacing_mm` wide."""
        # Two blocks stay along each axis, so that the values have a slope.
        factors = [
            max(1, min(n // 2, round(spacing_mm / step)))
            for n, step in zip(self.values.shape, self.spacing_mm, strict=True)
        ]
        nz, ny, nx = (n // factor for n, factor in zip(self.values.shape, factors, strict=True))
        fz, fy, fx = factors
        values = np.empty((nz, ny, nx), np.float32)
        for z in range(nz):
            block = self.values[z * fz : (z + 1) * fz, : ny * fy, : nx * fx]
            rows = block.sum(axis=0).reshape(ny, fy, nx * fx).sum(axis=1)
            values[z] = rows.reshape(ny, nx, fx).sum(axis=2) / (fz * fy * fx)
        steps = tuple(step * factor for step, factor in zip(self.spacing_mm, factors, strict=True))
        first = (np.asarray(factors) - 1) / 2
        return Grid(values, triple(self.positions(first)), triple(steps), self.axes)


def matrix_products(vectors: Vectors, matrix: Vectors) -> Vectors:
    """Return the matrix (3, 3) times each of the vectors (..., 3).

    BLAS is not used: for three columns its threads cost more than they save, and their number changes the last digits.
    """
    return np.asarray(np.einsum("...j,kj->...k", vectors, matrix))


def triple(vector: Sequence[float] | NDArray[np.floating | np.integer]) -> Position:
    """Return the three coordinates of a vector as plain floats."""
    x, y, z = (float(coordinate) for coordinate in vector)
    return (x, y, z)
