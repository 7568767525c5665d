"""From a presented radiograph to the network's input, and from places in the input back to the radiograph."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Points = NDArray[np.float64]

ROWS, COLUMNS = 640, 320
"""of the network's input"""
STRIDE = 4
"""pixels of the input between two places of the output"""
REACH = 32.0
"""pixels of the input to which a corner's distance of 1 corresponds"""
LEARNED = 0.3
"""around a middle, corners are learned where its peak is as high as this"""
SMALLEST_SIDE = 128
"""a film of the training's shape with fewer pixels does not resolve an end plate"""
# A picture whose middle 90 % spans less than this share of its full range shows nothing.
_LEAST_SPREAD = 0.02
# Around the column of a training's film in the median, in heights of the film and in widths.
_ROOM_ABOVE, _ROOM_BELOW, _ROOM_BESIDE = 0.035, 0.08, 0.25
# The window leaves out collimator edges, side markers and dead pixels.
_PERCENTILES = (0.5, 99.5)
_CLIP_LIMIT, _TILES = 3.0, (4, 10)
# ImageNet's mean and standard deviation of a gray picture: the first layers were trained on ImageNet.
_MEAN, _DEVIATION = 0.449, 0.226


@dataclass(frozen=True, slots=True)
class Placement:
    """The place of a radiograph in the network's input: input = matrix (x, y, 1), pixels from the upper left corner.

    Shapes: matrix (2, 3).
    """

    matrix: NDArray[np.float64]

    def on_input(self, points: Points) -> Points:
        """Return points (..., 2) of the radiograph in the input."""
        return np.asarray(points @ self.matrix[:, :2].T + self.matrix[:, 2])

    def on_source(self, points: Points) -> Points:
        """Return points (..., 2) of the input in the radiograph."""
        return np.asarray((points - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T)

    def applied(self, picture: Picture) -> Picture:
        """Return the radiograph in the input, black around it; averaged where it shrinks."""
        shrink = max(1.0, 1 / float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2])))))
        softened = picture if shrink < 1.5 else cv2.GaussianBlur(picture, (0, 0), 0.35 * shrink)  # noqa: PLR2004
        # OpenCV counts from the middle of the first pixel.
        matrix = self.matrix.copy()
        matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
        return np.asarray(cv2.warpAffine(softened, matrix, (COLUMNS, ROWS), flags=cv2.INTER_LINEAR), np.float32)


def fitted(rows: int, columns: int, *, height_per_width: float = 1.0, zoom: float = 1.0) -> Placement:
    """Return the place of a whole radiograph in the middle of the input, `zoom` times as large as it fits.

    `height_per_width` is the height of a pixel of the radiograph in widths; the pixels of the input are squares.
    """
    scale = zoom * min(ROWS / (rows * height_per_width), COLUMNS / columns)
    down = scale * height_per_width
    shift = ((COLUMNS - columns * scale) / 2, (ROWS - rows * down) / 2)
    return Placement(np.array([[scale, 0, shift[0]], [0, down, shift[1]]]))


def equalized(pixels: NDArray[np.generic]) -> Picture:
    """Return a radiograph in 0 to 1 with its contrast evened out (CLAHE): lungs are black beside a white belly."""
    values = np.asarray(pixels, np.float32)
    sample = values[:: max(1, values.shape[0] // 512), :: max(1, values.shape[1] // 512)]
    low, high = np.percentile(sample, _PERCENTILES)
    gray = np.clip((values - low) * (255 / max(float(high - low), 1e-6)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.createCLAHE(_CLIP_LIMIT, _TILES).apply(gray), np.float32) / np.float32(255)


def network_input(pictures: Picture) -> Picture:
    """Return pictures of the input's size as the network takes them.

    Shapes: (n, 640, 320) in 0 to 1; out (n, 1, 640, 320).
    """
    return np.asarray((pictures[:, None] - _MEAN) / _DEVIATION, np.float32)


def framed(corners: Points, *, height_per_width: float = 1.0, missing: int = 0) -> Placement:
    """Return the place of the part of a radiograph that holds corners (n, 4, 2), framed as the training's films are.

    The rooms above and below the column, and beside it, are those of the training's films in the median. There is room
    for as many `missing` vertebrae more at both ends.
    """
    places = corners.reshape(-1, 2) * (1.0, height_per_width)
    low, high = places.min(axis=0), places.max(axis=0)
    more = (high[1] - low[1]) / len(corners) * missing
    height = (high[1] - low[1] + 2 * more) / (1 - _ROOM_ABOVE - _ROOM_BELOW)
    width = max(high[0] - low[0], 0.1 * height) / (1 - 2 * _ROOM_BESIDE)
    scale = min(ROWS / height, COLUMNS / width)
    top, middle = low[1] - more - _ROOM_ABOVE * height, (low[0] + high[0]) / 2
    shift = (COLUMNS / 2 - middle * scale, (ROWS - height * scale) / 2 - top * scale)
    return Placement(np.array([[scale, 0, shift[0]], [0, scale * height_per_width, shift[1]]]))


def reason_unusable(pixels: NDArray[np.generic]) -> str | None:
    """Return the reason why a picture cannot be read, or None when it can be read."""
    if pixels.ndim != 2:  # noqa: PLR2004  # rows and columns
        return f"a picture of {pixels.ndim} axes; one channel, rows by columns, is needed"
    if min(pixels.shape) < SMALLEST_SIDE:
        return f"short side of {min(pixels.shape)} pixels; at least {SMALLEST_SIDE} are needed"
    sample = np.asarray(pixels[:: max(1, pixels.shape[0] // 256), :: max(1, pixels.shape[1] // 256)], np.float64)
    if not np.isfinite(sample).all():
        return "pixel values that are not finite numbers"
    middle_range = float(np.subtract(*np.percentile(sample, [95, 5])))
    if middle_range <= 0 or middle_range < _LEAST_SPREAD * float(sample.max() - sample.min()):
        return "an empty or uniform picture: nine tenths of its pixels have nearly one gray"
    return None
