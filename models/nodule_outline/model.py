"""The outline of a nodule at a point of a CT: its cells, its size, and why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from math import dist
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ainode.models.card import ThresholdCard
from ainode.models.following import Grid, NoduleSize, Omission, Position
from ainode.models.following.extents import Mask, axes_mm, contours, maximum_mm
from ainode.models.following.grid import triple
from ainode.models.nodule_outline.card import read_card
from ainode.models.nodule_outline.cells import CELL_MM, SIDE, WIDE_CELL_MM, Array, Triple, cube, distance_mm, pictures
from ainode.models.nodule_outline.fat import fat_hu
from ainode.models.nodule_outline.surroundings import place_outside_lung
from ainode.models.running.precision import Trial, fitted
from ainode.models.running.runtime import Execution, Precision, Recipe, Runner, runner, sha256_of

if TYPE_CHECKING:
    from torch import nn

_REACH_MM = 6.0
"""how far from the point an outline may begin: a person misses the middle by up to 5 mm"""
_TISSUE_HU = -300.0
_LUNG_HU, _LEAST_LUNG = -500.0, 0.03
# Source: Hansell et al., Fleischner Society: Glossary of Terms for Thoracic Imaging, Radiology 2008 (mass).
MASS_MM = 30.0
NO_NODULE = Omission("no-nodule", "no nodule at this point")
_BETWEEN_VOXELS = Omission("no-voxel", "what is outlined at this point lies between the voxels of the scan: no size")
_CORE = 0.6
_CENTERED_MM = 1.0
"""a point as near as this to the middle of its outline is asked once"""
_MIDDLE = (SIDE - 1) / 2


@dataclass(frozen=True, slots=True)
class OutlinedNodule:
    """A nodule with its outline.

    Shapes: cells, probability and mask (48, 48, 48), axes as the scan's.
    Units: Hounsfield units; `presence` is the mean probability of the cells of the outline.
    """

    cells: Grid
    probability: Array
    mask: Mask
    size: NoduleSize

    @property
    def presence(self) -> float:
        """Return how sure the network is of the outline."""
        return float(self.probability[self.mask].mean())

    @property
    def refusal(self) -> Omission | None:
        """Return why nothing but the size is said of the nodule: a mass, or fat; None of other nodules."""
        return _mass(self.size.long_axis_mm) if self.size.long_axis_mm > MASS_MM else self.fat_refusal

    @property
    def fat_refusal(self) -> Omission | None:
        """Return why nothing but the size is said of a nodule that is fat throughout; None of another nodule."""
        if (density_hu := fat_hu(self.cells.values, self.mask)) is None:
            return None
        axes = f"{self.size.long_axis_mm:.0f} x {self.size.short_axis_mm:.0f} mm"
        size = f"{axes}, volume {self.size.volume_mm3:.0f} mm3"
        reason = f"fat density, {density_hu:.0f} HU throughout, {size}: the model has not learned from nodules of fat"
        return Omission("fat", f"{reason}; no probability")


@dataclass(frozen=True, slots=True)
class _View:
    """The network's map around a point: the cells, the probability of each cell, the region nearest to the middle."""

    cells: Grid
    probability: Array
    region: Mask | None

    @property
    def is_cut(self) -> bool:
        """Return whether the region reaches the border of the cells."""
        return self.region is not None and bool(
            any(layer.any() for axis in range(3) for layer in np.moveaxis(self.region, axis, 0)[[0, -1]])
        )


