"""Whether headers agree on the places of slices: steps, the tilt of the gantry, two parts of a scan."""

from collections.abc import Iterable, Sequence
from math import acos, degrees
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ainode.node.domain import Instance
from ainode.node.imaging.acquisitions import difference, grid_difference, height_mm
from ainode.node.imaging.geometry import Stack

WRONG_STEP: Final = "wrong-slice-distance"
"""the code of a refusal of slices that cannot be as far apart as their positions say"""
# A tilt moves the slices along the table by 1 / cos of what their normal says: by 6 % at 20 degrees.
_SAME_STEP: Final = 0.1
_PARALLEL: Final = 1e-3
# Units: degrees. A slice 300 mm above another is 5 mm beside it at 1 degree.
_LEAST_TILT, _SAME_TILT = 1.0, 1.0


def step_reason(scan: Stack) -> str:
    """Return in words that another element contradicts the distance between the slices; '' if none does.

    Spacing Between Slices alone outweighs no positions with which Slice Location agrees.
    Source: PS3.3 C.7.6.2.1.2 (Slice Location), C.7.6.2 (Spacing Between Slices).
    """
    step_mm = scan.spacing_mm[0]
    name, other_mm = "Slice Location", _location_step_mm(scan.instances)
    if not other_mm:
        name, other_mm = "Spacing Between Slices", abs(_number(scan.instances[0], "SpacingBetweenSlices") or 0.0)
    if not other_mm or abs(other_mm / step_mm - 1) <= _SAME_STEP:
        return ""
    return (
        f"its slices are {step_mm:.2f} mm apart by Image Position, {other_mm:.2f} mm by {name}; slices are missing, or "
        "one of them is wrong: correct it and send the series again"
    )


def tilt_reason(scan: Stack) -> str:
    """Return in words that the gantry was tilted and the slices are said to be upright; '' if nothing says so."""
    tilt = abs(_number(scan.instances[0], "GantryDetectorTilt") or 0.0)
    lean = degrees(acos(min(1.0, abs(scan.normal[2]))))
    if tilt < _LEAST_TILT or abs(tilt - lean) <= _SAME_TILT:
        return ""
    return (
        f"Gantry/Detector Tilt is {tilt:.1f} degrees, but Image Orientation leans by {lean:.1f} degrees: one of them "
        "is wrong, and so may the places of the slices be; upright slices are read"
    )


def continuation(first: Stack, second: Stack) -> str:
    """Return in words that one stack goes on where the other ends, at the same step and on the same grid."""
    same_grid = (
        first.frame_of_reference_uid == second.frame_of_reference_uid != ""
        and (first.rows, first.columns) == (second.rows, second.columns)
        and np.allclose(first.spacing_mm, second.spacing_mm, rtol=1e-3)
        and np.allclose(first.normal, second.normal, atol=1e-4)
    )
    if not same_grid or difference(first.instances, second.instances):
        return ""
    lower, upper = sorted((first, second), key=lambda scan: float(np.dot(scan.origin_mm, scan.normal)))
    depth, row, column = lower.pixel(upper.origin_mm)
    gap = depth - (len(lower.instances) - 1)
    if abs(gap - 1) > _SAME_STEP or max(abs(row), abs(column)) > _SAME_STEP:
        return ""
    counts = f"{len(first.instances)} and {len(second.instances)} slices of {first.spacing_mm[0]:.2f} mm"
    return f"one scan in two series, {counts}: the one goes on where the other ends"


def other_grid(group: Sequence[Instance], other: Sequence[Instance]) -> str:
    """Return in words that slices of another grid lie between those of a group or go on where the group ends.

    Both are groups of `acquisitions.grids` of one pass. Two reconstructions of one field have slices at the same
    heights, and other orientations are other images: then it returns ''.
    """
    heights_mm = np.sort([height_mm(instance) for instance in group])
    step_mm = float(np.median(np.diff(heights_mm))) if len(heights_mm) > 1 else 0.0
    if not step_mm or not np.allclose(_axes(group[0]), _axes(other[0]), atol=_PARALLEL):
        return ""
    if not any(_is_of_scan(height_mm(instance), heights_mm, step_mm) for instance in other):
        return ""
    return (
        f"one scan on two grids, {len(group)} and {len(other)} slices that lie between or next to each other: "
        f"{grid_difference(group, other)}"
    )


def _axes(instance: Instance) -> NDArray[np.float64]:
    return np.asarray(instance.header["ImageOrientationPatient"], np.float64)


def _is_of_scan(at_mm: float, heights_mm: NDArray[np.float64], step_mm: float) -> bool:
    """Return whether a slice lies between sorted slices, and at none, or one step beyond the lowest or the highest."""
    if heights_mm[0] < at_mm < heights_mm[-1]:
        return bool(np.abs(heights_mm - at_mm).min() > _SAME_STEP * step_mm)
    beyond_mm = max(heights_mm[0] - at_mm, at_mm - heights_mm[-1])
    return bool(abs(beyond_mm - step_mm) <= _SAME_STEP * step_mm)


def _location_step_mm(instances: Iterable[Instance]) -> float:
    """Return the mean distance between neighbors by Slice Location, which may be rounded; 0 if a slice has none."""
    locations = [_number(instance, "SliceLocation") for instance in instances]
    known = [location for location in locations if location is not None]
    if len(known) < len(locations):
        return 0.0
    return float(np.abs(np.diff(known)).mean())


def _number(instance: Instance, keyword: str) -> float | None:
    value = instance.header.get(keyword)
    return float(value) if isinstance(value, int | float) else None
