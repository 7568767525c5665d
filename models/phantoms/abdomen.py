"""A synthetic CT of the upper abdomen in the portal venous phase, with or without a tumor of the pancreas.

Solids are drawn over each other, each with its Hounsfield units in this phase; sizes and places vary as between
people. The anatomy is too coarse for a diagnosis.
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

# Mean and deviation between people of the Hounsfield units in the portal venous phase.
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
# The range of the difference between gland and tumor in Hounsfield units, and of the tumor's radius in mm.
_DARKER = (40, 70)
_RADIUS = (12, 22)
# A slice shows a tumor when it cuts at least this area of the mass.
_LEAST_MM2 = 60.0


@dataclass(frozen=True, slots=True)
class Abdomen:
    """A synthetic abdomen: the volume, and the truth about its tumor.

    Shapes: values (Z, Y, X) float32, axes to the head, the back, the left; tumor_slices (Z,) bool.
    Units: Hounsfield units; spacing z, y, x and the tumor's center in mm from the volume's middle.
    """

    values: Values = field(repr=False)
    spacing_mm: Mm
    tumor_slices: NDArray[np.bool_]
    tumor_mm: Mm | None
    """None without a tumor"""
    radius_mm: float


def abdomen(  # the generator, the grid and the tumor
    random: np.random.Generator,
    *,
    slices: int = 40,
    side: int = 256,
    step_mm: float = 4.0,
    tumor: bool = True,
    along: tuple[float, float] = (0.08, 0.9),
) -> Abdomen:
    """Return an abdomen; the same state of `random` gives the same abdomen.

    A tumor lies between two shares of the gland's length, from its head at 0 to its tail at 1.
    """
    half = np.asarray([0, random.uniform(105, 135), random.uniform(150, 185)])
    pixel = 2 * half[2] * random.uniform(1.08, 1.2) / side
    scene = _Scene.empty((slices, side, side), (step_mm, pixel, pixel), random)
    _draw_wall(scene, half)
    _draw_organs(scene, half)
    course = _gland_course(random, half)
    place = float(random.uniform(*along)) if tumor else None
    center, radius = _draw_pancreas(scene, course, place)
    mass = scene.area_mm2(center, radius) if center is not None else np.zeros(slices)
    return Abdomen(scene.scanned_values(), scene.spacing_mm, mass > _LEAST_MM2, center, radius)


@dataclass(frozen=True, slots=True)
class _Scene:
    """The volume that the functions below draw into, in place."""

    values: Values
    spacing_mm: Mm
    random: np.random.Generator
    tissue: dict[str, float]

    @classmethod
    def empty(cls, shape: tuple[int, int, int], spacing_mm: Mm, random: np.random.Generator) -> _Scene:
        """Return a scene of air, with the tissues of a random patient."""
        tissue = {name: float(random.normal(mean, spread)) for name, (mean, spread) in _TISSUES.items()}
        return cls(np.full(shape, _AIR, np.float32), spacing_mm, random, tissue)

    def axes_mm(self) -> tuple[Values, Values, Values]:
        """Return the z, y and x of every voxel's center, as three arrays that broadcast."""
        z, y, x = (
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
            for n, step in zip(self.values.shape, self.spacing_mm, strict=True)
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]

    def fill_ellipsoid(self, center: Mm, radii: Mm, value: float, *, turn: float = 0.0, roughness: float = 0.0) -> None:
        """Fill an ellipsoid, turned in the slice by `turn` radians; `roughness` makes its surface uneven."""
        window = self._window(center, max(radii) * (1 + roughness), radii[0] * (1 + roughness))
        if any(extent.start >= extent.stop for extent in window):
            return
        z, y, x = (
            axis[tuple(w if n > 1 else slice(None) for w, n in zip(window, axis.shape, strict=True))]
            for axis in self.axes_mm()
        )
        dz, dy, dx = z - center[0], y - center[1], x - center[2]
        x_part = (dx * np.cos(turn) + dy * np.sin(turn)) / radii[2]
        y_part = (dy * np.cos(turn) - dx * np.sin(turn)) / radii[1]
        squared_radius = (dz / radii[0]) ** 2 + y_part**2 + x_part**2
        if roughness:
            squared_radius = squared_radius * (
                1 + roughness * smooth_noise(self.random, squared_radius.shape[1:], 4)[None]
            )
        region = self.values[window]
        region[squared_radius < 1] = value

    def fill_shell(
        self, center: Mm, radii: Mm, thickness: float, value: float, *, share_at: Callable[[Values], Values]
    ) -> None:
        """Fill the border of an elliptic cylinder along z at the angles (0 is left) where `share_at` is positive."""
        _, y, x = self.axes_mm()
        dy, dx = (y - center[1])[0], (x - center[2])[0]
        inner = (dy / (radii[1] - thickness)) ** 2 + (dx / (radii[2] - thickness)) ** 2
        outer = (dy / radii[1]) ** 2 + (dx / radii[2]) ** 2
        ring = (outer < 1) & (inner >= 1) & (share_at(np.arctan2(dy, dx).astype(np.float32)) > 0)
        self.values[:, ring] = value

    def fill_tube(self, points: Points, radii: NDArray[np.float64], value: float, *, roughness: float = 0.0) -> None:
        """Fill a tube: a ball at each point of a line."""
        for point, radius in zip(points, radii, strict=True):
            ball = (float(radius),) * 3
            self.fill_ellipsoid((float(point[0]), float(point[1]), float(point[2])), ball, value, roughness=roughness)

    def area_mm2(self, center: Mm, radius: float) -> NDArray[np.float64]:
        """Return the area of a ball's cut with each slice."""
        z = self.axes_mm()[0][:, 0, 0]
        return np.asarray(np.pi * np.clip(radius**2 - (z - center[0]) ** 2, 0, None), np.float64)

    def scanned_values(self) -> Values:
        """Return the volume as a scanner shows it: uneven organs, the blur of a kernel, noise."""
        deviation = self.random.uniform(6, 16)
        out = np.empty_like(self.values)
        for number, plane in enumerate(self.values):
            blurred = np.asarray(cv2.GaussianBlur(plane, (0, 0), 0.8), np.float32)
            noise = self.random.standard_normal(plane.shape).astype(np.float32)
            noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), 0.7), np.float32)
            texture = smooth_noise(self.random, (plane.shape[0], plane.shape[1]), 24) * (blurred > -200)  # noqa: PLR2004
            out[number] = blurred + deviation * noise / noise.std() + 3 * texture
        return out

    def _window(self, center: Mm, reach: float, reach_z: float) -> tuple[slice, slice, slice]:
        """Return the voxels of a box around a center; `reach` is half its side in the slice, `reach_z` along z."""
        spans = []
        sizes = zip(center, (reach_z, reach, reach), self.spacing_mm, self.values.shape, strict=True)
        for middle, extent, step, n in sizes:
            first = (middle - extent) / step + (n - 1) / 2
            last = (middle + extent) / step + (n - 1) / 2
            spans.append(slice(max(0, int(np.floor(first))), min(n, int(np.ceil(last)) + 1)))
        return spans[0], spans[1], spans[2]


