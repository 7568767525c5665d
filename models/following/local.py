"""A nodule's place in the other scan, searched near the place that the rigid transform gives: lungs are not rigid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ainode.models.following.grid import Grid, Omission, Position, Values, Vectors, triple
from ainode.models.following.likeness import correlations
from ainode.models.following.registration import RigidTransform

_STEP_MM = 1.0
_PATCH_MM, _SEARCH_MM = 15.0, 15.0
"""half the side of the cube that is compared, and the farthest shift of the cube"""
_WIDTH_MM = 7.0
"""the width of the weights around the middle: a nodule grows or shrinks, its vessels do not"""
_BLUR_MM = 1.0
_LOWEST, _HIGHEST = -1000.0, 300.0
_LEAST_WEIGHT = 0.5
"""the least part of a patch's weights that must lie in the other scan"""
_FARNESS = 0.2
"""how much more alike the farthest place must be than the nearest, because vessels resemble each other"""
# Measured, see the package: a nodule that became far smaller is more alike, vessels that resemble the nodule are less.
_LEAST_LIKENESS = 0.4
_CORE_MM, _LEAST_DENSITY = 1.5, 0.4
"""the least density of the middle, between the lung (0) and the middle in the fixed scan (1)"""


@dataclass(frozen=True, slots=True)
class NodulePlace:
    """A nodule's place in the moving scan.

    Units: LPS mm; `likeness` is the weighted correlation of the surroundings in both scans, less for a farther place.
    """

    position_mm: Position
    likeness: float
    shift_mm: float
    """the distance from the place that the rigid transform gives"""


def nodule_place(fixed: Grid, moving: Grid, position_mm: Position, transform: RigidTransform) -> NodulePlace | Omission:
    """Return the place in `moving` of the nodule at a position of `fixed`, or why no place is alike."""
    if not fixed.holds(position_mm):
        return Omission("outside", "the nodule's place is outside of the scan that it was seen in")
    if not moving.holds(transform(position_mm)):
        return Omission("outside", "the nodule's place is outside of the scan")
    patch = _normalized_values(fixed.values_at(position_mm + _offsets(_PATCH_MM)))
    field = _normalized_values(
        moving.values_at(transform.moving_positions(position_mm + _offsets(_PATCH_MM + _SEARCH_MM)))
    )
    shifts = _offsets(_SEARCH_MM)
    far = np.linalg.norm(shifts, axis=-1) / _SEARCH_MM
    scores = np.where(far <= 1, _likeness_map(patch, field) - _FARNESS * far**2, -np.inf)
    best = np.unravel_index(int(scores.argmax()), scores.shape)
    if scores[best] < _LEAST_LIKENESS:
        reason = f"nothing alike is near to the nodule's place: {scores[best]:.2f} of {_LEAST_LIKENESS}"
        return Omission("nothing-alike", reason)
    if not _is_dense(patch[0], field[0], best):
        return Omission("nothing-dense", "nothing as dense is at the nodule's place")
    place = transform.moving_positions(position_mm + shifts[best])
    return NodulePlace(triple(place), float(scores[best]), float(np.linalg.norm(shifts[best])))


def _is_dense(patch: Vectors, field: Vectors, place: tuple[np.intp, ...]) -> bool:
    """Return whether the middle of the patch is as dense at the place `at` of the field as in the fixed scan."""
    core = np.linalg.norm(_offsets(_CORE_MM), axis=-1) <= _CORE_MM
    half, reach = patch.shape[0] // 2, core.shape[0] // 2
    fixed_density = patch[(slice(half - reach, half + reach + 1),) * 3][core].mean()
    moving_density = field[tuple(slice(i + half - reach, i + half + reach + 1) for i in place)][core].mean()
    lung = np.percentile(patch, 10)
    return bool(moving_density - lung >= _LEAST_DENSITY * (fixed_density - lung))


def _offsets(half_mm: float) -> Vectors:
    """Return x, y, z of a cube's voxels from its middle; array axes are z, y, x."""
    steps = np.arange(-round(half_mm / _STEP_MM), round(half_mm / _STEP_MM) + 1) * _STEP_MM
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij")[::-1], -1)


def _normalized_values(values: Values) -> tuple[Vectors, Vectors]:
    """Return clipped and blurred values, 0 outside of the scan; and 1 inside of the scan, 0 outside."""
    inside = np.isfinite(values).astype(np.float64)
    # Values of the order of 1: `correlations` takes differences of squares.
    scaled = np.clip(np.nan_to_num(values, nan=_LOWEST), _LOWEST, _HIGHEST) / (_HIGHEST - _LOWEST)
    return ndimage.gaussian_filter(scaled.astype(np.float64), _BLUR_MM / _STEP_MM) * inside, inside


def _likeness_map(patch: tuple[Vectors, Vectors], field: tuple[Vectors, Vectors]) -> Vectors:
    """Return the correlation of the patch with each place of the field, -1 where too little of the patch is inside."""
    template, inside = patch
    squares = (_offsets(_PATCH_MM) ** 2).sum(axis=-1)
    weights = np.exp(-squares / (2 * _WIDTH_MM**2)) * inside
    correlation, shared_weight = correlations(template, weights, *field)
    whole_patches = (slice(template.shape[0] - 1, field[0].shape[0]),) * 3
    return np.where(shared_weight >= _LEAST_WEIGHT * weights.sum(), correlation, -1.0)[whole_patches]