@dataclass(frozen=True, slots=True)
class OutlineModel:
    """The loaded network."""

    card: ThresholdCard
    run: Runner

    @classmethod
    def load(cls, path: Path, *, execution: Execution, card: ThresholdCard | None = None) -> OutlineModel:
        """Load the network from the file of its weights.

        Raises: CheckpointRefused if the file holds another network; PrecisionRefused if a lower precision moves a
        cell's probability on the reference input by more than 0.005 in the mean.
        """
        card = card or read_card()
        recipe = outline_recipe(path)
        trial = Trial(
            card.name,
            recipe.key,
            lambda chosen_execution: runner(recipe, chosen_execution),
            _reference_input,
            lambda run, shown: np.asarray(1 / (1 + np.exp(-run(shown)[0].astype(np.float64)))),
        )
        return cls(card, fitted(trial, execution))

    @property
    def precision(self) -> Precision:
        """Return the precision of the computation."""
        return self.run.precision

    def outline(self, scan: Grid, position_mm: Position) -> OutlinedNodule | Omission:
        """Return the nodule at a position, of any size, or why there is none."""
        if not scan.holds(position_mm):
            return Omission("outside", "the point is outside of the scan")
        view = self._view(scan, position_mm)
        if float((view.cells.values < _LUNG_HU).mean()) < _LEAST_LUNG:
            return Omission("no-lung", "no lung lies around this point")
        if view.region is None:
            return _absence(scan, position_mm)
        # A second time around the middle of the first outline: a person's miss is undone.
        middle_mm = _middle(view.cells, view.region)
        if dist(middle_mm, position_mm) > _CENTERED_MM:
            view = self._nearer(view, scan, middle_mm, CELL_MM)
        chosen_view = self._nearer(view, scan, middle_mm, WIDE_CELL_MM) if view.is_cut else view
        return _outlined(chosen_view, scan, self.card.threshold)

    def _nearer(self, view: _View, scan: Grid, middle_mm: Position, cell_mm: float) -> _View:
        """Return the map around the middle of a view's outline; the view itself where the map has no outline."""
        nearer = self._view(scan, middle_mm, cell_mm)
        return view if nearer.region is None else nearer

    def highest_near(self, scan: Grid, position_mm: Position) -> float:
        """Return the highest probability of the cells within reach of a position."""
        return float(self._view(scan, position_mm).probability[distance_mm(CELL_MM) <= _REACH_MM].max())

    def _view(self, scan: Grid, position_mm: Position, cell_mm: float = CELL_MM) -> _View:
        """Return the network's map around a position."""
        z, y, x = (float(index) for index in scan.indices(position_mm))
        seen = cube(scan.values, scan.spacing_mm, (z, y, x), cell_mm)
        logits = self.run(pictures(seen.values, cell_mm)[None])[0][0]
        probability = np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float32)
        cells = Grid(seen.values, triple(scan.positions(seen.voxels(np.zeros(3)))), (cell_mm,) * 3, scan.axes)
        return _View(cells, probability, _nearest_region(probability > self.card.threshold, cell_mm))


def outline_recipe(path: Path) -> Recipe:
    """Return the recipe of the network's graph, from the file of its weights."""

    def build() -> nn.Module:
        from ainode.models.nodule_outline.network import OutlineNetwork  # noqa: PLC0415  # torch
        from ainode.models.running.checkpoints import load  # noqa: PLC0415  # torch, which a kept graph does without

        return load(OutlineNetwork(), path)

    key = f"nodule outline {sha256_of(path)}"
    return Recipe(build, (1, 2, SIDE, SIDE, SIDE), key, "nodule_outline", {"network": path})


def _absence(scan: Grid, position_mm: Position) -> Omission:
    """Return why the network outlines nothing at a position: no lung, no nodule, or tissue wider than nodules are."""
    if no_lung := place_outside_lung(scan, position_mm):
        return no_lung
    z, y, x = (float(index) for index in scan.indices(position_mm))
    seen = cube(scan.values, scan.spacing_mm, (z, y, x), WIDE_CELL_MM)
    depth = ndimage.distance_transform_edt(seen.values > _TISSUE_HU, sampling=WIDE_CELL_MM)
    width = 2 * float(depth[distance_mm(WIDE_CELL_MM) <= _REACH_MM].max())
    return _mass(width) if width > MASS_MM else NO_NODULE


def _mass(width_mm: float) -> Omission:
    """Return the refusal of a lesion that is wider than a nodule."""
    return Omission("mass", f"{width_mm:.0f} mm, more than {MASS_MM:.0f} mm: a mass, not a nodule")


def _nearest_region(inside: Mask, cell_mm: float) -> Mask | None:
    """Return the connected region nearest to the middle; None if none begins within reach of the middle."""
    distance = np.where(inside, distance_mm(cell_mm), np.inf)
    nearest = np.unravel_index(int(distance.argmin()), distance.shape)
    if distance[nearest] > _REACH_MM:
        return None
    labels, _ = ndimage.label(inside)
    return np.asarray(ndimage.binary_fill_holes(labels == labels[nearest]))


