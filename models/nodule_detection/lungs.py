"""The place of both lungs in a chest CT, closed over nodules at the pleura and over vessels; or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.following.grid import Grid, Omission

Mask = NDArray[np.bool_]

_CELL_MM = 2.0
# Lung and air are darker, fat is denser: the middle between them.
_AIR_HU = -400.0
# Gas of the bowel and the air outside are near -1000; the median of a lung with emphysema is denser.
_GAS_HU = -970.0
_SMALLEST_PART_ML, _SMALLEST_ML = 100.0, 600.0
_CLOSING_MM = 12.0
"""the radius of the ball that rolls over the lung from outside: a nodule at the pleura up to twice as wide is inside"""
_LARGEST_HOLE_ML = 30.0
"""a ball of 38 mm: a nodule is at most 30 mm wide"""
_THICKEST_MM = 3.0
_MOST_SPACING_MM = 2.0
_ML = 1000.0
_LATTICE = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True, slots=True)
class Lungs:
    """The lungs of a scan.

    Shapes: `grid.values` 1.0 in the closed lungs, else 0.0, in cells of about 2 mm.
    Units: volume of the aerated lung in ml.
    """

    grid: Grid = field(repr=False)
    volume_ml: float

    def window(self, scan: Grid, margin_mm: float) -> tuple[slice, slice, slice]:
        """Return the voxels of a scan with the same axes that hold the lungs and a margin around the lungs."""
        places = np.argwhere(self.grid.values > 0)
        corners = np.stack([places.min(axis=0) - 1, places.max(axis=0) + 1])
        low, high = scan.indices(self.grid.positions(corners))
        margin = margin_mm / np.asarray(scan.spacing_mm)
        first = np.clip(np.floor(low - margin), 0, None).astype(int)
        last = np.minimum(np.ceil(high + margin).astype(int) + 1, scan.values.shape)
        z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        return (z, y, x)


def lungs_of(scan: Grid) -> Lungs | Omission:
    """Return the lungs of a CT, or why the CT is none in which nodules are searched."""
    if scan.spacing_mm[0] > _THICKEST_MM or max(scan.spacing_mm[1:]) > _MOST_SPACING_MM:
        steps = " x ".join(f"{step:.1f}" for step in scan.spacing_mm)
        return Omission(
            "coarse", f"voxels of {steps} mm are too coarse; slices up to {_THICKEST_MM:.0f} mm are searched"
        )
    grid = scan.coarser(_CELL_MM)
    cell_ml = float(np.prod(grid.spacing_mm)) / _ML
    aerated = _aerated(grid.values, cell_ml)
    volume_ml = float(aerated.sum() * cell_ml)
    if volume_ml < _SMALLEST_ML:
        reason = f"the scan shows {volume_ml:.0f} ml of lung; {_SMALLEST_ML:.0f} ml are needed"
        return Omission("no-lung", reason)
    closed = _closed(aerated, grid.spacing_mm, cell_ml)
    return Lungs(Grid(closed.astype(np.float32), grid.origin_mm, grid.spacing_mm, grid.axes), volume_ml)


def _aerated(values: NDArray[np.float32], cell_ml: float) -> Mask:
    """Return the air-filled lung: air that the body encloses in each slice, in large parts, and no mere gas."""
    air = values < _AIR_HU
    for number in range(len(air)):
        labels, _ = ndimage.label(air[number], _LATTICE)
        edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        air[number] &= ~np.isin(labels, np.unique(edge[edge > 0]))
    labels, number = ndimage.label(air)
    sizes_ml = np.bincount(labels.ravel(), minlength=number + 1) * cell_ml
    large = [part for part in range(1, number + 1) if sizes_ml[part] >= _SMALLEST_PART_ML]
    return np.isin(labels, [part for part in large if float(np.median(values[labels == part])) > _GAS_HU])


def _closed(mask: Mask, spacing_mm: tuple[float, float, float], cell_ml: float) -> Mask:
    """Return a mask closed with a ball, its small holes filled; the first and the last slice close nothing."""
    window = ndimage.find_objects(mask.astype(np.int8))[0]
    rims = [int(np.ceil(_CLOSING_MM / step)) + 1 for step in spacing_mm]
    # The lung goes on beyond a cut slice: a copy of the slice stands there.
    inner = np.pad(mask[window], ((rims[0],) * 2, (0, 0), (0, 0)), mode="edge")
    inner = np.pad(inner, ((0, 0), (rims[1],) * 2, (rims[2],) * 2))
    grown = ndimage.distance_transform_edt(~inner, sampling=spacing_mm) <= _CLOSING_MM
    closed = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > _CLOSING_MM
    closed = closed[tuple(slice(rim, -rim) for rim in rims)] | mask[window]
    labels, number = ndimage.label(~closed)
    sizes_ml = np.bincount(labels.ravel(), minlength=number + 1) * cell_ml
    faces = [labels.take(side, axis) for axis in range(3) for side in (0, -1)]
    outer = np.unique(np.concatenate([face.ravel() for face in faces]))
    holes = np.flatnonzero(sizes_ml <= _LARGEST_HOLE_ML)
    closed |= np.isin(labels, np.setdiff1d(holes, [0, *outer]))
    result = np.zeros_like(mask)
    result[window] = closed
    return result
