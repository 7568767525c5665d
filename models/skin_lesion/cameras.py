"""Other cameras, in simulation: their light, their optics, their distance, and what lies before their lens."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.skin_lesion.preprocess import Picture

Values = NDArray[np.float32]
_WHITE = 255.0
_COIN = 0.5


@dataclass(frozen=True, slots=True)
class Camera:
    """How a camera renders a picture; the fields' defaults change nothing.

    Units: `turn` degrees; `shift` parts of the picture's height; `blur` and `radius` parts of the picture's height;
    `noise` and `jpeg` of 255 and of 100.
    """

    zoom: float = 1.0
    turn: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    stretch: float = 1.0
    mirrored: bool = False
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    saturation: float = 1.0
    contrast: float = 1.0
    vignette: float = 0.0
    radius: float = 0.0
    """of the round opening, black outside; 0 without one"""
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 100

    @classmethod
    def drawn(cls, random: np.random.Generator) -> Camera:
        """Return a camera at random: any angle and both mirrorings, for a lesion has no up and no left."""
        gains = np.exp(random.normal(0, 0.12, 3))
        return cls(
            zoom=float(np.exp(random.uniform(np.log(0.7), np.log(1.5)))),
            turn=float(random.uniform(0, 360)),
            shift=(float(random.uniform(-0.1, 0.1)), float(random.uniform(-0.1, 0.1))),
            stretch=float(np.exp(random.normal(0, 0.06))),
            mirrored=bool(random.random() < _COIN),
            gains=(float(gains[0]), float(gains[1]), float(gains[2])),
            gamma=float(np.exp(random.normal(0, 0.25))),
            saturation=float(np.exp(random.normal(0, 0.25))),
            contrast=float(np.exp(random.normal(0, 0.15))),
            vignette=float(random.uniform(0, 0.6) * (random.random() < 0.4)),  # noqa: PLR2004  # two of five
            radius=float(random.uniform(0.5, 0.75) * (random.random() < 0.15)),  # noqa: PLR2004  # one of seven
            blur=float(random.uniform(0, 0.012) * (random.random() < 0.4)),  # noqa: PLR2004
            noise=float(random.uniform(0, 8) * (random.random() < 0.4)),  # noqa: PLR2004
            jpeg=int(random.integers(25, 90)) if random.random() < 0.3 else 100,  # noqa: PLR2004
        )

    def place(self, values: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
        """Return pixels as rows x columns, turned, mirrored, moved, nearer or farther; mirrored beyond the edges."""
        high, wide = values.shape[:2]
        scale = self.zoom * rows / high
        turn = cv2.getRotationMatrix2D((wide / 2, high / 2), self.turn, 1.0)
        linear = np.diag([self.stretch, 1 / self.stretch]) @ turn[:, :2] * scale
        if self.mirrored:
            linear[:, 0] *= -1
        middle = np.array([columns, rows]) / 2 + np.array(self.shift) * rows
        offset = middle - linear @ (np.array([wide, high]) / 2)
        # From the middles of pixels to the middles of pixels.
        offset += linear @ np.array([0.5, 0.5]) - 0.5
        warp = np.column_stack([linear, offset])
        method, border = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
        return np.asarray(cv2.warpAffine(values, warp, (columns, rows), flags=method, borderMode=border), np.uint8)

    def developed(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Return the picture in the camera's light and colors, behind its opening; `random` draws the noise."""
        values = np.power(picture.astype(np.float32) / _WHITE, np.float32(self.gamma))
        gray = values.mean(axis=2, keepdims=True)
        values = gray + np.float32(self.saturation) * (values - gray)
        middle = values.mean()
        values = middle + np.float32(self.contrast) * (values - middle)
        values = values * np.array(self.gains, np.float32)
        values = values * self._opening(*picture.shape[:2])
        if self.blur:
            values = cv2.GaussianBlur(values, (0, 0), max(0.1, self.blur * picture.shape[0]))
        if self.noise:
            values = values + random.normal(0, self.noise / _WHITE, values.shape)
        developed = np.asarray(np.clip(values * _WHITE, 0, _WHITE), np.uint8)
        if self.jpeg == 100:  # noqa: PLR2004  # not compressed
            return developed
        _, stored = cv2.imencode(".jpg", developed, (cv2.IMWRITE_JPEG_QUALITY, self.jpeg))
        return np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)

    def _opening(self, rows: int, columns: int) -> Values:
        """Return how much light reaches each pixel, (rows, columns, 1), 0 to 1."""
        if not self.vignette and not self.radius:
            return np.ones((1, 1, 1), np.float32)
        down, across = np.ogrid[:rows, :columns]
        distance = np.hypot(down + 0.5 - rows / 2, across + 0.5 - columns / 2) / rows
        light = 1 - self.vignette * (distance / np.hypot(0.5, columns / rows / 2)) ** 2
        if self.radius:
            light = light * np.clip((self.radius - distance) * rows / 4 + 0.5, 0, 1)
        return np.asarray(light[:, :, None], np.float32)


# Four cameras that no training draws as they are: each is far out in several ways at once.
CAMERAS = {
    "warm and far, dark corners": Camera(zoom=0.7, gains=(1.15, 0.95, 0.75), gamma=0.7, vignette=0.5, noise=3),
    "cold and near, pale": Camera(zoom=1.35, gains=(0.85, 0.95, 1.1), saturation=0.6, blur=0.008),
    "dark and far, round opening": Camera(zoom=0.65, gamma=1.5, contrast=1.25, radius=0.62, gains=(1, 0.9, 0.9)),
    "pink, turned, compressed": Camera(zoom=0.85, turn=30, gains=(1.1, 0.8, 0.95), saturation=1.4, noise=6, jpeg=35),
}


def seen_by(camera: Camera, picture: Picture, seed: int) -> Picture:
    """Return a picture as a camera renders it, with as many rows and columns."""
    return camera.developed(camera.place(picture, *picture.shape[:2]), np.random.default_rng(seed))
