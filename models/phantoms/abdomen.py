"""A made-up CT of the upper abdomen in the portal venous phase, with or without a tumor of the pancreas.

Solids are put into the patient one over the other, each with the Hounsfield units it has in that phase; sizes and
places vary as they do between people. Nothing here is anatomy to diagnose from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.phantoms.canvas import Points, smooth_noise

Values = NDArray[np.float32]
Mm = tuple[float, float, float]
"""z toward the head, y toward the back, x toward the left; the middle of the volume is (0, 0, 0)"""

# Hounsfield units of the portal venous phase, and how far people lie apart.
# Source: usual ranges of radiology textbooks; the tumor is hypodense to the gland, as most adenocarcinomas are.
_TISSUES = {
    "fat": (-105, 6),
    "muscle": (60, 6),
    "liver": (108, 10),
    "spleen": (118, 8),
    "kidney": (175, 15),
    "pancreas": (98, 8),
    "vessel": (150, 15),
    "bowel": (45, 15),
    "bone": (230, 30),
    "cortex": (550, 60),
    "duct": (15, 5),
    "bile": (8, 4),
}
_AIR = -1000.0
_GAS = -850.0
_LUNG = -850.0
_TABLE = -150.0
# How far below the gland's Hounsfield units a tumor lies, and its radius in mm.
_DARKER = (40, 70)
_RADIUS = (12, 22)
# A slice is called `tumor` when this much of the mass is on it.
_LEAST_MM2 = 60.0
_TILE = 1.0


@dataclass(frozen=True, slots=True)
class Abdomen:
    """A volume and the truth about it.

    Shapes: values (Z, Y, X) float32, axes to the head, the back, the left; tumor_slices (Z,) bool.
    Units: Hounsfield units; spacing z, y, x and the tumor's center in mm from the volume's middle.
    """

    values: Values = field(repr=False)
    spacing_mm: Mm
    tumor_slices: NDArray[np.bool_]
    tumor_mm: Mm | None
    """None without a tumor"""
    radius_mm: float


def abdomen(
    random: np.random.Generator, *, slices: int = 40, side: int = 256, step_mm: float = 4.0, tumor: bool = True
) -> Abdomen:
    """Return an abdomen; the same one for the same state of `random`."""
    half = np.asarray([0, random.uniform(105, 135), random.uniform(150, 185)])
    pixel = 2 * half[2] * random.uniform(1.08, 1.2) / side
    scene = _Scene.empty((slices, side, side), (step_mm, pixel, pixel), random)
    _wall(scene, half)
    _organs(scene, half)
    course = _course(random, half)
    place = float(random.uniform(0.08, 0.9)) if tumor else None
    center, radius = _pancreas(scene, course, place)
    mass = scene.area_mm2(center, radius) if center is not None else np.zeros(slices)
    return Abdomen(scene.scanned(), scene.spacing_mm, mass > _LEAST_MM2, center, radius)


@dataclass(frozen=True, slots=True)
class _Scene:
    """The volume in the making, drawn into in place."""

    values: Values
    spacing_mm: Mm
    random: np.random.Generator
    tissue: dict[str, float]

    @classmethod
    def empty(cls, shape: tuple[int, int, int], spacing_mm: Mm, random: np.random.Generator) -> _Scene:
        tissue = {name: float(random.normal(mean, spread)) for name, (mean, spread) in _TISSUES.items()}
        return cls(np.full(shape, _AIR, np.float32), spacing_mm, random, tissue)

    def axes_mm(self) -> tuple[Values, Values, Values]:
        """Return the z, y and x of every voxel's center, each to be broadcast."""
        z, y, x = (
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
            for n, step in zip(self.values.shape, self.spacing_mm, strict=True)
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]

    def ellipsoid(self, center: Mm, radii: Mm, value: float, *, turn: float = 0.0, rough: float = 0.0) -> None:
        """Fill an ellipsoid, turned in the slice by `turn` radians; `rough` makes its surface uneven."""
        window = self._window(center, max(radii) * (1 + rough), radii[0] * (1 + rough))
        if any(one.start >= one.stop for one in window):
            return
        z, y, x = (
            axis[tuple(w if n > 1 else slice(None) for w, n in zip(window, axis.shape, strict=True))]
            for axis in self.axes_mm()
        )
        dz, dy, dx = z - center[0], y - center[1], x - center[2]
        along = (dx * np.cos(turn) + dy * np.sin(turn)) / radii[2]
        across = (dy * np.cos(turn) - dx * np.sin(turn)) / radii[1]
        reach = (dz / radii[0]) ** 2 + across**2 + along**2
        if rough:
            reach = reach * (1 + rough * smooth_noise(self.random, reach.shape[1:], 4)[None])
        part = self.values[window]
        part[reach < 1] = value

    def shell(self, center: Mm, radii: Mm, thickness: float, value: float, *, only: Callable[[Values], Values]) -> None:
        """Fill the border of an elliptic cylinder along z where `only` of the angle (0 is left) says so."""
        _, y, x = self.axes_mm()
        dy, dx = (y - center[1])[0], (x - center[2])[0]
        inner = (dy / (radii[1] - thickness)) ** 2 + (dx / (radii[2] - thickness)) ** 2
        outer = (dy / radii[1]) ** 2 + (dx / radii[2]) ** 2
        ring = (outer < 1) & (inner >= 1) & (only(np.arctan2(dy, dx).astype(np.float32)) > 0)
        self.values[:, ring] = value

    def tube(self, points: Points, radii: NDArray[np.float64], value: float, *, rough: float = 0.0) -> None:
        """Fill balls along a line."""
        for point, radius in zip(points, radii, strict=True):
            ball = (float(radius),) * 3
            self.ellipsoid((float(point[0]), float(point[1]), float(point[2])), ball, value, rough=rough)

    def area_mm2(self, center: Mm, radius: float) -> NDArray[np.float64]:
        """Return how much of a ball is on each slice."""
        z = self.axes_mm()[0][:, 0, 0]
        return np.asarray(np.pi * np.clip(radius**2 - (z - center[0]) ** 2, 0, None), np.float64)

    def scanned(self) -> Values:
        """Return what a scanner makes of it: organs that are not uniform, a kernel, noise."""
        deviation = self.random.uniform(6, 16)
        out = np.empty_like(self.values)
        for number, plane in enumerate(self.values):
            soft = np.asarray(cv2.GaussianBlur(plane, (0, 0), 0.8), np.float32)
            grain = self.random.standard_normal(plane.shape).astype(np.float32)
            grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), 0.7), np.float32)
            texture = smooth_noise(self.random, (plane.shape[0], plane.shape[1]), 24) * (soft > -200)  # noqa: PLR2004
            out[number] = soft + deviation * grain / grain.std() + 3 * texture
        return out

    def _window(self, center: Mm, reach: float, reach_z: float) -> tuple[slice, slice, slice]:
        spans = []
        sizes = zip(center, (reach_z, reach, reach), self.spacing_mm, self.values.shape, strict=True)
        for middle, far, step, n in sizes:
            low = (middle - far) / step + (n - 1) / 2
            high = (middle + far) / step + (n - 1) / 2
            spans.append(slice(max(0, int(np.floor(low))), min(n, int(np.ceil(high)) + 1)))
        return spans[0], spans[1], spans[2]