def _draw_wall(scene: _Scene, half: NDArray[np.float64]) -> None:
    """Draw skin, fat, muscle, ribs, and the table below."""
    random, tall = scene.random, 1e4
    _, y, _ = scene.axes_mm()
    table = float(half[1] + random.uniform(8, 16))
    scene.values[:, (np.abs(y - table) < 3)[0, :, 0]] = _TABLE  # noqa: PLR2004  # mm, half a table's shell
    middle = (0.0, 0.0, 0.0)
    fat = random.uniform(8, 26)
    scene.fill_ellipsoid(middle, (tall, half[1], half[2]), scene.tissue["muscle"])
    scene.fill_ellipsoid(middle, (tall, half[1] - 2, half[2] - 2), scene.tissue["fat"])
    scene.fill_ellipsoid(middle, (tall, half[1] - fat, half[2] - fat), scene.tissue["muscle"])
    inner = fat + random.uniform(9, 14)
    scene.fill_ellipsoid(middle, (tall, half[1] - inner, half[2] - inner), scene.tissue["fat"])
    turns, ribs = random.uniform(0, 6.28), random.integers(10, 15)
    scene.fill_shell(
        middle,
        (tall, half[1] - fat - 2, half[2] - fat - 2),
        6,
        scene.tissue["cortex"],
        share_at=lambda angle: np.asarray(np.cos(ribs * angle + turns) - 0.55, np.float32),
    )


