"""Paints a CT volume: shapes in millimeters of the patient are filled with Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Depth = NDArray[np.floating[Any]]
PointLike = Sequence[float] | NDArray[np.float64]
Point = tuple[float, float, float]
"""z, y, x in mm of the patient"""
Window = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Field:
    """The volume that is scanned: its size, its spacing and its center in the patient.

    Shapes: size (Z, Y, X); array axes run to the head, the back and the left.
    Units: mm; `center_mm` (z, y, x) is the patient's point in the middle of the volume, 0 is the middle of the chest.
    """

    size: tuple[int, int, int] = (64, 128, 128)
    spacing_mm: tuple[float, float, float] = (5.0, 3.0, 3.0)
    center_mm: Point = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Pose:
    """The position of the patient in one scan.

    Units: shift (z, y, x) in mm; roll about the long axis in radians.
    """

    shift_mm: Point = (0.0, 0.0, 0.0)
    roll: float = 0.0

    @classmethod
    def of_day(cls, random: np.random.Generator) -> Pose:
        """Return a random pose, with the differences between two scans of a patient: 4 mm and 0.03 rad of deviation."""
        z, y, x = random.normal(0, (4.0, 4.0, 4.0))
        return cls((float(z), float(y), float(x)), float(random.normal(0, 0.03)))


class Canvas:
    """The volume, and the place of each voxel in the patient.

    Shapes: values (Z, Y, X) float32, painted in place, air (-1000) at first; z (Z, 1, 1); y and x (1, Y, X).
    """

    def __init__(self, field: Field, pose: Pose) -> None:
        self.spacing = np.asarray(field.spacing_mm, np.float64)
        self._field, self._pose = field, pose
        grids = [
            (np.arange(n) - (n - 1) / 2) * step + middle - moved
            for n, step, middle, moved in zip(field.size, field.spacing_mm, field.center_mm, pose.shift_mm, strict=True)
        ]
        z, y, x = (grid.astype(np.float32) for grid in grids)
        cos, sin = np.float32(np.cos(pose.roll)), np.float32(np.sin(pose.roll))
        self.z = z[:, None, None]
        self.y = (y[:, None] * cos - x[None, :] * sin)[None]
        self.x = (y[:, None] * sin + x[None, :] * cos)[None]
        self.values = np.full(field.size, -1000, np.float32)
        self.edge_mm = float(np.cbrt(self.spacing.prod()))

    def voxel(self, point: PointLike) -> Point:
        """Return the continuous index (z, y, x) of a point of the patient; the point may lie outside the volume."""
        z, y, x = point
        cos, sin = np.cos(self._pose.roll), np.sin(self._pose.roll)
        scanned = (z, y * cos + x * sin, x * cos - y * sin)
        index = [
            (at + moved - middle) / step + (n - 1) / 2
            for at, moved, middle, step, n in zip(
                scanned,
                self._pose.shift_mm,
                self._field.center_mm,
                self._field.spacing_mm,
                self._field.size,
                strict=True,
            )
        ]
        return (float(index[0]), float(index[1]), float(index[2]))

    def share_below_surface(self, depth_mm: Depth) -> Values:
        """Return the share of each voxel that lies below a surface, 0 to 1.

        `depth_mm` is the depth of the center of the voxel below the surface, negative above the surface.
        """
        return np.asarray(np.clip(depth_mm / np.float32(self.edge_mm) + np.float32(0.5), 0, 1), np.float32)

    def paint(self, share: Values, hounsfield: float | Values, window: Window | None = None) -> None:
        """Blend a material into the volume by the share of each voxel that the material fills.

        Shapes: share, and an array `hounsfield`, as `window`; as the volume without `window`.
        """
        target = self.values if window is None else self.values[window]
        target += share * (hounsfield - target)

    def window(self, points: Sequence[PointLike], reach_mm: float) -> Window | None:
        """Return the voxels within `reach_mm` of the box around points, None if the volume has no such voxel."""
        indices = np.asarray([self.voxel(point) for point in points])
        margin = reach_mm / self.spacing + 1
        low = np.maximum(np.floor(indices.min(axis=0) - margin).astype(int), 0)
        high = np.minimum(np.ceil(indices.max(axis=0) + margin).astype(int) + 1, self.values.shape)
        if (low >= high).any():
            return None
        return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))

    def offsets(self, point: PointLike, window: Window) -> tuple[Values, Values, Values]:
        """Return how far the voxels of a window lie from a point, along z, y and x of the patient, in mm.

        Shapes: (Z, 1, 1), (1, Y, X), (1, Y, X) for a window of (Z, Y, X).
        """
        z, y, x = (np.float32(at) for at in point)
        return self.z[window[0]] - z, self.y[:, window[1], window[2]] - y, self.x[:, window[1], window[2]] - x

    def paint_tube(self, start: PointLike, end: PointLike, radii_mm: tuple[float, float], hounsfield: float) -> None:
        """Paint a tube with round ends and a radius at each end; a tube thinner than a voxel is painted fainter."""
        window = self.window((start, end), max(radii_mm) + self.edge_mm)
        if window is None:
            return
        z, y, x = self.offsets(start, window)
        along = np.subtract(end, start, dtype=np.float64)
        length = float(along @ along) + 1e-6
        az, ay, ax = (np.float32(component) for component in along)
        at = np.clip((z * az + y * ay + x * ax) / np.float32(length), 0, 1)
        distance = np.sqrt((z - at * az) ** 2 + (y - at * ay) ** 2 + (x - at * ax) ** 2)
        radius = np.float32(radii_mm[0]) + at * np.float32(radii_mm[1] - radii_mm[0])
        thin = np.minimum(1, (2 * radius / np.float32(self.edge_mm)) ** 2)
        wide = np.maximum(radius, np.float32(self.edge_mm / 2))
        self.paint(self.share_below_surface(wide - distance) * thin, hounsfield, window)

    def smooth_noise(self, random: np.random.Generator, wavelength_mm: float, window: Window | None = None) -> Values:
        """Return smooth noise of the patient, with mean 0 and deviation 1: the same tissue at any spacing and pose.

        The noise is a sum of plane waves in random directions, with 0.6 to 1.6 times the wavelength.
        Shapes: (Z, Y, X) of the window, or of the volume.
        """
        count = 10
        directions = random.standard_normal((count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        turns = 2 * np.pi / (wavelength_mm * random.uniform(0.6, 1.6, (count, 1))) * directions
        phases = random.uniform(0, 2 * np.pi, count)
        rows = (slice(None),) * 3 if window is None else window
        z, y, x = self.z[rows[0]], self.y[:, rows[1], rows[2]], self.x[:, rows[1], rows[2]]
        total = np.zeros((z.shape[0], *y.shape[1:]), np.float32)
        for (kz, ky, kx), phase in zip(turns.astype(np.float32), phases.astype(np.float32), strict=True):
            up, across = kz * z + phase, ky * y + kx * x
            total += np.cos(up) * np.cos(across)
            total -= np.sin(up) * np.sin(across)
        return total * np.float32(np.sqrt(2 / count))