def _wall(scene: _Scene, half: NDArray[np.float64]) -> None:
    """Skin, fat, muscle, ribs, the table below."""
    random, tall = scene.random, 1e4
    _, y, _ = scene.axes_mm()
    table = float(half[1] + random.uniform(8, 16))
    scene.values[:, (np.abs(y - table) < 3)[0, :, 0]] = _TABLE  # noqa: PLR2004  # mm, half a table's shell
    middle = (0.0, 0.0, 0.0)
    fat = random.uniform(8, 26)
    scene.ellipsoid(middle, (tall, half[1], half[2]), scene.tissue["muscle"])
    scene.ellipsoid(middle, (tall, half[1] - 2, half[2] - 2), scene.tissue["fat"])
    scene.ellipsoid(middle, (tall, half[1] - fat, half[2] - fat), scene.tissue["muscle"])
    inner = fat + random.uniform(9, 14)
    scene.ellipsoid(middle, (tall, half[1] - inner, half[2] - inner), scene.tissue["fat"])
    turns, ribs = random.uniform(0, 6.28), random.integers(10, 15)
    scene.shell(
        middle,
        (tall, half[1] - fat - 2, half[2] - fat - 2),
        6,
        scene.tissue["cortex"],
        only=lambda angle: np.asarray(np.cos(ribs * angle + turns) - 0.55, np.float32),
    )


def _organs(scene: _Scene, half: NDArray[np.float64]) -> None:
    """Liver, spleen, kidneys, spine, vessels, stomach and bowel; the lung's lowest part above."""
    random, tissue = scene.random, scene.tissue
    tall, back, side = 1e4, half[1], half[2]

    def about(value: float, spread: float = 0.08) -> float:
        return float(value * random.normal(1, spread))

    top = scene.values.shape[0] * scene.spacing_mm[0] / 2
    scene.ellipsoid(
        (about(25), -0.08 * back, -0.42 * side),
        (about(85), 0.62 * back, about(0.44 * side)),
        tissue["liver"],
        rough=0.06,
    )
    scene.ellipsoid(
        (about(35), -0.38 * back, -0.05 * side),
        (about(50), 0.22 * back, about(0.34 * side)),
        tissue["liver"],
        turn=about(-0.2, 0.4),
        rough=0.06,
    )
    scene.ellipsoid((about(-5, 2), -0.3 * back, -0.36 * side), (18, 15, 12), tissue["bile"])
    scene.ellipsoid(
        (about(30), 0.3 * back, 0.62 * side),
        (about(50), about(30), about(20)),
        tissue["spleen"],
        turn=about(-0.5, 0.2),
        rough=0.05,
    )
    for sign in (-1, 1):
        at = (about(-25, 0.3), 0.42 * back, sign * about(0.36 * side))
        scene.ellipsoid(at, (about(52), about(29), about(25)), tissue["kidney"], turn=sign * 0.5)
        scene.ellipsoid(at, (20, 10, 9), tissue["fat"])
        scene.ellipsoid((0, 0.62 * back, sign * 0.22 * side), (tall, 20, 25), tissue["muscle"])
    _spine(scene, back)
    scene.ellipsoid((0, 0.22 * back, about(10, 0.3)), (tall, 10, 10), tissue["vessel"])
    scene.ellipsoid((0, 0.2 * back, about(-22, 0.2)), (tall, 10, 13), tissue["vessel"] - 15)
    _stomach(scene, half)
    for _ in range(int(random.integers(7, 13))):
        at = (
            float(random.uniform(-top, 20)),
            float(random.uniform(-0.55, -0.15) * back),
            float(random.uniform(-0.5, 0.6) * side),
        )
        _loop(scene, at, float(random.uniform(11, 20)))


