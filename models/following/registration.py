"""The rigid transform from one chest CT to another CT of the same patient: coarse to fine, the same in every run.

All translations are tried at once on a coarse grid, because the scans may cover different parts of the chest. The best
few are refined in six degrees of freedom. The transform that fits best is returned, or refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ainode.models.following.grid import Grid, Omission, Position, Values, Vectors, matrix_products, triple
from ainode.models.following.likeness import correlations

# A rib is as wide as four voxels of the finest level; a nodule of 6 mm needs no finer level.
_LEVELS_MM = (8.0, 4.0, 2.0)
# From lung to spongy bone: contrast agent and metal are denser, and differ from date to date.
_LOWEST, _HIGHEST = -1000.0, 300.0
# Between lung and fat: the dense shell of the body is above, the lungs in the shell are below.
_BODY_HU = -400.0
_IN_SLICE = ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]
_MARGIN_MM = 8.0
"""the margin of air around the body, so that the skin is matched too"""
_FEWEST_POINTS, _POINTS = 200, 30_000
_ITERATIONS, _SMALLEST_STEP = 30, 0.005
"""`_SMALLEST_STEP` is in voxels: a smaller step ends the search"""
_STARTING_POSES, _APART_MM = 3, 24.0
# Residuals beyond 1.345 deviations count less: Huber, Robust Statistics, 1981, 95 % efficient for normal noise.
_HUBER, _MAD_TO_DEVIATION = 1.345, 1.4826

_LEAST_OVERLAP = 0.25
_OVERLAP_WORTH = 0.1
"""the correlation that the overlap of the whole body is worth: a small part is alike more easily"""
# Two scans of one patient correlate more, a failed match less: measured, see the package.
_LEAST_CORRELATION = 0.75
_LARGEST_TURN = 25.0
"""degrees: people turn less on the table; a prone and a supine body are not one rigid body"""


@dataclass(frozen=True, slots=True)
class RigidTransform:
    """The transform from LPS positions of the fixed scan to LPS positions of the moving scan.

    Shapes: matrix (3, 3) by rows, a rotation.
    Units: mm; `correlation`, -1 to 1, is of the values where both scans have some; `overlap` is the part of the smaller
    body that both scans show.
    """

    matrix: tuple[Position, Position, Position]
    offset_mm: Position
    correlation: float
    overlap: float

    def __call__(self, position_mm: Position) -> Position:
        """Return the moving scan's position of a position of the fixed scan."""
        return triple(self.moving_positions(np.asarray(position_mm)))

    def moving_positions(self, positions_mm: Vectors) -> Vectors:
        """Return the moving scan's positions of positions (..., 3) of the fixed scan."""
        return np.asarray(matrix_products(positions_mm, np.asarray(self.matrix)) + np.asarray(self.offset_mm))

    @property
    def turn_degrees(self) -> float:
        """Return the angle of the rotation in degrees."""
        return float(np.degrees(Rotation.from_matrix(np.asarray(self.matrix)).magnitude()))


def register(fixed: Grid, moving: Grid) -> RigidTransform | Omission:
    """Return the transform from `fixed` to `moving`, or why no match is reliable."""
    fixed_levels, moving_levels = _levels(fixed), _levels(moving)
    if fixed_levels is None or moving_levels is None:
        return Omission("no-body", "one of the two scans shows no body")
    pairs = list(zip(fixed_levels, moving_levels, strict=True))
    poses = [_closest_pose(_closest_pose(start, *pairs[0]), *pairs[1]) for start in _starting_poses(*pairs[0])]
    matches = [(_match(pose, *pairs[1]), pose) for pose in poses]
    overlapping = [(match, pose) for match, pose in matches if match.overlap >= _LEAST_OVERLAP]
    if not overlapping:
        return Omission("no-overlap", f"the scans have less than {_LEAST_OVERLAP:.0%} of the body in common")
    best = max(overlapping, key=lambda pair: pair[0].correlation + _OVERLAP_WORTH * pair[0].overlap)[1]
    return _accepted_match(_match(_closest_pose(best, *pairs[2]), *pairs[1]))


