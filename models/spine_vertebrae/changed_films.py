"""Films as other sites may send them: cut, turned, as a negative, small in a large field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.spine_vertebrae.dataset import Film
from ainode.models.spine_vertebrae.geometry import curves, largest

_DEGREES = 5.0
_PART = 0.6
# A vertebra is in a part of a film if it is this far from the cut, in pixels.
_INSIDE = 8
_FIELD = (2, 3)
"""rows and columns of the large field, in those of the film"""


def upper_part(film: Film) -> Film:
    """Return the upper 60 % of a film, with the largest angle of the vertebrae in it."""
    return _part(film, 0, round(_PART * film.picture.shape[0]))


def lower_part(film: Film) -> Film:
    """Return the lower 60 % of a film, with the largest angle of the vertebrae in it."""
    rows = film.picture.shape[0]
    return _part(film, round((1 - _PART) * rows), rows)


def turned(film: Film) -> Film:
    """Return a film turned by 5 degrees."""
    rows, columns = film.picture.shape
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), _DEGREES, 0.95)
    picture = cv2.warpAffine(film.picture, matrix, (columns, rows))
    corners = film.corners @ matrix[:, :2].T + matrix[:, 2]
    return replace(film, picture=np.asarray(picture, np.uint8), corners=corners.astype(np.float32))


def negative(film: Film) -> Film:
    """Return a film as a negative, as a wrong Photometric Interpretation shows it."""
    return replace(film, picture=255 - film.picture)


def small(film: Film) -> Film:
    """Return a film in the middle of a large dark field, as a child on a large receptor."""
    rows, columns = film.picture.shape
    field: NDArray[np.uint8] = np.full((_FIELD[0] * rows, _FIELD[1] * columns), film.picture.min(), np.uint8)
    field[rows // 2 : rows // 2 + rows, columns : 2 * columns] = film.picture
    return replace(film, picture=field, corners=film.corners + np.array([columns, rows // 2], np.float32))


def upside_down(film: Film) -> Film:
    """Return a film with the head below, without corners: a reading would count the vertebrae from the feet."""
    return _without_corners(film, film.picture[::-1, ::-1])


def quarter_turned(film: Film) -> Film:
    """Return a film on its side, without corners."""
    return _without_corners(film, np.rot90(film.picture))


def _without_corners(film: Film, picture: NDArray[np.uint8]) -> Film:
    corners = np.zeros((0, 4, 2), np.float32)
    return replace(film, picture=np.ascontiguousarray(picture), corners=corners, has_right_corners=False)


def _part(film: Film, first: int, end: int) -> Film:
    heights = film.corners[:, :, 1]
    is_inside = ((heights > first + _INSIDE) & (heights < end - _INSIDE)).all(axis=1)
    corners = film.corners[is_inside] - np.array([0, first], np.float32)
    angle = largest(curves(corners.astype(np.float64))).angle
    return replace(film, picture=film.picture[first:end], corners=corners, largest_angle=angle)


CHANGES: Mapping[str, Callable[[Film], Film]] = {
    "upper 60 %": upper_part,
    "lower 60 %": lower_part,
    "turned by 5 degrees": turned,
    "negative": negative,
    "small in a large field": small,
}
REFUSED: Mapping[str, Callable[[Film], Film]] = {
    "upside down": upside_down,
    "turned by 90 degrees": quarter_turned,
}
