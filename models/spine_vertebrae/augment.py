"""Training films at other places, sizes and grays: turned, mirrored, cut, inverted."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.spine_vertebrae.dataset import Film
from ainode.models.spine_vertebrae.preprocess import COLUMNS, ROWS, Picture, Placement, equalized, fitted
from ainode.models.training.grays import GrayChanges

_TURN_DEGREES, _SHIFT = 10.0, 0.10
_ZOOM = (0.62, 1.35)
_GRAYS = GrayChanges(gamma=0.5, gain=0.15, offset=0.08, noise=0.05, blur=1.2)
_INVERTED, _MIRRORED = 0.15, 0.5


def varied(film: Film, random: np.random.Generator) -> tuple[Picture, NDArray[np.float64]]:
    """Return a changed film in the network's input and its corners there; the same generator gives the same change.

    Shapes: (640, 320) in 0 to 1; corners (17, 4, 2) of which some may lie outside.
    """
    mirrored = random.random() < _MIRRORED
    place = _place(film.picture.shape, random, mirrored=mirrored)
    corners = place.on_input(film.corners.astype(np.float64))
    if mirrored:
        corners = corners[:, [1, 0, 3, 2]]
    picture = place.applied(equalized(film.picture))
    exposed = 1 - picture if random.random() < _INVERTED else picture
    return _GRAYS.applied(np.clip(exposed, 0, 1), random), corners


def _place(shape: tuple[int, ...], random: np.random.Generator, *, mirrored: bool) -> Placement:
    # A picture wider than the input is seen whole, or as large as its height fits: the spine stands in the middle.
    rows, columns = shape
    wide = float(np.exp(random.uniform(0, np.log(max(1.0, columns * ROWS / (rows * COLUMNS))))))
    larger = float(np.exp(random.uniform(*np.log(_ZOOM))))
    zoom = larger * wide
    matrix = np.vstack([fitted(*shape, zoom=zoom).matrix, [0, 0, 1]])
    middle = np.array([COLUMNS / 2, ROWS / 2])
    turn = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), random.uniform(-1, 1) * _TURN_DEGREES, 1.0)
    turn = np.vstack([turn, [0, 0, 1]])
    # A film larger than the input is shifted as far as its edge: the upper or the lower half is all that shows.
    room = max(larger - 1, 0) / 2 + _SHIFT
    turn[:2, 2] = turn[:2, 2] + random.uniform(-room, room, 2) * np.array([COLUMNS, ROWS])
    if mirrored:
        turn = np.array([[-1, 0, COLUMNS], [0, 1, 0], [0, 0, 1]]) @ turn
    return Placement((turn @ matrix)[:2])
