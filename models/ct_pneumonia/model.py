"""The pneumonia read: four graphs and, between them, the choice of regions and the steps of the sampling.

The first graph reads the chest (logits, saliency, features), the second reads the regions at the saliency's maxima, the
third fuses the features of both, and the fourth, the U-Net, runs 25 times on eight draws of noise at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from ainode.models.ct_pneumonia.card import Card, read_card
from ainode.models.ct_pneumonia.checkpoints import load_pneumonia
from ainode.models.ct_pneumonia.dcg import REGION, SIZES, separate_maxima
from ainode.models.ct_pneumonia.diffusion import POINTS, DenseGuidanceMap, Pneumonia, Schedule, mixed_probabilities
from ainode.models.ct_pneumonia.preprocess import SHAPE, Array, network_input, source_index
from ainode.models.errors import PrecisionRefused, UnusablePicture
from ainode.models.phantoms.thorax import thorax
from ainode.models.running.precision import Trial, fitted
from ainode.models.running.runtime import Execution, Precision, Recipe, Runner, runner, sha256_of

DRAWS = 8
"""of the noise that the sampling starts from; the answer is their mean"""
_MAP = (2, POINTS, POINTS, POINTS)
_NOISE = 2 * POINTS**3
_EMBED = 128


@dataclass(frozen=True, slots=True)
class Region:
    """One region that the local encoder reads.

    Units: `center` and `corners` (low, high) are (z, y, x) in continuous voxels of the volume. The attention of all
    regions adds up to 1.
    """

    center: tuple[float, float, float]
    corners: tuple[tuple[float, float, float], tuple[float, float, float]]
    attention: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's reading of one volume.

    `probability` is the mean of `draws`, one probability for each draw of noise: 0.5 of the label map's mean, 0.3 of
    the classifier and 0.2 of the global prior, each a probability of pneumonia.

    Shapes: saliency (16, 16, 8) or (8, 8, 4), x, y, z, 0 to 1: the DCG's evidence in each cell.
    """

    draws: tuple[float, ...]
    label_map: float
    classifier: float
    global_prior: float
    local_prior: float
    regions: tuple[Region, ...]
    saliency: Array
    shape: tuple[int, ...]
    """the volume's shape (Z, Y, X)"""

    @property
    def probability(self) -> float:
        """Return the probability of pneumonia."""
        return math.fsum(self.draws) / len(self.draws)

    @property
    def deviation(self) -> float:
        """Return the standard deviation of the draws."""
        return float(np.std(self.draws))

    def saliency_at(self, index: NDArray[np.float64]) -> Array:
        """Return the saliency at voxels of the volume; index (3, ...), z, y, x, continuous."""
        coarse = [
            (place * (size - 1) / max(count - 1, 1) + 0.5) * cells / size - 0.5
            for place, count, size, cells in zip(index[::-1], self.shape[::-1], SHAPE, self.saliency.shape, strict=True)
        ]
        return np.asarray(map_coordinates(self.saliency, coarse, order=1, mode="nearest"), np.float32)


