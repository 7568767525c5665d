"""What the network should answer for a film whose corners are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ainode.models.spine_vertebrae.dataset import COUNT
from ainode.models.spine_vertebrae.preprocess import COLUMNS, LEARNED, REACH, ROWS, STRIDE

Array = NDArray[np.float32]

_SHAPE = (ROWS // STRIDE, COLUMNS // STRIDE)
# The width of a middle's peak, in heights of the vertebra and in places at the least.
_WIDTH, _LEAST_WIDTH = 0.22, 1.0


def targets(corners: NDArray[np.float64]) -> tuple[Array, Array, Array]:
    """Return the peaks, the distances to the corners with the number of the vertebra, and where these are learned.

    Shapes: corners (n, 4, 2) in pixels of the input, of T1 first; out (160, 80), (9, 160, 80), (160, 80).
    """
    peaks, weight = np.zeros((2, *_SHAPE), np.float32)
    values = np.zeros((9, *_SHAPE), np.float32)
    rows, columns = np.mgrid[: _SHAPE[0], : _SHAPE[1]] * STRIDE + STRIDE / 2
    for number, four in enumerate(corners):
        middle = four.mean(axis=0)
        if not (0 <= middle[0] < COLUMNS and 0 <= middle[1] < ROWS):
            continue
        height = float(np.linalg.norm(four[2:].mean(axis=0) - four[:2].mean(axis=0)))
        width = max(_WIDTH * height, _LEAST_WIDTH * STRIDE)
        peak = np.exp(-((columns - middle[0]) ** 2 + (rows - middle[1]) ** 2) / (2 * width**2)).astype(np.float32)
        place = (int(middle[1] // STRIDE), int(middle[0] // STRIDE))
        peak[place] = 1.0
        near = (peak > LEARNED) & (peak > peaks)
        weight[near] = peak[near]
        for corner, (x, y) in enumerate(four):
            values[2 * corner][near] = ((x - columns) / REACH)[near]
            values[2 * corner + 1][near] = ((y - rows) / REACH)[near]
        values[8][near] = number / (COUNT - 1)
        peaks = np.maximum(peaks, peak)
    return peaks, values, weight
