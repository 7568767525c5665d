"""The slices of a CT that hold the lungs, by the rule by which the node cuts a scan before the network reads it.

A test holds this rule against the node's: a network must learn from what it will be given.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.ct_pneumonia.preprocess import Array

# Of the body on a slice: aerated lung on a slice of the lungs, and on a slice of their tips.
_WIDE_SHARE, _TIP_SHARE = 0.06, 0.02
# Filled lung between aerated slices, and the tips beyond them, reach this far.
_BRIDGE_MM, _TIP_MM = 40.0, 30.0
# Units: Hounsfield units.
_LUNG, _TISSUE, _AIR, _PADDING = (-950.0, -500.0), -300.0, -940.0, -1100.0
# The shares are of blocks of pixels; the short side has about as many.
_SIDE = 128
_IN_PLANE = ndimage.generate_binary_structure(2, 1)[np.newaxis]
_AROUND = (1, 3, 3)


def lung_slices(hounsfield: Array, slice_mm: float) -> range:
    """Return the numbers of the slices from the lowest to the highest with lung; an empty range without lungs.

    Shapes: (Z, Y, X).
    Units: Hounsfield units; mm.
    """
    shares = np.concatenate([_lung_shares(chunk) for chunk in np.array_split(hounsfield, -(-len(hounsfield) // 16))])
    numbers = np.flatnonzero(shares >= _WIDE_SHARE)
    if not len(numbers):
        return range(0)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1 + int(_BRIDGE_MM / slice_mm)) + 1)
    widest = max(runs, key=lambda run: float(shares[run[0] : run[-1] + 1].sum()))
    first, last = int(widest[0]), int(widest[-1])
    reach = int(_TIP_MM / slice_mm)
    below = _leading_tips(shares[max(first - reach, 0) : first][::-1])
    above = _leading_tips(shares[last + 1 : last + 1 + reach])
    return range(first - below, last + 1 + above)


def _leading_tips(shares: NDArray[np.float64]) -> int:
    """Return how many slices, from the first on, hold the tip of a lung."""
    return int(np.cumprod(shares >= _TIP_SHARE).sum())


def _lung_shares(slices: Array) -> NDArray[np.float64]:
    """Return the share of the body on each slice that is aerated lung."""
    count, rows, columns = slices.shape
    step = max(1, min(rows, columns) // _SIDE)
    rows, columns = rows // step, columns // step
    whole = slices[:, : rows * step, : columns * step].reshape(count, rows, step, columns, step)
    blocks = np.asarray(whole.mean(axis=(2, 4)), np.float32)
    padding = blocks < _PADDING
    # Air at the edge of the scanned field, square or round: from there the air around the body is reached.
    edge = cast("NDArray[Any]", ndimage.binary_dilation(padding, np.ones(_AROUND, bool)))
    edge[:, [0, -1], :] = edge[:, :, [0, -1]] = True
    smooth = ndimage.uniform_filter(np.maximum(blocks, np.float32(_PADDING)), _AROUND, mode="nearest")
    outside = ndimage.binary_propagation(padding | (edge & (smooth < _AIR)), _IN_PLANE, blocks < _TISSUE)
    body = ~np.asarray(outside, np.bool_)
    lung = body & (blocks > _LUNG[0]) & (blocks < _LUNG[1])
    return np.asarray(lung.sum(axis=(1, 2)) / np.maximum(body.sum(axis=(1, 2)), 1), np.float64)
