"""Where a picture lies in the input of a network: there, and back to the picture's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.described.axes import refuse_other_grid

Values = NDArray[np.float32]
Fit = Literal["stretch", "pad", "crop", "center"]

_COLOR_AXES = 3
_HALF_PIXEL = 0.5


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in the network's input: pixels of the input = pixels of the picture x factor + offset.

    Pixels are counted from the outer corner of the first one. Rows come before columns.
    """

    factors: tuple[float, float]
    offsets: tuple[float, float]
    source: tuple[int, int]
    target: tuple[int, int]

    @property
    def seen_share(self) -> float:
        """Return the share of the picture's pixels that lie in the input."""
        rows, columns = self._seen_rows_and_columns()
        return float(rows.mean() * columns.mean())

    def to_source(self, rows: Values, columns: Values) -> tuple[Values, Values]:
        """Return places in the input as places in the picture, which end at the picture's border."""
        places = (
            np.clip((values - offset) / factor, 0, count)
            for values, offset, factor, count in zip(
                (rows, columns), self.offsets, self.factors, self.source, strict=True
            )
        )
        row, column = places
        return np.asarray(row, np.float32), np.asarray(column, np.float32)

    def is_on_source(self, rows: Values, columns: Values) -> NDArray[np.bool_]:
        """Return whether places in the input are on the picture; half a pixel beyond its border still is."""
        is_there = np.ones(np.shape(rows), np.bool_)
        for values, offset, factor, count in zip((rows, columns), self.offsets, self.factors, self.source, strict=True):
            places = (values - offset) / factor
            is_there &= (places >= -_HALF_PIXEL) & (places <= count + _HALF_PIXEL)
        return is_there

    def answer_on_source(self, values: Values, *, stride: int = 1, nearest: bool = False) -> Values:
        """Return an answer of a network on the pixels of the picture, as `on_source`.

        Units: `stride` in pixels of the input for a cell, each way.
        Raises: ModelError if the cells do not cover the whole input.
        """
        refuse_other_grid(values.shape, self.target, stride)
        return self.on_source(values, nearest=nearest)

    def on_source(self, values: Values, *, nearest: bool = False) -> Values:
        """Return values on a grid over the whole input, at any resolution, on the pixels of the picture.

        Shapes: (h, w) in, (rows, columns) out. Beyond the input it is 0.
        """
        steps = tuple(count / size for count, size in zip(values.shape, self.target, strict=True))
        (down, right), (top, left) = self.factors, self.offsets
        # From the middle of a pixel to the middle of a cell, both counted from the middle of the first one.
        matrix = np.asarray(
            [
                [right * steps[1], 0, (0.5 * right + left) * steps[1] - 0.5],
                [0, down * steps[0], (0.5 * down + top) * steps[0] - 0.5],
            ]
        )
        rows, columns = self.source
        method = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        mapped = cv2.warpAffine(
            np.asarray(values, np.float32),
            matrix,
            (columns, rows),
            flags=method | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        # The outer cells would go on over pixels that the network did not see.
        is_seen = np.logical_and.outer(*self._seen_rows_and_columns())
        return np.where(is_seen, np.asarray(mapped, np.float32), np.float32(0))

    def _seen_rows_and_columns(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which rows and which columns of the picture have their middle in the input."""
        seen = []
        for factor, offset, count, size in zip(self.factors, self.offsets, self.source, self.target, strict=True):
            middles = (np.arange(count) + _HALF_PIXEL) * factor + offset
            seen.append((middles >= 0) & (middles <= size))
        rows, columns = seen
        return rows, columns


def placed(
    picture: Values,
    size: Sequence[int],
    fit: Fit,
    *,
    height_per_width: float = 1.0,
    factors: tuple[float, float] = (1.0, 1.0),
) -> tuple[Values, Placement]:
    """Return a picture in the network's size, and its place there.

    "stretch" fills the size; "pad" keeps the aspect and fills with 0; "crop" keeps it and cuts what is beyond; "center"
    takes the factors, and fills or cuts around the middle. Without a size all of the picture is there.
    `height_per_width` is the height of a pixel in widths.
    Shapes: picture (rows, columns) or (rows, columns, 3); out the same with the size's rows and columns.
    """
    rows, columns = picture.shape[:2]
    down, right = factors
    if fit != "center":
        down, right = size[0] / rows, size[1] / columns
    if fit in {"pad", "crop"}:
        choice = min if fit == "pad" else max
        factor = choice(down / height_per_width, right)
        down, right = factor * height_per_width, factor
    height, width = max(1, round(rows * down)), max(1, round(columns * right))
    down, right = height / rows, width / columns
    size = size or (height, width)
    resized = _resized(picture, height, width)
    offsets = ((size[0] - height) // 2, (size[1] - width) // 2)
    canvas = np.zeros((*size, *picture.shape[2:]), np.float32)
    target = tuple(
        slice(max(offset, 0), min(offset + count, limit))
        for offset, count, limit in zip(offsets, (height, width), size, strict=True)
    )
    source = tuple(slice(part.start - offset, part.stop - offset) for part, offset in zip(target, offsets, strict=True))
    canvas[target] = resized[source]
    return canvas, Placement((down, right), (float(offsets[0]), float(offsets[1])), (rows, columns), (size[0], size[1]))


def _resized(picture: Values, rows: int, columns: int) -> Values:
    """Return a picture at another size: by area along an axis that gets smaller, then linear along one that grows."""
    # One call with INTER_AREA is linear along both axes where one of them grows, and passes over what is thin.
    height, width = picture.shape[:2]
    smaller = cv2.resize(picture, (min(columns, width), min(rows, height)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(smaller, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def planes_of(picture: Values, channels: int) -> Values:
    """Return a gray or a color picture as planes: (channels, rows, columns); gray is repeated in each."""
    if picture.ndim == _COLOR_AXES:
        return np.ascontiguousarray(picture.transpose(2, 0, 1))
    return np.repeat(picture[np.newaxis], channels, axis=0)
