"""From Hounsfield units, or from a windowed slice, to the network's input: the body alone, in a square."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.ct_tumor.card import Frame, Organ
from ainode.models.errors import UnusablePicture

Slice = NDArray[np.float32]
Picture = NDArray[np.uint8]


# The body is searched on pictures whose long side has these pixels, as the training pictures have.
_SEARCH_SIDE = 256
# Gray levels of 255: above fat's noise where fat is black, below fat where fat is gray.
_BRIGHT: Mapping[Frame, int] = {"ring": 60, "solid": 15}
# This width bridges the gaps between ribs, but not the fat and the mattress between muscle and table.
_BRIDGE = 7
# A table's foot can be in the lowest part of a picture or far to a side; the spine is in neither.
_TABLE_FROM = 0.8
_CENTRAL = 0.2
# From the spinous process to the skin of the back, of the picture's rows.
_BACK = 0.06
_SPECK = 12
_HEAVY = 0.3
# Wider than a table's shell, narrower than a body wall.
_SHELL = 9
# Between lung and fat.
_BODY_HU = -300.0
_MARGIN = 0.03
# A body takes at least this part of the picture; a smaller shape is a table alone, or text.
_LEAST_BODY = 0.04


@dataclass(frozen=True, slots=True)
class Placement:
    """The place of the network's input on the slice: a square at (left, top) of `side` pixels; rows, columns there."""

    left: float
    top: float
    side: float
    rows: int
    columns: int


def windowed_slice(hounsfield: Slice, level: float, width: float) -> Picture:
    """Return a slice as gray: 0 at and below level - width / 2, 255 at and above level + width / 2.

    Units: Hounsfield units. Source: PS3.3 C.11.2.1.3.2 (LINEAR_EXACT).
    """
    share = (np.asarray(hounsfield, np.float32) - (level - width / 2)) / width
    return np.asarray(np.rint(np.clip(share, 0, 1) * 255), np.uint8)


def body_square(picture: Picture, organ: Organ) -> tuple[Picture, Placement]:
    """Return the body of a windowed slice, alone in a square, and the square's placement.

    Everything outside the body's convex hull (table, arms' supports, burned-in text) is black: such things tell one
    scanner from another, and so one class from another, but nothing about the patient.
    Shapes: picture (rows, columns) in; (side, side) out.
    Raises: UnusablePicture when the picture shows no body.
    """
    bright = (cv2.medianBlur(_search_picture(picture), 3) > _BRIGHT[organ.frame]).astype(np.uint8)
    body = _parts_above_the_table(bright) if organ.frame == "ring" else _largest_solid(bright)
    return _hull_square(picture, body, organ)


def body_square_of_scan(hounsfield: Slice, organ: Organ) -> tuple[Picture, Placement]:
    """Return the body of a slice in Hounsfield units, alone in a square, and the square's placement.

    Hounsfield units tell a body from a table better than a window does.
    Shapes: hounsfield (rows, columns) in; (side, side) out.
    Raises: UnusablePicture when the slice shows no body.
    """
    picture = windowed_slice(hounsfield, organ.level, organ.width)
    solid = _largest_solid((_search_picture(np.asarray(hounsfield, np.float32)) > _BODY_HU).astype(np.uint8))
    bright = cv2.medianBlur(_search_picture(picture), 3) > _BRIGHT[organ.frame]
    # The hull of the solid: the inside of the lungs belongs to the body, the table does not.
    solid_hull = _filled_hull(_hull(solid), solid.shape)
    return _hull_square(picture, bright & solid_hull, organ)