def _accepted_match(transform: RigidTransform) -> RigidTransform | Omission:
    """Return the transform, or why its match or its rotation is refused."""
    if transform.correlation < _LEAST_CORRELATION or transform.overlap < _LEAST_OVERLAP:
        reason = f"the scans do not match: correlation {transform.correlation:.2f}; {_LEAST_CORRELATION} is needed"
        return Omission("poor-match", reason)
    if transform.turn_degrees > _LARGEST_TURN:
        reason = (
            f"the patient lies turned by {transform.turn_degrees:.0f} degrees; up to {_LARGEST_TURN:.0f} are followed"
        )
        return Omission("turned", reason)
    return transform


@dataclass(frozen=True, slots=True)
class _Level:
    """A scan at one resolution: the grid is clipped and blurred by a voxel, `body` is True in the patient."""

    grid: Grid
    body: NDArray[np.bool_]

    @property
    def body_grid(self) -> Grid:
        """Return the scan with NaN outside of the body."""
        values = np.where(self.body, self.grid.values, np.float32(np.nan))
        return Grid(values, self.grid.origin_mm, self.grid.spacing_mm, self.grid.axes)

    @property
    def volume_mm3(self) -> float:
        return float(self.body.sum() * np.prod(self.grid.spacing_mm))


@dataclass(frozen=True, slots=True)
class _Pose:
    """A rotation about the origin, then an offset: from positions of the fixed scan to those of the moving scan."""

    turn: Rotation
    offset: Vectors

    def moving_positions(self, positions: Vectors) -> Vectors:
        return matrix_products(positions, self.turn.as_matrix()) + self.offset


def _levels(scan: Grid) -> list[_Level] | None:
    """Return the scan's levels from coarse to fine, None if the scan shows no body."""
    fine = scan.coarser(_LEVELS_MM[-1])
    middle = fine.coarser(_LEVELS_MM[1])
    body = _body(middle)
    if body.values.sum() < _FEWEST_POINTS:
        return None
    levels = []
    for grid in (middle.coarser(_LEVELS_MM[0]), middle, fine):
        blurred = ndimage.gaussian_filter(np.clip(grid.values, _LOWEST, _HIGHEST), 1.0, mode="nearest")
        marked = body.nearest_values(grid) > 0
        levels.append(_Level(Grid(blurred, grid.origin_mm, grid.spacing_mm, grid.axes), marked))
    return levels


def _body(grid: Grid) -> Grid:
    """Return 1 in the body and 0 elsewhere: the largest dense part, the holes in its slices, a margin around both."""
    # Opening removes the table and cables.
    dense = ndimage.binary_opening(grid.values > _BODY_HU, _IN_SLICE)
    labels, count = ndimage.label(dense)
    if count:
        dense = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    margin = round(_MARGIN_MM / _LEVELS_MM[1])
    filled = [ndimage.binary_dilation(ndimage.binary_fill_holes(slice_), iterations=margin) for slice_ in dense]
    return Grid(np.stack(filled).astype(np.float32), grid.origin_mm, grid.spacing_mm, grid.axes)


def _starting_poses(fixed: _Level, moving: _Level) -> list[_Pose]:
    """Return the translations at which the scans are most alike, best first, at least `_APART_MM` apart."""
    fixed_values, fixed_body, origin = _on_patient_axes(fixed)
    moving_values, moving_body, moving_origin = _on_patient_axes(moving)
    scores, shared = correlations(fixed_values, fixed_body, moving_values, moving_body)
    scores = np.where(shared >= _LEAST_OVERLAP * min(fixed_body.sum(), moving_body.sum()), scores, -1.0)
    # Peaks only: a voxel that is the highest within the distance that separates two starting poses.
    highest = ndimage.maximum_filter(scores, round(2 * _APART_MM / _LEVELS_MM[0]) + 1)
    peaks = np.argwhere((scores == highest) & (scores > 0))
    best = sorted(peaks, key=lambda peak: -float(scores[tuple(peak)]))[:_STARTING_POSES]
    no_shift = np.asarray(fixed_values.shape) - 1
    shifts = [moving_origin - origin + (peak - no_shift)[::-1] * _LEVELS_MM[0] for peak in best]
    return [_Pose(Rotation.identity(), shift) for shift in shifts]


def _on_patient_axes(level: _Level) -> tuple[Vectors, Vectors, Vectors]:
    """Return values, body (1, elsewhere 0) on a grid along the patient's axes, and its first voxel's position."""
    size = level.grid.values.shape
    corners = level.grid.positions(np.asarray(list(product(*((0.0, n - 1.0) for n in size)))))
    low, step = corners.min(axis=0), _LEVELS_MM[0]
    x, y, z = (np.arange(a, b + step, step) for a, b in zip(low, corners.max(axis=0), strict=True))
    points = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], -1)
    values = level.body_grid.values_at(points).astype(np.float64)
    inside = np.isfinite(values)
    return np.where(inside, values, 0.0) / (_HIGHEST - _LOWEST), inside.astype(np.float64), low