def _middle(cells: Grid, region: Mask) -> Position:
    """Return the position of a region's middle."""
    return triple(cells.positions(np.argwhere(region).mean(axis=0)))


def _outlined(view: _View, scan: Grid, threshold: float) -> OutlinedNodule | Omission:
    """Return the nodule of a view, measured on the voxels of the scan; a nodule between the voxels has no size."""
    mask, (cell_mm, _, _) = view.region, view.cells.spacing_mm
    if mask is None:
        raise ValueError("a view without a region has no size")
    window, voxels = _voxels(view.cells, view.probability, mask, scan, threshold)
    if not voxels.any():
        return _BETWEEN_VOXELS
    long_axis, short_axis = axes_mm(voxels, (scan.spacing_mm[1], scan.spacing_mm[2]))
    depth = ndimage.distance_transform_edt(mask)
    size = NoduleSize(
        position_mm=_middle(view.cells, mask),
        long_axis_mm=long_axis,
        short_axis_mm=short_axis,
        maximum_mm=maximum_mm(mask, cell_mm),
        volume_mm3=float(voxels.sum() * np.prod(scan.spacing_mm)),
        density_hu=float(np.median(view.cells.values[depth >= _CORE * depth.max()])),
        outline=tuple(contours(scan.part_in(window), voxels, scan)),
    )
    return OutlinedNodule(view.cells, view.probability, mask, size)


def voxel_mask(nodule: OutlinedNodule, scan: Grid, threshold: float) -> Mask:
    """Return the voxels of the scan that an outline holds: where the probability is above a threshold.

    Their number times the volume of a voxel is the nodule's volume, at the threshold of the card.
    """
    mask = np.zeros(scan.values.shape, bool)
    window, voxels = _voxels(nodule.cells, nodule.probability, nodule.mask, scan, threshold)
    mask[window] = voxels
    return mask


def _voxels(
    cells: Grid, probability: Array, region: Mask, scan: Grid, threshold: float
) -> tuple[tuple[slice, ...], Mask]:
    """Return the window of the scan that the cells cover, and which of its voxels lie in the region.

    A voxel is judged by the probability between the cells around its center. The window has two voxels or more along
    each axis, as a grid has.
    """
    around = np.where(ndimage.binary_dilation(region), probability, 0)
    first = cells.indices(scan.positions((0, 0, 0)))
    step = np.asarray(scan.spacing_mm) / np.asarray(cells.spacing_mm)
    axes = [at + np.arange(n) * s for at, n, s in zip(first, scan.values.shape, step, strict=True)]
    low = [min(int(np.searchsorted(axis, 0.0)), len(axis) - 2) for axis in axes]
    ends = (int(np.searchsorted(axis, SIDE - 1.0, side="right")) for axis in axes)
    high = [max(end, start + 2) for end, start in zip(ends, low, strict=True)]
    indices = np.meshgrid(*(a[b:t] for a, b, t in zip(axes, low, high, strict=True)), indexing="ij")
    window = tuple(slice(b, t) for b, t in zip(low, high, strict=True))
    return window, np.asarray(ndimage.map_coordinates(around, indices, order=1) > threshold)


def reference_scan() -> tuple[Grid, Position]:
    """Return a synthetic ball in noise, for checks of precision, and its middle."""
    random = np.random.default_rng(0)
    z, y, x = np.meshgrid(*(np.arange(80) - 40.0,) * 3, indexing="ij")
    ball = 1 / (1 + np.exp(np.sqrt(z**2 + y**2 + x**2) - 7))
    values = (-850 + 880 * ball + random.normal(0, 25, ball.shape)).astype(np.float32)
    axes: tuple[Triple, Triple, Triple] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    return Grid(values, (0.0, 0.0, 0.0), (1.0, 0.7, 0.7), axes), (28.0, 28.0, 40.0)


def _reference_input() -> Array:
    """Return the network's input of the reference scan."""
    scan, position_mm = reference_scan()
    z, y, x = (float(index) for index in scan.indices(position_mm))
    return pictures(cube(scan.values, scan.spacing_mm, (z, y, x)).values, CELL_MM)[None]
