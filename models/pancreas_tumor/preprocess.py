"""A slice of an abdominal CT as the picture that the network learned from, framed by its body.

The training pictures are whole slices, a soft tissue window of -160 to 240 HU, reduced to 256 x 256; a new slice goes
the same way. The network sees the part of a picture where a pancreas can be: its middle and front, by the body's box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Slice = NDArray[np.float32]
Picture = NDArray[np.uint8]
Array = NDArray[np.float32]

SIDE = 256
"""pixels a side of a picture"""
ROWS, COLUMNS = 160, 192
"""of a framed picture, the network's input"""
_WINDOW_HU = (-160.0, 240.0)
_AIR_HU, _METAL_HU = -1000.0, 3000.0
# Gray levels above this are skin, fat or denser. Where the window makes fat black, the line of the skin is closed over
# gaps of twice the first reach and filled; what is then thinner than twice the second reach is a table.
_BODY_GRAY, _GAP, _THIN = 8, 4, 9
# The part of the body that is seen: its middle as a share of the body's box from its right and its front, and the
# share of its width. In the training part every tumor's middle lies within 0.34 to 0.81 and 0.16 to 0.60.
_MIDDLE = (0.55, 0.40)
_WIDTH_SHARE = 0.70
# A body narrower than this, in pixels of the picture, is a leg, an arm or no body.
_LEAST_WIDTH = 60
# ImageNet's mean and standard deviation of a gray picture: the first layers were trained on ImageNet.
_MEAN, _DEVIATION = 0.449, 0.226


@dataclass(frozen=True, slots=True)
class Frame:
    """The place of a framed picture in its picture.

    Shapes: matrix (2, 3) takes (column, row, 1) of the framed picture to (column, row) of the picture.
    """

    matrix: NDArray[np.float64]

    @property
    def pixel(self) -> float:
        """Return the width of a pixel of the framed picture in pixels of the picture."""
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))


def slice_picture(hounsfield: Slice, pixel_mm: tuple[float, float] = (1.0, 1.0)) -> Picture:
    """Return a slice as a training picture; a slice that is no square gets air at its right or lower edge.

    Shapes: (rows, columns) in, (256, 256) out.
    Units: Hounsfield units in; gray levels 0 to 255 out, of -160 to 240 HU; `pixel_mm` between rows, columns.
    """
    low, high = _WINDOW_HU
    square = squared(hounsfield, pixel_mm)
    return np.asarray(np.rint(np.clip((square - low) * (255 / (high - low)), 0, 255)), np.uint8)


def squared(hounsfield: Slice, pixel_mm: tuple[float, float] = (1.0, 1.0)) -> Slice:
    """Return a slice on the pixels of its picture, which are squares, in Hounsfield units clipped to those of a body.

    Shapes: (rows, columns) in, (256, 256) out.
    """
    rows, columns = _extent(hounsfield.shape, pixel_mm)
    clipped = np.clip(np.asarray(hounsfield, np.float32), _AIR_HU, _METAL_HU)
    way = cv2.INTER_AREA if min(hounsfield.shape) >= max(rows, columns) else cv2.INTER_LINEAR
    resized = cast("Any", cv2.resize(clipped, (columns, rows), interpolation=way))
    return np.pad(np.asarray(resized), ((0, SIDE - rows), (0, SIDE - columns)), constant_values=_AIR_HU)


def _extent(shape: tuple[int, ...], pixel_mm: tuple[float, float]) -> tuple[int, int]:
    """Return the rows and columns of the picture that a slice fills."""
    height, width = shape[0] * pixel_mm[0], shape[1] * pixel_mm[1]
    side = max(height, width)
    return max(1, round(SIDE * height / side)), max(1, round(SIDE * width / side))


def body_box(picture: Picture) -> tuple[int, int, int, int] | None:
    """Return the box of the body without the table: left, top, right, bottom; None where no body is wide enough."""
    margin = _GAP + _THIN
    bright = np.pad(np.asarray(picture > _BODY_GRAY, np.uint8), margin)
    closed = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, _disk(_GAP))
    filled = np.asarray(ndimage.binary_fill_holes(closed), np.uint8)
    opened = cv2.morphologyEx(filled, cv2.MORPH_OPEN, _disk(_THIN))[margin:-margin, margin:-margin]
    labels, count = cast("tuple[NDArray[Any], int]", ndimage.label(opened))
    if not count:
        return None
    body = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    columns, rows = np.flatnonzero(body.any(axis=0)), np.flatnonzero(body.any(axis=1))
    if columns[-1] - columns[0] < _LEAST_WIDTH:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _disk(radius: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def frame_of(box: tuple[int, int, int, int]) -> Frame:
    """Return the frame of a body by its box."""
    left, top, right, bottom = box
    step = _WIDTH_SHARE * (right - left) / COLUMNS
    x = left + _MIDDLE[0] * (right - left) - step * (COLUMNS - 1) / 2
    y = top + _MIDDLE[1] * (bottom - top) - step * (ROWS - 1) / 2
    return Frame(np.array([[step, 0, x], [0, step, y]], np.float64))


def framed(values: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """Return what a frame shows of a picture or of a mask, by linear interpolation; (256, 256) in, (160, 192) out."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(values, frame.matrix, (COLUMNS, ROWS), flags=flags))


def on_picture(framed_map: Array, frame: Frame) -> Array:
    """Return a map of the framed picture on the picture's pixels; 0 outside of the frame.

    Shapes: (rows, columns) of any resolution in, (256, 256) out.
    """
    whole = cv2.resize(framed_map, (COLUMNS, ROWS), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.warpAffine(whole, frame.matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR), np.float32)


def network_input(framed_pictures: NDArray[np.uint8]) -> Array:
    """Return framed pictures as the network's input.

    Shapes: (n, 160, 192) in, (n, 1, 160, 192) out.
    """
    return np.asarray((framed_pictures[:, None] / np.float32(255) - _MEAN) / _DEVIATION, np.float32)


def on_slice(map_of_picture: Array, shape: tuple[int, int], pixel_mm: tuple[float, float] = (1.0, 1.0)) -> Array:
    """Return a map of the picture (256, 256) on the pixels (rows, columns) of its slice, by linear interpolation."""
    rows, columns = _extent(shape, pixel_mm)
    filled = np.ascontiguousarray(map_of_picture[:rows, :columns])
    return np.asarray(cv2.resize(filled, shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
