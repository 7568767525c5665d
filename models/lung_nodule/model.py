"""The nodule read: one scan by its slices, or two and three by features over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.errors import MissingNetwork, UnusablePicture
from ainode.models.lung_nodule.card import Card, read_card
from ainode.models.lung_nodule.checkpoints import entries_under, weights_table
from ainode.models.lung_nodule.encoder import COMPACT, FMCIB, Encoder, EncoderShape
from ainode.models.lung_nodule.heads import LinearHead, RecurrentHead, linear_head, recurrent_head
from ainode.models.lung_nodule.patches import CUBE, PIXEL_MM, Grid, Scan, cube, is_dense, middle_slice
from ainode.models.lung_nodule.slice_network import SIDE, ensemble
from ainode.models.running.checkpoints import with_weights
from ainode.models.running.runtime import Execution, Precision, Recipe, Runner, refuse_drift, runner, sha256_of
from ainode.models.running.saliency import rectified_map

Array = NDArray[np.float32]
Profile = Literal["lidc", "temporal", "fmcib"]

MOST_TIME_POINTS = 3
_SHIPPED = ("lidc", "temporal")
_SITE = ("fmcib", "fmcib_recurrent", "fmcib_linear")
_INSIDE = 0.5
_COARSEST_MM = 2.0


@dataclass(frozen=True, slots=True)
class SpatialMap:
    """Where in a scan the probability came from: 0 to 1 on cells of a grid."""

    values: Array
    grid: Grid

    def sampled(self, where: NDArray[np.float64]) -> Array:
        """Return the map at voxels of the scan, linear between cells, 0 outside.

        Shapes: where (3, ...) holds z, y, x in voxels; out (...).
        """
        axes = (3,) + (1,) * (where.ndim - 1)
        cells = (where - np.reshape(self.grid.first, axes)) / np.reshape(self.grid.step, axes)
        values = np.pad(self.values, 1)
        return np.asarray(ndimage.map_coordinates(values, cells + 1, order=1, mode="nearest"), np.float32)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of a nodule.

    Shapes: attention and maps have one entry per time point, oldest first; 0 and None where it is absent.
    Units: probability of malignancy 0 to 1; size_mm (across rows, across columns) of the outline found.
    """

    profile: Profile
    probability: float
    attention: tuple[float, ...]
    maps: tuple[SpatialMap | None, ...]
    size_mm: tuple[float, float] | None = None
    picture_mm: float | None = None
    """how much of the slice was shown; more than 32 mm is beyond what the ensemble was trained on"""


class Reader(Protocol):
    """One way to read time points, oldest first; the last is the current one."""

    def __call__(self, scans: Sequence[Scan | None], /) -> Prediction:
        """Return what it says."""


@dataclass(frozen=True, slots=True)
class SliceReader:
    """One scan: the slice through the position, and the ensemble trained on LIDC-IDRI."""

    run: Runner

    def __call__(self, scans: Sequence[Scan | None], /) -> Prediction:
        """Return what the ensemble says; its map is exact, and lies on that slice.

        Tissue without an outline is larger than the picture: it is shown at half the scale, then at a quarter.
        """
        scan, pixel_mm = _current(scans), PIXEL_MM
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
    """One to three scans, by features of FMCIB's cube and the original's heads."""

    profile: Profile
    run: Runner
    recurrent: RecurrentHead
    linear: LinearHead | None = None

    def __call__(self, scans: Sequence[Scan | None], /) -> Prediction:
        """Return the head's answer; its gradient by the features, times their map, is the saliency."""
        _current(scans)
        cubes = [None if scan is None else cube(scan) for scan in scans]
        seen = [None if one is None else self.run(one[0]) for one in cubes]
        features = [None if one is None else one[0][0] for one in seen]
        alone = features[-1] if sum(one is not None for one in features) == 1 else None
        if self.linear is not None and alone is not None:
            said = self.linear(alone)
            attention, gradient = (
                (0.0,) * (len(scans) - 1) + (1.0,),
                np.broadcast_to(said.gradient, (len(scans), len(alone))),
            )
        else:
            said = self.recurrent(_filled(features))
            attention, gradient = tuple(float(v) for v in said.attention[-len(scans) :]), said.gradient[-len(scans) :]
        maps: list[SpatialMap | None] = []
        for one, found, weights in zip(cubes, seen, gradient, strict=True):
            if one is None or found is None:
                maps.append(None)
                continue
            values = rectified_map(np.tensordot(weights, found[1][0], axes=1))
            maps.append(SpatialMap(values, one[1].coarser((CUBE,) * 3, values.shape)))
        return Prediction(self.profile, said.probability, attention, tuple(maps))


