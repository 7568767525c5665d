"""The diameters and the contours of a nodule's mask."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform

from ainode.models.following.grid import Grid, Position, triple

Mask = NDArray[np.bool_]

_RIM = 0.5
"""voxels from the outermost centers to the edge: the mean of balls of 5 to 20 mm"""


def axes_mm(mask: Mask, pixel_mm: tuple[float, float]) -> tuple[float, float]:
    """Return the long and the short axis of a mask (Z, Y, X), in the layer with the largest mean.

    Units: `pixel_mm` is the distance of rows and of columns.
    """
    return max((_layer_axes(layer, pixel_mm) for layer in mask if layer.any()), key=sum)


def maximum_mm(mask: Mask, step_mm: float) -> float:
    """Return the largest diameter of a mask of cubic voxels in any direction."""
    return (float(pdist(_hull(np.argwhere(mask))).max(initial=0.0)) + _RIM) * step_mm


def contours(patch: Grid, mask: Mask, scan: Grid) -> Iterator[tuple[Position, ...]]:
    """Yield the contour of each part of a mask in each slice of the scan, from the feet to the head.

    Volume and axes are those of all parts. A line or a point has no contour. The mask has the shape of the patch, and
    the patch has the axes of the scan.
    """
    layers = np.arange(len(mask))
    depths = scan.indices(patch.positions(np.stack([layers, 0 * layers, 0 * layers], -1)))[:, 0]
    for number in range(math.ceil(depths[0]), math.floor(depths[-1]) + 1):
        layer = int(np.abs(depths - number).argmin())
        polygons, _ = cv2.findContours(mask[layer].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        parts = (polygon.reshape(-1, 2) for polygon in polygons)
        for points in (part for part in parts if len(part) > 2):  # noqa: PLR2004 - a polygon
            # A point between two layers would leave the plane of the contour.
            indices = np.array([(layer, row, column) for column, row in (*points, points[0])])
            corners = patch.positions(indices)
            yield tuple(triple(corner) for corner in corners)


def _layer_axes(layer: Mask, pixel_mm: tuple[float, float]) -> tuple[float, float]:
    """Return the longest diameter of a mask's layer, and the mask's width across that diameter, in mm."""
    points = _hull(np.argwhere(layer)) * np.asarray(pixel_mm)
    distances = squareform(pdist(points))
    first, second = np.unravel_index(int(distances.argmax()), distances.shape)
    diameter = points[second] - points[first]
    length = float(np.linalg.norm(diameter))
    across = np.ptp(points @ np.asarray((-diameter[1], diameter[0]))) / length if length else 0.0
    rim_mm = _RIM * sum(pixel_mm) / 2
    return length + rim_mm, float(across) + rim_mm


def _hull(points: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the corners of the points' convex hull; all points if they are too few or on one line or plane."""
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except (QhullError, ValueError):
        return points
