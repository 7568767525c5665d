"""The read of an abdomen: regions that may be a tumor of the pancreas, agreed over neighboring slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import UnusablePicture
from ainode.models.pancreas_tumor.card import Card, read_card
from ainode.models.pancreas_tumor.network import PancreasNetwork
from ainode.models.pancreas_tumor.preprocess import (
    COLUMNS,
    ROWS,
    SIDE,
    Array,
    Frame,
    body_box,
    frame_of,
    framed,
    network_input,
    on_picture,
    on_slice,
    slice_picture,
)
from ainode.models.pancreas_tumor.regions import Mask, Region, long_axis_mm, regions_of
from ainode.models.running.checkpoints import load
from ainode.models.running.runtime import Execution, Recipe, Runner, runner, sha256_of

_BATCH = 4
# Each picture is seen in its frame, in a wider frame, and in a narrower frame; the answers are averaged.
_ZOOMS = (1.0, 0.9, 1.12)
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's reading of one abdomen.

    Shapes: probabilities (n, 256, 256) of the groups of slices that were read, the lowest first.
    Units: `pixel_mm` between rows and columns of the volume; `group` slices of the volume were averaged into each.
    """

    regions: tuple[Region, ...]
    probabilities: Array = field(repr=False)
    group: int
    shape: tuple[int, int, int]
    """the volume's shape (Z, Y, X)"""
    pixel_mm: tuple[float, float]

    def slices_of(self, region: Region) -> range:
        """Return the numbers of the volume's slices that hold a region."""
        numbers = region.numbers
        return range(numbers.start * self.group, numbers.stop * self.group)

    def key_slice(self, region: Region) -> int:
        """Return the number of the volume's slice in the middle of the group where a region is longest."""
        return region.key * self.group + self.group // 2

    def long_axis_mm(self, region: Region) -> float:
        """Return the longest axis of a region on its key slice, on that slice's own pixels."""
        return long_axis_mm(self.mask_on(region, self.key_slice(region)), self.pixel_mm)

    def mask_on(self, region: Region, number: int) -> Mask:
        """Return a region on the pixels (Y, X) of a slice of the volume; nothing beyond the slices that were read."""
        return self._on_slice(region.mask, number) > _HALF

    def probabilities_on(self, number: int) -> Array:
        """Return the probabilities on the pixels (Y, X) of a slice of the volume."""
        return self._on_slice(self.probabilities, number)

    def _on_slice(self, maps: NDArray[np.generic], number: int) -> Array:
        order = number // self.group
        if order >= len(maps):
            return np.zeros(self.shape[1:], np.float32)
        return on_slice(maps[order].astype(np.float32), (self.shape[1], self.shape[2]), self.pixel_mm)


@dataclass(frozen=True, slots=True)
class PancreasModel:
    """A loaded model; `weights_sha256` is the digest of the file of its weights."""

    card: Card
    weights_sha256: str
    network: Runner

    @classmethod
    def load(cls, path: Path, *, execution: Execution, card: Card | None = None) -> PancreasModel:
        """Load the weights of a training; the network always runs in f32, because a size counts pixels.

        Raises: CheckpointRefused when the file holds another network.
        """
        digest = sha256_of(path)

        def build() -> PancreasNetwork:
            network = PancreasNetwork()
            load(network, path)
            return network

        return cls.of(build, digest, execution=execution, card=card or read_card())

    @classmethod
    def of(
        cls, build: Callable[[], PancreasNetwork], digest: str, *, execution: Execution, card: Card
    ) -> PancreasModel:
        """Return a model of the network that `build` makes; `digest` is that of its weights."""
        recipe = Recipe(build, (_BATCH, 1, ROWS, COLUMNS), f"{card.name} {card.network} {digest}")
        return cls(card, digest, runner(recipe, replace(execution, precision="f32")))

    def predict(self, hounsfield: Array, spacing_mm: tuple[float, float, float]) -> Prediction:
        """Return the reading of one volume; slices closer together than the card's distance are averaged in groups.

        Shapes: (Z, Y, X), axes to the head, the back and the left; spacing likewise.
        Units: Hounsfield units.
        Raises: UnusablePicture when a slice has values that are not finite, or no slice shows a body.
        """
        if not np.isfinite(hounsfield).all():
            raise UnusablePicture("the volume holds values that are not finite")
        group = max(1, int(self.card.slices_mm / spacing_mm[0] + 1e-6))
        pixel_mm = (spacing_mm[1], spacing_mm[2])
        pictures = np.stack([slice_picture(plane, pixel_mm) for plane in grouped(hounsfield, group)])
        boxes = [body_box(picture) for picture in pictures]
        if not any(boxes):
            raise UnusablePicture("no slice shows a body")
        frames = [None if box is None else frame_of(box) for box in boxes]
        probabilities = self.probabilities(pictures, frames)
        _, rows, columns = hounsfield.shape
        step_mm = max(rows * pixel_mm[0], columns * pixel_mm[1]) / SIDE
        regions = regions_of(probabilities, self.card.marking, (group * spacing_mm[0], step_mm, step_mm))
        return Prediction(regions, probabilities, group, hounsfield.shape, pixel_mm)

    def probabilities(self, pictures: NDArray[np.uint8], frames: list[Frame | None]) -> Array:
        """Return where a tumor may be on pictures, 0 to 1; 0 on a picture without a frame.

        Shapes: (n, 256, 256) in and out.
        """
        maps = np.zeros(pictures.shape, np.float32)
        views = [
            (number, _zoomed(frame, zoom))
            for number, frame in enumerate(frames)
            if frame is not None
            for zoom in _ZOOMS
        ]
        for first in range(0, len(views), _BATCH):
            chosen = views[first : first + _BATCH]
            batch = np.zeros((_BATCH, ROWS, COLUMNS), np.uint8)
            for order, (number, frame) in enumerate(chosen):
                batch[order] = framed(pictures[number], frame)
            (logits,) = self.network(network_input(batch))
            for (number, frame), logit in zip(chosen, logits[: len(chosen), 0], strict=True):
                maps[number] += on_picture(1 / (1 + np.exp(-logit)), frame) / len(_ZOOMS)
        return maps


def grouped(hounsfield: Array, group: int) -> Iterator[Array]:
    """Yield the mean of each group of slices that follow each other; a rest that fills no group is left out."""
    for first in range(0, len(hounsfield) - group + 1, group):
        yield np.asarray(hounsfield[first : first + group].mean(axis=0), np.float32)


def _zoomed(frame: Frame, zoom: float) -> Frame:
    """Return a frame around the same middle that shows `1 / zoom` of the width."""
    middle = np.array([(COLUMNS - 1) / 2, (ROWS - 1) / 2])
    scale = frame.matrix[:, :2] / zoom
    offset = frame.matrix[:, :2] @ middle + frame.matrix[:, 2] - scale @ middle
    return Frame(np.column_stack([scale, offset]))
