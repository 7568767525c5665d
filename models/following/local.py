"""A nodule's place in the other scan, found again near to where the rigid transform puts it: lungs are not rigid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ainode.models.following.grid import Grid, LeftOut, Position, Values, Vectors, triple
from ainode.models.following.likeness import correlations
from ainode.models.following.registration import RigidTransform

_STEP_MM = 1.0
_PATCH_MM, _SEARCH_MM = 15.0, 15.0
"""half of the cube that is compared, and how far it is moved"""
_WIDTH_MM = 7.0
"""of the weights around the middle: a nodule grows or shrinks, its vessels do not"""
_BLUR_MM = 1.0
_LOWEST, _HIGHEST = -1000.0, 300.0
_LEAST_SEEN = 0.5
"""of the weights of a patch that must lie in the other scan"""
_FARNESS = 0.2
"""what the farthest place must be more alike than the nearest, as vessels resemble each other"""
# Between a nodule that is there, though far smaller, and vessels that resemble it: measured, see the package.
_LEAST_LIKENESS = 0.4
_CORE_MM, _LEAST_DENSITY = 1.5, 0.4
"""how dense the middle must be, between the lung (0) and the middle in the fixed scan (1)"""


@dataclass(frozen=True, slots=True)
class Refined:
    """Where the nodule is in the moving scan.

    Units: LPS mm; `likeness` of its surroundings in both scans, a weighted correlation, less the farther it is.
    """

    position_mm: Position
    likeness: float
    moved_mm: float
    """how far from where the rigid transform had put it"""


def refined(fixed: Grid, moving: Grid, position_mm: Position, transform: RigidTransform) -> Refined | LeftOut:
    """Return where what is at a position of `fixed` is in `moving`, or why it is not found."""
    if not fixed.holds(position_mm):
        return LeftOut("outside", "the nodule's place is outside of the scan that it was seen in")
    if not moving.holds(transform(position_mm)):
        return LeftOut("outside", "the nodule's place is outside of the scan")
    patch = _seen(fixed.sampled(position_mm + _offsets(_PATCH_MM)))
    field = _seen(moving.sampled(transform.moved(position_mm + _offsets(_PATCH_MM + _SEARCH_MM))))
    shifts = _offsets(_SEARCH_MM)
    far = np.linalg.norm(shifts, axis=-1) / _SEARCH_MM
    score = np.where(far <= 1, _likeness(patch, field) - _FARNESS * far**2, -np.inf)
    best = np.unravel_index(int(score.argmax()), score.shape)
    if score[best] < _LEAST_LIKENESS:
        what = f"nothing alike is near to the nodule's place: {score[best]:.2f} of {_LEAST_LIKENESS}"
        return LeftOut("nothing-alike", what)
    if not _dense(patch[0], field[0], best):
        return LeftOut("nothing-dense", "nothing as dense is at the nodule's place")
    place = transform.moved(position_mm + shifts[best])
    return Refined(triple(place), float(score[best]), float(np.linalg.norm(shifts[best])))


def _dense(patch: Vectors, field: Vectors, at: tuple[np.intp, ...]) -> bool:
    """Return whether the middle of what was found stands out of the lung as the nodule does."""
    core = np.linalg.norm(_offsets(_CORE_MM), axis=-1) <= _CORE_MM
    half, reach = patch.shape[0] // 2, core.shape[0] // 2
    here = patch[(slice(half - reach, half + reach + 1),) * 3][core].mean()
    there = field[tuple(slice(i + half - reach, i + half + reach + 1) for i in at)][core].mean()
    lung = np.percentile(patch, 10)
    return bool(there - lung >= _LEAST_DENSITY * (here - lung))


def _offsets(half_mm: float) -> Vectors:
    """Return x, y, z of the voxels of a cube from its middle; array axes are z, y, x."""
    steps = np.arange(-round(half_mm / _STEP_MM), round(half_mm / _STEP_MM) + 1) * _STEP_MM
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij")[::-1], -1)


def _seen(values: Values) -> tuple[Vectors, Vectors]:
    """Return clipped, blurred values, 0 where the scan does not reach, and 1 where it does."""
    seen = np.isfinite(values).astype(np.float64)
    # In units of the range: the sums below are differences of squares.
    scaled = np.clip(np.nan_to_num(values, nan=_LOWEST), _LOWEST, _HIGHEST) / (_HIGHEST - _LOWEST)
    return ndimage.gaussian_filter(scaled.astype(np.float64), _BLUR_MM / _STEP_MM) * seen, seen


def _likeness(patch: tuple[Vectors, Vectors], field: tuple[Vectors, Vectors]) -> Vectors:
    """Return how alike the patch is to each place of the field, -1 where too little is seen."""
    template, in_template = patch
    squares = (_offsets(_PATCH_MM) ** 2).sum(axis=-1)
    weights = np.exp(-squares / (2 * _WIDTH_MM**2)) * in_template
    likeness, weight = correlations(template, weights, *field)
    within = (slice(template.shape[0] - 1, field[0].shape[0]),) * 3
    return np.where(weight >= _LEAST_SEEN * weights.sum(), likeness, -1.0)[within]
