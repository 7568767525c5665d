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
from ainode.models.errors import CheckpointRefused, PrecisionRefused, UnusablePicture
from ainode.models.keras_network import backend, efficientnet_lite0, load, metadata_of
from ainode.models.keras_serving import gradcam, has_linear_head, mapped_recipe, original, without_activation
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.runtime import AGREEMENT, Array, Precision, runner, sha256_of
from ainode.models.saliency import rectified

ORIGINALS = frozenset({".h5", ".hdf5", ".keras"})
_EIGHT_BITS = 255.0
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
        return np.clip(on_slice_grid(rectified(self.map), self.placement), 0, 1)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model says of a study. Slices without a body in them are not among `slices`."""

    slices: tuple[SliceReading, ...]
    probabilities: NDArray[np.float64]
    score: float
    """the positive class's part of `probabilities`"""
    above: bool
    """whether the score is above the threshold"""

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
class _Network:
    """A network that is ready: pictures in 0 to 255 times `scale` in, logits and maps out."""

    run: Callable[[Array], tuple[Array, ...]]
    scale: float
    precision: Precision
    device: str


@dataclass(frozen=True, slots=True)
class TumorModel:
    """A loaded model of one organ. `weights_sha256` names the very bytes it runs on."""

    organ: Organ
    calibration: Calibration
    weights_sha256: str
    network: _Network

    @classmethod
    def load(  # where from, how, and on what; all but the first two have defaults
        cls,
        path: Path,
        organ: Organ,
        *,
        cache: Path,
        device: str = "auto",
        precision: Precision = "f32",
        threads: int | None = None,
    ) -> TumorModel:
        """Load an organ's network: our safetensors, or an original whole-model .h5 or .keras.

        Raises: CheckpointRefused when the file is not such a network; PrecisionRefused when bf16 was asked
        for and moves a probability by more than 0.005.
        """
        digest = sha256_of(path)
        loaded = _original if path.suffix in ORIGINALS else _ours
        calibration = Calibration() if path.suffix in ORIGINALS else Calibration.of(metadata_of(path))

        def ready(how: Precision) -> TumorModel:
            made = loaded(path, organ, _Way(digest, cache, device, how, threads))
            return cls(organ, calibration, digest, made)

        model = ready(precision)
        if precision == "bf16":
            _refuse_drift(model, ready("f32"))
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
        return Reading(made, study, score, score > self.calibration.threshold)

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


@dataclass(frozen=True, slots=True)
class _Way:
    """How a network is made ready."""

    digest: str
    cache: Path
    device: str
    precision: Precision
    threads: int | None


def _mapped(build: Callable[[], object], name: str, organ: Organ, way: _Way, *, scale: float) -> _Network:
    """Return a network of pooling and a linear layer, its map in the same graph."""
    single = mapped_recipe(build, organ.side, f"{name} {organ.name} {way.digest}")
    recipe = replace(single, shape=(_BATCH, *single.shape[1:]))
    run = runner(recipe, cache=way.cache, precision=way.precision, device=way.device, threads=way.threads)
    return _Network(run, scale, run.precision, run.device)


def _ours(path: Path, organ: Organ, way: _Way) -> _Network:
    backend("torch")

    def build() -> object:
        return load(efficientnet_lite0(organ.side, len(organ.class_names), layout="channels_first"), path)

    return _mapped(build, "efficientnet_lite0", organ, way, scale=1.0)


def _original(path: Path, organ: Organ, way: _Way) -> _Network:
    """Return an original network, which takes 0 to 1; a head of several layers runs in torch, for its Grad-CAM."""
    network = original(path)
    expected = ((None, organ.side, organ.side, 3), (None, len(organ.class_names)))
    if (network.input_shape, network.output_shape) != expected:
        raise CheckpointRefused(
            f"{path}: takes {network.input_shape}, gives {network.output_shape}; {expected} was expected"
        )
    if without_activation(network, path=path) != "softmax":
        raise CheckpointRefused(f"{path}: its answer is no softmax")
    if has_linear_head(network):
        return _mapped(lambda: network, "original", organ, way, scale=1 / _EIGHT_BITS)
    device = "cuda" if way.device.startswith("cuda") else "cpu"
    run = gradcam(network, device=device)
    return _Network(run, 1 / _EIGHT_BITS, run.precision, run.device)


def _refuse_drift(low: TumorModel, reference: TumorModel) -> None:
    slices: Sequence[NDArray[np.float32]] = list(abdomen(np.random.default_rng(0), slices=_BATCH).values)
    pairs = zip(low.read(slices).slices, reference.read(slices).slices, strict=True)
    gap = max(float(np.abs(a.probabilities - b.probabilities).max()) for a, b in pairs)
    if gap > AGREEMENT:
        raise PrecisionRefused(f"{low.organ.name}: {low.network.precision} moves a probability by {gap:.4f}; use f32")
