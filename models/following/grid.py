"""A CT as an array that knows where it lies in the patient."""

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
class LeftOut:
    """Why a date or a measurement is not there: an answer, not an error."""

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
        """Refuse what has no place in a patient."""
        axes = np.asarray(self.axes, np.float64)
        upright = axes.shape == (3, 3) and np.allclose(axes @ axes.T, np.eye(3), atol=_ORTHOGONAL)
        if self.values.ndim != 3 or min(self.values.shape) < 2 or min(self.spacing_mm) <= 0 or not upright:  # noqa: PLR2004
            shape, spacing = self.values.shape, self.spacing_mm
            raise ValueError(
                f"a grid needs 3 axes of 2 voxels or more and positive spacing, got {shape}, {spacing}, {self.axes}"
            )

    def positions(self, indices: Sequence[float] | NDArray[np.floating | np.integer]) -> Vectors:
        """Return where voxels (..., 3) in (z, y, x) are."""
        steps = np.asarray(indices, np.float64) * np.asarray(self.spacing_mm)
        return np.asarray(turned(steps, np.asarray(self.axes).T) + np.asarray(self.origin_mm))

    def indices(self, positions_mm: Sequence[float] | NDArray[np.floating | np.integer]) -> Vectors:
        """Return the continuous (z, y, x) of positions (..., 3), outside of the volume too."""
        away = np.asarray(positions_mm, np.float64) - np.asarray(self.origin_mm)
        return turned(away, np.asarray(self.axes) / np.asarray(self.spacing_mm)[:, None])

    def holds(self, position_mm: Position) -> bool:
        """Return whether a position lies within the voxels."""
        index = self.indices(position_mm)
        return bool(((index >= -_HALF_VOXEL) & (index < np.asarray(self.values.shape) - _HALF_VOXEL)).all())

    def sampled(self, positions_mm: Vectors) -> Values:
        """Return values at positions (..., 3), linear between voxels, NaN outside of the volume."""
        # Half a voxel beyond the last center still belongs to the scan.
        size = np.asarray(self.values.shape)
        index = self.indices(positions_mm)
        inside = ((index >= -_HALF_VOXEL) & (index <= size - _HALF_VOXEL)).all(axis=-1)
        found = map_coordinates(self.values, np.moveaxis(index, -1, 0), order=1, mode="nearest")
        return np.where(inside, found, np.float32(np.nan))

    def nearest(self, other: Grid) -> Values:
        """Return the values of the nearest voxels on the voxels of a grid with the same axes; edges held."""
        first, last = (self.indices(other.positions(at)) for at in ((0, 0, 0), np.asarray(other.values.shape) - 1))
        picked = [
            np.clip(np.rint(np.linspace(a, b, n)), 0, size - 1).astype(int)
            for a, b, n, size in zip(first, last, other.values.shape, self.values.shape, strict=True)
        ]
        return np.asarray(self.values[np.ix_(*picked)])

    def cropped(self, window: tuple[slice, ...]) -> Grid:
        """Return the voxels of a window of slices with a beginning."""
        first = self.positions([one.start for one in window])
        return Grid(self.values[window], triple(first), self.spacing_mm, self.axes)

    def reduced(self, spacing_mm: float) -> Grid:
        """Return means over blocks of whole voxels, near to `spacing_mm`; nothing is interpolated."""
        # Two are left along each axis, so that there is a slope.
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


def turned(vectors: Vectors, matrix: Vectors) -> Vectors:
    """Return the matrix (3, 3) times each of the vectors (..., 3).

    No BLAS: for three columns its threads cost more than they save, and their number would change the last digits.
    """
    return np.asarray(np.einsum("...j,kj->...k", vectors, matrix))


def triple(vector: Sequence[float] | NDArray[np.floating | np.integer]) -> Position:
    """Return three plain floats."""
    x, y, z = (float(one) for one in vector)
    return (x, y, z)