def _draw_organs(scene: _Scene, half: NDArray[np.float64]) -> None:
    """Draw liver, spleen, kidneys, spine, vessels, stomach and bowel."""
    random, tissue = scene.random, scene.tissue
    tall, back, side = 1e4, half[1], half[2]

    def varied(value: float, spread: float = 0.08) -> float:
        return float(value * random.normal(1, spread))

    top = scene.values.shape[0] * scene.spacing_mm[0] / 2
    scene.fill_ellipsoid(
        (varied(25), -0.08 * back, -0.42 * side),
        (varied(85), 0.62 * back, varied(0.44 * side)),
        tissue["liver"],
        roughness=0.06,
    )
    scene.fill_ellipsoid(
        (varied(35), -0.38 * back, -0.05 * side),
        (varied(50), 0.22 * back, varied(0.34 * side)),
        tissue["liver"],
        turn=varied(-0.2, 0.4),
        roughness=0.06,
    )
    scene.fill_ellipsoid((varied(-5, 2), -0.3 * back, -0.36 * side), (18, 15, 12), tissue["bile"])
    scene.fill_ellipsoid(
        (varied(30), 0.3 * back, 0.62 * side),
        (varied(50), varied(30), varied(20)),
        tissue["spleen"],
        turn=varied(-0.5, 0.2),
        roughness=0.05,
    )
    for sign in (-1, 1):
        center = (varied(-25, 0.3), 0.42 * back, sign * varied(0.36 * side))
        scene.fill_ellipsoid(center, (varied(52), varied(29), varied(25)), tissue["kidney"], turn=sign * 0.5)
        scene.fill_ellipsoid(center, (20, 10, 9), tissue["fat"])
        scene.fill_ellipsoid((0, 0.62 * back, sign * 0.22 * side), (tall, 20, 25), tissue["muscle"])
    _draw_spine(scene, back)
    scene.fill_ellipsoid((0, 0.22 * back, varied(10, 0.3)), (tall, 10, 10), tissue["vessel"])
    scene.fill_ellipsoid((0, 0.2 * back, varied(-22, 0.2)), (tall, 10, 13), tissue["vessel"] - 15)
    _draw_stomach(scene, half)
    for _ in range(int(random.integers(7, 13))):
        center = (
            float(random.uniform(-top, 20)),
            float(random.uniform(-0.55, -0.15) * back),
            float(random.uniform(-0.5, 0.6) * side),
        )
        _draw_bowel_loop(scene, center, float(random.uniform(11, 20)))


def _draw_spine(scene: _Scene, back: float) -> None:
    tall, tissue = 1e4, scene.tissue
    scene.fill_ellipsoid((0, 0.48 * back, 0), (tall, 19, 23), tissue["cortex"])
    scene.fill_ellipsoid((0, 0.48 * back, 0), (tall, 16, 20), tissue["bone"])
    scene.fill_ellipsoid((0, 0.72 * back, 0), (tall, 14, 6), tissue["cortex"])
    scene.fill_ellipsoid((0, 0.48 * back + 27, 0), (tall, 9, 10), 40)
    for sign in (-1, 1):
        scene.fill_ellipsoid((0, 0.78 * back, sign * 30), (tall, 15, 24), tissue["muscle"])


