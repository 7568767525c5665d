"""The read of a chest: lung and infection outlined on slices a few millimeters apart, and the share of each lung."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from ainode.models.errors import UnusablePicture
from ainode.models.lung_infection.aerated import possible_lung
from ainode.models.lung_infection.card import Card, read_card
from ainode.models.lung_infection.outline import outlined
from ainode.models.lung_infection.preprocess import SIDE, Array, network_input, on_slice, slice_picture
from ainode.models.lung_infection.sides import Mask, Shares, SlicePixels, left_lung, shares_of
from ainode.models.running.runtime import Execution, Recipe, Runner, runner, sha256_of

if TYPE_CHECKING:
    from ainode.models.lung_infection.network import InfectionNetwork

_BATCH = 4


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's reading of one chest.

    Shapes: lung, left, infected (n, 256, 256) of the slices `numbers`, counted from the lowest; lung holds left and
    infected.
    """

    numbers: tuple[int, ...]
    lung: Mask = field(repr=False)
    left: Mask = field(repr=False)
    infected: Mask = field(repr=False)
    shape: tuple[int, ...]
    """the volume's shape (Z, Y, X)"""

    def shares(self) -> Shares:
        """Return the infected share of each lung, counted on the pixels of the slices, which a segmentation holds."""
        return shares_of(self._pixels_of(order) for order in range(len(self.numbers)))

    def infected_on(self, order: int) -> Mask:
        """Return the infection on the pixels (Y, X) of the slice `numbers[order]`."""
        return self._on_slice(self.infected[order])

    def lung_on(self, order: int) -> Mask:
        """Return the lung, infection included, on the pixels (Y, X) of the slice `numbers[order]`."""
        return self._on_slice(self.lung[order])

    def infected_at(self, index: NDArray[np.float64]) -> Array:
        """Return the infection, 0 to 1, at voxels of the volume; index (3, ...), z, y, x, continuous."""
        scale = SIDE / max(self.shape[1:])
        slices = np.interp(index[0], self.numbers, np.arange(len(self.numbers)))
        places = (slices, *((axis + 0.5) * scale - 0.5 for axis in index[1:]))
        return np.asarray(map_coordinates(self.infected.astype(np.float32), places, order=1, mode="nearest"))

    def infected_on_grid(self, shape: tuple[int, int, int]) -> Array:
        """Return the infection, 0 to 1, on an even grid (x, y, z) from the first voxel of the volume to the last."""
        ends = zip(self.shape, shape[::-1], strict=True)
        axes = np.meshgrid(*(np.linspace(0, count - 1, size) for count, size in ends), indexing="ij")
        return self.infected_at(np.asarray(axes)).transpose(2, 1, 0)

    def _pixels_of(self, order: int) -> SlicePixels:
        lung = self.lung_on(order)
        left, right = (self._smooth_on_slice(side) for side in (self.left[order], self.lung[order] & ~self.left[order]))
        return SlicePixels(lung, lung & (left >= right), self.infected_on(order))

    def _on_slice(self, mask: Mask) -> Mask:
        return self._smooth_on_slice(mask) > 0.5  # noqa: PLR2004  # the nearest pixel's border

    def _smooth_on_slice(self, mask: Mask) -> Array:
        return on_slice(mask.astype(np.float32), *self.shape[1:])


@dataclass(frozen=True, slots=True)
class InfectionModel:
    """A loaded model; `weights_sha256` is the digest of the file of its weights."""

    card: Card
    weights_sha256: str
    network: Runner

    @classmethod
    def load(cls, path: Path, *, execution: Execution, card: Card | None = None) -> InfectionModel:
        """Load the weights of a training; the network always runs in f32, because a share counts pixels.

        Raises: CheckpointRefused when the file holds another network.
        """
        digest = sha256_of(path)

        def build() -> InfectionNetwork:
            from ainode.models.lung_infection.network import InfectionNetwork  # noqa: PLC0415  # torch
            from ainode.models.running.checkpoints import load  # noqa: PLC0415  # torch, which a kept graph does without

            network = InfectionNetwork()
            load(network, path)
            return network

        return cls.of(build, digest, execution=execution, card=card or read_card())

    @classmethod
    def of(
        cls, build: Callable[[], InfectionNetwork], digest: str, *, execution: Execution, card: Card
    ) -> InfectionModel:
        """Return a model of the network that `build` makes; `digest` is that of its weights."""
        recipe = Recipe(build, (_BATCH, 1, SIDE, SIDE), f"{card.name} {card.network} {digest}")
        return cls(card, digest, runner(recipe, replace(execution, precision="f32")))

    def predict(self, hounsfield: Array, spacing_mm: float) -> Prediction:
        """Return the reading of one volume.

        Of slices closer together than the card's distance, every second, third, … is read. Lung lies where the body
        encloses air: the network has seen no neck, no belly and no chest that was cut out of its scan.

        Shapes: (Z, Y, X), axes to the head, the back and the left. Slices `spacing_mm` apart.
        Units: Hounsfield units.
        Raises: UnusablePicture when a slice has values that are not finite, or no lung is outlined.
        """
        step = max(1, int(self.card.slices_mm / spacing_mm + 1e-6))
        numbers = tuple(range(step // 2, len(hounsfield), step))
        chosen = hounsfield[list(numbers)]
        if not np.isfinite(chosen).all():
            raise UnusablePicture("the volume holds values that are not finite")
        pictures = np.stack([slice_picture(slice_) for slice_ in chosen])
        possible = np.stack([possible_lung(slice_) for slice_ in chosen])
        lung, infected = outlined(self.probabilities(pictures) * possible[:, None], self.card.decision)
        if not lung.any():
            raise UnusablePicture("no lung was outlined on any slice")
        return Prediction(numbers, lung, left_lung(lung), infected, hounsfield.shape)

    def probabilities(self, pictures: NDArray[np.uint8]) -> Array:
        """Return lung and infection of pictures, 0 to 1; (n, 256, 256) in, (n, 2, 256, 256) out."""
        parts = []
        for first in range(0, len(pictures), _BATCH):
            batch = np.zeros((_BATCH, SIDE, SIDE), np.uint8)
            chosen = pictures[first : first + _BATCH]
            batch[: len(chosen)] = chosen
            (logits,) = self.network(network_input(batch))
            parts.append(logits[: len(chosen)])
        return np.asarray(1 / (1 + np.exp(-np.concatenate(parts))), np.float32)
