"""Augmentation of training pictures: other positions, exposures and windows than the phantom's."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.spine_radiograph.preprocess import normalized_range

Picture = NDArray[np.float32]
Boxes = NDArray[np.float32]

# A finding with less than this part in the crop no longer makes the picture abnormal.
_LEAST_PART = 0.35


def augmented_example(
    picture: NDArray[np.uint8],
    boxes: Boxes,
    side: int,
    random: np.random.Generator,
    *,
    keep_aspect: bool = False,
) -> tuple[Picture, Boxes]:
    """Return a moved, re-exposed copy of the picture, and the boxes that the copy still shows.

    Shapes: picture (h, w) uint8 in, (side, side) float32 in 0 to 1 out; boxes (k, 5) as
    class, x0, y0, x1, y1 in fractions of the picture, in and out.
    """
    rows, columns = picture.shape
    zoom = random.uniform(0.85, 1.35)
    stretch = np.asarray([side / columns, side / rows])
    scale = (np.full(2, stretch.min()) if keep_aspect else stretch) * zoom * random.uniform(0.94, 1.06, 2)
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
    return _exposed_picture(bright, random), _moved_boxes(boxes, matrix, (rows, columns), side)


def _moved_boxes(boxes: Boxes, matrix: NDArray[np.float64], shape: tuple[int, int], side: int) -> Boxes:
    """Return the boxes under an affine matrix, clipped to the square; boxes mostly outside are left out."""
    if not len(boxes):
        return boxes
    x, y = boxes[:, [1, 3, 1, 3]] * shape[1], boxes[:, [2, 2, 4, 4]] * shape[0]
    corners = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T / side
    low, high = corners.min(axis=1), corners.max(axis=1)
    clipped_low, clipped_high = np.clip(low, 0, 1), np.clip(high, 0, 1)
    visible_part = np.prod(clipped_high - clipped_low, axis=1) / np.maximum(np.prod(high - low, axis=1), 1e-9)
    moved = np.concatenate([boxes[:, :1], clipped_low, clipped_high], axis=1).astype(np.float32)
    return np.asarray(moved[visible_part >= _LEAST_PART], np.float32)


def _exposed_picture(picture: Picture, random: np.random.Generator) -> Picture:
    """Return the picture with a random curve, sharpness, noise and window."""
    if random.random() < 0.3:  # noqa: PLR2004
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), random.uniform(0.3, 0.9)), np.float32)
    picture = picture + random.standard_normal(picture.shape, dtype=np.float32) * np.float32(random.uniform(0, 0.02))
    picture = normalized_range(picture) ** np.float32(np.exp(random.normal(0, 0.3)))
    gain, offset = random.uniform(0.75, 1.1), random.uniform(-0.08, 0.08)
    return np.asarray(np.clip(picture * gain + offset, 0, 1), np.float32)


def occupied_cells(boxes: Boxes, classes: int, grid: int) -> NDArray[np.float32]:
    """Return a (classes, grid, grid) map: 1.0 in each cell that a box of the class occupies, else 0.0.

    A box occupies a cell when it covers a quarter of the cell, or when its center is in the cell.
    """
    covered = np.zeros((classes, grid, grid), np.float32)
    edges = np.arange(grid)
    for kind, x0, y0, x1, y1 in boxes:
        part_of_column = np.clip(np.minimum(edges + 1, x1 * grid) - np.maximum(edges, x0 * grid), 0, 1)
        part_of_row = np.clip(np.minimum(edges + 1, y1 * grid) - np.maximum(edges, y0 * grid), 0, 1)
        area = np.outer(part_of_row, part_of_column)
        inside = area >= 0.25  # noqa: PLR2004  # a quarter of the cell
        inside[min(int((y0 + y1) / 2 * grid), grid - 1), min(int((x0 + x1) / 2 * grid), grid - 1)] = True
        covered[int(kind)] = np.maximum(covered[int(kind)], inside)
    return covered
