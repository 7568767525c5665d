"""Where a point of one chest CT lies in another one of the same patient: rigid, coarse to fine, the same every time.

All translations are tried at once on a coarse grid (the scans may cover different parts of the chest); the best few are
refined in six degrees of freedom, and the one that fits best is kept, or refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ainode.models.following.grid import Grid, LeftOut, Position, Values, Vectors, triple, turned
from ainode.models.following.likeness import correlations

# Four voxels a rib, then two; a nodule of 6 mm needs no finer.
_LEVELS_MM = (8.0, 4.0, 2.0)
# Lung to spongy bone: above it contrast agent and metal differ from date to date.
_LOWEST, _HIGHEST = -1000.0, 300.0
# Between lung and fat: the dense shell of the body, which encloses the lungs.
_BODY_HU = -400.0
_IN_SLICE = ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]
_MARGIN_MM = 8.0
"""of air around the body, so that the skin is matched too"""
_FEWEST_POINTS, _POINTS = 200, 30_000
_ITERATIONS, _STILL = 30, 0.005
"""the second in voxels: a smaller step ends the search"""
_STARTS, _APART_MM = 3, 24.0
# Residuals beyond 1.345 deviations count less: Huber, Robust Statistics, 1981, 95 % efficient for normal noise.
_HUBER, _MAD_TO_DEVIATION = 1.345, 1.4826

_LEAST_OVERLAP = 0.25
_OVERLAP_WORTH = 0.1
"""in correlation, of the whole body: a small part is alike more easily"""
# Between the same patient and another one: measured, see the package.
_LEAST_CORRELATION = 0.75
_LARGEST_TURN = 25.0
"""degrees: more than one lies differently on the table; prone and supine are not one rigid body"""


@dataclass(frozen=True, slots=True)
class RigidTransform:
    """How LPS positions of the fixed scan go to those of the moving one.

    Shapes: matrix (3, 3) by rows, a rotation.
    Units: mm; `correlation` of the values where both scans are, -1 to 1; `overlap` is the part of the smaller body that
    is in both.
    """

    matrix: tuple[Position, Position, Position]
    offset_mm: Position
    correlation: float
    overlap: float

    def __call__(self, position_mm: Position) -> Position:
        """Return where a position of the fixed scan is in the moving one."""
        return triple(self.moved(np.asarray(position_mm)))

    def moved(self, positions_mm: Vectors) -> Vectors:
        """Return positions (..., 3) of the fixed scan in the moving one."""
        return np.asarray(turned(positions_mm, np.asarray(self.matrix)) + np.asarray(self.offset_mm))

    @property
    def turn_degrees(self) -> float:
        """Return the angle of the rotation."""
        return float(np.degrees(Rotation.from_matrix(np.asarray(self.matrix)).magnitude()))


def register(fixed: Grid, moving: Grid) -> RigidTransform | LeftOut:
    """Return how positions of `fixed` go to `moving`, or why no match can be relied on."""
    fixed_levels, moving_levels = _levels(fixed), _levels(moving)
    if fixed_levels is None or moving_levels is None:
        return LeftOut("no-body", "one of the two scans shows no body")
    pairs = list(zip(fixed_levels, moving_levels, strict=True))
    found = [_refined(_refined(start, *pairs[0]), *pairs[1]) for start in _starts(*pairs[0])]
    judged = [(_judged(one, *pairs[1]), one) for one in found]
    shared = [one for one in judged if one[0].overlap >= _LEAST_OVERLAP]
    if not shared:
        return LeftOut("no-overlap", f"the scans have less than {_LEAST_OVERLAP:.0%} of the body in common")
    best = max(shared, key=lambda one: one[0].correlation + _OVERLAP_WORTH * one[0].overlap)[1]
    return _accepted(_judged(_refined(best, *pairs[2]), *pairs[1]))


def _accepted(found: RigidTransform) -> RigidTransform | LeftOut:
    if found.correlation < _LEAST_CORRELATION or found.overlap < _LEAST_OVERLAP:
        what = f"the scans do not match: correlation {found.correlation:.2f}; {_LEAST_CORRELATION} is needed"
        return LeftOut("poor-match", what)
    if found.turn_degrees > _LARGEST_TURN:
        what = f"the patient lies turned by {found.turn_degrees:.0f} degrees; up to {_LARGEST_TURN:.0f} are followed"
        return LeftOut("turned", what)
    return found


@dataclass(frozen=True, slots=True)
class _Level:
    """A scan at one resolution: clipped, blurred by a voxel, its body marked."""

    grid: Grid
    body: NDArray[np.bool_]

    @property
    def inside(self) -> Grid:
        """Return the scan with NaN outside of the body."""
        values = np.where(self.body, self.grid.values, np.float32(np.nan))
        return Grid(values, self.grid.origin_mm, self.grid.spacing_mm, self.grid.axes)

    @property
    def volume_mm3(self) -> float:
        return float(self.body.sum() * np.prod(self.grid.spacing_mm))


@dataclass(frozen=True, slots=True)
class _Pose:
    """A rotation about the origin and what is added then; fixed to moving."""

    turn: Rotation
    offset: Vectors

    def moved(self, positions: Vectors) -> Vectors:
        return turned(positions, self.turn.as_matrix()) + self.offset


def _levels(scan: Grid) -> list[_Level] | None:
    """Return the scan from coarse to fine, None if it shows no body."""
    fine = scan.reduced(_LEVELS_MM[-1])
    middle = fine.reduced(_LEVELS_MM[1])
    body = _body(middle)
    if body.values.sum() < _FEWEST_POINTS:
        return None
    levels = []
    for grid in (middle.reduced(_LEVELS_MM[0]), middle, fine):
        blurred = ndimage.gaussian_filter(np.clip(grid.values, _LOWEST, _HIGHEST), 1.0, mode="nearest")
        marked = body.nearest(grid) > 0
        levels.append(_Level(Grid(blurred, grid.origin_mm, grid.spacing_mm, grid.axes), marked))
    return levels


def _body(grid: Grid) -> Grid:
    """Return 1 in the largest dense part, in what it encloses in each slice, and in a margin around, else 0."""
    # Opening takes the table and cables off.
    dense = ndimage.binary_opening(grid.values > _BODY_HU, _IN_SLICE)
    labels, count = ndimage.label(dense)
    if count:
        dense = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    margin = round(_MARGIN_MM / _LEVELS_MM[1])
    filled = [ndimage.binary_dilation(ndimage.binary_fill_holes(one), iterations=margin) for one in dense]
    return Grid(np.stack(filled).astype(np.float32), grid.origin_mm, grid.spacing_mm, grid.axes)


def _starts(fixed: _Level, moving: _Level) -> list[_Pose]:
    """Return the translations at which the scans are most alike, best first, some way apart."""
    still, in_still, origin = _upright(fixed)
    other, in_other, other_origin = _upright(moving)
    scores, shared = correlations(still, in_still, other, in_other)
    scores = np.where(shared >= _LEAST_OVERLAP * min(in_still.sum(), in_other.sum()), scores, -1.0)
    # Peaks only: each voxel that is the highest within the distance that tells two starts apart.
    highest = ndimage.maximum_filter(scores, round(2 * _APART_MM / _LEVELS_MM[0]) + 1)
    peaks = np.argwhere((scores == highest) & (scores > 0))
    best = sorted(peaks, key=lambda at: -float(scores[tuple(at)]))[:_STARTS]
    zero = np.asarray(still.shape) - 1
    shifts = [other_origin - origin + (at - zero)[::-1] * _LEVELS_MM[0] for at in best]
    return [_Pose(Rotation.identity(), shift) for shift in shifts]


def _upright(level: _Level) -> tuple[Vectors, Vectors, Vectors]:
    """Return scan and body (1, elsewhere 0) along the patient's own axes, and where that grid begins."""
    size = level.grid.values.shape
    corners = level.grid.positions(np.asarray(list(product(*((0.0, n - 1.0) for n in size)))))
    low, step = corners.min(axis=0), _LEVELS_MM[0]
    x, y, z = (np.arange(a, b + step, step) for a, b in zip(low, corners.max(axis=0), strict=True))
    points = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], -1)
    values = level.inside.sampled(points).astype(np.float64)
    seen = np.isfinite(values)
    return np.where(seen, values, 0.0) / (_HIGHEST - _LOWEST), seen.astype(np.float64), low


