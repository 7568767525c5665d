"""The read of one picture: a probability, a calibrated probability, and the saliency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import MissingNetwork
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.running.checkpoints import load
from ainode.models.running.keras_network import metadata_of
from ainode.models.running.keras_serving import ORIGINALS, Form, Network, ready_network
from ainode.models.running.runtime import Execution, Recipe, Runner, refuse_drift, runner, sha256_of
from ainode.models.running.saliency import Map, rectified_map
from ainode.models.skin_lesion.calibration import Calibration
from ainode.models.skin_lesion.card import Card, read_card
from ainode.models.skin_lesion.network import LesionNetwork
from ainode.models.skin_lesion.preprocess import (
    COLUMNS,
    ROWS,
    Picture,
    frame_map_on_source_grid,
    map_on_source_grid,
    network_input,
    original_input,
    with_square_pixels,
)
from ainode.models.skin_lesion.views import VIEWS, mean_of_views, viewed


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's reading of one picture.

    `probability` is the network's own sigmoid; `calibrated` is the probability for a share of malignant pictures as in
    the training data.
    Shapes: saliency (rows, columns) float32 of the source picture, 0 to 1: the evidence for malignant.
    """

    probability: float
    calibrated: float
    saliency: NDArray[np.float32]


class Reader(Protocol):
    """A network of this model, shipped or original, ready to run."""

    @property
    def run(self) -> Runner:
        """The running network."""

    @property
    def input_text(self) -> str:
        """How a picture becomes the network's input, in words."""

    def read(self, picture: Picture) -> tuple[float, Map]:
        """Return the logit and the map on the picture's own grid, 0 to 1."""


@dataclass(frozen=True, slots=True)
class LesionReader:
    """The shipped network: the mean of four mirrored views, in one batch."""

    run: Runner
    input_text: str = f"{COLUMNS} x {ROWS}, tint of the light taken out, mean of {len(VIEWS)} mirrored views"

    @classmethod
    def of(cls, path: Path, key: str, execution: Execution) -> LesionReader:
        """Return the network of a file of weights; `key` names the weights."""

        def build() -> LesionNetwork:
            network = LesionNetwork()
            load(network, path)
            return network

        return cls(runner(Recipe(build, (len(VIEWS), 3, ROWS, COLUMNS), key), execution))

    def read(self, picture: Picture) -> tuple[float, Map]:
        """Return the logit and the map on the picture's own grid, 0 to 1."""
        framed = network_input(picture)[None]
        logits, maps = self.run(np.concatenate([viewed(framed, view) for view in VIEWS]))
        coarse_map = rectified_map(mean_of_views(maps))
        return float(np.mean(logits, dtype=np.float64)), frame_map_on_source_grid(coarse_map, *picture.shape[:2])


@dataclass(frozen=True, slots=True)
class OriginalReader:
    """An original network, which takes the picture stretched to a square."""

    network: Network
    side: int

    @property
    def run(self) -> Runner:
        """Return the running network."""
        return self.network.run

    @property
    def input_text(self) -> str:
        """Return how a picture becomes the network's input, in words."""
        return f"{self.side} x {self.side}, stretched"

    def read(self, picture: Picture) -> tuple[float, Map]:
        """Return the logit and the map on the picture's own grid, 0 to 1."""
        logits, maps = self.network.read(original_input(picture, self.side))
        return float(logits[0, 0]), map_on_source_grid(rectified_map(maps[0, 0]), *picture.shape[:2])


@dataclass(frozen=True, slots=True)
class SkinLesionModel:
    """A loaded model. `weights_sha256` is the digest of the file of its weights."""

    card: Card
    calibration: Calibration
    weights_sha256: str
    reader: Reader

    @classmethod
    def load(cls, paths: Mapping[str, Path], *, execution: Execution, card: Card | None = None) -> SkinLesionModel:
        """Load the card's network from `paths`: shipped safetensors, or an original whole-model .h5 or .keras.

        Raises: MissingNetwork when `paths` lacks the network; CheckpointRefused when the file is not such a
        network; PrecisionRefused when a lower precision moves a probability by more than 0.005.
        """
        card = card or read_card()
        if card.network not in paths:
            raise MissingNetwork(f"{card.name}: no weights for {card.network}")
        path = paths[card.network]
        digest = sha256_of(path)
        calibration = Calibration() if path.suffix in ORIGINALS else Calibration.of(metadata_of(path))
        model = cls(card, calibration, digest, _reader(path, digest, card, execution))
        if execution.precision != "f32":
            exact = replace(model, reader=_reader(path, digest, card, replace(execution, precision="f32")))
            refuse_drift(card.name, execution.precision, _probability_gaps(model, exact))
        return model

    def predict(self, picture: Picture, *, height_per_width: float = 1.0) -> Prediction:
        """Return the reading of one RGB picture, whose pixels are `height_per_width` times as high as wide.

        Shapes: picture (rows, columns, 3) uint8.
        Raises: UnusablePicture when the picture is too small, uniform or without color.
        """
        logit, squared_map = self.reader.read(with_square_pixels(picture, height_per_width))
        saliency = map_on_source_grid(squared_map, *picture.shape[:2])
        calibrated = float(self.calibration.probability(np.asarray(logit)))
        return Prediction(float(1 / (1 + np.exp(-logit))), calibrated, saliency)


def _reader(path: Path, digest: str, card: Card, execution: Execution) -> Reader:
    """Return the network of a file, shipped or original, ready to run."""
    if path.suffix in ORIGINALS:
        network = ready_network(path, Form(card.original_side, 1, "sigmoid", digest), execution)
        return OriginalReader(network, card.original_side)
    return LesionReader.of(path, f"{card.name} {card.network} {digest}", execution)


def _probability_gaps(low: SkinLesionModel, reference: SkinLesionModel) -> Iterator[float]:
    """Yield how far apart two models are on each of four phantoms."""
    for seed in range(4):
        picture = skin_lesion(np.random.default_rng(seed), rows=300, columns=400)
        yield abs(low.predict(picture).calibrated - reference.predict(picture).calibrated)
