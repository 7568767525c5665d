"""Changes of a training picture that leave its meaning: place, size, mirror, gray curve, noise, sharpness."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

_TURN_DEGREES, _SHIFT = 12.0, 0.08
_ZOOM = (0.75, 1.3)
_GAMMA, _GAIN, _OFFSET = 0.35, 0.15, 20.0
_NOISE, _BLUR = 14.0, 1.2


def varied(picture: Picture, mask: Picture, random: np.random.Generator) -> tuple[Picture, Picture]:
    """Return a changed picture with the mask that follows it; the same generator gives the same change."""
    rows, columns = picture.shape
    turn, zoom = random.uniform(-_TURN_DEGREES, _TURN_DEGREES), float(np.exp(random.uniform(*np.log(_ZOOM))))
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), turn, zoom)
    matrix[:, 2] = matrix[:, 2] + random.uniform(-_SHIFT, _SHIFT, 2) * np.array((columns, rows))
    if random.random() < 0.5:  # noqa: PLR2004  # every second picture is mirrored
        matrix = matrix @ np.array([[-1, 0, columns - 1], [0, 1, 0], [0, 0, 1]])
    size = (columns, rows)
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved_mask = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return _other_grays(np.asarray(moved), random), np.asarray(moved_mask, np.uint8)


def _other_grays(picture: Picture, random: np.random.Generator) -> Picture:
    values: NDArray[Any] = picture.astype(np.float32) / 255
    values = values ** np.float32(np.exp(random.uniform(-_GAMMA, _GAMMA))) * 255
    values = values * np.float32(1 + random.uniform(-_GAIN, _GAIN)) + np.float32(random.uniform(-_OFFSET, _OFFSET))
    match random.integers(3):
        case 0:
            values = np.asarray(cv2.GaussianBlur(values, (0, 0), random.uniform(0.3, _BLUR)), np.float32)
        case 1:
            values = values + random.normal(0, random.uniform(0, _NOISE), values.shape).astype(np.float32)
    return np.asarray(np.clip(values, 0, 255), np.uint8)