def _refined(pose: _Pose, fixed: _Level, moving: _Level) -> _Pose:
    """Return the pose near `pose` at which the values differ least, outliers counted less.

    Gauss-Newton on the pose that moves the fixed scan, so that its gradients are needed once.
    Source: Baker and Matthews, Lucas-Kanade 20 years on, Int J Comput Vis 2004 (inverse compositional).
    """
    points, values, slopes = _points(fixed)
    center = points.mean(axis=0)
    arms = points - center
    reach = float(np.sqrt((arms**2).sum(axis=1).mean()))
    jacobian = np.concatenate([np.cross(arms, slopes), slopes], axis=1)
    body, still_mm = moving.inside, _STILL * min(fixed.grid.spacing_mm)
    for _ in range(_ITERATIONS):
        residuals = body.sampled(pose.moved(points)) - values
        used = np.isfinite(residuals)
        if used.sum() < _FEWEST_POINTS:
            break
        step = _step(jacobian[used], residuals[used])
        pose = _before(pose, step, center)
        if np.linalg.norm(step[:3]) * reach + np.linalg.norm(step[3:]) < still_mm:
            break
    return pose


def _step(jacobian: Vectors, residuals: Values) -> Vectors:
    """Return the twist (rotation vector, shift) of the fixed scan that explains most of the residuals."""
    deviation = max(1.0, _MAD_TO_DEVIATION * float(np.median(np.abs(residuals))))
    weights = np.minimum(1.0, _HUBER * deviation / np.maximum(np.abs(residuals, dtype=np.float64), deviation / 10))
    normal = np.einsum("n,ni,nj->ij", weights, jacobian, jacobian)
    return np.asarray(np.linalg.lstsq(normal, np.einsum("n,ni->i", weights * residuals, jacobian), rcond=None)[0])


