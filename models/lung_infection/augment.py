"""Changes of a training picture that leave its meaning: place, size, mirror, gray curve, noise, sharpness."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.training.grays import GrayChanges

Picture = NDArray[np.uint8]

_TURN_DEGREES, _SHIFT = 12.0, 0.08
_ZOOM = (0.75, 1.3)
_GRAYS = GrayChanges(gamma=0.35, gain=0.15, offset=20 / 255, noise=14 / 255, blur=1.2)


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
    grays = _GRAYS.applied(np.asarray(moved, np.float32) / np.float32(255), random)
    return np.asarray(grays * 255, np.uint8), np.asarray(moved_mask, np.uint8)
