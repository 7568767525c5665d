"""A synthetic dermoscopic picture: skin, one pigmented lesion, a few hairs. For demonstrations and tests only."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SKIN = (224.0, 176.0, 152.0)
_LIGHT, _DARK = (150.0, 98.0, 72.0), (72.0, 44.0, 40.0)


def skin_lesion(
    random: np.random.Generator, *, rows: int = 450, columns: int = 600, malignant: bool = True
) -> NDArray[np.uint8]:
    """Return a picture with a lesion in its middle; a malignant lesion has a ragged border and several colors.

    Shapes: (rows, columns, 3) uint8, RGB.
    """
    raggedness = 0.22 if malignant else 0.05
    height, across = np.mgrid[0:rows, 0:columns].astype(np.float64)
    center = np.array([rows, columns]) / 2 + random.uniform(-0.05, 0.05, 2) * rows
    distance = np.hypot(height - center[0], across - center[1])
    angle = np.arctan2(height - center[0], across - center[1])
    radius = np.full_like(angle, rows * random.uniform(0.22, 0.32))
    for order in range(2, 7):
        radius *= 1 + raggedness / order * np.cos(order * angle + random.uniform(0, 2 * np.pi))
    inside = 1 / (1 + np.exp((distance - radius) / (rows * (0.012 if malignant else 0.025))))
    patches = _smooth_noise(random, (rows, columns), rows / 12)
    depth = np.clip(0.4 + (0.35 if malignant else 0.08) * patches, 0, 1)[:, :, None]
    pigment = (1 - depth) * np.array(_LIGHT) + depth * np.array(_DARK)
    skin = np.array(_SKIN) + 5 * _smooth_noise(random, (rows, columns), rows / 40)[:, :, None]
    color = inside[:, :, None] * pigment + (1 - inside[:, :, None]) * skin
    light = 1 - 0.18 * (np.hypot(height - rows / 2, across - columns / 2) / np.hypot(rows / 2, columns / 2)) ** 2
    noisy = color * light[:, :, None] + random.normal(0, 2.5, (rows, columns, 1))
    return _picture_with_hairs(random, np.clip(noisy, 0, 255).astype(np.uint8))


def _smooth_noise(random: np.random.Generator, shape: tuple[int, int], width: float) -> NDArray[np.float64]:
    """Return noise of unit deviation with patches about `width` pixels wide."""
    noise = cv2.GaussianBlur(random.normal(0, 1, shape), (0, 0), width)
    return np.asarray(noise / max(float(noise.std()), 1e-9), np.float64)


def _picture_with_hairs(random: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = picture.shape[:2]
    for _ in range(int(random.integers(2, 6))):
        start, end = random.uniform(0, 1, (2, 2)) * (columns, rows)
        bend = (start + end) / 2 + random.normal(0, 0.1, 2) * rows
        steps = np.linspace(0, 1, 32)[:, None]
        curve = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * bend + steps**2 * end
        thick = max(1, rows // 300)
        cv2.polylines(picture, [np.rint(curve).astype(np.int32)], False, (52, 36, 30), thick, cv2.LINE_AA)  # noqa: FBT003  # OpenCV's own order
    return picture
