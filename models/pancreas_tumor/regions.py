"""From the network's probabilities to regions: connected places around a peak, the surest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import pdist

from ainode.models.pancreas_tumor.card import Marking

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Half the width, in slices and in pixels of the picture, over which neighbors agree.
_ACROSS, _WITHIN = 0.7, 1.0


@dataclass(frozen=True, slots=True)
class Region:
    """A region on the slices that were read.

    Shapes: mask (n, rows, columns), true in the region.
    Units: `peak` 0 to 1; `summed` the sum of the probabilities in the region; `key` the slice where it is longest,
    counted from 0; `long_axis_mm` there.
    """

    mask: Mask = field(repr=False)
    peak: float
    summed: float
    key: int
    long_axis_mm: float

    @property
    def numbers(self) -> range:
        """Return the slices from the first to the last that hold the region."""
        slices = np.flatnonzero(self.mask.any(axis=(1, 2)))
        return range(int(slices[0]), int(slices[-1]) + 1)


def agreed(probabilities: Array) -> Array:
    """Return probabilities smoothed over neighboring slices and pixels; (n, rows, columns)."""
    sigma = (_ACROSS if len(probabilities) > 1 else 0.0, _WITHIN, _WITHIN)
    return np.asarray(ndimage.gaussian_filter(probabilities, sigma, mode="nearest", truncate=3.0), np.float32)


def regions_of(probabilities: Array, marking: Marking, spacing_mm: Sequence[float]) -> tuple[Region, ...]:
    """Return a region around the peak of each connected place above the least peak, the largest sum first.

    Shapes: (n, rows, columns), slices `spacing_mm[0]` apart, pixels `spacing_mm[1]` and `[2]`.
    """
    smooth = agreed(probabilities)
    labels, count = cast("tuple[NDArray[Any], int]", ndimage.label(smooth > marking.least_peak, np.ones((3, 3, 3))))
    regions = []
    for peak in ndimage.maximum_position(smooth, labels, range(1, count + 1)):
        place = (int(peak[0]), int(peak[1]), int(peak[2]))
        mask = around(np.where(labels == labels[place], smooth, 0), place, marking.share_of_peak)
        region = _region(mask, smooth, float(smooth[place]), spacing_mm)
        if _is_large_enough(region, marking, spacing_mm):
            regions.append(region)
    regions.sort(key=lambda region: -region.summed)
    return tuple(regions[: marking.most_regions])


def around(probabilities: Array, place: tuple[int, int, int], share: float) -> Mask:
    """Return what is connected with a place and above a share of its probability; (n, rows, columns)."""
    high = probabilities > share * probabilities[place]
    labels, _ = cast("tuple[NDArray[Any], int]", ndimage.label(high, np.ones((3, 3, 3))))
    return np.asarray(labels == labels[place], np.bool_)


def center_of(mask: Mask, probabilities: Array) -> tuple[float, float]:
    """Return the middle of a region on one slice by its probabilities, in the region: row, column.

    Shapes: (rows, columns).
    """
    rows, columns = np.nonzero(mask)
    weights = probabilities[mask]
    y, x = float(np.average(rows, weights=weights)), float(np.average(columns, weights=weights))
    nearest = int(((rows - y) ** 2 + (columns - x) ** 2).argmin())
    is_inside = bool(mask[round(y), round(x)])
    return (y, x) if is_inside else (float(rows[nearest]), float(columns[nearest]))


def long_axis_mm(mask: Mask, pixel_mm: tuple[float, float]) -> float:
    """Return the longest distance between two corners of pixels of a region on one slice; 0 of none."""
    contours, _ = cv2.findContours(np.asarray(mask, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return 0.0
    points = np.concatenate([np.asarray(contour).reshape(-1, 2)[:, ::-1] for contour in contours]).astype(np.float64)
    shifts = np.array([(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)])
    corners = (points[:, None] + shifts).reshape(-1, 2) * pixel_mm
    hull = cv2.convexHull(corners.astype(np.float32)).reshape(-1, 2)
    return float(pdist(hull).max())


def dice(drawn: Mask, truth: Mask) -> float:
    """Return the Dice of two masks; 1 where neither has a pixel."""
    total = int(drawn.sum()) + int(truth.sum())
    return 2 * int((drawn & truth).sum()) / total if total else 1.0


def _region(mask: Mask, probabilities: Array, peak: float, spacing_mm: Sequence[float]) -> Region:
    axes = [long_axis_mm(slice_, (spacing_mm[1], spacing_mm[2])) for slice_ in mask]
    key = int(np.argmax(axes))
    return Region(mask, peak, float(probabilities[mask].sum()), key, axes[key])


def _is_large_enough(region: Region, marking: Marking, spacing_mm: Sequence[float]) -> bool:
    area = float(region.mask[region.key].sum()) * spacing_mm[1] * spacing_mm[2]
    return len(region.numbers) * spacing_mm[0] >= marking.least_mm and area >= marking.least_mm2
