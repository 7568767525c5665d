"""Changes of a training picture that leave its meaning: place, size, turn, bends, gray curve, noise, sharpness.

No picture is mirrored: the liver is on the right, and the place in the body is a part of the answer.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.pancreas_tumor.preprocess import COLUMNS, ROWS, Frame
from ainode.models.training.grays import GrayChanges

Picture = NDArray[np.uint8]

_TURN_DEGREES, _SHIFT = 15.0, 0.07
_ZOOM, _STRETCH = (0.78, 1.28), 0.1
# The farthest that a bend moves a pixel of the framed picture, and the number of bends along a side.
_BEND, _BENDS = 5.0, 5
# 30 HU are 19 of 255 gray levels.
_GRAYS = GrayChanges(gamma=0.25, gain=0.2, offset=22 / 255, noise=12 / 255, blur=1.3)


def varied(picture: Picture, mask: Picture, frame: Frame, random: np.random.Generator) -> tuple[Picture, Picture]:
    """Return a changed framed picture with the mask that follows it; the same generator gives the same change.

    Shapes: picture, mask (256, 256) in; both (160, 192) out, the mask 0 to 255 at its border.
    """
    columns, rows = _sampled_places(frame, random)
    moved = cv2.remap(picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    moved_mask = cv2.remap(mask * np.uint8(255), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    grays = _GRAYS.applied(np.asarray(moved, np.float32) / np.float32(255), random)
    return np.asarray(grays * 255, np.uint8), np.asarray(moved_mask, np.uint8)


def _sampled_places(frame: Frame, random: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the column and the row of the picture that each pixel of the changed framed picture shows."""
    turn, zoom = np.deg2rad(random.uniform(-_TURN_DEGREES, _TURN_DEGREES)), np.exp(random.uniform(*np.log(_ZOOM)))
    stretch = np.exp(random.uniform(-_STRETCH, _STRETCH))
    size = np.array((COLUMNS, ROWS))
    shift = random.uniform(-_SHIFT, _SHIFT, 2) * COLUMNS
    y, x = np.indices((ROWS, COLUMNS), np.float32)
    bends = [_bend(random) for _ in range(2)]
    x = (x - (size[0] - 1) / 2 + bends[0]) / (zoom * stretch)
    y = (y - (size[1] - 1) / 2 + bends[1]) / (zoom / stretch)
    turned_x = np.cos(turn) * x - np.sin(turn) * y + (size[0] - 1) / 2 + shift[0]
    turned_y = np.sin(turn) * x + np.cos(turn) * y + (size[1] - 1) / 2 + shift[1]
    (scale, _, left), (_, _, top) = frame.matrix
    return (turned_x * scale + left).astype(np.float32), (turned_y * scale + top).astype(np.float32)


def _bend(random: np.random.Generator) -> NDArray[np.float32]:
    coarse = random.uniform(-_BEND, _BEND, (_BENDS, _BENDS)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC), np.float32)
