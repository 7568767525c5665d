"""From a decoded picture of any kind to the network's input."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import UnusablePicture

Picture = NDArray[np.uint8]

SMALLEST_SIDE = 96
ROWS, COLUMNS = 144, 192
"""of the shipped network's picture"""
_WHITE = 255
_GRAY, _GRAY_ALPHA, _RGB, _RGBA = 1, 2, 3, 4
_EIGHT_BITS = 8
# As the node has it for every picture: with half of a lesion white, 0.95 became 0.64.
_MOST_TRANSPARENT = 0.05

# A picture whose gray values (of 255) have a smaller standard deviation shows nothing.
_LEAST_SPREAD = 2.0
# The least mean difference between the strongest and the weakest channel, of 255. The least of 1,954 training pictures
# is 11.8; gray copies of the validation pictures lost 0.08 of AUC, and the network took six in seven for benign.
_LEAST_COLOR = 4.0
# A channel darker than this part of white is taken for this bright: the light has no such color.
_DARK = 0.05


def rgb(pixels: NDArray[Any]) -> Picture:
    """Return a decoded picture as RGB; the few transparent pixels that are read are white, as on paper.

    Shapes: (rows, columns) or (rows, columns, 1 to 4): gray, gray and alpha, RGB, RGBA; uint8 or uint16.
    Raises: UnusablePicture for any other shape or type, and if more than one pixel in twenty is transparent.
    """
    samples = pixels[:, :, None] if pixels.ndim == 2 else pixels  # noqa: PLR2004  # rows and columns
    if samples.ndim != 3 or not _GRAY <= samples.shape[2] <= _RGBA:  # noqa: PLR2004  # and samples
        raise UnusablePicture(
            f"an array of shape {pixels.shape} is no picture: gray, RGB, with or without alpha is read"
        )
    if samples.dtype == np.uint16:
        samples = samples >> _EIGHT_BITS
    elif samples.dtype != np.uint8:
        raise UnusablePicture(f"pixels of type {samples.dtype}: 8 or 16 bits unsigned are read")
    color = samples[:, :, : _RGB if samples.shape[2] >= _RGB else _GRAY].astype(np.float32)
    if samples.shape[2] in (_GRAY_ALPHA, _RGBA):
        share = float((samples[:, :, -1] < _WHITE).mean())
        if share > _MOST_TRANSPARENT:
            raise UnusablePicture(f"{share:.1%} of the picture is transparent, and what was there is unknown")
        opacity = samples[:, :, -1:].astype(np.float32) / _WHITE
        color = np.asarray(color * opacity + _WHITE * (1 - opacity), np.float32)
    rounded = np.rint(color).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(rounded, (*rounded.shape[:2], _RGB)))


def original_input(picture: Picture, side: int) -> NDArray[np.float32]:
    """Return an original network's input: the picture stretched to a square.

    Shapes: picture (rows, columns, 3); out (1, side, side, 3) in 0 to 255.
    Raises: UnusablePicture when the picture is too small, uniform or without color.
    """
    refuse_unusable(picture)
    return resized(picture, side, side)[None].astype(np.float32)


def network_input(picture: Picture) -> NDArray[np.float32]:
    """Return the shipped network's input: the picture in its frame, with the tint of the light taken out.

    Shapes: picture (rows, columns, 3); out (144, 192, 3) in 0 to 255.
    Raises: UnusablePicture when the picture is too small, uniform or without color.
    """
    refuse_unusable(picture)
    return without_tint(framed(picture).astype(np.float32))


def with_square_pixels(picture: Picture, height_per_width: float) -> Picture:
    """Return a picture with about as many square pixels; its own are `height_per_width` times as high as wide.

    Shapes: (rows, columns, 3) in and out.
    """
    if height_per_width == 1:
        return picture
    rows, columns = picture.shape[:2]
    stretch = height_per_width**0.5
    return resized(picture, max(1, round(rows * stretch)), max(1, round(columns / stretch)))


def framed(picture: Picture) -> Picture:
    """Return the whole picture lying on its longer side, mirrored beyond its edges to 4 : 3, as 144 x 192 pixels."""
    lying = picture if picture.shape[0] <= picture.shape[1] else picture.transpose(1, 0, 2)
    top, left = _margins(*lying.shape[:2])
    extended = cv2.copyMakeBorder(np.ascontiguousarray(lying), top, top, left, left, cv2.BORDER_REFLECT_101)
    return resized(np.asarray(extended, np.uint8), ROWS, COLUMNS)


def _margins(rows: int, columns: int) -> tuple[int, int]:
    """Return how many pixels a lying picture lacks of 4 : 3 above and below, and on the left and right."""
    lacking_rows, lacking_columns = columns * ROWS / COLUMNS - rows, rows * COLUMNS / ROWS - columns
    return max(0, round(lacking_rows / 2)), max(0, round(lacking_columns / 2))


def without_tint(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a picture whose light is gray: each channel over its share of the light, 0 to 255.

    Source: Finlayson and Trezzi, Shades of Gray and Colour Constancy, CIC 2004; 6 is the norm that they found best.
    """
    light = np.power(np.power(picture / _WHITE, 6).mean(axis=(0, 1)), 1 / 6)
    return np.asarray(np.clip(picture * (light.mean() / np.maximum(light, _DARK)), 0, _WHITE), np.float32)


def refuse_unusable(picture: Picture) -> None:
    """Raise UnusablePicture when the picture is too small, uniform or without color."""
    if reason := reason_unusable(picture):
        raise UnusablePicture(reason)


def reason_unusable(picture: Picture) -> str | None:
    """Return the reason why a picture cannot be read, or None when it can be read."""
    rows, columns = picture.shape[:2]
    if min(rows, columns) < SMALLEST_SIDE:
        return f"the picture has {rows} x {columns} pixels; {SMALLEST_SIDE} a side are needed"
    small = resized(picture, SMALLEST_SIDE, SMALLEST_SIDE).astype(np.float32)
    if float(small.mean(axis=2).std()) < _LEAST_SPREAD:
        return "an empty or uniform picture"
    if float((small.max(axis=2) - small.min(axis=2)).mean()) < _LEAST_COLOR:
        return "a picture without color, in which the model takes most for benign"
    return None


def resized(picture: Picture, rows: int, columns: int) -> Picture:
    """Return the picture with that many rows and columns, averaged where it shrinks."""
    shrinks = rows * columns < picture.shape[0] * picture.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (columns, rows), interpolation=method), np.uint8)


def map_on_source_grid(coarse_map: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Return a map of the stretched input on the source grid, 0 to 1."""
    large = cv2.resize(coarse_map, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.clip(large, 0, 1).astype(np.float32)


def frame_map_on_source_grid(coarse_map: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Return a map of the framed picture on the source grid, 0 to 1."""
    low, long = sorted((rows, columns))
    top, left = _margins(low, long)
    large = map_on_source_grid(coarse_map, low + 2 * top, long + 2 * left)[top : top + low, left : left + long]
    return large if rows <= columns else np.ascontiguousarray(large.T)
