"""The canvas of a synthetic radiograph: shapes in millimeters add to a map of line integrals."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Picture = NDArray[np.float32]

# Fractional bits that OpenCV's drawing calls accept for sub-pixel vertices.
_SHIFT = 4


@dataclass(frozen=True, slots=True)
class Canvas:
    """A map of attenuation line integrals, and the places of its pixels.

    Shapes: attenuation (rows, columns) float32, changed in place.
    Units: origin_mm is the (x, y) of the center of pixel (0, 0); pixels are square.
    """

    attenuation: Picture
    mm_per_pixel: float
    origin_mm: tuple[float, float]

    @classmethod
    def blank(cls, rows: int, columns: int, height_mm: float) -> Canvas:
        """Return an empty canvas, `height_mm` high, with (0, 0) mm at its middle."""
        step = height_mm / rows
        origin = (-step * (columns - 1) / 2, -step * (rows - 1) / 2)
        return cls(np.zeros((rows, columns), np.float32), step, origin)

    def pixels(self, points_mm: Points) -> Points:
        """Return (n, 2) points as (column, row) pixel coordinates."""
        shifted: Points = (np.asarray(points_mm, np.float64) - self.origin_mm) / self.mm_per_pixel
        return shifted

    def grid_mm(self) -> tuple[Picture, Picture]:
        """Return the x and y of every pixel center as (1, columns) and (rows, 1)."""
        rows, columns = self.attenuation.shape
        x = self.origin_mm[0] + self.mm_per_pixel * np.arange(columns, dtype=np.float32)
        y = self.origin_mm[1] + self.mm_per_pixel * np.arange(rows, dtype=np.float32)
        return x[None, :], y[:, None]

    def fill(self, points_mm: Points, amount: float) -> None:
        """Add `amount` inside a polygon."""
        self._stamp(points_mm, amount, None)

    def stroke(self, points_mm: Points, width_mm: float, amount: float, *, closed: bool = False) -> None:
        """Add `amount` along a line; a line thinner than a pixel is fainter instead."""
        width = width_mm / self.mm_per_pixel
        self._stamp(points_mm, amount * min(1.0, width), (max(1, round(width)), closed))

    def add_ellipsoid(
        self, center_mm: tuple[float, float], radii_mm: tuple[float, float], amount: float, *, angle: float = 0.0
    ) -> None:
        """Add the path length through an ellipsoid, `amount` at its middle.

        Units: angle in radians, from the x axis toward the y axis.
        """
        reach = max(radii_mm)
        corners = np.asarray([center_mm, center_mm]) + np.asarray([[-reach, -reach], [reach, reach]])
        window = self._window(self.pixels(corners), 1)
        if window is None:
            return
        rows, columns = window
        x, y = self.grid_mm()
        dx, dy = x[:, columns] - center_mm[0], y[rows] - center_mm[1]
        along = (dx * np.cos(angle) + dy * np.sin(angle)) / radii_mm[0]
        across = (dy * np.cos(angle) - dx * np.sin(angle)) / radii_mm[1]
        depth = np.sqrt(np.clip(1.0 - along**2 - across**2, 0.0, None))
        self.attenuation[rows, columns] += (amount * depth).astype(np.float32)

    def _window(self, points: Points, margin: int) -> tuple[slice, slice] | None:
        """Return the rows and columns around `points`, or None when they are outside of the picture."""
        low = np.floor(points.min(axis=0)).astype(int) - margin
        high = np.ceil(points.max(axis=0)).astype(int) + margin + 1
        rows, columns = self.attenuation.shape
        x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
        x1, y1 = min(int(high[0]), columns), min(int(high[1]), rows)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def _stamp(self, points_mm: Points, amount: float, pen: tuple[int, bool] | None) -> None:
        """Add `amount` inside a polygon, or, with a pen (width in pixels, closed or not), along its line."""
        points = self.pixels(points_mm)
        window = self._window(points, 2 + (pen[0] if pen else 0))
        if window is None:
            return
        rows, columns = window
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        local = ((points - (columns.start, rows.start)) * 2**_SHIFT).round().astype(np.int32)
        if pen is None:
            cv2.fillPoly(mask, [local], 255, cv2.LINE_AA, _SHIFT)
        else:
            cv2.polylines(mask, [local], pen[1], 255, pen[0], cv2.LINE_AA, _SHIFT)
        self.attenuation[rows, columns] += mask.astype(np.float32) * np.float32(amount / 255.0)


def smooth_noise(random: np.random.Generator, shape: tuple[int, int], cells: float, *, octaves: int = 2) -> Picture:
    """Return zero-mean, unit-deviation noise with about `cells` blobs along its height."""
    rows, columns = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        n = max(2, round(cells * 2**octave))
        coarse = random.standard_normal((n, max(2, round(n * columns / rows)))).astype(np.float32)
        total += cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC) / 2**octave
    return np.asarray((total - total.mean()) / (total.std() + 1e-6), np.float32)


def blurred_picture(picture: Picture, sigma_pixels: float) -> Picture:
    """Return the picture after a Gaussian blur; a tiny sigma returns it unchanged."""
    if sigma_pixels < 0.2:  # noqa: PLR2004  # below this the kernel is a delta
        return picture
    if sigma_pixels > 8:  # noqa: PLR2004  # a wide blur is the same, and much cheaper, on a coarse copy
        rows, columns = picture.shape
        factor = sigma_pixels / 4
        small = (max(2, round(columns / factor)), max(2, round(rows / factor)))
        coarse = cv2.GaussianBlur(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), (0, 0), 4.0)
        return np.asarray(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_pixels), np.float32)
