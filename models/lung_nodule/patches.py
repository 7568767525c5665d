"""The networks' inputs from a CT: FMCIB's cube at 1 mm, and slices stretched as the uploader of LIDC's slices did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from ainode.models.errors import UnusablePicture

Array = NDArray[np.float32]
Triple = tuple[float, float, float]

CUBE = 50
"""the side of FMCIB's patch in voxels of 1 mm"""
# FMCIB's scaling: -1024 HU is 0, so that its padding with 0 is air.
_AIR_HU, _RANGE_HU = -1024.0, 3072.0
# Indices are rounded to these digits before `int`: an origin computed from the other end then crops the same cube.
_DIGITS = 6

# The uploader's slices: 128 x 128 pixels, stretched by their own minimum and maximum; the middle 64 x 64 are used.
PIXEL_MM = 0.5
_STRETCHED, _SHOWN = 128, 64
# Between lung and soft tissue.
_NEAR_MM, _TISSUE_HU = 5.0, -300.0


@dataclass(frozen=True, slots=True)
class Scan:
    """One CT and the nodule's place in the CT.

    Shapes: values (Z, Y, X), axes to the head, the back and the left; point (z, y, x) in voxels, continuous, 0 is the
    center of the first voxel.
    Units: values HU; spacing_mm (z, y, x).
    """

    values: Array
    spacing_mm: Triple
    point: Triple
    slices_below: int = 0
    """the number of the whole scan's slices below `values`: the start of the 1 mm grid depends on them"""

    def __post_init__(self) -> None:
        """Refuse an array or a spacing that is no scan, and a point outside of the scan."""
        if self.values.ndim != 3 or min(self.spacing_mm) <= 0:  # noqa: PLR2004  # slices, rows, columns
            raise ValueError(f"a scan has three axes and positive spacings, not {self.values.shape}, {self.spacing_mm}")
        if not all(-0.5 <= at <= size - 0.5 for at, size in zip(self.point, self.values.shape, strict=True)):  # noqa: PLR2004
            raise UnusablePicture(f"the position {self.point} lies outside of the scan of {self.values.shape} voxels")


@dataclass(frozen=True, slots=True)
class CellGrid:
    """The places of cells in a scan: cell (k, j, i) has its center at `first` + (k, j, i) * `step`, in voxels."""

    first: Triple
    step: Triple

    def coarser(self, shape: tuple[int, ...], cells: tuple[int, ...]) -> CellGrid:
        """Return the grid of `cells` larger cells that fill the same box as `shape` cells of this grid."""
        ratio = [n / m for n, m in zip(shape, cells, strict=True)]
        first = [f + s * (r - 1) / 2 for f, s, r in zip(self.first, self.step, ratio, strict=True)]
        step = [s * r for s, r in zip(self.step, ratio, strict=True)]
        return CellGrid((first[0], first[1], first[2]), (step[0], step[1], step[2]))


def cube(scan: Scan) -> tuple[Array, CellGrid]:
    """Return FMCIB's patch around the point, and the grid of the patch in the scan.

    The order is the original's: scale, resample to 1 mm, crop at the whole index below the point, pad with 0.
    The 1 mm grid begins at the first slice, and at the last row and column: MONAI resamples in RAS.
    Shapes: (1, 1, 50, 50, 50), 0 to 1; the cropped part lies in the middle, with zeros on both sides.
    Source: AIM-Harvard/foundation-cancer-image-biomarker, fmcib/preprocessing.
    """
    sizes = np.asarray(scan.values.shape)
    spacing = np.asarray(scan.spacing_mm)
    extents = (sizes - 1) * spacing
    counts = np.rint(extents).astype(int) + 1
    below = scan.slices_below * spacing[0]
    anchors = np.array([np.ceil(below) - below, extents[1] - (counts[1] - 1), extents[2] - (counts[2] - 1)])
    point = np.round(np.asarray(scan.point) * spacing - anchors, _DIGITS)
    corner = np.trunc(point).astype(int)
    low = np.clip(corner - CUBE // 2, 0, None)
    high = np.minimum(corner + CUBE // 2, counts)
    axes = [(np.arange(a, b) + anchor) / mm for a, b, anchor, mm in zip(low, high, anchors, spacing, strict=True)]
    scaled = (scan.values - np.float32(_AIR_HU)) / np.float32(_RANGE_HU)
    patch = _values_at(scaled, axes)
    padding = (CUBE - (high - low)) // 2
    padded = np.zeros((CUBE, CUBE, CUBE), np.float32)
    padded[tuple(slice(b, b + n) for b, n in zip(padding, high - low, strict=True))] = patch
    first = (low - padding + anchors) / spacing
    step = 1 / spacing
    return padded[None, None], CellGrid((first[0], first[1], first[2]), (step[0], step[1], step[2]))


def _values_at(values: Array, axes: list[NDArray[np.float64]]) -> Array:
    """Return the values at the crossings of three lists of indices, linear between voxels, 0 outside."""
    begin = [max(0, int(np.floor(a[0]))) for a in axes]
    end = [int(np.ceil(a[-1])) + 1 for a in axes]
    part = values[begin[0] : end[0], begin[1] : end[1], begin[2] : end[2]]
    indices = np.meshgrid(*(a - b for a, b in zip(axes, begin, strict=True)), indexing="ij")
    return np.asarray(map_coordinates(part, indices, order=1, mode="grid-constant", cval=0.0), np.float32)


def is_dense(scan: Scan) -> bool:
    """Return whether the point lies in tissue, not in lung, by the median within 5 mm of the point in its slice."""
    rows, columns = (
        np.arange(size) - center for size, center in zip(scan.values.shape[1:], scan.point[1:], strict=True)
    )
    near = np.hypot(rows[:, None] * scan.spacing_mm[1], columns * scan.spacing_mm[2]) <= _NEAR_MM
    return bool(np.median(scan.values[_slice_number(scan)][near]) > _TISSUE_HU)


def _slice_number(scan: Scan) -> int:
    """Return the number of the slice nearest to the scan's point."""
    return int(np.clip(round(scan.point[0]), 0, len(scan.values) - 1))


def middle_slice(scan: Scan, pixel_mm: float = PIXEL_MM) -> tuple[Array, CellGrid]:
    """Return the picture of the point's slice, made as the training pictures are, and the grid of its pixels.

    Shapes: (1, 1, 64, 64) in 0 to 1 of 256 levels, the point at the center of pixel (32, 32).
    Raises: UnusablePicture when the picture has one value only.
    """
    number = _slice_number(scan)
    offset = (np.arange(_STRETCHED) - _STRETCHED // 2) * pixel_mm
    rows, columns = scan.point[1] + offset / scan.spacing_mm[1], scan.point[2] + offset / scan.spacing_mm[2]
    indices = np.meshgrid(rows, columns, indexing="ij")
    region = map_coordinates(scan.values[number], indices, order=1, mode="nearest")
    low, high = float(region.min()), float(region.max())
    if not np.isfinite([low, high]).all() or high <= low:
        raise UnusablePicture("the slice of the position shows one value only, or values that are not numbers")
    margin = (_STRETCHED - _SHOWN) // 2
    shown = (np.rint((region - low) / (high - low) * 255) / 255)[None, None, margin:-margin, margin:-margin]
    step = (1.0, pixel_mm / scan.spacing_mm[1], pixel_mm / scan.spacing_mm[2])
    return np.ascontiguousarray(shown, np.float32), CellGrid(
        (float(number), float(rows[margin]), float(columns[margin])), step
    )
