"""The read of one picture: a probability, a calibrated probability, and the saliency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import MissingNetwork
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.running.keras_network import metadata_of
from ainode.models.running.keras_serving import ORIGINALS, Form, Network, ready_network
from ainode.models.running.runtime import Execution, refuse_drift, sha256_of
from ainode.models.running.saliency import rectified_map
from ainode.models.skin_lesion.calibration import FLIPS, Calibration
from ainode.models.skin_lesion.card import Card, read_card
from ainode.models.skin_lesion.preprocess import Picture, map_on_source_grid, network_input


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


@dataclass(frozen=True, slots=True)
class SkinLesionModel:
    """A loaded model. `weights_sha256` is the digest of the file of its weights."""

    card: Card
    calibration: Calibration
    weights_sha256: str
    network: Network

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
        form = Form(card.side, 1, "sigmoid", digest)
        calibration = Calibration() if path.suffix in ORIGINALS else Calibration.of(metadata_of(path))
        model = cls(card, calibration, digest, ready_network(path, form, execution))
        if execution.precision != "f32":
            reference = replace(model, network=ready_network(path, form, replace(execution, precision="f32")))
            refuse_drift(card.name, execution.precision, _probability_gaps(model, reference))
        return model

    def predict(self, picture: Picture) -> Prediction:
        """Return the reading of one RGB picture.

        Shapes: picture (rows, columns, 3) uint8.
        Raises: UnusablePicture when the picture is too small, uniform or without color.
        """
        square = network_input(picture, self.card.side)
        logits, maps = [], []
        for down, right in FLIPS[: self.calibration.views]:
            logit, map_ = self.network.read(np.ascontiguousarray(square[:, ::down, ::right]))
            logits.append(float(logit[0, 0]))
            maps.append(map_[0, 0, ::down, ::right])
        mean = np.mean(logits, dtype=np.float64)
        calibrated = float(self.calibration.probability(np.asarray(mean)))
        coarse_map = rectified_map(np.mean(maps, axis=0))
        return Prediction(
            probability=float(1 / (1 + np.exp(-mean))),
            calibrated=calibrated,
            saliency=map_on_source_grid(coarse_map, *picture.shape[:2]),
        )


def _probability_gaps(low: SkinLesionModel, reference: SkinLesionModel) -> Iterator[float]:
    """Yield how far apart two models are on each of four phantoms."""
    for seed in range(4):
        picture = skin_lesion(np.random.default_rng(seed), rows=300, columns=400)
        yield abs(low.predict(picture).calibrated - reference.predict(picture).calibrated)
