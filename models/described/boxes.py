"""The answer of a detector as boxes on the pixels of the image that was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ainode.models.described.axes import is_list, list_of, rows_of
from ainode.models.described.scaling import probabilities
from ainode.models.errors import ModelError, UnusablePicture

if TYPE_CHECKING:
    from ainode.models.described.placement import Placement

Values = NDArray[np.float32]
Corners = Literal["xyxy", "cxcywh", "xywh"]

_CORNERS = 4
# Shares run from 0 to 1, and a little beyond where a box leaves the input.
_MOST_SHARE = 2


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels of the image, counted from the outer corner of the first one."""

    left: float
    top: float
    right: float
    bottom: float
    score: float
    class_number: int
    """of the classes of the description, from 0"""


@dataclass(frozen=True, slots=True)
class BoxForm:
    """How a detector writes its boxes."""

    corners: Corners
    is_normalized: bool
    """whether places are shares of the input, and not its pixels"""
    first_label: int
    """the number of the first class of the description among the detector's labels, or columns of scores"""
    overlap: float
    """the share (IoU) above which the less probable of two boxes of one class is left out"""
    most_boxes: int
    """at most; the surest one of each class is always among them"""
    is_last_background: bool = False
    """whether a column of scores behind those of the classes, or the label behind theirs, is of no class"""

    def boxes(
        self, answer: Sequence[Values], placement: Placement, thresholds: Sequence[float]
    ) -> tuple[tuple[Box, ...], tuple[float, ...]]:
        """Return the boxes above the thresholds of their classes, the surest first; and the best score of each class.

        A box beside the image has no score there.
        Shapes: boxes (n, 4); scores (n,) with labels (n,), or scores (n, classes); each also in a batch of 1.
        Raises: ModelError if the answer has another form than the description says; UnusablePicture if it holds no
        numbers or no probabilities, or a box above its threshold lies beside the image.
        """
        places, scores, labels = self._of_classes(answer, len(thresholds))
        # A threshold is no number of 32 bits: both are compared as the verdict compares them.
        limits = np.asarray(thresholds, np.float64)
        is_above = np.asarray(scores, np.float64) > limits[labels]
        first, second = self._in_input(places, placement)
        self._refuse_other_form(first[is_above], second[is_above], placement)
        on_image = _on_image(first, second, placement)
        is_beside = (on_image[:, 0] >= on_image[:, 2]) | (on_image[:, 1] >= on_image[:, 3])
        if (is_above & is_beside).any():
            score = float(scores[is_above & is_beside].max())
            raise UnusablePicture(
                f"a box with the score {score:.3f} lies beside the image; the network's answer is not of the image"
            )
        best = tuple(
            float(scores[(labels == number) & ~is_beside].max(initial=0.0)) for number in range(len(thresholds))
        )
        pairs = zip(on_image[is_above], scores[is_above], labels[is_above], strict=True)
        boxes = [_box(place, float(score), int(label)) for place, score, label in pairs]
        return self._shown(self._distinct(sorted(boxes, key=lambda box: -box.score))), best

    def _of_classes(self, answer: Sequence[Values], count: int) -> tuple[Values, Values, NDArray[np.intp]]:
        """Return places (n, 4), scores (n,) and class numbers (n,) of the classes of the description.

        Raises: as `boxes`.
        """
        tables = [np.asarray(values, np.float32) for values in answer]
        if not all(np.isfinite(values).all() for values in tables):
            raise UnusablePicture("the network's answer is not finite; nothing is said of the image")
        places, scores, *rest = tables
        scores = probabilities(scores, "a score of the network")
        places = rows_of(places, _CORNERS, "boxes")
        if rest:
            scores, labels = list_of(scores, len(places), "scores"), list_of(rest[0], len(places), "labels")
            numbers = self._numbers(labels, scores, count)
        else:
            table = self._columns(scores, len(places), count)
            places, numbers = np.repeat(places, count, axis=0), np.tile(np.arange(count), len(places))
            scores = np.asarray(table.reshape(-1), np.float32)
        is_class = (numbers >= 0) & (numbers < count)
        return places[is_class], scores[is_class], numbers[is_class]

    def _columns(self, scores: Values, number: int, count: int) -> Values:
        """Return the scores of the classes, (number, count)."""
        width = self.first_label + count + self.is_last_background
        if width == 1 and is_list(scores, number):
            return scores.reshape(number, 1)
        table = rows_of(scores, width, "scores")
        if len(table) != number:
            raise ModelError(f"{number} boxes have {len(table)} rows of scores")
        return np.asarray(table[:, self.first_label : self.first_label + count], np.float32)

    def _numbers(self, labels: Values, scores: Values, count: int) -> NDArray[np.intp]:
        """Return the numbers of the labels' classes; of rows that fill an answer up, and say nothing, any other."""
        numbers = np.rint(labels).astype(int)
        if (numbers != labels).any():
            raise ModelError("the labels are no whole numbers; `labels` names another output")
        numbers -= self.first_label
        is_other = ((numbers < 0) | (numbers >= count + self.is_last_background)) & (scores > 0)
        if is_other.any():
            raise ModelError(
                f"a box has the label {numbers[is_other][0] + self.first_label}; the description names the labels "
                f"{self.first_label} to {self.first_label + count - 1}, by `first_label` and its classes"
            )
        return numbers

    def _in_input(self, places: Values, placement: Placement) -> tuple[Values, Values]:
        """Return the first and the last corner of boxes, column before row, in pixels of the input."""
        first: Values = places[:, :2]
        second: Values = places[:, 2:]
        if self.corners == "cxcywh":
            first, second = first - second / np.float32(2), first + second / np.float32(2)
        elif self.corners == "xywh":
            second = first + second
        if self.is_normalized:
            rows, columns = placement.target
            sizes = np.asarray((columns, rows), np.float32)
            first, second = first * sizes, second * sizes
        return first, second

    def _refuse_other_form(self, first: Values, second: Values, placement: Placement) -> None:
        """Return if boxes can be of the form that is described.

        Raises: ModelError.
        """
        if not len(first):
            return
        if (second < first).any():
            raise ModelError(f"a box ends before it begins; the description says corners = {self.corners}")
        rows, columns = placement.target
        if self.is_normalized and (second > _MOST_SHARE * np.asarray((columns, rows), np.float32)).any():
            raise ModelError("boxes are no shares of the input; the description says normalized = true")
        if not self.is_normalized and 0 < second.max() <= 1 < max(rows, columns):
            raise ModelError(
                "all boxes lie in the first pixel, as shares of the input do; the description says normalized = false"
            )

    def _shown(self, boxes: Sequence[Box]) -> tuple[Box, ...]:
        """Return as many boxes as are shown, surest first; a class that is present has one."""
        leading = {box.class_number: box for box in reversed(boxes)}.values()
        others = [box for box in boxes if box not in leading]
        chosen = [*leading, *others[: max(0, self.most_boxes - len(leading))]]
        return tuple(sorted(chosen, key=lambda box: -box.score))

    def _distinct(self, boxes: Sequence[Box]) -> list[Box]:
        """Return the boxes, surest first, that overlap no surer box of their class too much."""
        chosen: list[Box] = []
        for box in boxes:
            others = (other for other in chosen if other.class_number == box.class_number)
            if all(_overlap(box, other) <= self.overlap for other in others):
                chosen.append(box)
        return chosen


def _on_image(first: Values, second: Values, placement: Placement) -> Values:
    """Return boxes as left, top, right, bottom in pixels of the image, cut at its border."""
    (top, left), (bottom, right) = (
        placement.to_source(np.asarray(corner[:, 1], np.float32), np.asarray(corner[:, 0], np.float32))
        for corner in (first, second)
    )
    return np.stack([left, top, right, bottom], axis=1)


def _box(place: Values, score: float, class_number: int) -> Box:
    left, top, right, bottom = map(float, place)
    return Box(left, top, right, bottom, score, class_number)


def _overlap(box: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union."""
    width = min(box.right, other.right) - max(box.left, other.left)
    height = min(box.bottom, other.bottom) - max(box.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((item.right - item.left) * (item.bottom - item.top) for item in (box, other))
    return width * height / (areas - width * height)
