"""The nodule read: one scan by its slices, or two and three scans by their features over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from ainode.models.errors import MissingNetwork, UnusablePicture
from ainode.models.lung_nodule.card import Card, read_card
from ainode.models.lung_nodule.checkpoints import entries_under, weights_table
from ainode.models.lung_nodule.encoder import COMPACT, FMCIB, Encoder, EncoderShape
from ainode.models.lung_nodule.heads import LinearHead, RecurrentHead, linear_head, recurrent_head
from ainode.models.lung_nodule.patches import CUBE, PIXEL_MM, CellGrid, Scan, cube, is_dense, middle_slice
from ainode.models.lung_nodule.slice_network import SIDE, ensemble
from ainode.models.running.checkpoints import with_weights
from ainode.models.running.precision import Trial, fitted
from ainode.models.running.runtime import Execution, Precision, Recipe, Runner, runner, sha256_of
from ainode.models.running.saliency import rectified_map

Array = NDArray[np.float32]
Profile = Literal["lidc", "temporal", "fmcib", "traits"]

MOST_TIME_POINTS = 3
_SHIPPED = ("lidc", "temporal")
_SITE = ("fmcib", "fmcib_recurrent", "fmcib_linear")
_INSIDE = 0.5
_COARSEST_MM = 2.0


@dataclass(frozen=True, slots=True)
class SpatialMap:
    """The evidence for the probability in each place of a scan: 0 to 1 on the cells of a grid."""

    values: Array
    grid: CellGrid

    def values_at(self, voxels: NDArray[np.float64]) -> Array:
        """Return the map at voxels of the scan, linear between cells, 0 outside of the map.

        Shapes: voxels (3, ...), z, y, x, continuous; out (...).
        """
        axes = (3,) + (1,) * (voxels.ndim - 1)
        cells = (voxels - np.reshape(self.grid.first, axes)) / np.reshape(self.grid.step, axes)
        values = np.pad(self.values, 1)
        return np.asarray(ndimage.map_coordinates(values, cells + 1, order=1, mode="nearest"), np.float32)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's reading of a nodule.

    Shapes: attention and maps have one entry per time point, oldest first; an absent time point has 0 and None.
    Units: probability of malignancy 0 to 1; size_mm (across rows, across columns) of the network's outline.
    """

    profile: Profile
    probability: float
    attention: tuple[float, ...]
    maps: tuple[SpatialMap | None, ...]
    size_mm: tuple[float, float] | None = None
    picture_mm: float | None = None
    """the side of the picture of the slice; the ensemble was trained on pictures of 32 mm"""


class Reader(Protocol):
    """A function that reads time points, oldest first; the last scan is the current scan."""

    def __call__(self, scans: Sequence[Scan | None], /) -> Prediction:
        """Return the reading of the scans."""


@dataclass(frozen=True, slots=True)
class SliceReader:
    """Reads one scan: the ensemble trained on LIDC-IDRI reads the slice through the position."""

    run: Runner

    def __call__(self, scans: Sequence[Scan | None], /) -> Prediction:
        """Return the ensemble's reading; its map is exact, and lies on the slice.

        Tissue without an outline is larger than the picture: it is read at half, then a quarter of the scale.
        """
        scan, pixel_mm = _latest_scan(scans), PIXEL_MM
        picture, grid = middle_slice(scan)
        logits, evidence, outlines = self.run(picture)
        while _size_mm(outlines[0], pixel_mm) is None and pixel_mm < _COARSEST_MM and is_dense(scan):
            pixel_mm *= 2
            picture, grid = middle_slice(scan, pixel_mm)
            logits, evidence, outlines = self.run(picture)
        absent = len(scans) - 1
        cells = grid.coarser((1, SIDE, SIDE), evidence.shape)
        return Prediction(
            profile="lidc",
            probability=probability(logits),
            attention=(0.0,) * absent + (1.0,),
            maps=(None,) * absent + (SpatialMap(rectified_map(evidence), cells),),
            size_mm=_size_mm(outlines[0], pixel_mm),
            picture_mm=pixel_mm * SIDE,
        )


