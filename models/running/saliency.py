"""Activation maps: a map scaled to a peak of 1, a map in its place, and several networks' maps as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


def rectified_map(activation: Map) -> Map:
    """Return the positive part of a map, scaled to a peak of 1; a map without a positive part is all zero.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, equation 2 (the ReLU).
    """
    positive = np.maximum(activation, 0)
    peak = float(positive.max(initial=0.0))
    return (positive / peak if peak > 0 else positive).astype(np.float32)


def recentered_map(activation: Map, shift: NDArray[np.float32]) -> Map:
    """Return a map whose cells look at what lies under them; `shift` is how far below and right of a cell it looks.

    Linear between cells; beyond the outer cells the map goes on as they are.
    Shapes: activation (..., h, w); shift (2,), in cells; out as activation.
    """
    from scipy import ndimage  # noqa: PLC0415  # half a second to import, and most networks have no shift

    no_shift = (0.0,) * (activation.ndim - 2)
    return np.asarray(ndimage.shift(activation, (*no_shift, *shift.tolist()), order=1, mode="nearest"), np.float32)


def weighted_map(maps: NDArray[np.float32], weights: Sequence[float]) -> Map:
    """Return the weighted mean of rectified maps, scaled to a peak of 1.

    Shapes: maps (n, ...), one per network; weights n; out (...).
    """
    total = sum(
        (weight * rectified_map(map_) for weight, map_ in zip(weights, maps, strict=True)), np.zeros(maps.shape[1:])
    )
    return rectified_map(np.asarray(total, np.float32))
