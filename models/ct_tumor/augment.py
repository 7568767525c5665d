"""Augmentation of training slices: other positions, windows, kernels and noise than the scanner's."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

# Side of a hole, in parts of the picture: smaller than a lung, larger than a clip or the edge of a table.
_HOLE = (0.05, 0.2)


def augmented_picture(picture: Picture, random: np.random.Generator) -> Picture:
    """Return a moved, mirrored, re-windowed, sharper or softer copy; three in ten copies have a hole."""
    moved = _moved_picture(picture, random)
    exposed = _exposed_picture(moved, random)
    if random.random() < 0.3:  # noqa: PLR2004  # the share of copies with a hole
        side = picture.shape[0]
        height, width = (np.asarray(random.uniform(*_HOLE, 2)) * side).astype(int)
        top, left = random.integers(0, side - height), random.integers(0, side - width)
        exposed[top : top + height, left : left + width] = 0
    return exposed


def _moved_picture(picture: Picture, random: np.random.Generator) -> Picture:
    """Return the picture turned, scaled and shifted at random, mirrored in half of the cases."""
    side = picture.shape[0]
    middle = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), random.normal(0, 6), random.uniform(0.8, 1.15))
    matrix[:, 2] += random.uniform(-0.06, 0.06, 2) * side
    if random.random() < 0.5:  # noqa: PLR2004  # a fair coin; a heart on the right is rare, but no tumor
        picture = np.ascontiguousarray(picture[:, ::-1])
    return np.asarray(cv2.warpAffine(picture, matrix, (side, side)), np.uint8)


def _exposed_picture(picture: Picture, random: np.random.Generator) -> Picture:
    """Return the picture with a random gamma, contrast, kernel and noise."""
    gray = picture.astype(np.float32) / 255
    softness = random.uniform(-1.5, 1.2)
    if softness > 0.2:  # noqa: PLR2004  # below this the kernel is a delta
        gray = np.asarray(cv2.GaussianBlur(gray, (0, 0), softness), np.float32)
    gray = gray ** np.exp(random.normal(0, 0.25)) * random.uniform(0.8, 1.2)
    if random.random() < 0.5:  # noqa: PLR2004  # a fair coin
        gray += np.where(gray > 0, random.standard_normal(gray.shape) * random.uniform(0, 0.06), 0)
    return np.asarray(np.rint(np.clip(gray, 0, 1) * 255), np.uint8)