@dataclass(frozen=True, slots=True)
class PneumoniaModel:
    """A loaded model; `weights_sha256` is the digest of the file of its weights."""

    card: Card
    weights_sha256: str
    chest: Runner
    regions: Runner
    fusion: Runner
    step: Runner

    @classmethod
    def load(cls, path: Path, *, execution: Execution, card: Card | None = None) -> PneumoniaModel:
        """Load the network that the card names.

        Raises: CheckpointRefused when the file holds another network.
        """
        card = card or read_card()
        digest = sha256_of(path)
        return cls.of(lambda: load_pneumonia(path, card.size), digest, execution=execution, card=card)

    @classmethod
    def of(cls, build: Callable[[], Pneumonia], digest: str, *, execution: Execution, card: Card) -> PneumoniaModel:
        """Return a model of the network that `build` makes; `digest` is that of its weights.

        The model takes a lower precision where no probability of the reference volumes moves by more than 0.005, else
        f32.
        """
        count = SIZES[card.size].regions
        shapes: dict[type[nn.Module], tuple[int, ...]] = {
            Chest: (1, 1, *SHAPE),
            Regions: (count, 1, *REGION),
            Fusion: (1, count + 1, _EMBED),
            Step: (DRAWS, 2 * _NOISE + 1 + _EMBED),
        }

        def graph(part: type[Chest | Regions | Fusion | Step], execution: Execution) -> Runner:
            recipe = Recipe(lambda: part(build()), shapes[part], f"{card.name} {card.size} {part.__name__} {digest}")
            return runner(recipe, execution)

        exact = replace(execution, precision="f32")

        def of(chosen: Execution) -> PneumoniaModel:
            # The other two graphs stay in f32: they are small, and the U-Net's 25 runs would add up its rounding.
            return cls(
                card, digest, graph(Chest, chosen), graph(Regions, chosen), graph(Fusion, exact), graph(Step, exact)
            )

        try:
            return fitted(Trial(card.name, f"{card} {digest}", of, _reference_volumes, _reference_answers), execution)
        except PrecisionRefused:
            return of(exact)

    @property
    def precision(self) -> Precision:
        """Return the precision of the computation."""
        return self.chest.precision

    @property
    def device(self) -> str:
        """Return the device of the computation."""
        return self.chest.device

    def predict(self, hounsfield: Array, seed: int, infection: Array | None = None) -> Prediction:
        """Return the reading of one volume; the same seed gives the same reading.

        The regions lie where most infection is, where an outline of infection comes along, else at the saliency's
        maxima; the saliency decides between equals. The local prior is that of the regions.

        Shapes: (Z, Y, X), axes to the head, the back and the left; infection (128, 128, 64), x, y, z, 0 to 1.
        Units: Hounsfield units.
        Raises: UnusablePicture when the volume has one value only, or values that are not finite.
        """
        inputs = network_input(hounsfield)
        if not np.isfinite(inputs).all() or inputs.max() == inputs.min():
            raise UnusablePicture("the volume holds one value only, or values that are not finite")
        logits, saliency, chest = self.chest(inputs)
        ranking = (
            saliency[0, 0]
            if infection is None
            else _mean_in_cells(infection, saliency.shape[2:]) + saliency[0, 0] / 1000
        )
        starts = separate_maxima(ranking, SHAPE, SIZES[self.card.size].regions)
        local, attention, features = self.regions(region_inputs(inputs, starts))
        fused, classified = self.fusion(np.concatenate([chest, features])[None])
        priors = [torch.from_numpy(logits_of_prior).softmax(dim=1) for logits_of_prior in (logits, local)]
        clean = self._label_maps(seed, DenseGuidanceMap()(*priors).numpy(), fused).mean(dim=(2, 3, 4))
        same = (part.expand(DRAWS, -1) for part in (torch.from_numpy(classified), *priors))
        parts = torch.stack([clean, *same], dim=1)
        classifier, global_prior, local_prior = parts[0, 1:, 1].tolist()
        return Prediction(
            draws=tuple(mixed_probabilities(parts)[:, 1].tolist()),
            label_map=float(clean[:, 1].clamp(0, 1).mean()),
            classifier=classifier,
            global_prior=global_prior,
            local_prior=local_prior,
            regions=tuple(
                _region(start, float(share), hounsfield.shape)
                for start, share in zip(starts, attention[0], strict=True)
            ),
            saliency=saliency[0, 0],
            shape=hounsfield.shape,
        )

    def _label_maps(self, seed: int, guidance: Array, fused: Array) -> Tensor:
        """Return the label maps (8, 2, 8, 8, 8), one for each draw."""
        same = [np.repeat(part.reshape(1, -1), DRAWS, axis=0) for part in (guidance, fused)]

        def predicted(current: Tensor, time: int) -> Tensor:
            times = np.full((DRAWS, 1), time, np.float32)
            rows = [current.numpy().reshape(DRAWS, -1), same[0], times, same[1]]
            return torch.from_numpy(self.step(np.concatenate(rows, axis=1))[0])

        schedule = Schedule()
        return schedule.sampled_map(
            schedule.starting_map(torch.from_numpy(noise(seed)), torch.from_numpy(guidance)), predicted
        )


