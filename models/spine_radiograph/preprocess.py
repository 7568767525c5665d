"""From presented pixels to the network's input, and from the input's boxes and maps back to the picture.

A picture comes in presented: the caller has applied modality LUT and VOI LUT, and inverted MONOCHROME1, so that a
larger value is brighter.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import UnusablePicture
from ainode.models.spine_radiograph.card import Resize

Picture = NDArray[np.float32]

# The window leaves out collimator edges, side markers and dead pixels.
_PERCENTILES = (0.5, 99.5)

# A smaller picture does not resolve a lesion of the training set's size (the original checks nothing).
SMALLEST_SIDE = 256

# A picture whose middle 90 % spans less than this share of its full range shows nothing.
_LEAST_SPREAD = 0.02
_GREY = 127.0


@dataclass(frozen=True, slots=True)
class Placement:
    """The place of a source picture in a network's input: input = source * scale + shift.

    Units: pixel edges, x to the right; `source` is (rows, columns).
    """

    scale: tuple[float, float]
    shift: tuple[float, float]
    source: tuple[int, int]

    def to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the input's boxes (n, 4), x0, y0, x1, y1, on the source grid, clipped to the source picture."""
        rows, columns = self.source
        source_boxes = (boxes - np.tile(self.shift, 2)) / np.tile(self.scale, 2)
        return np.asarray(np.clip(source_boxes, 0, [columns, rows, columns, rows]), np.float32)


def reason_unusable(pixels: Picture) -> str | None:
    """Return the reason why a picture cannot be read, or None when it can be read."""
    if pixels.ndim != 2:  # noqa: PLR2004  # rows and columns
        return f"a picture of {pixels.ndim} axes; one channel, rows by columns, is needed"
    if min(pixels.shape) < SMALLEST_SIDE:
        return f"short side of {min(pixels.shape)} pixels; at least {SMALLEST_SIDE} are needed"
    sample = pixels[:: max(1, pixels.shape[0] // 256), :: max(1, pixels.shape[1] // 256)]
    if not np.isfinite(sample).all():
        return "pixel values that are not finite numbers"
    whole_range = float(sample.max() - sample.min())
    middle_range = float(np.subtract(*np.percentile(sample, [95, 5])))
    if whole_range <= 0 or middle_range < _LEAST_SPREAD * whole_range:
        return "an empty or uniform picture: nine tenths of its pixels have nearly one gray"
    return None


def normalized_range(pixels: Picture) -> Picture:
    """Return the picture scaled to 0 to 1 between robust percentiles of its values."""
    sample = pixels[:: max(1, pixels.shape[0] // 512), :: max(1, pixels.shape[1] // 512)]
    low, high = np.percentile(sample, _PERCENTILES)
    span = max(float(high - low), 1e-6)
    return np.asarray(np.clip((pixels - np.float32(low)) / np.float32(span), 0, 1), np.float32)


def classifier_input(
    pixels: Picture, side: int, resize: Resize = "stretch", *, height_per_width: float = 1.0
) -> Picture:
    """Return the classifier's input; ImageNet normalization happens inside the network's graph.

    A stretched picture fills the square whatever the shape of its pixels.

    Shapes: pixels (rows, columns), presented, any range; out (1, 1, side, side) in 0 to 1.
    Raises: UnusablePicture with the reason of `reason_unusable`.
    """
    if reason := reason_unusable(pixels):
        raise UnusablePicture(reason)
    scaled = normalized_range(np.asarray(pixels, np.float32))
    if resize == "stretch":
        return np.ascontiguousarray(_resized_picture(scaled, side, side)[None, None])
    return letterbox(scaled, side, fill=0.0, height_per_width=height_per_width)[0][None, None]


def letterbox(
    scaled: Picture, side: int, *, fill: float = _GREY / 255, height_per_width: float = 1.0
) -> tuple[Picture, Placement]:
    """Return the picture in a square of `side` with its aspect ratio kept, and its place in the square.

    `height_per_width` is the height of a pixel of the picture in widths; the pixels of the square are squares.
    """
    rows, columns = scaled.shape
    factor = side / max(rows * height_per_width, columns)
    height, width = max(1, round(rows * height_per_width * factor)), max(1, round(columns * factor))
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side), fill, np.float32)
    square[top : top + height, left : left + width] = _resized_picture(scaled, height, width)
    return square, Placement((width / columns, height / rows), (float(left), float(top)), (rows, columns))


def map_on_source_grid(coarse_map: Picture, placement: Placement) -> Picture:
    """Return a map of the network's input, at any resolution, on the source grid, 0 to 1.

    Shapes: coarse_map (h, w) covers the whole input; out (rows, columns).
    """
    rows, columns = placement.source
    peak = float(coarse_map.max(initial=0.0))
    if peak <= 0:
        return np.zeros((rows, columns), np.float32)
    large = cv2.resize(np.asarray(coarse_map / peak, np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.clip(large, 0, 1).astype(np.float32)


def _resized_picture(picture: Picture, rows: int, columns: int) -> Picture:
    """Return the picture at another size, averaged when it shrinks."""
    shrinks = rows * columns < picture.shape[0] * picture.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (columns, rows), interpolation=method), np.float32)
