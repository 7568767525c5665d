"""The order in which a person counts the slices of a series: in the viewer, in captures and in reports.

The position along the normal decides the order, and the Instance Number decides which end is first: of most CTs the
head. An image that forms no stack with the others of its series is counted in the viewer alone.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ainode.node.imaging.geometry import Stack

Vector: TypeAlias = NDArray[np.float64]


def upward_normal(axes: Vector) -> Vector:
    """Return the normal of a plane that runs to the left, to the back or to the head.

    Shapes: axes (2, 3): the directions of column index and row index.
    """
    normal = np.cross(axes[0], axes[1])
    return normal if normal[np.abs(normal).argmax()] >= 0 else -normal


def runs_backward(numbers: Sequence[tuple[float, ...]]) -> bool:
    """Return whether the numbers of slices, sorted along the upward normal, mostly fall."""
    steps = [(after > before) - (after < before) for before, after in pairwise(numbers)]
    return sum(steps) < 0


def begins_at_end(slices: Stack) -> bool:
    """Return whether a person counts the slices of a stack from the last."""
    axes = np.asarray((slices.row_axis, slices.column_axis))
    is_upward = bool(upward_normal(axes) @ np.asarray(slices.normal) > 0)
    numbers = [_instance_number(instance.header.get("InstanceNumber")) for instance in slices.instances]
    return runs_backward(numbers if is_upward else numbers[::-1]) == is_upward


def slice_number(slices: Stack, index: int) -> int:
    """Return the number, from 1, by which a person knows a slice of a whole stack."""
    return len(slices.instances) - index if begins_at_end(slices) else index + 1


def _instance_number(value: object) -> tuple[float]:
    return (float(value) if isinstance(value, int | float) else np.inf,)