def _before(pose: _Pose, step: Vectors, center: Vectors) -> _Pose:
    """Return the pose after the undone small one: fixed points go back by `step` about `center`, then by `pose`."""
    back = Rotation.from_rotvec(step[:3]).inv()
    small = _Pose(back, center - back.apply(center + step[3:]))
    return _Pose(pose.turn * small.turn, pose.moved(small.offset))


def _points(level: _Level) -> tuple[Vectors, Values, Vectors]:
    """Return positions in the body on a raster, their values, and the slopes there along x, y, z in HU per mm."""
    inside = np.argwhere(level.body)
    chosen = inside[:: max(1, len(inside) // _POINTS)]
    at = tuple(chosen.T)
    along = [np.gradient(level.grid.values, step, axis=axis)[at] for axis, step in enumerate(level.grid.spacing_mm)]
    slopes = np.stack(along, axis=1).astype(np.float64) @ np.asarray(level.grid.axes)
    return level.grid.positions(chosen), level.grid.values[at], slopes


def _judged(pose: _Pose, fixed: _Level, moving: _Level) -> RigidTransform:
    """Return the transform with how alike the scans are under it."""
    there = moving.grid.sampled(pose.moved(fixed.grid.positions(np.argwhere(fixed.body))))
    inside = np.isfinite(there)
    values = fixed.grid.values[fixed.body][inside]
    enough = len(values) >= _FEWEST_POINTS and values.std() > 0 and there[inside].std() > 0
    correlation = float(np.corrcoef(values, there[inside])[0, 1]) if enough else 0.0
    shared = float(inside.mean()) * fixed.volume_mm3 / min(fixed.volume_mm3, moving.volume_mm3)
    rows = pose.turn.as_matrix()
    matrix = (triple(rows[0]), triple(rows[1]), triple(rows[2]))
    return RigidTransform(matrix, triple(pose.offset), correlation, min(1.0, shared))