def _spine(scene: _Scene, back: float) -> None:
    tall, tissue = 1e4, scene.tissue
    scene.ellipsoid((0, 0.48 * back, 0), (tall, 19, 23), tissue["cortex"])
    scene.ellipsoid((0, 0.48 * back, 0), (tall, 16, 20), tissue["bone"])
    scene.ellipsoid((0, 0.72 * back, 0), (tall, 14, 6), tissue["cortex"])
    scene.ellipsoid((0, 0.48 * back + 27, 0), (tall, 9, 10), 40)
    for sign in (-1, 1):
        scene.ellipsoid((0, 0.78 * back, sign * 30), (tall, 15, 24), tissue["muscle"])


def _stomach(scene: _Scene, half: NDArray[np.float64]) -> None:
    random = scene.random
    at = (float(random.normal(35, 10)), -0.42 * half[1], float(0.34 * half[2]))
    radii = (float(random.uniform(40, 60)), float(random.uniform(22, 34)), float(random.uniform(30, 48)))
    scene.ellipsoid(at, radii, 85)
    inside = (radii[0] - 5, radii[1] - 5, radii[2] - 5)
    scene.ellipsoid(at, inside, scene.tissue["bowel"])
    scene.ellipsoid((at[0], at[1] - 0.45 * inside[1], at[2]), (inside[0] * 0.8, inside[1] * 0.5, inside[2] * 0.8), _GAS)


def _loop(scene: _Scene, at: Mm, radius: float) -> None:
    """Draw a piece of bowel: a wall, and fluid or gas in it."""
    random = scene.random
    stretched = (radius * float(random.uniform(0.8, 2)), radius, radius * float(random.uniform(0.8, 1.6)))
    scene.ellipsoid(at, stretched, 90)
    filling = _GAS if random.random() < 0.4 else scene.tissue["bowel"]  # noqa: PLR2004  # gas in some
    scene.ellipsoid(at, (stretched[0] - 3, stretched[1] - 3, stretched[2] - 3), filling)


def _course(random: np.random.Generator, half: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the gland's middle line from head to tail as (n, 3): right and low to left, high and far back."""
    t = np.linspace(0, 1, 60)
    lift = random.uniform(20, 50)
    z = -25 + random.normal(0, 5) + lift * t**1.2
    x = (-0.22 + 0.72 * t) * half[2] * random.normal(1, 0.05)
    y = half[1] * (0.02 - 0.2 * np.sin(np.pi * np.clip(t * 1.25, 0, 1)) + 0.26 * t**2) + random.normal(0, 3)
    return np.stack([z, y, x], axis=1)


def _pancreas(scene: _Scene, course: NDArray[np.float64], place: float | None) -> tuple[Mm | None, float]:
    """Draw the gland, and at `place` along it a tumor with the duct wide behind it; return center and radius."""
    random, tissue = scene.random, scene.tissue
    t = np.linspace(0, 1, len(course))
    size = random.uniform(0.8, 1.15)
    radii = size * (15 * np.exp(-((t / 0.16) ** 2)) + 9.5 + 2 * np.sin(4 * t))
    scene.tube(course, radii, tissue["pancreas"], rough=0.12)
    # The splenic vein behind the gland, and the portal vein's beginning.
    scene.tube(course[18:] + np.asarray((2.0, 11.0, 0.0)), np.full(len(course) - 18, 4.5), tissue["vessel"])
    z, y, x = (float(one) for one in course[18])
    scene.ellipsoid((z, y + 12, x), (40, 7, 7), tissue["vessel"])
    if place is None:
        scene.tube(course[5:], np.full(len(course) - 5, 1.0), tissue["duct"])
        return None, 0.0
    at = int(place * (len(course) - 1))
    radius = float(random.uniform(*_RADIUS))
    behind = course[at:]
    scene.tube(behind, np.full(len(behind), random.uniform(2.5, 5)), tissue["duct"])
    center: Mm = (float(course[at, 0]), float(course[at, 1]), float(course[at, 2]))
    scene.ellipsoid(center, (radius, radius, radius), tissue["pancreas"] - random.uniform(*_DARKER), rough=0.2)
    return center, radius