def map_on_slice_grid(coarse_map: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """Return a map of the network's input, at any resolution, on the slice's own grid; 0 outside of the input.

    Shapes: coarse_map (h, w) covers the whole input; out (rows, columns).
    """
    height, width = coarse_map.shape
    step = placement.side / width
    # Pixel centers: the middle of cell 0 lies half a cell from the square's edge.
    matrix = np.asarray(
        [
            [step, 0, placement.left + step / 2 - 0.5],
            [0, placement.side / height, placement.top + placement.side / height / 2 - 0.5],
        ]
    )
    padded = cv2.copyMakeBorder(coarse_map, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    matrix[:, 2] -= matrix[:, :2] @ np.ones(2)
    large = cv2.warpAffine(padded, matrix, (placement.columns, placement.rows), flags=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)


def network_input(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return gray pictures (n, side, side) as the network's input (n, side, side, 3) in 0 to 255."""
    return np.repeat(pictures[..., None], 3, axis=-1).astype(np.float32)


def _search_picture(values: NDArray[Any]) -> NDArray[Any]:
    """Return a slice at the size of the search for the body: the long side has `_SEARCH_SIDE` pixels."""
    rows, columns = values.shape
    scale = max(rows, columns) / _SEARCH_SIDE
    return _resized_picture(values, (max(1, round(columns / scale)), max(1, round(rows / scale))))


def _hull_square(picture: Picture, body: NDArray[np.bool_], organ: Organ) -> tuple[Picture, Placement]:
    """Return the square in the middle of the body's hull, black outside of the hull; `body` has the search's size."""
    rows, columns = picture.shape
    hull = _hull(body)
    step = np.asarray([columns / body.shape[1], rows / body.shape[0]])
    first, last = hull.min(axis=0) * step, (hull.max(axis=0) + 1) * step
    length = float((last - first).max()) * (1 + 2 * _MARGIN) * organ.part
    left, top = (first + last) / 2 - length / 2
    filled_hull = _filled_hull(hull, body.shape).astype(np.uint8)
    inside = cv2.resize(filled_hull, (columns, rows), interpolation=cv2.INTER_NEAREST) > 0
    placement = Placement(float(left), float(top), length, rows, columns)
    return _resized_square(np.where(inside, picture, np.uint8(0)), placement, organ.side), placement


def _hull(body: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the convex hull of the body as (n, 2) column and row."""
    if not body.any():
        raise UnusablePicture("nothing bright enough for a body: another window, or an empty slice")
    points = np.argwhere(body)[:, ::-1].astype(np.int32)
    hull = np.asarray(cv2.convexHull(points))[:, 0]
    if cv2.contourArea(hull) < _LEAST_BODY * body.size:
        # Bone in parts does not show which part is the body, so the whole slice is the hull.
        rows, columns = body.shape
        hull = np.asarray([(0, 0), (columns - 1, 0), (columns - 1, rows - 1), (0, rows - 1)])
    return cast("NDArray[np.int32]", hull.astype(np.int32))


def _filled_hull(hull: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask of a shape that is True in the hull."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(mask, hull, 1)
    return np.asarray(mask > 0)


def _parts_above_the_table(bright: Picture) -> NDArray[np.bool_]:
    """Return bone and muscle: the spine, and every part that does not reach far below the spine."""
    rows, columns = bright.shape
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(bright, _disk(_BRIDGE)))
    middles = np.asarray([np.argwhere(labels == number).mean(axis=0) for number in range(count)])
    masses = np.bincount(labels[bright > 0], minlength=count)
    masses[0] = 0
    is_high = (middles[:, 0] - rows / 2) / max(rows, columns) + 0.5 < _TABLE_FROM
    is_central = np.abs(middles[:, 1] / columns - 0.5) < _CENTRAL
    bottoms = boxes[:, cv2.CC_STAT_TOP] + boxes[:, cv2.CC_STAT_HEIGHT]
    # A heart full of contrast weighs more than the spine, but does not reach as far back.
    central_masses = masses * is_high * is_central
    spine = int(np.argmax(bottoms * (central_masses >= _HEAVY * central_masses.max()) * (central_masses > 0)))
    is_body = (bottoms <= bottoms[spine] + _BACK * max(rows, columns)) & (masses >= _SPECK) & is_high
    return np.asarray(is_body[labels] & (bright > 0))


def _largest_solid(bright: Picture) -> NDArray[np.bool_]:
    """Return the largest part that is thicker than a table's shell."""
    solid = cv2.morphologyEx(bright, cv2.MORPH_OPEN, _disk(_SHELL))
    count, labels = cv2.connectedComponents(solid)
    sizes = np.bincount(labels.ravel(), minlength=count)
    sizes[0] = 0
    return np.asarray((labels == np.argmax(sizes)) & (solid > 0))


def _resized_square(picture: Picture, placement: Placement, side: int) -> Picture:
    """Return the placement's square of a picture at another size, averaged when it shrinks, black outside."""
    left, top, length = round(placement.left), round(placement.top), max(1, round(placement.side))
    square = np.zeros((length, length), np.uint8)
    rows = slice(max(top, 0), min(top + length, placement.rows))
    columns = slice(max(left, 0), min(left + length, placement.columns))
    square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = picture[rows, columns]
    return _resized_picture(square, (side, side))


def _resized_picture(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    shrinks = size[0] * size[1] < picture.size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=method))


def _disk(diameter: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter)), np.uint8)
