"""Whether the pixels of neighboring slices can be of one body: none is empty, a copy, or turned against the others.

Slices without noise, as masks and drawn phantoms are, may be alike and are not judged.
"""

import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ainode.node.domain import Instance
from ainode.node.errors import BrokenSeries

Values = NDArray[np.float32]

_NAMED_UIDS = 6
# The share of neighbors in a row that differ is 0.22 and more in 12 real stacks, of 8 bits or padded.
_LEAST_NOISE = 0.1
# A cell is the mean of a block of pixels, so that noise counts little.
_SIDE = 64
# Neighbors in 12 real CT and MR stacks differ from each other less than from the other's turned image: 1 / 1.4 as much
# and less. Where a stack turns, the inverse holds; a body that is its own mirror image lies at 1.
_TURNED = 0.6
_TURNS: Final[Mapping[str, tuple[slice, slice]]] = {
    "upside down": (slice(None, None, -1), slice(None)),
    "mirrored": (slice(None), slice(None, None, -1)),
    "turned by 180 degrees": (slice(None, None, -1), slice(None, None, -1)),
}


def check_slices(instances: Sequence[Instance], values: Values) -> None:
    """Refuse slices whose pixels cannot be of one body.

    The first and the last slices may be empty: a reformatted stack begins and ends outside of what was scanned.
    Shapes: values (slices, rows, columns), in the order of the instances and of their positions.
    Raises: BrokenSeries that names the instances.
    """
    seen = [number for number, item in enumerate(values) if _has_noise(item)]
    if not seen:
        return
    if empty := [number for number in range(seen[0], seen[-1]) if _is_flat(values[number])]:
        raise _refusal(instances, empty, "every pixel has one value, between slices that show something")
    if copies := _copies(values, seen):
        raise _refusal(instances, copies, "pixels that are exactly those of another slice of the series")
    for before, after in pairwise(seen):
        if turn := _turn(values[before], values[after]):
            raise _refusal(instances, [before, after], f"the one lies {turn} against its neighbor by their pixels")


def _refusal(instances: Sequence[Instance], numbers: Sequence[int], reason: str) -> BrokenSeries:
    uids = [instances[number].ref.sop_instance_uid for number in numbers]
    others = f" and {len(uids) - _NAMED_UIDS} more" if len(uids) > _NAMED_UIDS else ""
    names = ", ".join(uids[:_NAMED_UIDS]) + others
    return BrokenSeries(f"instance {names}: {reason}; correct the series at its source and send it again")


def _has_noise(values: Values) -> bool:
    differences = np.diff(values, axis=1)
    return bool(differences.size) and float((np.abs(differences) > 0).mean()) >= _LEAST_NOISE


def _is_flat(values: Values) -> bool:
    """Return whether a slice has one value; what is not a number is padding and shows nothing."""
    shown = values[~np.isnan(values)]
    return not shown.size or bool(shown.min() == shown.max())


def _copies(values: Values, numbers: Sequence[int]) -> list[int]:
    """Return the numbers of the slices that have exactly the pixels of another slice, with that one."""
    same: dict[int, list[int]] = {}
    for number in numbers:
        same.setdefault(zlib.crc32(values[number].tobytes()), []).append(number)
    return [
        number
        for group in same.values()
        for number in group
        if any(other != number and np.array_equal(values[number], values[other], equal_nan=True) for other in group)
    ]


def _turn(before: Values, after: Values) -> str:
    """Return in words how a slice is turned against its neighbor; '' if it is not."""
    first, second = _cells(before), _cells(after)
    difference = _difference(first, second)
    turned = {name: _difference(first, second[turn]) for name, turn in _TURNS.items()}
    nearest = min(turned, key=lambda name: turned[name])
    return nearest if turned[nearest] < difference * _TURNED else ""


def _difference(first: Values, second: Values) -> float:
    differences = np.abs(first - second)
    known = differences[~np.isnan(differences)]
    return float(known.mean()) if known.size else 0.0


def _cells(values: Values) -> Values:
    step = max(1, min(values.shape) // _SIDE)
    rows, columns = values.shape[0] // step, values.shape[1] // step
    blocks = values[: rows * step, : columns * step].reshape(rows, step, columns, step)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)
