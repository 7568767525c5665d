"""Augmentation of training pictures: turned, mirrored, moved, nearer or farther, in another light."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.skin_lesion.preprocess import Picture, resized_square

_ZOOM = (0.8, 1.3)
_SHIFT = 0.08
_GAIN, _OFFSET, _TINT = 0.2, 16.0, 0.06


def augmented_square(picture: Picture, side: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Return a random view of a square picture, larger than `side`, as a square of `side`.

    A lesion has no up and no left, so all angles and both mirrorings are equally likely. The margin is mirrored, so
    that no black corner shows that a picture was turned.
    """
    size = picture.shape[0]
    middle = (size - 1) / 2
    warp = cv2.getRotationMatrix2D((middle, middle), random.uniform(0, 360), random.uniform(*_ZOOM))
    warp[:, 2] += random.uniform(-_SHIFT, _SHIFT, 2) * size
    turned = cv2.warpAffine(picture, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if random.random() < 0.5:  # noqa: PLR2004  # a coin
        turned = turned[:, ::-1]
    square = resized_square(np.ascontiguousarray(turned, np.uint8), side).astype(np.float32)
    tint = random.uniform(1 - _TINT, 1 + _TINT, 3)
    exposed = square * (random.uniform(1 - _GAIN, 1 + _GAIN) * tint) + random.uniform(-_OFFSET, _OFFSET)
    return np.clip(exposed, 0, 255).astype(np.float32)
