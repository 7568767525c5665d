"""The views of a picture that are read and averaged: as it is, mirrored left to right, top to bottom, both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

View = tuple[int, int]
"""steps along rows and columns"""
VIEWS: tuple[View, ...] = ((1, 1), (1, -1), (-1, 1), (-1, -1))


def viewed(pictures: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Return pictures (n, rows, columns, 3) in a view as a network takes them, (n, 3, rows, columns)."""
    down, right = view
    return np.ascontiguousarray(pictures[:, ::down, ::right].transpose(0, 3, 1, 2))


def mean_of_views(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of maps (views, h, w), one of each view, on the picture as it is."""
    unturned = [map_[::down, ::right] for map_, (down, right) in zip(maps, VIEWS, strict=True)]
    return np.asarray(np.mean(unturned, axis=0), np.float32)
