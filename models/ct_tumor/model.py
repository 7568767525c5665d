"""The read of a series: every slice by itself, in batches; and the study, from the readings of its slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ
from ainode.models.ct_tumor.preprocess import (
    Picture,
    Placement,
    body_square,
    body_square_of_scan,
    map_on_slice_grid,
    network_input,
)
from ainode.models.errors import UnusablePicture
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.running.keras_network import metadata_of
from ainode.models.running.keras_serving import ORIGINALS, Form, Network, ready_network
from ainode.models.running.precision import Trial, fitted
from ainode.models.running.runtime import Execution, sha256_of
from ainode.models.running.saliency import rectified_map

_BATCH = 8


@dataclass(frozen=True, slots=True)
class SliceReading:
    """The model's reading of one slice.

    Shapes: probabilities (classes,); map (h, w) float32 of the same pass, the evidence for the positive class, on the
    network's input, which lies at `placement` on the slice.
    """

    index: int
    probabilities: NDArray[np.float64]
    map: NDArray[np.float32] = field(repr=False)
    placement: Placement

    def saliency(self) -> NDArray[np.float32]:
        """Return the map on the slice's own grid, 0 to 1."""
        return np.clip(map_on_slice_grid(rectified_map(self.map), self.placement), 0, 1)


@dataclass(frozen=True, slots=True)
class Reading:
    """The model's reading of a study; `slices` leaves out slices that show no body."""

    slices: tuple[SliceReading, ...]
    probabilities: NDArray[np.float64]
    score: float
    """the probability of the positive class"""

    def key_slices(self, count: int, positive: int) -> tuple[SliceReading, ...]:
        """Return the slices of highest score, best first, at least a tenth of the series apart.

        The distance makes one mass give one picture and not three.
        """
        least_distance = max(2, round(0.1 * len(self.slices)))
        chosen: list[SliceReading] = []
        for slice_ in sorted(self.slices, key=lambda slice_: (-slice_.probabilities[positive], slice_.index)):
            if len(chosen) < count and all(abs(slice_.index - other.index) >= least_distance for other in chosen):
                chosen.append(slice_)
        return tuple(chosen)


@dataclass(frozen=True, slots=True)
class TumorModel:
    """A loaded model of one organ. `weights_sha256` is the digest of the file of its weights."""

    organ: Organ
    calibration: Calibration
    weights_sha256: str
    network: Network

    @classmethod
    def load(cls, path: Path, organ: Organ, *, execution: Execution) -> TumorModel:
        """Load an organ's network: shipped safetensors, or an original whole-model .h5 or .keras.

        Raises: CheckpointRefused when the file is not such a network; PrecisionRefused when a lower
        precision was asked for and moves a probability by more than 0.005.
        """
        digest = sha256_of(path)
        form = network_form(organ, digest)
        calibration = Calibration() if path.suffix in ORIGINALS else Calibration.of(metadata_of(path))
        trial = Trial(
            f"ct_tumor {organ.name}",
            f"{form} {calibration}",
            lambda chosen_execution: cls(organ, calibration, digest, ready_network(path, form, chosen_execution)),
            reference_slices,
            reference_answers,
        )
        return fitted(trial, execution)

    def read(self, slices: Iterable[NDArray[np.float32]]) -> Reading:
        """Return the reading of a series.

        Shapes: each slice (rows, columns), its columns to the patient's left, its rows to the back.
        Units: Hounsfield units.
        Raises: UnusablePicture when no slice shows a body.
        """
        return self._reading(_framed_slices(slices, lambda slice_: body_square_of_scan(slice_, self.organ)))

    def read_pictures(self, pictures: Iterable[Picture]) -> Reading:
        """Return the reading of slices that the caller has windowed.

        Shapes: each picture (rows, columns) uint8.
        Raises: UnusablePicture when no picture shows a body.
        """
        return self._reading(_framed_slices(pictures, lambda picture: body_square(picture, self.organ)))

    def _reading(self, slices: Iterable[tuple[int, Picture, Placement]]) -> Reading:
        """Return the study's reading from slices, each with its number, the network's input and its placement."""
        readings = tuple(self._slice_readings(slices))
        if not readings:
            raise UnusablePicture("no slice shows a body in the window of this model")
        probabilities = np.stack([reading.probabilities for reading in readings])
        study = self.calibration.study(probabilities, self.organ.positive_index)
        score = float(study[self.organ.positive_index])
        return Reading(readings, study, score)

    def probabilities(self, squares: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probabilities (n, classes) of the network's inputs (n, side, side)."""
        side = self.organ.side
        placement = Placement(0, 0, side, side, side)
        slices = ((number, square, placement) for number, square in enumerate(squares))
        return np.stack([reading.probabilities for reading in self._slice_readings(slices)])

    def _slice_readings(self, framed_slices: Iterable[tuple[int, Picture, Placement]]) -> Iterator[SliceReading]:
        """Yield the readings of slices, each with its number, the network's input and its placement."""
        remaining = iter(framed_slices)
        while batch := tuple(islice(remaining, _BATCH)):
            squares = np.zeros((_BATCH, self.organ.side, self.organ.side), np.uint8)
            squares[: len(batch)] = [square for _, square, _ in batch]
            logits, maps = self.network.read(network_input(squares))
            probabilities = self.calibration.probabilities(logits.astype(np.float64))
            for (index, _, placement), probabilities_of_slice, maps_of_slice in zip(
                batch, probabilities, maps, strict=False
            ):
                yield SliceReading(
                    index, probabilities_of_slice, maps_of_slice[self.organ.positive_index].copy(), placement
                )


def _framed_slices(
    slices: Iterable[NDArray[Any]], frame: Callable[[NDArray[Any]], tuple[Picture, Placement]]
) -> Iterator[tuple[int, Picture, Placement]]:
    """Yield the number, the network's input and its placement of every slice that shows a body."""
    for number, slice_ in enumerate(slices):
        try:
            yield number, *frame(slice_)
        except UnusablePicture:
            # Air above the head end of a scan, or a slice of the table alone, has nothing to read.
            continue


def network_form(organ: Organ, digest: str) -> Form:
    """Return the form of an organ's network; `digest` is that of its weights."""
    return Form(organ.side, len(organ.class_names), "softmax", f"{organ.name} {digest}", _BATCH)


def reference_slices() -> Sequence[NDArray[np.float32]]:
    """Return the slices of a phantom, for checks of precision."""
    return list(abdomen(np.random.default_rng(0), slices=_BATCH).values)


def reference_answers(model: TumorModel, slices: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return every probability of every slice."""
    return np.concatenate([slice_.probabilities for slice_ in model.read(slices).slices])
