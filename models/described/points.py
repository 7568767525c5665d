"""The answer of a network that places landmarks, as points on the pixels of the image that was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ainode.models.described.axes import pairs_of, refuse_other_grid
from ainode.models.errors import ModelError, UnusablePicture

if TYPE_CHECKING:
    from ainode.models.described.placement import Placement

Values = NDArray[np.float32]

_HEATMAP_AXES = 3
# A place on the border of the input may be beyond it by what a network rounds.
_ROUNDING = 0.5


@dataclass(frozen=True, slots=True)
class Landmark:
    """A point in pixels of the image, counted from the outer corner of the first one."""

    column: float
    row: float
    score: float | None
    """the highest value of its heat map; None where the network answers with places alone"""


@dataclass(frozen=True, slots=True)
class PointForm:
    """How a network writes its landmarks: as places, or as a heat map for each, whose highest cell is the place."""

    form: Literal["places", "heatmaps"]
    order: Literal["xy", "yx"]
    is_normalized: bool
    """whether places are shares of the input, and not its pixels"""
    stride: int = 1
    """of heat maps: how many pixels of the input a cell covers, each way"""
    is_channels_last: bool = False
    """whether heat maps lie behind rows and columns, as the channels of the input do"""

    def landmarks(self, answer: Values, placement: Placement, count: int) -> tuple[Landmark | None, ...]:
        """Return the landmarks in the order of the network; None for one beside the image, or of a flat heat map.

        Shapes: answer (1, n, 2), (n, 2) or (1, 2 n) for places; (1, n, h, w), or (1, h, w, n), for heat maps over
        the whole input.
        Raises: ModelError if the answer has another form than the description says, or another number of landmarks;
        UnusablePicture if it holds no numbers, or a place outside of the input.
        """
        if not np.isfinite(answer).all():
            raise UnusablePicture("the network's answer is not finite; nothing is said of the image")
        if self.form == "heatmaps":
            is_turned = self.is_channels_last and answer.ndim > _HEATMAP_AXES
            maps = np.moveaxis(answer, -1, 1) if is_turned else answer
            rows, columns, scores, is_peak = _of_maps(np.asarray(maps, np.float32), placement, count, self.stride)
        else:
            rows, columns = self._of_places(answer, placement, count)
            scores, is_peak = [None] * count, np.ones(count, np.bool_)
        is_placed = is_peak & placement.is_on_source(rows, columns)
        rows, columns = placement.to_source(rows, columns)
        return tuple(
            Landmark(float(x), float(y), score) if is_there else None
            for y, x, score, is_there in zip(rows, columns, scores, is_placed, strict=True)
        )

    def _of_places(self, answer: Values, placement: Placement, count: int) -> tuple[Values, Values]:
        """Return rows and columns in pixels of the input."""
        pairs = pairs_of(answer, count)
        sizes = np.asarray(placement.target, np.float32)
        places = np.asarray(pairs[:, ::-1] if self.order == "xy" else pairs, np.float32)
        if not self.is_normalized and places.min() >= 0 and places.max() <= 1 < sizes.max():
            raise ModelError(
                "every landmark lies in the first pixel, as a share of the input does; the description says "
                "normalized = false"
            )
        if self.is_normalized:
            places = places * sizes
        if (places < -_ROUNDING).any() or (places > sizes + _ROUNDING).any():
            raise UnusablePicture(
                "a landmark lies outside of the network's input; nothing is said of the image. Where this is so on "
                "each image, `order` or `normalized` says something else than the network"
            )
        return np.asarray(places[:, 0], np.float32), np.asarray(places[:, 1], np.float32)


def _of_maps(
    answer: Values, placement: Placement, count: int, stride: int
) -> tuple[Values, Values, Sequence[float | None], NDArray[np.bool_]]:
    """Return rows and columns of the highest cells in pixels of the input, their values, and whether each is higher."""
    maps = answer[0]
    if maps.ndim != _HEATMAP_AXES:
        raise ModelError(f"the network answers in the shape {answer.shape}; (1, landmarks, rows, columns) is read")
    if len(maps) != count:
        raise ModelError(f"the network answers with {len(maps)} landmarks; the description names {count}")
    _, height, width = maps.shape
    refuse_other_grid((height, width), placement.target, stride)
    flat = maps.reshape(count, -1)
    cells = flat.argmax(axis=1)
    rows, columns = (cells // width + 0.5) * stride, (cells % width + 0.5) * stride
    scores = [float(value) for value in flat.max(axis=1)]
    is_peak = np.asarray(flat.max(axis=1) > flat.min(axis=1), np.bool_)
    return np.asarray(rows, np.float32), np.asarray(columns, np.float32), scores, is_peak
