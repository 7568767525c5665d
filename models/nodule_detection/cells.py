"""A scan resampled to cubic cells, and cubes cut from it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.following.grid import Grid, Values, triple

_HALF = 0.5


def cells_of(scan: Grid, cell_mm: float = 1.0) -> Grid:
    """Return the scan with cells of about `cell_mm`: means where cells are wider than voxels, else linear values.

    The outer faces of the volume stay where the faces were, so the spacing may differ from `cell_mm` by half a cell
    over the whole length.
    """
    counts = tuple(
        max(2, round(n * step / cell_mm)) for n, step in zip(scan.values.shape, scan.spacing_mm, strict=True)
    )
    steps = tuple(n * step / count for n, step, count in zip(scan.values.shape, scan.spacing_mm, counts, strict=True))
    first = [(step / old - 1) / 2 for step, old in zip(steps, scan.spacing_mm, strict=True)]
    in_plane = np.stack([_plane(values, counts[1:]) for values in scan.values])
    values = _slices(in_plane, counts[0])
    return Grid(values, triple(scan.positions(first)), triple(steps), scan.axes)


def _plane(values: Values, counts: tuple[int, ...]) -> Values:
    """Return a slice with other numbers of rows and columns."""
    interpolation = cv2.INTER_AREA if counts[0] <= values.shape[0] else cv2.INTER_LINEAR
    plane = np.ascontiguousarray(values, np.float32)
    return np.asarray(cv2.resize(plane, counts[::-1], interpolation=interpolation), np.float32)


def _slices(values: Values, count: int) -> Values:
    """Return a volume with another number of slices."""
    size = len(values)
    if size == count:
        return values
    resampled = np.empty((count, *values.shape[1:]), np.float32)
    for number in range(count):
        low, high = number * size / count, (number + 1) * size / count
        if size < count:
            place = float(np.clip((low + high) / 2 - _HALF, 0, size - 1))
            below = min(int(place), size - 2)
            shares = {below: below + 1 - place, below + 1: place - below}
        else:
            rows = range(int(low), min(size, int(np.ceil(high))))
            shares = {row: (min(high, row + 1) - max(low, row)) / (high - low) for row in rows}
        resampled[number] = sum(np.float32(share) * values[row] for row, share in shares.items())
    return resampled


def halved(values: Values) -> Values:
    """Return the means of blocks of 2 x 2 x 2 cells; a last odd cell is left out."""
    nz, ny, nx = (n // 2 for n in values.shape)
    blocks = np.empty((nz, ny, nx), np.float32)
    for z in range(nz):
        pair = values[2 * z, : 2 * ny, : 2 * nx] + values[2 * z + 1, : 2 * ny, : 2 * nx]
        rows = pair[::2] + pair[1::2]
        blocks[z] = (rows[:, ::2] + rows[:, 1::2]) / 8
    return blocks


def cube(values: Values, center: NDArray[np.integer], side: int) -> Values:
    """Return the cube of `side` cells around a cell; cells beyond the volume are 0."""
    result = np.zeros((side,) * 3, np.float32)
    first = np.asarray(center) - side // 2
    low, high = np.maximum(first, 0), np.minimum(first + side, values.shape)
    if (low < high).all():
        target = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
        result[target] = values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return result
