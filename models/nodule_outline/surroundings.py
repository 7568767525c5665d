"""Whether a point of a chest lies outside of the lungs: in the wall, where ways lead out of the body, or the middle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.following import Grid, Omission, Position

Mask = NDArray[np.bool_]

_STEP_MM = 2.0
# Units: HU. Gas; gas around the body, with mats and the table; bone, whose ribs close a ring over a slab of slices.
_GAS_HU, _OUTER_HU, _BONE_HU, _TISSUE_HU = -400.0, -940.0, 200.0, -300.0
_SLAB_MM = 16.0
# Of 219 points in a real mass that reaches the wall and the spine no way leads out, and all lie 27 mm and more from
# the middle.
_WAYS, _LEAST_OPEN = 72, 0.1
_MIDDLE_MM, _LEAST_WIDTH_MM = 20.0, 220.0
_WHOLE_MM = 300.0
"""a field as wide as this cuts the wall alone, and no lung"""
_LEAST_LUNG_CM2 = 10.0


def place_outside_lung(scan: Grid, position_mm: Position) -> Omission | None:
    """Return in words that a point is in no lung; None where it may be in one.

    From muscle of the wall a part of the ways within its slice leads out of the body without lung or bone before it;
    from a mass in a lung, also one at the wall, ribs are before every way out.
    """
    z, y, x = (float(index) for index in scan.indices(position_mm))
    depth = int(np.clip(round(z), 0, len(scan.values) - 1))
    reach = round(_SLAB_MM / scan.spacing_mm[0])
    low, high = max(0, depth - reach), min(len(scan.values) - 1, depth + reach)
    layer, bone = scan.values[depth], scan.values[low : high + 1].max(axis=0) > _BONE_HU
    outside = _outside(layer)
    cm2 = float(np.prod(scan.spacing_mm[1:])) / 100
    most_cm2 = cm2 * max(int(_lung(near, _outside(near)).sum()) for near in scan.values[[low, depth, high]])
    if most_cm2 < _LEAST_LUNG_CM2:
        where = f"the slices up to {_SLAB_MM:.0f} mm around it show {most_cm2:.0f} cm2 of aerated lung"
        return Omission("not-in-lung", f"the point is not in a lung: {where}")
    open_share = _open_share(outside, bone | _lung(layer, outside), (y, x), scan.spacing_mm[1:])
    if open_share >= _LEAST_OPEN:
        ways = f"{open_share:.0%} of the ways from it lead out of the body without lung or rib before them"
        return Omission("not-in-lung", f"the point is not in a lung: {ways}")
    if (from_middle_mm := _distance_from_middle(layer, x, scan.spacing_mm[2])) < _MIDDLE_MM:
        where = f"it lies between the lungs, {from_middle_mm:.0f} mm from the middle of the body"
        return Omission("not-in-lung", f"the point is not in a lung: {where}")
    return None


def _open_share(outside: Mask, stops: Mask, at: tuple[float, float], spacing_mm: tuple[float, float]) -> float:
    """Return the share of the ways from a pixel (row, column) that leave the body before lung or bone."""
    size, size_mm = outside.shape, np.multiply(outside.shape, spacing_mm)
    longest = float(np.hypot(*size_mm))
    angles = np.arange(_WAYS) * 2 * np.pi / _WAYS
    distances = np.arange(0, longest, _STEP_MM)
    rows = np.rint(at[0] + np.outer(np.sin(angles), distances) / spacing_mm[0]).astype(int)
    columns = np.rint(at[1] + np.outer(np.cos(angles), distances) / spacing_mm[1]).astype(int)
    is_in = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    clipped = np.clip(rows, 0, size[0] - 1), np.clip(columns, 0, size[1] - 1)
    beyond = ~is_in if size_mm.min() >= _WHOLE_MM else np.zeros_like(is_in)
    first_out, first_stop = _first((outside[clipped] & is_in) | beyond), _first(stops[clipped] & is_in)
    return float((first_out < first_stop).mean())


def _lung(layer: NDArray[np.float32], outside: Mask) -> Mask:
    """Return the gas within the body."""
    return (layer < _GAS_HU) & ~outside


def _first(seen: Mask) -> NDArray[np.intp]:
    """Return the number of the first step of each way at which something is seen, beyond the last if nothing is."""
    return np.asarray(np.where(seen.any(axis=1), seen.argmax(axis=1), seen.shape[1]), np.intp)


def _outside(layer: NDArray[np.float32]) -> Mask:
    """Return the gas around the body. A lung that the field cuts reaches its edge too, and is denser."""
    labels, _ = ndimage.label(layer < _GAS_HU)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    outer = [label for label in edge if label and float(np.median(layer[labels == label])) < _OUTER_HU]
    return np.isin(labels, outer)


def _distance_from_middle(layer: NDArray[np.float32], column: float, column_mm: float) -> float:
    """Return how far a column is from the middle of the body in mm; infinite where the slice shows a part of a body."""
    columns = np.flatnonzero((layer > _TISSUE_HU).any(axis=0))
    if not len(columns) or (columns[-1] - columns[0]) * column_mm < _LEAST_WIDTH_MM:
        return float("inf")
    return float(abs(column - (columns[0] + columns[-1]) / 2) * column_mm)
