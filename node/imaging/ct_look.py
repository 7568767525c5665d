"""A look at a few slices of a CT before the CT is read: whether the values are Hounsfield units."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ainode.node.domain import OutOfScope, refs
from ainode.node.imaging.geometry import Stack
from ainode.node.imaging.hounsfield import values_reason
from ainode.node.imaging.pixels import modality_values

_SLICES = 8
# Pixels a side that are looked at: enough for shares of a thousandth.
_SIDE = 128


def unit_refusal(scan: Stack) -> OutOfScope | None:
    """Return the refusal of a CT whose values cannot be Hounsfield units; None if the values can be.

    Raises: BrokenSeries if a slice cannot be decoded.
    """
    numbers = np.unique(((np.arange(_SLICES) + 0.5) * len(scan.instances) / _SLICES).astype(int))
    reason = values_reason(np.concatenate([values.ravel() for values in _sampled(scan, numbers.tolist())]))
    if not reason:
        return None
    uid = scan.instances[0].ref.series_instance_uid
    return OutOfScope(f"series {uid}: {reason}; Hounsfield units are read", "not-hounsfield", refs(scan.instances))


def _sampled(scan: Stack, numbers: Iterable[int]) -> Iterable[NDArray[np.float32]]:
    """Yield the values of slices, on every few pixels."""
    step = max(1, min(scan.rows, scan.columns) // _SIDE)
    for number in numbers:
        yield modality_values(scan.instances[number].path)[::step, ::step]