def _closest_pose(pose: _Pose, fixed: _Level, moving: _Level) -> _Pose:
    """Return the pose near `pose` at which the values of both scans differ least; outliers count less.

    Gauss-Newton on the pose of the fixed scan, so that only its gradients are needed, and only once.
    Source: Baker and Matthews, Lucas-Kanade 20 years on, Int J Comput Vis 2004 (inverse compositional).
    """
    points, values, slopes = _sample_points(fixed)
    center = points.mean(axis=0)
    lever_arms = points - center
    lever_arm_mm = float(np.sqrt((lever_arms**2).sum(axis=1).mean()))
    jacobian = np.concatenate([np.cross(lever_arms, slopes), slopes], axis=1)
    moving_body, smallest_step_mm = moving.body_grid, _SMALLEST_STEP * min(fixed.grid.spacing_mm)
    for _ in range(_ITERATIONS):
        residuals = moving_body.values_at(pose.moving_positions(points)) - values
        in_body = np.isfinite(residuals)
        if in_body.sum() < _FEWEST_POINTS:
            break
        step = _pose_step(jacobian[in_body], residuals[in_body])
        pose = _pose_less_step(pose, step, center)
        if np.linalg.norm(step[:3]) * lever_arm_mm + np.linalg.norm(step[3:]) < smallest_step_mm:
            break
    return pose


def _pose_step(jacobian: Vectors, residuals: Values) -> Vectors:
    """Return the step of the fixed scan (rotation vector, shift) that explains most of the residuals."""
    deviation = max(1.0, _MAD_TO_DEVIATION * float(np.median(np.abs(residuals))))
    weights = np.minimum(1.0, _HUBER * deviation / np.maximum(np.abs(residuals, dtype=np.float64), deviation / 10))
    normal = np.einsum("n,ni,nj->ij", weights, jacobian, jacobian)
    return np.asarray(np.linalg.lstsq(normal, np.einsum("n,ni->i", weights * residuals, jacobian), rcond=None)[0])


def _pose_less_step(pose: _Pose, step: Vectors, center: Vectors) -> _Pose:
    """Return the pose that first takes points of the fixed scan back by `step` about `center`, then applies `pose`."""
    inverse_turn = Rotation.from_rotvec(step[:3]).inv()
    inverse_step = _Pose(inverse_turn, center - inverse_turn.apply(center + step[3:]))
    return _Pose(pose.turn * inverse_step.turn, pose.moving_positions(inverse_step.offset))


def _sample_points(level: _Level) -> tuple[Vectors, Values, Vectors]:
    """Return positions in the body on a raster, and the values and slopes (along x, y, z, HU per mm) at them."""
    body_indices = np.argwhere(level.body)
    raster = body_indices[:: max(1, len(body_indices) // _POINTS)]
    indices = tuple(raster.T)
    gradients = [
        np.gradient(level.grid.values, step, axis=axis)[indices] for axis, step in enumerate(level.grid.spacing_mm)
    ]
    slopes = np.stack(gradients, axis=1).astype(np.float64) @ np.asarray(level.grid.axes)
    return level.grid.positions(raster), level.grid.values[indices], slopes


def _match(pose: _Pose, fixed: _Level, moving: _Level) -> RigidTransform:
    """Return the transform of a pose, with the correlation and the overlap of the scans under the pose."""
    moving_values = moving.grid.values_at(pose.moving_positions(fixed.grid.positions(np.argwhere(fixed.body))))
    in_moving = np.isfinite(moving_values)
    values = fixed.grid.values[fixed.body][in_moving]
    is_comparable = len(values) >= _FEWEST_POINTS and values.std() > 0 and moving_values[in_moving].std() > 0
    correlation = float(np.corrcoef(values, moving_values[in_moving])[0, 1]) if is_comparable else 0.0
    shared = float(in_moving.mean()) * fixed.volume_mm3 / min(fixed.volume_mm3, moving.volume_mm3)
    rows = pose.turn.as_matrix()
    matrix = (triple(rows[0]), triple(rows[1]), triple(rows[2]))
    return RigidTransform(matrix, triple(pose.offset), correlation, min(1.0, shared))