@dataclass(frozen=True, slots=True)
class CubeReader:
    """Reads one to three scans: an encoder gives features of FMCIB's cube, the original's heads a probability."""

    profile: Profile
    run: Runner
    recurrent: RecurrentHead
    linear: LinearHead | None = None

    def __call__(self, scans: Sequence[Scan | None], /) -> Prediction:
        """Return the head's reading; the gradient by the features, times the features' map, is the saliency."""
        _latest_scan(scans)
        patches = [None if scan is None else cube(scan) for scan in scans]
        outputs = [None if patch is None else self.run(patch[0]) for patch in patches]
        features = [None if output is None else output[0][0] for output in outputs]
        single = features[-1] if sum(vector is not None for vector in features) == 1 else None
        if self.linear is not None and single is not None:
            answer = self.linear(single)
            attention = (0.0,) * (len(scans) - 1) + (1.0,)
            gradient = np.broadcast_to(answer.gradient, (len(scans), len(single)))
        else:
            answer = self.recurrent(_three_time_points(features))
            attention = tuple(float(weight) for weight in answer.attention[-len(scans) :])
            gradient = answer.gradient[-len(scans) :]
        maps: list[SpatialMap | None] = []
        for patch, output, weights in zip(patches, outputs, gradient, strict=True):
            if patch is None or output is None:
                maps.append(None)
                continue
            values = rectified_map(np.tensordot(weights, output[1][0], axes=1))
            maps.append(SpatialMap(values, patch[1].coarser((CUBE,) * 3, values.shape)))
        return Prediction(self.profile, answer.probability, attention, tuple(maps))


@dataclass(frozen=True, slots=True)
class LungNoduleModel:
    """A loaded model: the reader of a single scan, and the reader of a series of scans."""

    card: Card
    single_scan_reader: Reader
    series_reader: Reader
    precision: Precision
    device: str

    @classmethod
    def load(cls, paths: Mapping[str, Path], *, execution: Execution, card: Card | None = None) -> LungNoduleModel:
        """Load the shipped profiles `lidc` and `temporal`, or the original's `fmcib` with its two heads.

        Raises: MissingNetwork when `paths` lacks a network; CheckpointRefused when a file holds another network;
        PrecisionRefused when a lower precision moves a probability by more than 0.005 on the reference inputs.
        """
        card = card or read_card()
        names = _SITE if "fmcib" in paths else _SHIPPED
        if missing := [name for name in names if name not in paths]:
            raise MissingNetwork(f"{card.name}: no weights for {', '.join(missing)}")

        def readers_of(chosen_execution: Execution) -> tuple[Reader, Reader, Runner]:
            if names is _SITE:
                encoder_runner = runner(encoder_recipe(paths["fmcib"], FMCIB, ""), chosen_execution)
                heads = (
                    recurrent_head(weights_table(paths["fmcib_recurrent"])),
                    linear_head(weights_table(paths["fmcib_linear"])),
                )
                reader = CubeReader("fmcib", encoder_runner, *heads)
                return reader, reader, encoder_runner
            encoder_run = runner(slice_recipe(paths["lidc"]), chosen_execution)
            encoder_runner = runner(encoder_recipe(paths["temporal"], COMPACT, "encoder."), chosen_execution)
            return (
                SliceReader(encoder_run),
                CubeReader("temporal", encoder_runner, recurrent_head(weights_table(paths["temporal"]))),
                encoder_runner,
            )

        trial = Trial(
            card.name,
            " ".join(sha256_of(paths[name]) for name in names),
            readers_of,
            reference_scans,
            lambda readers, scans: _reference_answers(readers[:2], scans),
        )
        single_scan_reader, series_reader, encoder_run = fitted(trial, execution)
        return cls(card, single_scan_reader, series_reader, encoder_run.precision, encoder_run.device)

    def predict(self, scans: Sequence[Scan | None]) -> Prediction:
        """Return the reading of one to three scans of a nodule, oldest first, None for a missing scan.

        Raises: UnusablePicture when the latest scan is missing, or shows nothing.
        """
        if not 1 <= len(scans) <= MOST_TIME_POINTS:
            raise ValueError(f"{len(scans)} time points; one to {MOST_TIME_POINTS} are read")
        present = sum(scan is not None for scan in scans)
        return (self.single_scan_reader if present == 1 else self.series_reader)(scans)


