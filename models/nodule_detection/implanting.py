"""Real nodules implanted in real chests, and plain lung implanted in the same way, which must stay silent.

What gives an implant away is made alike: the density of the lung around, the noise, the slice thickness, and the edge,
which is blended. The chest's own tissue stays where the tissue is denser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.following.grid import Grid, Values
from ainode.models.nodule_detection.dataset import Chest, Nodule

Vectors = NDArray[np.float64]
Mask = NDArray[np.bool_]

# The nodule's own surroundings fade out over `_FADE_MM`; a vessel or the wall at the nodule's edge fades out sooner.
_FADE_MM, _FADE_OF_TISSUE_MM = 2.5, 1.0
_TISSUE_HU, _LUNG_HU = -500.0, -650.0
_FREE_SHARE, _WALL_SHARE = 0.08, (0.1, 0.45)
"""the share of a nodule that lies on denser tissue of the chest: of a free nodule at most, of one at the wall"""
_SHELL_MM, _WALL_SHELL = 2.0, 0.3
_AIRWAY_HU, _DENSE_LUNG_HU = -970.0, -650.0
_TRIES = 80
_MARGIN_MM = 4.0
_APART_MM = 12.0
_LARGEST_CONTROL_MM = 16.0
_FEWEST_VOXELS = 40


@dataclass(frozen=True, slots=True)
class Implant:
    """One implant: a nodule, or a control of plain lung.

    Units: `place` in voxels (z, y, x) of the scan; mm.
    """

    place: tuple[float, float, float]
    diameter_mm: float
    outline_diameter_mm: float
    patient: str
    is_nodule: bool


@dataclass(frozen=True, slots=True)
class _Graft:
    """What is implanted, on the voxels of the chest: values, and the share of each voxel that belongs to the nodule."""

    values: Values
    share: Values
    spacing_mm: tuple[float, float, float]

    @property
    def mask(self) -> Mask:
        # A nodule thinner than a slice fills no voxel by half.
        return self.share >= min(0.5, float(self.share.max()) / 2)


def implanted(
    chest: Chest, nodules: Sequence[Nodule], shapes: Sequence[Nodule], donor: Chest, random: np.random.Generator
) -> tuple[Grid, tuple[Implant, ...]]:
    """Return the chest with nodules in it, and the implants; a nodule that finds no place is left out.

    `shapes` are nodules whose form alone is taken: plain lung of the chest `donor` is implanted in that form.
    """
    values = chest.scan.values.copy()
    implants: list[Implant] = []
    places, plain_places = chest.lung_voxels(random), donor.lung_voxels(random)
    grafts = [(nodule, _graft(nodule, chest.scan, random), True) for nodule in nodules]
    for shape in shapes:
        plain = _plain_graft(_graft(shape, chest.scan, random), donor, plain_places, random)
        if plain is not None and shape.outline_diameter_mm <= _LARGEST_CONTROL_MM:
            grafts.append((shape, plain, False))
    for nodule, graft, is_nodule in grafts:
        place = _place(chest, graft, implants, places, random)
        if place is None:
            continue
        _blend(values[_window(place, graft)], graft, random)
        middle = ndimage.center_of_mass(graft.share) + place
        z, y, x = (float(index) for index in middle)
        implants.append(Implant((z, y, x), nodule.diameter_mm, nodule.outline_diameter_mm, nodule.patient, is_nodule))
    np.clip(values, chest.scan.values.min(), chest.scan.values.max(), out=values)
    return Grid(values, chest.scan.origin_mm, chest.scan.spacing_mm, chest.scan.axes), tuple(implants)


def _graft(nodule: Nodule, scan: Grid, random: np.random.Generator) -> _Graft:
    """Return a nodule on voxels of the scan's spacing, mirrored and turned by chance, off the lattice by chance."""
    # The cut-out often ends at the nodule: the next slice is a copy, and no part of the nodule.
    values, mask = np.pad(nodule.values, 1, mode="edge"), np.pad(nodule.mask, 1)
    for axis in (0, 2):
        if random.random() < 0.5:  # noqa: PLR2004  # every second
            values, mask = np.flip(values, axis), np.flip(mask, axis)
    turns = 2 * int(random.integers(2))
    values, mask = np.rot90(values, turns, (1, 2)), np.rot90(mask, turns, (1, 2))
    # A thick slice of the chest is the mean of thinner slices of the nodule's scan.
    widths = [
        0.4 * max(0.0, (step / own) ** 2 - 1) ** 0.5
        for step, own in zip(scan.spacing_mm, nodule.spacing_mm, strict=True)
    ]
    values = ndimage.gaussian_filter(values, widths, mode="nearest")
    share = ndimage.gaussian_filter(mask.astype(np.float32), widths, mode="constant")
    places = np.argwhere(mask)
    center = places.mean(axis=0)
    reach = [
        (np.abs(places[:, axis] - center[axis]).max() + 1) * nodule.spacing_mm[axis] + _MARGIN_MM for axis in range(3)
    ]
    offsets = [
        (np.arange(2 * n + 1) - n + random.uniform(-0.5, 0.5)) * step
        for n, step in ((int(np.ceil(far / step)), step) for far, step in zip(reach, scan.spacing_mm, strict=True))
    ]
    lines = [c + line / own for c, line, own in zip(center, offsets, nodule.spacing_mm, strict=True)]
    index = np.stack(np.meshgrid(*lines, indexing="ij"))
    return _Graft(
        ndimage.map_coordinates(values, index, order=1, mode="nearest"),
        ndimage.map_coordinates(share, index, order=1, mode="constant"),
        scan.spacing_mm,
    )