def _draw_stomach(scene: _Scene, half: NDArray[np.float64]) -> None:
    random = scene.random
    center = (float(random.normal(35, 10)), -0.42 * half[1], float(0.34 * half[2]))
    radii = (float(random.uniform(40, 60)), float(random.uniform(22, 34)), float(random.uniform(30, 48)))
    scene.fill_ellipsoid(center, radii, 85)
    lumen = (radii[0] - 5, radii[1] - 5, radii[2] - 5)
    scene.fill_ellipsoid(center, lumen, scene.tissue["bowel"])
    scene.fill_ellipsoid(
        (center[0], center[1] - 0.45 * lumen[1], center[2]), (lumen[0] * 0.8, lumen[1] * 0.5, lumen[2] * 0.8), _GAS
    )


def _draw_bowel_loop(scene: _Scene, center: Mm, radius: float) -> None:
    """Draw a piece of bowel: a wall, and fluid or gas in it."""
    random = scene.random
    radii = (radius * float(random.uniform(0.8, 2)), radius, radius * float(random.uniform(0.8, 1.6)))
    scene.fill_ellipsoid(center, radii, 90)
    filling = _GAS if random.random() < 0.4 else scene.tissue["bowel"]  # noqa: PLR2004  # gas in some
    scene.fill_ellipsoid(center, (radii[0] - 3, radii[1] - 3, radii[2] - 3), filling)


def _gland_course(random: np.random.Generator, half: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the gland's middle line (n, 3) from its head, right and low, to its tail, left, high and far back."""
    t = np.linspace(0, 1, 60)
    lift = random.uniform(20, 50)
    z = -25 + random.normal(0, 5) + lift * t**1.2
    x = (-0.22 + 0.72 * t) * half[2] * random.normal(1, 0.05)
    y = half[1] * (0.02 - 0.2 * np.sin(np.pi * np.clip(t * 1.25, 0, 1)) + 0.26 * t**2) + random.normal(0, 3)
    return np.stack([z, y, x], axis=1)


def _draw_pancreas(scene: _Scene, course: NDArray[np.float64], place: float | None) -> tuple[Mm | None, float]:
    """Draw the gland, and at `place` along it a tumor with a wide duct behind; return the tumor's center and radius."""
    random, tissue = scene.random, scene.tissue
    t = np.linspace(0, 1, len(course))
    size = random.uniform(0.8, 1.15)
    radii = size * (15 * np.exp(-((t / 0.16) ** 2)) + 9.5 + 2 * np.sin(4 * t))
    scene.fill_tube(course, radii, tissue["pancreas"], roughness=0.12)
    # The splenic vein behind the gland, and the portal vein's beginning.
    scene.fill_tube(course[18:] + np.asarray((2.0, 11.0, 0.0)), np.full(len(course) - 18, 4.5), tissue["vessel"])
    z, y, x = (float(coordinate) for coordinate in course[18])
    scene.fill_ellipsoid((z, y + 12, x), (40, 7, 7), tissue["vessel"])
    if place is None:
        scene.fill_tube(course[5:], np.full(len(course) - 5, 1.0), tissue["duct"])
        return None, 0.0
    index = int(place * (len(course) - 1))
    radius = float(random.uniform(*_RADIUS))
    duct = course[index:]
    scene.fill_tube(duct, np.full(len(duct), random.uniform(2.5, 5)), tissue["duct"])
    center: Mm = (float(course[index, 0]), float(course[index, 1]), float(course[index, 2]))
    scene.fill_ellipsoid(center, (radius, radius, radius), tissue["pancreas"] - random.uniform(*_DARKER), roughness=0.2)
    return center, radius
