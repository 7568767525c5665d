"""What a training picture goes through, so that the network meets other rooms than ours."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.spine_radiograph.preprocess import stretched_range

Picture = NDArray[np.float32]
Boxes = NDArray[np.float32]

# A finding of which less than this is left in the crop no longer makes the picture abnormal.
_LEAST_PART = 0.35


def augmented(
    picture: NDArray[np.uint8],
    boxes: Boxes,
    side: int,
    random: np.random.Generator,
    *,
    keep_aspect: bool = False,
) -> tuple[Picture, Boxes]:
    """Return a moved, re-exposed copy of the picture and the boxes still in it.

    Shapes: picture (h, w) uint8 in, (side, side) float32 in 0 to 1 out; boxes (k, 5) as
    class, x0, y0, x1, y1 in fractions of the picture, in and out.
    """
    rows, columns = picture.shape
    zoom = random.uniform(0.85, 1.35)
    fit = np.asarray([side / columns, side / rows])
    scale = (np.full(2, fit.min()) if keep_aspect else fit) * zoom * random.uniform(0.94, 1.06, 2)
    angle = random.normal(0, np.radians(3))
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.asarray([[cos * scale[0], -sin * scale[1]], [sin * scale[0], cos * scale[1]]])
    if random.random() < 0.5:  # noqa: PLR2004  # a fair coin
        linear[0] *= -1
    room = 0.5 * side * max(zoom - 1, 0.08) * 0.8
    target = side / 2 + random.uniform(-room, room, 2)
    shift = target - linear @ np.asarray([columns / 2, rows / 2])
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    warped = cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=0)
    bright = np.asarray(warped, np.float32) / np.float32(255)
    return _exposed(bright, random), _moved(boxes, matrix, (rows, columns), side)


def _moved(boxes: Boxes, matrix: NDArray[np.float64], shape: tuple[int, int], side: int) -> Boxes:
    if not len(boxes):
        return boxes
    x, y = boxes[:, [1, 3, 1, 3]] * shape[1], boxes[:, [2, 2, 4, 4]] * shape[0]
    corners = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T / side
    low, high = corners.min(axis=1), corners.max(axis=1)
    kept_low, kept_high = np.clip(low, 0, 1), np.clip(high, 0, 1)
    part = np.prod(kept_high - kept_low, axis=1) / np.maximum(np.prod(high - low, axis=1), 1e-9)
    moved = np.concatenate([boxes[:, :1], kept_low, kept_high], axis=1).astype(np.float32)
    return np.asarray(moved[part >= _LEAST_PART], np.float32)


def _exposed(picture: Picture, random: np.random.Generator) -> Picture:
    """Return the picture with another curve, sharpness, noise and window."""
    if random.random() < 0.3:  # noqa: PLR2004
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), random.uniform(0.3, 0.9)), np.float32)
    picture = picture + random.standard_normal(picture.shape, dtype=np.float32) * np.float32(random.uniform(0, 0.02))
    picture = stretched_range(picture) ** np.float32(np.exp(random.normal(0, 0.3)))
    gain, offset = random.uniform(0.75, 1.1), random.uniform(-0.08, 0.08)
    return np.asarray(np.clip(picture * gain + offset, 0, 1), np.float32)


def cells(boxes: Boxes, classes: int, grid: int) -> NDArray[np.float32]:
    """Return which cells of a (classes, grid, grid) map a box covers, 1.0 or 0.0.

    A cell counts when the box covers a quarter of it, or when the box's center is in it.
    """
    covered = np.zeros((classes, grid, grid), np.float32)
    edges = np.arange(grid)
    for kind, x0, y0, x1, y1 in boxes:
        across = np.clip(np.minimum(edges + 1, x1 * grid) - np.maximum(edges, x0 * grid), 0, 1)
        down = np.clip(np.minimum(edges + 1, y1 * grid) - np.maximum(edges, y0 * grid), 0, 1)
        area = np.outer(down, across)
        inside = area >= 0.25  # noqa: PLR2004  # a quarter, as said above
        inside[min(int((y0 + y1) / 2 * grid), grid - 1), min(int((x0 + x1) / 2 * grid), grid - 1)] = True
        covered[int(kind)] = np.maximum(covered[int(kind)], inside)
    return covered
