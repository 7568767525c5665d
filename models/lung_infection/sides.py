"""Left and right lung, parted where there is least lung between both; and the share of each that is infected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

# The middle is searched in this part of the lungs' width; lung pixels in the outermost hundredths do not count.
_CENTRAL = (0.3, 0.7)
_OUTER_PERCENT = 1.0
# A piece of lung reaches over the middle by so much and still belongs to one side: the front tips cross the midline.
_CROSSING = 0.25
_SMOOTHING = 3.0


@dataclass(frozen=True, slots=True)
class Shares:
    """The infected share of the right lung, the left lung and both, 0 to 1; None where no such lung was outlined."""

    right: float | None
    left: float | None
    both: float | None


@dataclass(frozen=True, slots=True)
class SlicePixels:
    """What the pixels of a slice are.

    Shapes: (rows, columns), columns to the patient's left; lung holds left and infected.
    """

    lung: Mask
    left: Mask
    infected: Mask


def shares_of(slices: Iterable[SlicePixels]) -> Shares:
    """Return the infected share of each lung of slices an even distance apart: infected pixels by pixels of lung."""
    counts = np.zeros((2, 2), np.int64)  # right and left; infected and all
    for pixels in slices:
        for number, side in enumerate((pixels.lung & ~pixels.left, pixels.left)):
            counts[number] += ((pixels.infected & side).sum(), side.sum())
    return Shares(*(int(infected) / int(all_) if all_ else None for infected, all_ in (*counts, counts.sum(axis=0))))


def left_lung(lung: Mask) -> Mask:
    """Return the pixels of the left lung: pieces of each slice on the left of the middle.

    A piece that lies on both sides is cut at the middle, where neither side is small.
    """
    middle = _middle(lung)
    is_left = np.zeros_like(lung)
    is_left_of_middle = np.arange(lung.shape[2]) >= middle
    for number, slice_ in enumerate(lung):
        labels, count = cast("tuple[NDArray[Any], int]", ndimage.label(slice_))
        for label in range(1, count + 1):
            piece = labels == label
            left_share = float((piece & is_left_of_middle).sum() / piece.sum())
            if left_share >= 1 - _CROSSING:
                is_left[number] |= piece
            elif left_share > _CROSSING:
                is_left[number] |= piece & is_left_of_middle
    return is_left


def _middle(lung: Mask) -> int:
    """Return the column between both lungs: in the central part, that with the fewest pixels of lung."""
    counts = lung.sum(axis=(0, 1)).astype(np.float64)
    if not counts.any():
        return len(counts) // 2
    shares = np.cumsum(counts) / counts.sum() * 100
    first, last = np.searchsorted(shares, [_OUTER_PERCENT, 100 - _OUTER_PERCENT])
    low, high = (int(first + part * (last - first)) for part in _CENTRAL)
    smooth: NDArray[np.float64] = ndimage.gaussian_filter1d(counts, _SMOOTHING)
    return low + int(smooth[low : high + 1].argmin())
