"""A chest without disease: body wall, skeleton, lungs, heart, great vessels, airways, vessel trees.

Coordinates are (z, y, x) in mm, to the head, the back and the left, from the middle of the chest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ainode.models.phantoms.thorax_field import Canvas, Point, PointLike, Values

# Hounsfield units of a chest without contrast agent (Bushberg, The Essential Physics of Medical Imaging, 10.3).
_FAT, _MUSCLE, _BLOOD, _LIVER, _BONE, _MARROW, _DISC, _AIR = -100, 50, 42, 58, 550, 180, 80, -985
_VESSEL = 25
_BONE_DEPTH_MM = 2.0
_BACK_MM = 9.0
# A vessel ends before the pleura.
_CLEAR_MM = 2.0


@dataclass(frozen=True, slots=True)
class Build:
    """One patient's measures.

    Units: mm, radii from the middle of the chest; `parenchyma` in HU, `contrast` added to blood.
    """

    body: tuple[float, float]
    cavity: tuple[float, float]
    apex: float
    base: float
    dome: float
    heart: tuple[float, float, float]
    heart_at: Point
    mediastinum: float
    rib_pitch: float
    rib_drop: float
    spine_y: float
    parenchyma: float
    contrast: float
    seed: int

    @classmethod
    def of_patient(cls, seed: int) -> Build:
        """Return the measures of the patient of a seed."""
        random = np.random.default_rng((seed, 0))
        u = random.uniform
        width, depth = u(122, 142), u(80, 98)
        wall = u(26, 52)
        base = u(105, 130)
        scale = u(0.9, 1.15)
        return cls(
            body=(depth + 0.6 * wall + 12, width + wall),
            cavity=(depth, width),
            apex=u(118, 140),
            base=base,
            dome=u(45, 70),
            heart=(52 * scale, 40 * scale, 50 * scale),
            heart_at=(-base + u(58, 72), -u(18, 28), u(18, 30)),
            mediastinum=u(0.85, 1.15),
            rib_pitch=u(23, 28),
            rib_drop=u(70, 100),
            spine_y=depth * u(0.64, 0.72),
            parenchyma=u(-890, -800),
            contrast=float(u(80, 180)) if random.random() < 0.3 else 0.0,  # noqa: PLR2004  # the share with contrast
            seed=seed,
        )


def lung_depth(build: Build, z: Values, y: Values, x: Values) -> Values:
    """Return the depth of each point in a lung, in mm; negative outside of the lungs."""
    ry, rx = build.cavity
    rho = np.sqrt((x / rx) ** 2 + (y / ry) ** 2)
    height = np.clip(z / build.apex, 0, 1)
    taper = np.sqrt(np.clip(1 - height**2.6, 0, 1))
    side = np.float32((rx + ry) / 2) * (taper - rho)
    organs, spine = np.exp(-(((y - 5) / 42) ** 2)), np.exp(-(((y - build.spine_y) / 24) ** 2))
    inner = np.abs(x) - 9 - build.mediastinum * (20 * organs + 17 * spine)
    dome = -build.base + build.dome * (1 - np.minimum(rho, 1.05) ** 2.4) + np.where(x < 0, 10, 0) - 0.18 * y
    floor = 0.75 * (z - dome)
    walls = np.minimum(np.minimum(side, inner), np.minimum(floor, -_heart_depth(build, z, y, x) - 1))
    return np.asarray(walls, np.float32)


def depth_at(build: Build, point: PointLike) -> float:
    """Return the depth of a point (z, y, x) in a lung, in mm; negative outside of the lungs."""
    return float(lung_depth(build, *(np.full((1, 1, 1), at, np.float32) for at in point)).item())


def _heart_depth(build: Build, z: Values, y: Values, x: Values) -> Values:
    """Return the depth of each point in the heart, in mm; negative outside of the heart."""
    cz, cy, cx = build.heart_at
    rz, ry, rx = build.heart
    # The apex points down and to the left.
    tilted = z - cz + 0.35 * (x - cx)
    rho = np.sqrt((tilted / rz) ** 2 + ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2)
    return np.asarray(np.float32(ry) * (1 - rho), np.float32)


def paint_chest(canvas: Canvas, build: Build) -> Values:
    """Paint everything but disease; return the share of lung in each voxel."""
    z, y, x = canvas.z, canvas.y, canvas.x
    random = np.random.default_rng((build.seed, 1))
    _paint_body_wall(canvas, build, random)
    _paint_ribs(canvas, build)
    _paint_spine(canvas, build)
    _paint_mediastinum(canvas, build)
    share = canvas.share_below_surface(lung_depth(build, z, y, x))
    texture = 14 * canvas.smooth_noise(random, 30) + 16 * canvas.smooth_noise(random, 9)
    # Blood and weight gather in the dependent part of a lying patient's lung.
    canvas.paint(share, np.float32(build.parenchyma) + np.float32(0.55) * (y + 40) + texture)
    _paint_airways(canvas, build)
    for side in (-1.0, 1.0):
        _paint_vessels(canvas, build, side, np.random.default_rng((build.seed, 2, int(side > 0))))
    return share


def _paint_body_wall(canvas: Canvas, build: Build, random: np.random.Generator) -> None:
    z, y, x = canvas.z, canvas.y, canvas.x
    ry, rx = build.body
    # The spine and the muscles of the back make the wall thicker behind the chest cavity.
    y_body = y - _BACK_MM
    shoulders = 1 + 0.10 * np.clip(z / build.apex, 0, 1.2) ** 2
    skin = np.sqrt((x / rx) ** 2 + (y_body / ry) ** 2 - 0.35 * (x * y_body / (rx * ry)) ** 2)
    canvas.paint(canvas.share_below_surface(np.float32((rx + ry) / 2) * (shoulders - skin)), _FAT)
    cy, cx = build.cavity
    wall = np.sqrt((x / (cx + 17)) ** 2 + (y_body / (cy + 20)) ** 2)
    marbling = _MUSCLE + 25 * np.minimum(canvas.smooth_noise(random, 25), 0)
    canvas.paint(canvas.share_below_surface(np.float32((cx + cy) / 2) * (1 - wall)), marbling)
    belly = np.sqrt((x / (cx - 2)) ** 2 + (y / (cy - 2)) ** 2)
    contents = np.where(x < 0, _LIVER + 0.4 * build.contrast, 20).astype(np.float32)
    below = np.minimum(np.float32(cy) * (1 - belly), -build.base + build.dome - 5 - z)
    canvas.paint(canvas.share_below_surface(below), contents)
    if random.random() < 0.6:  # noqa: PLR2004  # the share with gas in the stomach
        gas = random.uniform(12, 26)
        center = (-build.base + build.dome - gas - random.uniform(16, 30), -random.uniform(10, 40), 55.0)
        distance = np.sqrt((z - center[0]) ** 2 + (y - center[1]) ** 2 + (0.6 * (x - center[2])) ** 2)
        canvas.paint(canvas.share_below_surface(gas - distance), _AIR)
    if random.random() < 0.7:  # noqa: PLR2004  # the share with the table in the picture
        surface = y - np.float32(ry + _BACK_MM + 6) + x**2 / np.float32(random.uniform(700, 1600))
        for thickness_mm in (0.0, random.uniform(12, 30)):
            table = canvas.share_below_surface(1.6 - np.abs(surface - np.float32(thickness_mm)))
            canvas.paint(np.broadcast_to(table, canvas.values.shape), -250)


def _paint_ribs(canvas: Canvas, build: Build) -> None:
    z, y, x = canvas.z, canvas.y, canvas.x
    ry, rx = build.cavity
    rho = np.sqrt((x / (rx + 6)) ** 2 + (y / (ry + 6)) ** 2)
    taper = np.sqrt(np.clip(1 - np.clip(z / (build.apex + 12), 0, 1) ** 2.6, 0.0, 1))
    radial = np.abs(rho - taper) * np.float32((rx + ry) / 2)
    # A rib leaves the spine, runs around the side and falls toward the sternum.
    angle = np.arctan2(np.abs(x), y + 0.001) / np.pi
    fallen = z + np.float32(build.rib_drop) * angle**1.3
    pitch = np.float32(build.rib_pitch)
    nearest = np.abs(np.mod(fallen, pitch) - pitch / 2)
    depth = np.float32(5.0) - np.sqrt((radial / 0.8) ** 2 + (nearest / 1.15) ** 2)
    bone = np.where(angle > 0.8, 130, _BONE).astype(np.float32)  # cartilage in front  # noqa: PLR2004
    canvas.paint(canvas.share_below_surface(depth), bone)
    canvas.paint(canvas.share_below_surface(depth - _BONE_DEPTH_MM), _MARROW)
    sternum = np.minimum(5 - np.abs(y + ry + 6) / 1.0, 17 - np.abs(x))
    canvas.paint(canvas.share_below_surface(np.minimum(sternum, 95 - np.abs(z - 10))), 220)


def _paint_spine(canvas: Canvas, build: Build) -> None:
    z, y, x = canvas.z, canvas.y, canvas.x
    middle = build.spine_y
    body = 16 - np.sqrt(x**2 + ((y - middle) / 0.85) ** 2)
    phase = np.abs(np.mod(z, 24.0) - 12)
    canvas.paint(canvas.share_below_surface(body), _DISC)
    vertebra = np.minimum(body, 9.5 - phase)
    canvas.paint(canvas.share_below_surface(vertebra), 400)
    canvas.paint(canvas.share_below_surface(vertebra - _BONE_DEPTH_MM), _MARROW)
    arch = np.minimum(5 - np.abs(np.sqrt(x**2 + (y - middle - 22) ** 2) - 11), 10.5 - phase)
    canvas.paint(canvas.share_below_surface(arch), 350)
    process = np.minimum(np.minimum(4 - np.abs(x), 12 - np.abs(y - middle - 42)), 7 - phase)
    canvas.paint(canvas.share_below_surface(process), 320)
    canvas.paint(canvas.share_below_surface(8 - np.sqrt(x**2 + (y - middle - 22) ** 2)), 25)


def _paint_mediastinum(canvas: Canvas, build: Build) -> None:
    z, y, x = canvas.z, canvas.y, canvas.x
    # Fat between the organs; the heart and the great vessels lie in it.
    fat = 25 * (1 - np.sqrt((x / 25) ** 2 + ((y + 6) / 46) ** 2 + ((z - 20) / 85) ** 2))
    canvas.paint(
        canvas.share_below_surface(fat), -60 + 25 * canvas.smooth_noise(np.random.default_rng((build.seed, 3)), 20)
    )
    blood = _BLOOD + build.contrast
    heart = _heart_depth(build, z, y, x)
    canvas.paint(canvas.share_below_surface(heart), 45)
    canvas.paint(canvas.share_below_surface(heart - 6), blood)
    top, back = 48.0, build.spine_y - 24
    arch = [
        (build.heart_at[0] + 25, -22.0, -6.0),
        (top - 18, -24.0, -14.0),
        (top - 4, -14.0, -8.0),
        (top, 4.0, 4.0),
        (top - 4, 22.0, 14.0),
        (top - 20, back, 19.0),
        (-200.0, back, 16.0),
    ]
    for start, end in pairwise(arch):
        canvas.paint_tube(start, end, (13.5, 13.0), blood)
    canvas.paint_tube((build.heart_at[0] + 20, -18, -26), (120.0, -14, -24), (9, 8), blood)
    canvas.paint_tube((0.0, -18, 2), (24.0, -6, 4), (14, 11), blood)
    canvas.paint_tube((-130.0, back - 10, 4), (120.0, 22, 3), (6, 6), 35)


def _paint_airways(canvas: Canvas, build: Build) -> None:
    carina = (16.0, 8.0, 0.0)
    for start, end, outer in (
        ((build.apex + 40, -6.0, 0.0), carina, 9.0),
        (carina, (-8.0, 14.0, -38.0), 7.5),
        (carina, (-14.0, 18.0, 42.0), 7.0),
    ):
        canvas.paint_tube(start, end, (outer + 1.5, outer + 1), 20)
        canvas.paint_tube(start, end, (outer, outer - 0.5), _AIR)


def _paint_vessels(canvas: Canvas, build: Build, side: float, random: np.random.Generator) -> None:
    """Paint the pulmonary vessels of one lung, growing from its hilum."""
    hilum = np.asarray((-2.0, 8.0, 34.0 * side))
    blood = _VESSEL + 0.7 * build.contrast
    tips = []
    for _ in range(15):
        direction = np.asarray((random.uniform(-1, 1), random.uniform(-1, 1), side * random.uniform(0.15, 1.0)))
        tips.append((hilum, direction / np.linalg.norm(direction), random.uniform(3.2, 6.2), 0))
    while tips:
        start, direction, radius, generation = tips.pop()
        length = random.uniform(14, 24) * (0.9**generation) + 3
        end = start + direction * length
        if generation and depth_at(build, end) < _CLEAR_MM:
            continue
        canvas.paint_tube(start, end, (radius, radius * 0.85), blood)
        children = 2 if random.random() < 0.75 else 1  # noqa: PLR2004  # three in four fork
        for _ in range(children):
            turned = direction + random.normal(0, 0.38 + 0.05 * generation, 3)
            thinner = radius * 0.85 * random.uniform(0.72, 0.92)
            if generation < 8 and thinner > 0.45:  # noqa: PLR2004  # thinner ones are below what CT shows
                tips.append((end, turned / np.linalg.norm(turned), thinner, generation + 1))
