"""From the network's maps to a column of vertebrae: peaks, their corners, and the chain that they form."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.spine_vertebrae.preprocess import LEARNED, REACH, STRIDE

Array = NDArray[np.float32]
Corners = NDArray[np.float64]

# A peak below this is no vertebra.
_LEAST_PEAK = 0.2
# From a middle to the next, in heights of both vertebrae, between which a disc lies: 0.98 to 2.24 on training films.
_STEP = (0.85, 2.4)
# From one middle to the next, away from the upright; the training's films have 62 degrees at most.
_MOST_TURN_DEGREES = 75.0
# Two vertebrae in sequence differ in width by no more than this factor.
_MOST_GROWTH = 1.7
_NEIGHBORS = np.ones((5, 3), bool)
MOST = 17
"""vertebrae from T1 to L5"""


@dataclass(frozen=True, slots=True)
class Column:
    """Vertebrae from the head to the feet.

    Shapes: corners (n, 4, 2) in pixels of the input; peaks (n,) 0 to 1; numbers (n,), 0 (T1) to 16 (L5) as the network
    counts them from what it sees around.
    """

    corners: Corners = field(repr=False)
    peaks: NDArray[np.float64] = field(repr=False)
    numbers: NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        """Return the number of vertebrae."""
        return len(self.peaks)


def column_of(middles: Array, distances: Array) -> Column:
    """Return the chain of vertebrae with the largest sum of peaks; none where no peak stands out.

    Shapes: middles (rows, columns), 0 to 1; distances (9, rows, columns) as the network gives them.
    """
    places = _peaks(middles)
    return _chain(_vertebrae(places, middles, distances))


def _peaks(middles: Array) -> NDArray[np.int64]:
    is_peak = (middles == ndimage.maximum_filter(middles, footprint=_NEIGHBORS)) & (middles > _LEAST_PEAK)
    return np.argwhere(is_peak)


def _vertebrae(places: NDArray[np.int64], middles: Array, distances: Array) -> Column:
    """Return the vertebrae at peaks, from the head to the feet; corners are the mean of what the places around say."""
    corners, peaks, numbers = [], [], []
    for row, column in places:
        rows, columns = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
        peak = middles[rows, columns].astype(np.float64)
        weight = np.where(peak > LEARNED * peak.max(), peak, 0)
        weight /= weight.sum()
        y, x = np.mgrid[rows, columns] * STRIDE + STRIDE / 2
        offsets = distances[:, rows, columns].astype(np.float64)
        four = [
            (((x + offsets[2 * corner] * REACH) * weight).sum(), ((y + offsets[2 * corner + 1] * REACH) * weight).sum())
            for corner in range(4)
        ]
        corners.append(four)
        peaks.append(float(middles[row, column]))
        numbers.append(16 * float((offsets[8] * weight).sum()))
    order = np.argsort([np.mean(np.asarray(four)[:, 1]) for four in corners])
    return Column(
        np.asarray(corners, np.float64).reshape(-1, 4, 2)[order], np.asarray(peaks)[order], np.asarray(numbers)[order]
    )


def _chain(vertebrae: Column) -> Column:
    """Return the vertebrae of the chain with the largest sum of peaks."""
    best = vertebrae.peaks.copy()
    before = np.full(len(vertebrae), -1)
    for lower in range(len(vertebrae)):
        for upper in range(lower):
            total = best[upper] + vertebrae.peaks[lower]
            if total > best[lower] and _follows(vertebrae.corners[upper], vertebrae.corners[lower]):
                best[lower], before[lower] = total, upper
    chosen: list[int] = []
    place = int(best.argmax()) if len(vertebrae) else -1
    while place >= 0:
        chosen.append(place)
        place = int(before[place])
    chosen = _surest(chosen[::-1], vertebrae.peaks)
    return Column(vertebrae.corners[chosen], vertebrae.peaks[chosen], vertebrae.numbers[chosen])


def _surest(chosen: list[int], peaks: NDArray[np.float64]) -> list[int]:
    """Return the part of a chain with the largest sum of peaks that has T1 to L5 at most: the neck looks alike."""
    starts = range(max(1, len(chosen) - MOST + 1))
    sums = [peaks[chosen[start : start + MOST]].sum() for start in starts]
    start = int(np.argmax(sums)) if chosen else 0
    return chosen[start : start + MOST]


def _follows(upper: Corners, lower: Corners) -> bool:
    """Return whether one vertebra may be the next below another."""
    heights = [float(np.linalg.norm(four[2:].mean(axis=0) - four[:2].mean(axis=0))) for four in (upper, lower)]
    spans = [float(np.linalg.norm(four[[1, 3]].mean(axis=0) - four[[0, 2]].mean(axis=0))) for four in (upper, lower)]
    x, y = lower.mean(axis=0) - upper.mean(axis=0)
    step = float(np.hypot(x, y)) / max(float(np.mean(heights)), 1e-9)
    turn = abs(float(np.degrees(np.arctan2(x, y))))
    growth = max(spans) / max(min(spans), 1e-9)
    return _STEP[0] <= step <= _STEP[1] and turn <= _MOST_TURN_DEGREES and growth <= _MOST_GROWTH
