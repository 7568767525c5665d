"""A slice of a chest CT as the picture that the network learned from: stretched by its own range, then equalized.

The training pictures have lost their Hounsfield units. Whoever made them resized each whole slice, with table and air,
to 256 x 256, stretched it by its own lowest and highest value and ran OpenCV's CLAHE; a new slice goes the same way.
"""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Slice = NDArray[np.float32]
Picture = NDArray[np.uint8]
Array = NDArray[np.float32]

SIDE = 256
# As the makers of the training pictures set OpenCV's CLAHE; 8 x 8 tiles are its default.
_CLIP_LIMIT, _TILES = 7.0, (8, 8)
# Padding outside a scanner's circle is below air, metal above bone: either would take the lung's grays away.
_LOWEST_HU, _HIGHEST_HU = -1024.0, 1500.0
# ImageNet's mean and standard deviation of a gray picture: the first layers were trained on ImageNet.
_MEAN, _DEVIATION = 0.449, 0.226


def slice_picture(hounsfield: Slice) -> Picture:
    """Return a slice as a training picture: a square, stretched, equalized.

    A slice that is no square gets air at its right or lower edge, so that a pixel stays a square.

    Shapes: (rows, columns) in, (256, 256) out.
    Units: Hounsfield units in; gray levels 0 to 255 out.
    """
    square = squared(np.clip(np.asarray(hounsfield, np.float32), _LOWEST_HU, _HIGHEST_HU))
    resized = cast("Any", cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
    return equalized(stretched(resized))


def stretched(values: Slice) -> Picture:
    """Return values as gray levels, 0 at the lowest value and 255 at the highest, cut to whole levels."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return np.asarray((values - low) / (high - low) * 255, np.uint8)


def equalized(picture: Picture) -> Picture:
    """Return a picture after contrast limited adaptive histogram equalization, as OpenCV does it."""
    return np.asarray(cv2.createCLAHE(_CLIP_LIMIT, _TILES).apply(picture), np.uint8)


def network_input(pictures: NDArray[np.uint8]) -> Array:
    """Return pictures as the network's input.

    Shapes: (n, 256, 256) in, (n, 1, 256, 256) out.
    """
    return np.asarray((pictures[:, None] / np.float32(255) - _MEAN) / _DEVIATION, np.float32)


def on_slice(map_of_picture: Array, rows: int, columns: int) -> Array:
    """Return a map of the picture (256, 256) on the pixels of its slice, by linear interpolation."""
    side = max(rows, columns)
    return np.asarray(cv2.resize(map_of_picture, (side, side), interpolation=cv2.INTER_LINEAR)[:rows, :columns])


def squared(values: Slice) -> Slice:
    """Return a slice with air at its right or lower edge, so that it is a square."""
    rows, columns = values.shape
    side = max(rows, columns)
    return np.pad(values, ((0, side - rows), (0, side - columns)), constant_values=_LOWEST_HU)