def _plain_graft(graft: _Graft, donor: Chest, voxels: Vectors, random: np.random.Generator) -> _Graft | None:
    """Return the same form filled with plain lung of another chest; None if no plain lung of that size turned up."""
    near = graft.share > graft.share.max() / 10
    steps = np.asarray(graft.spacing_mm)
    middle = (np.asarray(graft.share.shape) - 1) / 2
    offsets = np.moveaxis(np.indices(graft.share.shape), 0, -1) - middle
    for _ in range(_TRIES):
        index = voxels[random.integers(len(voxels))] + offsets * steps / np.asarray(donor.scan.spacing_mm)
        if (index < 0).any() or (index > np.asarray(donor.scan.values.shape) - 1).any():
            continue
        values = ndimage.map_coordinates(donor.scan.values, np.moveaxis(index, -1, 0), order=1)
        smooth = ndimage.uniform_filter(values, 3)
        if float(smooth[near].max()) < _LUNG_HU - 50 and float(np.median(values[near])) > _AIRWAY_HU:
            return _Graft(values, graft.share, graft.spacing_mm)
    return None


def _place(
    chest: Chest, graft: _Graft, others: Sequence[Implant], voxels: Vectors, random: np.random.Generator
) -> NDArray[np.intp] | None:
    """Return the first voxel of a graft at the first drawn place where a nodule may be: free, or at the wall."""
    size = np.asarray(chest.scan.values.shape)
    steps = np.asarray(chest.scan.spacing_mm)
    low, high = _WALL_SHARE if _is_at_wall(graft) else (0.0, _FREE_SHARE)
    half = (np.asarray(graft.share.shape) - 1) // 2
    for _ in range(_TRIES):
        middle = np.rint(voxels[random.integers(len(voxels))]).astype(int)
        first = middle - half
        if (first < 0).any() or (first + graft.share.shape > size).any():
            continue
        reach = float(np.linalg.norm(half * steps)) / 2 + _APART_MM
        if any(
            np.linalg.norm((middle - np.asarray(other.place)) * steps) < reach + other.outline_diameter_mm / 2
            for other in others
        ):
            continue
        beneath = chest.scan.values[_window(first, graft)][graft.mask]
        lung = np.median(beneath)
        if low <= float((beneath > _TISSUE_HU).mean()) <= high and _AIRWAY_HU < lung < _DENSE_LUNG_HU:
            return np.asarray(first, np.intp)
    return None


def _is_at_wall(graft: _Graft) -> bool:
    """Return whether the nodule lay at the wall of its own chest: much of its shell is tissue."""
    distance = ndimage.distance_transform_edt(~graft.mask, sampling=graft.spacing_mm)
    shell = graft.values[(distance > _SHELL_MM / 2) & (distance <= 2 * _SHELL_MM)]
    return bool(len(shell)) and float((shell > _TISSUE_HU).mean()) > _WALL_SHELL


def _window(first: NDArray[np.intp], graft: _Graft) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(a) + n) for a, n in zip(first, graft.share.shape, strict=True))


def _blend(target: Values, graft: _Graft, random: np.random.Generator) -> None:
    """Blend a graft into the voxels of a chest."""
    values = _like(graft, target, random)
    distance = ndimage.distance_transform_edt(~graft.mask, sampling=graft.spacing_mm)
    tissue = np.clip((values + 700) / 300, 0, 1)
    weight = np.clip(1 - distance / (_FADE_MM + tissue * (_FADE_OF_TISSUE_MM - _FADE_MM)), 0, 1)
    mixed = target + weight.astype(np.float32) * (values - target)
    is_tissue = target > _TISSUE_HU
    target[:] = np.where(is_tissue, np.maximum(target, mixed), mixed)


def _like(graft: _Graft, target: Values, random: np.random.Generator) -> Values:
    """Return the graft with the density of the lung and with the noise of the chest around."""
    values: NDArray[np.floating] = graft.values
    outer, lung = ~graft.mask & (values < _LUNG_HU), target < _LUNG_HU
    if min(outer.sum(), lung.sum()) < _FEWEST_VOXELS:
        return values
    noise, own_noise = _roughness(target, lung), _roughness(values, outer)
    if own_noise > noise:
        values = ndimage.gaussian_filter(values, (0, 0.6, 0.6))
        own_noise = _roughness(values, outer)
    gap = float(np.median(target[lung]) - np.median(values[outer]))
    values = values + np.float32(gap) * np.clip((-300 - values) / 550, 0, 1)
    if own_noise < noise:
        grain = ndimage.gaussian_filter(random.standard_normal(values.shape, np.float32), (0.4, 0.6, 0.6))
        grain *= (noise**2 - own_noise**2) ** 0.5 / _roughness(grain, np.full_like(lung, fill_value=True))
        values = values + grain
    return np.asarray(values, np.float32)


def _roughness(values: Values, mask: Mask) -> float:
    """Return the robust deviation of the values from their own blur within each slice."""
    rest = (values - ndimage.gaussian_filter(values, (0, 1, 1)))[mask]
    return float(1.4826 * np.median(np.abs(rest - np.median(rest))))
