"""The reading of a frontal radiograph of the spine: its vertebrae, seen twice, and the curves between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import UnusablePicture
from ainode.models.running.runtime import Execution, Recipe, Runner, runner, sha256_of
from ainode.models.spine_vertebrae.card import Card, read_card
from ainode.models.spine_vertebrae.column import MOST, Column, column_of
from ainode.models.spine_vertebrae.geometry import Curve, curves, widths
from ainode.models.spine_vertebrae.preprocess import (
    COLUMNS,
    ROWS,
    Picture,
    equalized,
    fitted,
    framed,
    network_input,
    reason_unusable,
)

if TYPE_CHECKING:
    from ainode.models.spine_vertebrae.network import SpineNetwork

Corners = NDArray[np.float64]
Array = NDArray[np.float32]

# In a mirrored picture left and right corners are exchanged; then x points to the other side.
_MIRRORED = [2, 3, 0, 1, 6, 7, 4, 5, 8]
_X = [0, 2, 4, 6]
# Behind the maps of the vertebrae: the logit of the view, the same at each place.
_VIEW = 10
_SUREST = 5
# Looks after the first: with room for missing vertebrae at both ends, and without.
_LOOKS = (1, 0)
# From so many vertebrae in a row on, a closer look is worth its time.
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's reading of one radiograph.

    Shapes: corners (n, 4, 2), x and y of the top left, top right, bottom left and bottom right corner of each vertebra
    from the head, in pixels from the upper left corner of the radiograph; peaks (n,), how sure each vertebra is, 0 to
    1; numbers (n,), 0 (T1) to 16 (L5) as the network counts.
    """

    corners: Corners = field(repr=False)
    peaks: NDArray[np.float64] = field(repr=False)
    numbers: NDArray[np.float64] = field(repr=False)
    height_per_width: float
    columns: int
    """of the radiograph"""
    frontal: float = 1.0
    """how much the picture looks like a spine from the front, 0 to 1"""

    @property
    def score(self) -> float:
        """Return how much this picture looks like a spine, 0 to 1: the mean of its five surest vertebrae."""
        return float(np.sort(self.peaks)[-_SUREST:].mean()) if len(self.peaks) else 0.0

    @property
    def rise(self) -> float:
        """Return by how much the network's numbers rise from one vertebra to the next: about 1, or 0 upside down."""
        order = np.arange(len(self.numbers))
        return float(np.polyfit(order, self.numbers, 1)[0]) if len(order) > 1 else 0.0

    def is_spine(self, card: Card) -> bool:
        """Return whether the picture shows a spine from the front, the head above."""
        return self.is_chain(card) and self.is_frontal(card) and self.is_upright(card)

    def is_chain(self, card: Card) -> bool:
        """Return whether enough vertebrae stand in a chain, and sure enough.

        A whole spine needs the lowest score; a picture cropped to the spine a lower one than one that shows more.
        """
        count = len(self.peaks)
        if count < card.least_vertebrae:
            return False
        is_cropped = float(np.median(widths(self.corners))) >= card.cropped_width * self.columns
        needed = card.least_score if is_cropped else card.wide_score
        return self.score >= (card.whole_score if count >= card.whole_vertebrae else needed)

    def is_frontal(self, card: Card) -> bool:
        """Return whether the picture looks like one from the front."""
        return self.frontal >= card.least_frontal

    def is_upright(self, card: Card) -> bool:
        """Return whether the network counts the vertebrae from the head to the feet."""
        return self.rise >= card.least_rise

    @property
    def squared(self) -> Corners:
        """Return the corners in square pixels, a pixel's width long."""
        return np.asarray(self.corners * (1.0, self.height_per_width))

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Return the curves from the head to the feet; none of fewer than two vertebrae."""
        return curves(self.squared) if len(self.peaks) > 1 else ()


@dataclass(frozen=True, slots=True)
class VertebraModel:
    """A loaded model; `weights_sha256` is the digest of the file of its weights."""

    card: Card
    weights_sha256: str
    network: Runner

    @classmethod
    def load(cls, path: Path, *, execution: Execution, card: Card | None = None) -> VertebraModel:
        """Load the weights of a training; the network runs in f32, because half a degree counts.

        Raises: CheckpointRefused when the file holds another network.
        """

        def build() -> SpineNetwork:
            from ainode.models.running.checkpoints import load  # noqa: PLC0415  # torch, which a kept graph does without
            from ainode.models.spine_vertebrae.network import SpineNetwork  # noqa: PLC0415  # torch

            network = SpineNetwork()
            load(network, path)
            return network

        return cls.of(build, sha256_of(path), execution=execution, card=card or read_card())

    @classmethod
    def of(cls, build: Callable[[], SpineNetwork], digest: str, *, execution: Execution, card: Card) -> VertebraModel:
        """Return a model of the network that `build` makes; `digest` is that of its weights."""
        recipe = Recipe(build, (2, 1, ROWS, COLUMNS), f"{card.name} {digest}")
        return cls(card, digest, runner(recipe, replace(execution, precision="f32")))

    def predict(self, pixels: Array, *, height_per_width: float = 1.0) -> Prediction:
        """Return the vertebrae of a presented radiograph: a larger value is brighter.

        The whole picture is looked at, then the part with the vertebrae, with room for those that are missing, then the
        same part as large as the training's films show it. A look counts where it is surer of more.

        Shapes: pixels (rows, columns).
        Raises: UnusablePicture with the reason when the picture shows nothing or is too small.
        """
        if reason := reason_unusable(pixels):
            raise UnusablePicture(reason)
        picture = equalized(pixels)
        place = fitted(*picture.shape, height_per_width=height_per_width)
        column, frontal = self._look(place.applied(picture))
        for missing in _LOOKS:
            if len(column) < _FEWEST:
                break
            extra = missing * (MOST - len(column))
            around = framed(place.on_source(column.corners), height_per_width=height_per_width, missing=extra)
            closer, closer_frontal = self._look(around.applied(picture))
            if closer.peaks.sum() >= column.peaks.sum():
                place, column, frontal = around, closer, closer_frontal
        corners = place.on_source(column.corners)
        return Prediction(corners, column.peaks, column.numbers, height_per_width, picture.shape[1], frontal)

    def _look(self, shown: Picture) -> tuple[Column, float]:
        """Return the vertebrae of a picture of the input's size, and how much it looks like a spine from the front.

        Both are means of the picture and its mirror image.
        """
        (answer,) = self.network(network_input(np.stack([shown, shown[:, ::-1]])))
        plain, mirrored = answer[0], answer[1, :, :, ::-1]
        distances = mirrored[1:_VIEW][_MIRRORED]
        distances[_X] *= -1
        middles = [1 / (1 + np.exp(-maps[0])) for maps in (plain, mirrored)]
        frontal = 1 / (1 + np.exp(-answer[:, _VIEW, 0, 0].mean()))
        return column_of(np.mean(middles, axis=0), np.mean([plain[1:_VIEW], distances], axis=0)), float(frontal)