@dataclass(frozen=True, slots=True)
class LungNoduleModel:
    """A loaded model: who reads one scan, who reads several."""

    card: Card
    one: Reader
    several: Reader
    precision: Precision
    device: str

    @classmethod
    def load(cls, paths: Mapping[str, Path], *, execution: Execution, card: Card | None = None) -> LungNoduleModel:
        """Load the shipped profiles from `lidc` and `temporal`, or the original's from `fmcib`, its heads beside it.

        Raises: MissingNetwork when one is not in `paths`; CheckpointRefused when a file is not its network's;
        PrecisionRefused when a lower precision moves a probability by more than 0.005 on the reference inputs.
        """
        card = card or read_card()
        names = _SITE if "fmcib" in paths else _SHIPPED
        if absent := [name for name in names if name not in paths]:
            raise MissingNetwork(f"{card.name}: no weights for {', '.join(absent)}")

        def ready(chosen: Execution) -> tuple[Reader, Reader, Runner]:
            if names is _SITE:
                ours = runner(encoder_recipe(paths["fmcib"], FMCIB, ""), chosen)
                heads = (
                    recurrent_head(weights_table(paths["fmcib_recurrent"])),
                    linear_head(weights_table(paths["fmcib_linear"])),
                )
                reader = CubeReader("fmcib", ours, *heads)
                return reader, reader, ours
            run = runner(slice_recipe(paths["lidc"]), chosen)
            ours = runner(encoder_recipe(paths["temporal"], COMPACT, "encoder."), chosen)
            return (
                SliceReader(run),
                CubeReader("temporal", ours, recurrent_head(weights_table(paths["temporal"]))),
                ours,
            )

        one, several, run = ready(execution)
        if execution.precision != "f32":
            reference = ready(replace(execution, precision="f32"))[:2]
            refuse_drift(card.name, execution.precision, _gaps((one, several), reference))
        return cls(card, one, several, run.precision, run.device)

    def predict(self, scans: Sequence[Scan | None]) -> Prediction:
        """Return the reading of one to three scans of a nodule, oldest first, None where one is missing.

        Raises: UnusablePicture when the latest is missing, or shows nothing.
        """
        if not 1 <= len(scans) <= MOST_TIME_POINTS:
            raise ValueError(f"{len(scans)} time points; one to {MOST_TIME_POINTS} are read")
        present = sum(scan is not None for scan in scans)
        return (self.one if present == 1 else self.several)(scans)


def probability(logits: Array) -> float:
    """Return the probability of the only logit (1,) there is."""
    return float(1 / (1 + np.exp(-logits[0])))


def slice_recipe(path: Path) -> Recipe:
    """Return how the one-scan ensemble's graph is built from its file."""
    stored = weights_table(path)
    return Recipe(
        lambda: with_weights(ensemble(stored), stored, path.name),
        (1, 1, SIDE, SIDE),
        f"lung nodule slices {sha256_of(path)}",
    )


def encoder_recipe(path: Path, shape: EncoderShape, prefix: str) -> Recipe:
    """Return how an encoder's graph is built from its file, of the keys with this prefix."""
    return Recipe(
        lambda: with_weights(Encoder(shape), entries_under(weights_table(path), prefix), path.name),
        (1, 1, CUBE, CUBE, CUBE),
        f"lung nodule encoder {shape} {prefix} {sha256_of(path)}",
    )


def _current(scans: Sequence[Scan | None]) -> Scan:
    latest = scans[-1]
    if latest is None:
        raise UnusablePicture("the latest time point is missing; it is the one that is read")
    return latest


def _filled(features: list[Array | None]) -> list[Array | None]:
    """Return three time points: what is missing lies before the oldest."""
    return [None] * (MOST_TIME_POINTS - len(features)) + features


def _size_mm(outline: Array, pixel_mm: float) -> tuple[float, float] | None:
    """Return how far the outline around the center reaches, up and down and to both sides; None where there is none."""
    labels, _ = ndimage.label(outline > _INSIDE)
    rows, columns = outline.shape
    near = labels[rows // 2 - 2 : rows // 2 + 2, columns // 2 - 2 : columns // 2 + 2]
    found = np.unique(near[near > 0])
    if not len(found):
        return None
    cell = pixel_mm * SIDE / rows
    extents = [np.ptp(np.nonzero(np.isin(labels, found))[axis]) + 1 for axis in (0, 1)]
    return float(extents[0] * cell), float(extents[1] * cell)


def reference_scans() -> tuple[Scan, ...]:
    """Return made-up scans for checks of precision: balls of three sizes in noise, never a patient."""
    made = []
    for seed, radius in enumerate((4.0, 8.0, 14.0)):
        random = np.random.default_rng(seed)
        z, y, x = np.meshgrid(*(np.arange(80) - 40.0,) * 3, indexing="ij")
        ball = 1 / (1 + np.exp(np.sqrt(z**2 + y**2 + x**2) - radius))
        values = -850 + 880 * ball + 300 * (y > 30) + random.normal(0, 25, ball.shape)  # noqa: PLR2004  # a wall
        made.append(Scan(values.astype(np.float32), (1.0, 0.7, 0.7), (40.0, 40.0, 40.0)))
    return tuple(made)


def _gaps(low: Sequence[Reader], reference: Sequence[Reader]) -> Iterator[float]:
    """Yield how far apart two readers are on made-up scans, on each alone and on all as dates of a nodule."""
    scans = reference_scans()
    series = [[scan] for scan in scans] + [list(scans)]
    for lower, exact in zip(low, reference, strict=True):
        yield from (abs(lower(dates).probability - exact(dates).probability) for dates in series)
