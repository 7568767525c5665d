"""Radiographs that are no spine: what a check of the input must tell apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ainode.models.phantoms.canvas import Canvas, smooth_noise
from ainode.models.phantoms.spine_tissue import CORTEX, SPONGY, WATER

KINDS = ("HAND", "CHEST", "UNIFORM", "NOISE")
_WHITE = 4095


def other_radiograph(
    random: np.random.Generator, kind: str, *, rows: int = 1024, columns: int = 768
) -> NDArray[np.uint16]:
    """Return a picture of that kind, 12 bit, larger is brighter.

    Raises: ValueError for an unknown kind.
    """
    if kind == "UNIFORM":
        return np.full((rows, columns), 2000, np.uint16)
    if kind == "NOISE":
        return random.integers(0, _WHITE + 1, (rows, columns)).astype(np.uint16)
    if kind not in KINDS:
        raise ValueError(f"no phantom of {kind}: {', '.join(KINDS)}")
    canvas = Canvas.blank(rows, columns, 240.0 if kind == "HAND" else 430.0)
    (_hand if kind == "HAND" else _chest)(canvas, random)
    attenuation = canvas.attenuation * (1 + 0.02 * smooth_noise(random, (rows, columns), 40))
    low, high = np.percentile(attenuation, [1, 99.7])
    return np.asarray(np.clip((attenuation - low) / max(high - low, 1e-3), 0, 1) * _WHITE, np.uint16)


def _hand(canvas: Canvas, random: np.random.Generator) -> None:
    canvas.ellipsoid((0, 45), (42, 50), WATER * 28)
    for finger in range(5):
        angle = np.radians(-38 + 19 * finger + random.normal(0, 2))
        direction = np.asarray([np.sin(angle), -np.cos(angle)])
        start = np.asarray([-26 + 13 * finger, 20.0])
        lengths = np.asarray([0, 38, 64, 84, 100]) * (0.8 if finger in (0, 4) else 1.0)
        canvas.stroke(start + direction * lengths[:, None], 17, WATER * 16)
        for near, far in pairwise(lengths):
            bone = start + direction * np.asarray([[near + 2], [far - 2]])
            canvas.stroke(bone, 8, SPONGY * 30)
            canvas.stroke(bone, 9, CORTEX * 4)
    for wrist in (-12, 12):
        canvas.stroke(np.asarray([[wrist, 90.0], [wrist, 130.0]]), 16, SPONGY * 30)


def _chest(canvas: Canvas, random: np.random.Generator) -> None:
    canvas.ellipsoid((0, 40), (190, 300), WATER * 210)
    for side in (-1, 1):
        canvas.ellipsoid((side * 80, -10), (62, 125), -random.uniform(2.2, 2.9))
        for rib in range(9):
            t = np.linspace(0, 1, 12)
            x = side * (18 + 120 * np.sin(t * np.pi / 2))
            canvas.stroke(np.stack([x, -120 + 25 * rib + 40 * t**1.7], axis=1), 7, SPONGY * 10)
    canvas.ellipsoid((30, 45), (62, 58), 1.6, angle=0.5)
    canvas.ellipsoid((0, -40), (26, 120), 1.3)
