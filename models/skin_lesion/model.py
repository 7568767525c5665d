"""The read of one picture: a probability, a calibrated one, and where it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import CheckpointRefused, MissingNetwork, PrecisionRefused
from ainode.models.keras_network import backend, efficientnet_lite0, load, metadata_of
from ainode.models.keras_serving import gradcam, has_linear_head, mapped_recipe, original, without_activation
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.runtime import AGREEMENT, Array, Precision, runner, sha256_of
from ainode.models.saliency import rectified
from ainode.models.skin_lesion.calibration import FLIPS, Calibration
from ainode.models.skin_lesion.card import Card, read_card
from ainode.models.skin_lesion.preprocess import Picture, on_source_grid, prepare

_ORIGINALS = frozenset({".h5", ".hdf5", ".keras"})
_EIGHT_BITS = 255.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one picture.

    `probability` is the network's own sigmoid, `calibrated` what a share of malignant pictures as in
    the training data makes of it; `malignant` compares the latter with the threshold.
    Shapes: saliency (rows, columns) float32 of the source picture, 0 to 1: what speaks for malignant.
    """

    probability: float
    calibrated: float
    malignant: bool
    saliency: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Network:
    """A network that is ready: pictures in 0 to 255 times `scale` in, logits and maps out."""

    run: Callable[[Array], tuple[Array, ...]]
    scale: float
    precision: Precision
    device: str


@dataclass(frozen=True, slots=True)
class SkinLesionModel:
    """A loaded model. `weights_sha256` names the very bytes it runs on."""

    card: Card
    calibration: Calibration
    weights_sha256: str
    network: _Network

    @classmethod
    def load(  # where from, how, and on what; all but the first have defaults
        cls,
        paths: Mapping[str, Path],
        *,
        cache: Path,
        card: Card | None = None,
        device: str = "auto",
        precision: Precision = "f32",
        threads: int | None = None,
    ) -> SkinLesionModel:
        """Load the card's network from `paths`: our safetensors, or an original whole-model .h5 or .keras.

        Raises: MissingNetwork when it is not in `paths`; CheckpointRefused when the file is not such a
        network; PrecisionRefused when bf16 was asked for and moves a probability by more than 0.005.
        """
        card = card or read_card()
        if card.network not in paths:
            raise MissingNetwork(f"{card.name}: no weights for {card.network}")
        path = paths[card.network]
        digest = sha256_of(path)
        loaded = _original if path.suffix in _ORIGINALS else _ours

        def ready(how: Precision) -> _Network:
            return loaded(path, _Way(card.side, digest, cache, device, how, threads))

        calibration = Calibration() if path.suffix in _ORIGINALS else Calibration.of(metadata_of(path))
        model = cls(card, calibration, digest, ready(precision))
        if precision == "bf16":
            _refuse_drift(model, cls(card, calibration, digest, ready("f32")))
        return model

    def predict(self, picture: Picture) -> Prediction:
        """Return the reading of one RGB picture.

        Shapes: picture (rows, columns, 3) uint8.
        Raises: UnusablePicture when it is too small, uniform or without color.
        """
        square = prepare(picture, self.card.side) * np.float32(self.network.scale)
        logits, maps = [], []
        for down, right in FLIPS[: self.calibration.views]:
            logit, one = self.network.run(np.ascontiguousarray(square[:, ::down, ::right]))
            logits.append(float(logit[0, 0]))
            maps.append(one[0, 0, ::down, ::right])
        mean = np.mean(logits, dtype=np.float64)
        calibrated = float(self.calibration.probability(np.asarray(mean)))
        small = rectified(np.mean(maps, axis=0))
        return Prediction(
            probability=float(1 / (1 + np.exp(-mean))),
            calibrated=calibrated,
            malignant=calibrated > self.calibration.threshold,
            saliency=on_source_grid(small, *picture.shape[:2]),
        )


@dataclass(frozen=True, slots=True)
class _Way:
    """How a network is made ready."""

    side: int
    digest: str
    cache: Path
    device: str
    precision: Precision
    threads: int | None

    def mapped(self, build: Callable[[], Any], name: str, scale: float) -> _Network:
        """Return a network of pooling and a linear layer, its map in the same graph."""
        recipe = mapped_recipe(build, self.side, f"{name} {self.digest}")
        run = runner(recipe, cache=self.cache, precision=self.precision, device=self.device, threads=self.threads)
        return _Network(run, scale, run.precision, run.device)


def _ours(path: Path, way: _Way) -> _Network:
    backend("torch")

    def build() -> Any:  # noqa: ANN401  # a keras.Model
        return load(efficientnet_lite0(way.side, 1, layout="channels_first"), path)

    return way.mapped(build, "efficientnet_lite0", 1.0)


def _original(path: Path, way: _Way) -> _Network:
    """Return an original network, which takes 0 to 1; a head of several layers runs in torch, for its Grad-CAM."""
    network = original(path)
    if (network.input_shape, network.output_shape) != ((None, way.side, way.side, 3), (None, 1)):
        raise CheckpointRefused(
            f"{path}: takes {network.input_shape}, gives {network.output_shape}; "
            f"({way.side}, {way.side}, 3) and one probability were expected"
        )
    if without_activation(network, path=path) != "sigmoid":
        raise CheckpointRefused(f"{path}: its answer is no sigmoid")
    if has_linear_head(network):
        return way.mapped(lambda: network, "original", 1 / _EIGHT_BITS)
    device = "cuda" if way.device.startswith("cuda") else "cpu"
    run = gradcam(network, device=device)
    return _Network(run, 1 / _EIGHT_BITS, run.precision, run.device)


def _refuse_drift(low: SkinLesionModel, reference: SkinLesionModel) -> None:
    for seed in range(4):
        picture = skin_lesion(np.random.default_rng(seed), rows=300, columns=400)
        gap = abs(low.predict(picture).calibrated - reference.predict(picture).calibrated)
        if gap > AGREEMENT:
            raise PrecisionRefused(
                f"{low.card.name}: {low.network.precision} moves a probability by {gap:.4f}; use f32"
            )