def noise(seed: int) -> Array:
    """Return the noise of a seed, (8, 2, 8, 8, 8); NumPy draws the noise, because its stream is the same everywhere."""
    values = np.random.default_rng(seed).standard_normal(DRAWS * _NOISE)
    return values.astype(np.float32).reshape(DRAWS, *_MAP)


def region_inputs(inputs: Array, starts: NDArray[np.int64]) -> Array:
    """Return the regions (k, 1, 16, 16, 8) that begin at `starts` in an input (1, 1, x, y, z)."""
    slices = (
        tuple(slice(int(first), int(first) + n) for first, n in zip(start, REGION, strict=True)) for start in starts
    )
    return np.stack([inputs[0, 0][window][None] for window in slices])


class Chest(nn.Module):
    """The first graph: global logits (1, 2), saliency (1, 1, ...) after the sigmoid, features (1, 128)."""

    def __init__(self, network: Pneumonia) -> None:
        super().__init__()
        self.encoder, self.features = network.dcg_model.global_encoder, network.prior_gen.global_encoder

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shapes: (1, 1, 128, 128, 64) in."""
        logits, saliency = self.encoder(volume)
        return logits, saliency.sigmoid(), self.features(volume)


class Regions(nn.Module):
    """The second graph: local logits (1, 2), attention (1, k), features (k, 128)."""

    def __init__(self, network: Pneumonia) -> None:
        super().__init__()
        self.dcg, self.features = network.dcg_model, network.prior_gen.cnn_encoder

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shapes: (k, 1, 16, 16, 8) in."""
        logits, attention = self.dcg.local(regions[None])
        return logits, attention, self.features(regions)


class Fusion(nn.Module):
    """The third graph: the feature prior (1, 128) and the classifier's probabilities (1, 2)."""

    def __init__(self, network: Pneumonia) -> None:
        super().__init__()
        self.fusion, self.classifier = network.prior_gen.feature_fusion, network.classifier

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes: (1, k + 1, 128) in, the chest first."""
        fused = self.fusion(features)
        return fused, self.classifier(fused).softmax(dim=1)


class Step(nn.Module):
    """The fourth graph: the noise (n, 2, 8, 8, 8) in maps; each row holds map, guidance, time step and features."""

    def __init__(self, network: Pneumonia) -> None:
        super().__init__()
        self.unet = network.unet

    def forward(self, rows: Tensor) -> Tensor:
        """Shapes: (n, 1024 + 1024 + 1 + 128) in."""
        maps = rows[:, : 2 * _NOISE].reshape(-1, 2 * _MAP[0], *_MAP[1:])
        times = rows[:, 2 * _NOISE : 2 * _NOISE + 1].reshape(-1, 1, 1, 1, 1).expand(-1, 1, *_MAP[1:])
        return cast("Tensor", self.unet(maps, times, rows[:, 2 * _NOISE + 1 :]))


def _mean_in_cells(values: Array, cells: tuple[int, ...]) -> Array:
    """Return the mean of values (128, 128, 64) in each cell of a coarse map."""
    sides = [n for cell, size in zip(cells, values.shape, strict=True) for n in (cell, size // cell)]
    return np.asarray(values.reshape(sides).mean(axis=(1, 3, 5)), np.float32)


def _region(start: NDArray[np.int64], attention: float, shape: tuple[int, ...]) -> Region:
    """Return the region that begins at an input's voxel `start`, in voxels of the volume."""

    def source(offset: float) -> tuple[float, float, float]:
        x, y, z = (float(corner + offset * (n - 1)) for corner, n in zip(start, REGION, strict=True))
        return source_index((x, y, z), shape)

    return Region(source(0.5), (source(0), source(1)), attention)


def _reference_volumes() -> tuple[Array, ...]:
    """Return four phantoms for checks of precision."""
    return tuple(thorax(seed, seed, consolidations=3 * (seed % 2)).values for seed in range(4))


def _reference_answers(model: PneumoniaModel, volumes: Sequence[Array]) -> NDArray[np.float64]:
    return np.asarray([model.predict(volume, seed).probability for seed, volume in enumerate(volumes)])