def probability(logits: Array) -> float:
    """Return the probability of a single logit (1,)."""
    return float(1 / (1 + np.exp(-logits[0])))


def slice_recipe(path: Path) -> Recipe:
    """Return the recipe of the single-scan ensemble's graph, from its file."""

    def build() -> nn.Module:
        stored = weights_table(path)
        return with_weights(ensemble(stored), stored, path.name)

    key = f"lung nodule slices {sha256_of(path)}"
    return Recipe(build, (1, 1, SIDE, SIDE), key, "lung_nodule_slices", {"slices": path})


def encoder_recipe(path: Path, shape: EncoderShape, prefix: str) -> Recipe:
    """Return the recipe of an encoder's graph, from the keys with a prefix in its file."""
    return Recipe(
        lambda: with_weights(Encoder(shape), entries_under(weights_table(path), prefix), path.name),
        (1, 1, CUBE, CUBE, CUBE),
        f"lung nodule encoder {shape} {prefix} {sha256_of(path)}",
        "lung_nodule_encoder",
        {"encoder": path},
    )


def _latest_scan(scans: Sequence[Scan | None]) -> Scan:
    """Return the scan of the latest time point, or refuse its absence."""
    latest = scans[-1]
    if latest is None:
        raise UnusablePicture("the scan of the latest time point is missing; the model reads that scan")
    return latest


def _three_time_points(features: list[Array | None]) -> list[Array | None]:
    """Return the features of three time points: None before the oldest where there are fewer."""
    return [None] * (MOST_TIME_POINTS - len(features)) + features


def _size_mm(outline: Array, pixel_mm: float) -> tuple[float, float] | None:
    """Return the extent of the outline at the center across rows and across columns; None without an outline."""
    labels, _ = ndimage.label(outline > _INSIDE)
    rows, columns = outline.shape
    near = labels[rows // 2 - 2 : rows // 2 + 2, columns // 2 - 2 : columns // 2 + 2]
    labels_at_center = np.unique(near[near > 0])
    if not len(labels_at_center):
        return None
    cell = pixel_mm * SIDE / rows
    extents = [np.ptp(np.nonzero(np.isin(labels, labels_at_center))[axis]) + 1 for axis in (0, 1)]
    return float(extents[0] * cell), float(extents[1] * cell)


def reference_scans() -> tuple[Scan, ...]:
    """Return synthetic scans for checks of precision: balls of three sizes in noise."""
    scans = []
    for seed, radius in enumerate((4.0, 8.0, 14.0)):
        random = np.random.default_rng(seed)
        z, y, x = np.meshgrid(*(np.arange(80) - 40.0,) * 3, indexing="ij")
        ball = 1 / (1 + np.exp(np.sqrt(z**2 + y**2 + x**2) - radius))
        values = -850 + 880 * ball + 300 * (y > 30) + random.normal(0, 25, ball.shape)  # noqa: PLR2004  # a wall
        scans.append(Scan(values.astype(np.float32), (1.0, 0.7, 0.7), (40.0, 40.0, 40.0)))
    return tuple(scans)


def _reference_answers(readers: Sequence[Reader], scans: Sequence[Scan]) -> NDArray[np.float64]:
    """Return the probabilities of made-up scans by each reader, of each alone and of all as dates of a nodule."""
    series = [*([scan] for scan in scans), list(scans)]
    return np.asarray([read(dates).probability for read in readers for dates in series])
