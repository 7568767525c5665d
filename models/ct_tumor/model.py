"""The read of a series: every slice by itself, in batches, and the study from its slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ
from ainode.models.ct_tumor.preprocess import Picture, Placement, as_input, framed, framed_scan, on_slice_grid
from ainode.models.errors import UnusablePicture
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.running.keras_network import metadata_of
from ainode.models.running.keras_serving import ORIGINALS, Form, Network, ready_network
from ainode.models.running.runtime import Execution, refuse_drift, sha256_of
from ainode.models.running.saliency import rectified_map

_BATCH = 8


@dataclass(frozen=True, slots=True)
class SliceReading:
    """What the model says of one slice.

    Shapes: probabilities (classes,); map (h, w) float32 of the same pass, what speaks for the positive class,
    on the network's input, which lies at `placement` on the slice.
    """

    index: int
    probabilities: NDArray[np.float64]
    map: NDArray[np.float32] = field(repr=False)
    placement: Placement

    def saliency(self) -> NDArray[np.float32]:
        """Return the map on the slice's own grid, 0 to 1."""
        return np.clip(on_slice_grid(rectified_map(self.map), self.placement), 0, 1)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model says of a study. Slices without a body in them are not among `slices`."""

    slices: tuple[SliceReading, ...]
    probabilities: NDArray[np.float64]
    score: float
    """the positive class's part of `probabilities`"""

    def key_slices(self, count: int, positive: int) -> tuple[SliceReading, ...]:
        """Return the slices of highest score that lie apart, best first.

        Apart: by a tenth of the series, so that one mass gives one picture and not three.
        """
        apart = max(2, round(0.1 * len(self.slices)))
        kept: list[SliceReading] = []
        for one in sorted(self.slices, key=lambda made: (-made.probabilities[positive], made.index)):
            if len(kept) < count and all(abs(one.index - other.index) >= apart for other in kept):
                kept.append(one)
        return tuple(kept)


@dataclass(frozen=True, slots=True)
class TumorModel:
    """A loaded model of one organ. `weights_sha256` names the very bytes it runs on."""

    organ: Organ
    calibration: Calibration
    weights_sha256: str
    network: Network

    @classmethod
    def load(cls, path: Path, organ: Organ, *, execution: Execution) -> TumorModel:
        """Load an organ's network: our safetensors, or an original whole-model .h5 or .keras.

        Raises: CheckpointRefused when the file is not such a network; PrecisionRefused when a lower
        precision was asked for and moves a probability by more than 0.005.
        """
        digest = sha256_of(path)
        form = Form(organ.side, len(organ.class_names), "softmax", f"{organ.name} {digest}", _BATCH)
        calibration = Calibration() if path.suffix in ORIGINALS else Calibration.of(metadata_of(path))
        model = cls(organ, calibration, digest, ready_network(path, form, execution))
        if execution.precision != "f32":
            reference = replace(model, network=ready_network(path, form, replace(execution, precision="f32")))
            refuse_drift(organ.name, execution.precision, _gaps(model, reference))
        return model

    def read(self, slices: Iterable[NDArray[np.float32]]) -> Reading:
        """Return the reading of a series.

        Shapes: each slice (rows, columns), its columns to the patient's left, its rows to the back.
        Units: Hounsfield units.
        Raises: UnusablePicture when no slice shows a body.
        """
        return self._reading(_shown(slices, lambda one: framed_scan(one, self.organ)))

    def read_pictures(self, pictures: Iterable[Picture]) -> Reading:
        """Return the reading of slices that are windowed already.

        Shapes: each picture (rows, columns) uint8.
        Raises: UnusablePicture when no picture shows a body.
        """
        return self._reading(_shown(pictures, lambda one: framed(one, self.organ)))

    def _reading(self, shown: Iterable[tuple[int, Picture, Placement]]) -> Reading:
        made = tuple(self._slices(shown))
        if not made:
            raise UnusablePicture("no slice shows a body in the window of this model")
        each = np.stack([one.probabilities for one in made])
        study = self.calibration.study(each, self.organ.positive_index)
        score = float(study[self.organ.positive_index])
        return Reading(made, study, score)

    def probabilities(self, squares: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return (n, classes) probabilities of pictures that are framed already, (n, side, side)."""
        side = self.organ.side
        whole = Placement(0, 0, side, side, side)
        return np.stack([one.probabilities for one in self._slices((n, one, whole) for n, one in enumerate(squares))])

    def _slices(self, framed_slices: Iterable[tuple[int, Picture, Placement]]) -> Iterator[SliceReading]:
        rest = iter(framed_slices)
        while batch := tuple(islice(rest, _BATCH)):
            squares = np.zeros((_BATCH, self.organ.side, self.organ.side), np.uint8)
            squares[: len(batch)] = [square for _, square, _ in batch]
            logits, maps = self.network.run(as_input(squares) * np.float32(self.network.scale))
            probabilities = self.calibration.probabilities(logits.astype(np.float64))
            for (index, _, placement), answer, each in zip(batch, probabilities, maps, strict=False):
                yield SliceReading(index, answer, each[self.organ.positive_index].copy(), placement)


def _shown(
    slices: Iterable[NDArray[Any]], frame: Callable[[NDArray[Any]], tuple[Picture, Placement]]
) -> Iterator[tuple[int, Picture, Placement]]:
    """Yield the number, the network's input and its place of every slice that shows a body."""
    for number, one in enumerate(slices):
        try:
            yield number, *frame(one)
        except UnusablePicture:
            # Air above the head end of a scan, or a slice of the table alone: not there to be read.
            continue


def _gaps(low: TumorModel, reference: TumorModel) -> Iterator[float]:
    """Yield how far apart two models are on each slice of a phantom."""
    slices: Sequence[NDArray[np.float32]] = list(abdomen(np.random.default_rng(0), slices=_BATCH).values)
    for lower, exact in zip(low.read(slices).slices, reference.read(slices).slices, strict=True):
        yield float(np.abs(lower.probabilities - exact.probabilities).max())
