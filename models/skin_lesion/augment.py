"""Augmentation of training pictures: by another camera, with hairs, with the marks of a ruler."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.skin_lesion.cameras import Camera
from ainode.models.skin_lesion.preprocess import COLUMNS, ROWS, Picture, without_tint

Box = tuple[int, int, int, int]
"""of a lesion: top, bottom, left, right, in pixels"""

_HAIRY, _THICK, _RULED = 0.35, 0.2, 0.1
_TINT = 0.05
_CELL = 16


def varied(
    picture: Picture, box: Box | None, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a picture as another camera renders it, as the network's input, and the lesion's share of each cell.

    Shapes: (144, 192, 3) in 0 to 255; (9, 12), 0 to 1, not a number where no box is known.
    """
    camera = Camera.drawn(random)
    placed = camera.place(picture, ROWS, COLUMNS)
    if random.random() < _HAIRY:
        _draw_hairs(placed, random)
    if random.random() < _RULED:
        _draw_ruler(placed, random)
    tint = random.uniform(1 - _TINT, 1 + _TINT, 3).astype(np.float32)
    seen = np.clip(without_tint(camera.developed(placed, random).astype(np.float32)) * tint, 0, 255)
    return seen.astype(np.float32), lesion_cells(picture, box, camera)


def lesion_cells(picture: Picture, box: Box | None, camera: Camera) -> NDArray[np.float32]:
    """Return how much of each cell lies on the lesion: on the ellipse in its box, where the camera puts it.

    Shapes: (9, 12), 0 to 1, not a number where no box is known.
    """
    shape = (ROWS // _CELL, COLUMNS // _CELL)
    if box is None:
        return np.full(shape, np.nan, np.float32)
    top, bottom, left, right = box
    lesion = np.zeros(picture.shape[:2], np.uint8)
    middle = (round((left + right) / 2), round((top + bottom) / 2))
    axes = (max(1, round((right - left) / 2)), max(1, round((bottom - top) / 2)))
    cv2.ellipse(lesion, middle, axes, 0, 0, 360, 255, cv2.FILLED)
    placed = camera.place(lesion, ROWS, COLUMNS).astype(np.float32) / 255
    return np.asarray(cv2.resize(placed, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _draw_hairs(picture: Picture, random: np.random.Generator) -> None:
    """Draw bent hairs of one color, dark or gray."""
    tone = random.uniform(20, 90) if random.random() < 0.85 else random.uniform(170, 230)  # noqa: PLR2004
    color = tuple(float(tone * share) for share in (1.1, 0.95, 0.85))
    rows, columns = picture.shape[:2]
    for _ in range(int(random.integers(2, 12))):
        start, end = random.uniform(-0.1, 1.1, (2, 2)) * (columns, rows)
        bend = (start + end) / 2 + random.normal(0, 0.15, 2) * rows
        steps = np.linspace(0, 1, 16)[:, None]
        curve = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * bend + steps**2 * end
        # Sixteenths of a pixel: hairs are thinner than a pixel and lie between pixels.
        points, thick = np.rint(curve * 16).astype(np.int32), 1 + int(random.random() < _THICK)
        cv2.polylines(picture, [points], False, color, thick, cv2.LINE_AA, 4)  # noqa: FBT003  # OpenCV's order


def _draw_ruler(picture: Picture, random: np.random.Generator) -> None:
    """Draw the ticks of a ruler along one edge."""
    rows, columns = picture.shape[:2]
    step, length = int(random.integers(6, 20)), int(random.integers(4, 14))
    tone = float(random.uniform(0, 80))
    is_across = random.random() < 0.5  # noqa: PLR2004  # a coin
    far = random.random() < 0.5  # noqa: PLR2004  # a coin
    for number, at in enumerate(range(step // 2, columns if is_across else rows, step)):
        reach = length * (2 if number % 5 == 0 else 1)
        edge = (rows if is_across else columns) - 1 if far else 0
        inner = edge - reach if far else edge + reach
        first, last = ((at, edge), (at, inner)) if is_across else ((edge, at), (inner, at))
        cv2.line(picture, first, last, (tone, tone, tone), 1, cv2.LINE_AA)
