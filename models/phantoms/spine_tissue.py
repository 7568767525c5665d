"""Soft tissue and bone of a synthetic spine radiograph, drawn as line integrals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ainode.models.phantoms.canvas import Canvas, blurred_picture, smooth_noise
from ainode.models.phantoms.spine_anatomy import Vertebra, shifted_vertebra

# Linear attenuation per millimeter near 70 keV effective energy; that of bone is in excess of water's.
# Source: NIST XCOM tables, rounded (water 0.019/mm; trabecular and cortical bone in excess of it).
WATER = 0.019
SPONGY = 0.014
CORTEX = 0.045
METAL = 1.4

_RIB_LEVELS = 11


def ellipse(x: float, y: float, rx: float, ry: float, *, points: int = 24) -> NDArray[np.float64]:
    """Return a closed ellipse as (n, 2) points."""
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def draw_soft_tissue(canvas: Canvas, spine: tuple[Vertebra, ...], view: str, random: np.random.Generator) -> None:
    """Draw the trunk, the lungs, the heart and the abdomen behind the bones."""
    x, y = canvas.grid_mm()
    top, bottom = spine[0].center[1], spine[-1].center[1]
    along = (y - top) / (bottom - top)
    if view == "AP":
        half = 165 - 22 * np.sin(np.pi * np.clip(along, 0, 1)) ** 2 + 12 * np.cos(3 * along)
        thickness = random.uniform(190, 250) * np.sqrt(np.clip(1 - (x / half) ** 2, 0, None))
    else:
        line = np.interp(y[:, 0], [v.center[1] for v in spine], [v.center[0] for v in spine])[:, None]
        back, front = 68 + 10 * np.sin(2 * np.pi * along), -random.uniform(150, 190)
        middle, half = line + (back + front) / 2, (back - front) / 2
        thickness = random.uniform(270, 330) * np.sqrt(np.clip(1 - ((x - middle) / half) ** 2, 0, None))
    mottle = 1 + 0.02 * smooth_noise(random, canvas.attenuation.shape, 9, octaves=4)
    canvas.attenuation[:] += (WATER * thickness * mottle).astype(np.float32)
    (_draw_chest_ap if view == "AP" else _draw_chest_lateral)(canvas, spine, random)
    _draw_bowel(canvas, spine, view, random)


def _draw_chest_ap(canvas: Canvas, spine: tuple[Vertebra, ...], random: np.random.Generator) -> None:
    y = (spine[1].center[1] + spine[10].center[1]) / 2
    reach = (spine[10].center[1] - spine[0].center[1]) / 2
    x = spine[5].center[0]
    air = random.uniform(2.0, 2.8)
    lungs = Canvas(np.zeros_like(canvas.attenuation), canvas.mm_per_pixel, canvas.origin_mm)
    for side in (-1, 1):
        lungs.add_ellipsoid((x + side * 78, y), (54, reach * 1.05), air)
        lungs.add_ellipsoid((x + side * 66, y - reach * 0.5), (40, reach * 0.5), air * 0.4)
    below = lungs.grid_mm()[1] - (spine[10].center[1] - 12 * np.cos((lungs.grid_mm()[0] - x) / 40))
    lungs.attenuation[:] *= 1 / (1 + np.exp(np.clip(below / 2.0, -30, 30)))
    texture = 1 + 0.05 * smooth_noise(random, canvas.attenuation.shape, 40, octaves=3)
    canvas.attenuation[:] -= blurred_picture(lungs.attenuation * texture, 1.5 / canvas.mm_per_pixel)
    canvas.add_ellipsoid((x + random.uniform(22, 36), spine[8].center[1]), (52, 48), 1.2, angle=0.6)
    canvas.add_ellipsoid((x, spine[3].center[1]), (26, 70), 0.8)
    canvas.add_ellipsoid((x - 3, spine[0].center[1] + 8), (8, 60), -0.35)


def _draw_chest_lateral(canvas: Canvas, spine: tuple[Vertebra, ...], random: np.random.Generator) -> None:
    y = (spine[1].center[1] + spine[10].center[1]) / 2
    reach = (spine[10].center[1] - spine[0].center[1]) / 2
    x = spine[6].center[0] - 62
    lungs = Canvas(np.zeros_like(canvas.attenuation), canvas.mm_per_pixel, canvas.origin_mm)
    lungs.add_ellipsoid((x, y), (92, reach * 1.08), random.uniform(2.4, 3.2))
    px, py = lungs.grid_mm()
    below = py - (spine[9].center[1] - 10 - 0.25 * (px - x))
    lungs.attenuation[:] *= 1 / (1 + np.exp(np.clip(below / 2.0, -30, 30)))
    texture = 1 + 0.05 * smooth_noise(random, canvas.attenuation.shape, 36, octaves=3)
    canvas.attenuation[:] -= blurred_picture(lungs.attenuation * texture, 1.5 / canvas.mm_per_pixel)
    canvas.add_ellipsoid((x - 30, spine[8].center[1]), (46, 56), 1.6, angle=0.5)
    canvas.add_ellipsoid((spine[3].center[0] - 50, spine[3].center[1]), (9, 55), -0.4, angle=0.15)
    front = spine[5].center[0] - 150
    breastbone = np.asarray([[front + 22, spine[1].center[1]], [front, y], [front + 6, spine[8].center[1]]])
    canvas.stroke(breastbone, 10, 0.5)


def _draw_bowel(canvas: Canvas, spine: tuple[Vertebra, ...], view: str, random: np.random.Generator) -> None:
    """Draw gas below the diaphragm, so that not only bright anatomy lies near the spine."""
    for _ in range(int(random.integers(3, 9))):
        side = random.uniform(-120, 120) if view == "AP" else random.uniform(-140, -45)
        level = spine[int(random.integers(12, 17))]
        center = (level.center[0] + side, level.center[1] + random.uniform(-12, 12))
        radii = (random.uniform(9, 26), random.uniform(8, 18))
        canvas.add_ellipsoid(center, radii, -random.uniform(0.25, 0.7), angle=random.uniform(0, 3))


def draw_skeleton(canvas: Canvas, spine: tuple[Vertebra, ...], view: str, random: np.random.Generator) -> None:
    """Draw the vertebrae, the ribs and the pelvis."""
    density = float(random.uniform(0.8, 1.25))
    bones = Canvas(np.zeros_like(canvas.attenuation), canvas.mm_per_pixel, canvas.origin_mm)
    for index, vertebra in enumerate(spine):
        _draw_body(bones, vertebra, density)
        if view == "AP":
            _draw_posterior_ap(bones, vertebra, density)
        else:
            _draw_posterior_lateral(bones, vertebra, density)
        if index < _RIB_LEVELS:
            (_draw_ribs_ap if view == "AP" else _draw_ribs_lateral)(bones, vertebra, index, density, random)
    for step in range(1, 7):
        neck = shifted_vertebra(spine[0], 0.0, -2.0 * step * (1 + spine[0].disc / spine[0].height))
        _draw_body(bones, neck, density)
        (_draw_posterior_ap if view == "AP" else _draw_posterior_lateral)(bones, neck, density)
    if view == "AP":
        _draw_collar_bones(bones, spine[0], density)
    (_draw_pelvis_ap if view == "AP" else _draw_pelvis_lateral)(bones, spine, density)
    trabeculae = 1 + 0.09 * smooth_noise(random, canvas.attenuation.shape, 110, octaves=2)
    canvas.attenuation[:] += bones.attenuation * trabeculae


def _draw_body(canvas: Canvas, vertebra: Vertebra, density: float) -> None:
    outline = vertebra.outline()
    loss = 1 - vertebra.height / (0.8 * vertebra.extent + 1e-6)
    packed = density * (1 + 0.35 * max(0.0, loss))
    canvas.fill(outline, SPONGY * 30 * packed)
    canvas.stroke(outline, 1.1, CORTEX * 6 * density, closed=True)
    rim = np.linspace(-0.96, 0.96, 9)
    for edge in (-1, 1):
        for bulge in (0.05, -0.05):
            flat = edge * (0.97 - (2 * vertebra.bow + bulge) * (1 - rim**2))
            if edge < 0:
                flat = flat + vertebra.wedge * (1 - rim)
            canvas.stroke(vertebra.place(np.stack([rim, flat], axis=1)), 1.0, CORTEX * 8 * density)


def _draw_posterior_ap(canvas: Canvas, vertebra: Vertebra, density: float) -> None:
    for side in (-1, 1):
        pedicle = vertebra.place(ellipse(side * 0.62, -0.25, 0.17, 0.34))
        canvas.fill(pedicle, SPONGY * 8 * density)
        canvas.stroke(pedicle, 1.2, CORTEX * 7 * density, closed=True)
        process = np.asarray([[0.8, -0.35], [1.55, -0.45], [1.6, -0.2], [0.85, 0.05]]) * (side, 1)
        canvas.fill(vertebra.place(process), SPONGY * 12 * density)
        lamina = np.asarray([[0.12, -0.1], [0.5, 0.0], [0.55, 0.75], [0.35, 0.95], [0.15, 0.35]]) * (side, 1)
        canvas.fill(vertebra.place(lamina), SPONGY * 9 * density)
    spinous = vertebra.place(np.asarray([[0, 0.05], [0.13, 0.5], [0.17, 0.95], [0, 1.15], [-0.17, 0.95], [-0.13, 0.5]]))
    canvas.fill(spinous, SPONGY * 16 * density)
    canvas.stroke(spinous, 1.0, CORTEX * 6 * density, closed=True)


def _draw_posterior_lateral(canvas: Canvas, vertebra: Vertebra, density: float) -> None:
    pedicle = np.asarray([[0.95, -0.75], [1.5, -0.8], [1.5, -0.15], [0.95, -0.1]])
    facet = np.asarray([[1.35, -1.25], [1.62, -1.1], [1.85, 0.5], [1.7, 1.25], [1.45, 0.7]])
    spinous = np.asarray([[1.7, -0.3], [2.9, 0.5], [3.15, 1.2], [2.7, 1.35], [1.75, 0.65]])
    for part, amount in ((pedicle, 14), (facet, 16), (spinous, 14)):
        placed = vertebra.place(part)
        canvas.fill(placed, SPONGY * amount * density)
        canvas.stroke(placed, 1.0, CORTEX * 6 * density, closed=True)


def _draw_ribs_ap(canvas: Canvas, vertebra: Vertebra, index: int, density: float, random: np.random.Generator) -> None:
    x, y = vertebra.center
    t = np.linspace(0, 1, 14)
    span = 78 + 46 * np.sin(np.pi * (index + 2) / 15)
    drop = 14 + 5.0 * index
    for side in (-1, 1):
        lift = -7 * np.sin(np.pi * np.minimum(t * 2, 1))
        line = np.stack([x + side * (10 + span * np.sin(t * np.pi / 2)), y - 5 + lift + drop * t**1.8], axis=1)
        width = 7.5 + float(random.normal(0, 0.4))
        canvas.stroke(line, width, SPONGY * 11 * density)
        for edge in (-width / 2, width / 2):
            canvas.stroke(line + np.asarray([0, edge]), 1.0, CORTEX * 3 * density)


def _draw_ribs_lateral(
    canvas: Canvas, vertebra: Vertebra, index: int, density: float, random: np.random.Generator
) -> None:
    x, y = vertebra.center
    t = np.linspace(0, 1, 12)
    for offset in (0.0, float(random.uniform(3, 9))):
        reach = 120 + 20 * np.sin(np.pi * index / 11)
        line = np.stack([x + 26 - reach * t**1.3, y + offset + (18 + 5.5 * index) * t**0.9], axis=1)
        canvas.stroke(line, 7.0, SPONGY * 6 * density)
        for edge in (-3.5, 3.5):
            canvas.stroke(line + np.asarray([0, edge]), 0.9, CORTEX * 1.6 * density)


def _draw_collar_bones(canvas: Canvas, first: Vertebra, density: float) -> None:
    x, y = first.center
    for side in (-1, 1):
        line = np.asarray([[14, 52], [60, 34], [105, 20], [150, 18]]) * (side, 1) + (x, y)
        canvas.stroke(line, 11, SPONGY * 14 * density)
        canvas.stroke(line + np.asarray([0, 5]), 1.2, CORTEX * 4 * density)
        canvas.stroke(line - np.asarray([0, 5]), 1.2, CORTEX * 4 * density)


def _draw_pelvis_ap(canvas: Canvas, spine: tuple[Vertebra, ...], density: float) -> None:
    last, sacrum = spine[-2], spine[-1]
    wide = sacrum.extent / 2
    wedge = np.asarray([[-1.1, -1], [1.1, -1], [1.8, 1.0], [0.7, 5.0], [-0.7, 5.0], [-1.8, 1.0]])
    canvas.fill(sacrum.place(wedge), SPONGY * 20 * density)
    for side in (-1, 1):
        x, y = sacrum.center[0], last.center[1]
        wing = np.asarray([[wide * 1.3, 22], [80, -12], [128, -6], [140, 30], [105, 95], [50, 90]])
        placed = wing * (side, 1) + (x, y)
        canvas.fill(placed, SPONGY * 20 * density)
        canvas.stroke(placed[1:4], 3.0, CORTEX * 7 * density)


def _draw_pelvis_lateral(canvas: Canvas, spine: tuple[Vertebra, ...], density: float) -> None:
    x, y = spine[-1].center
    sacrum = np.asarray([[-14, 8], [22, -4], [52, 60], [60, 110], [40, 120], [16, 60]]) + np.asarray([x, y])
    canvas.fill(sacrum, SPONGY * 26 * density)
    wing = np.asarray([[-30, -34], [-4, -48], [34, -44], [56, -8], [40, 60], [-20, 60]]) + np.asarray([x, y])
    canvas.fill(wing, SPONGY * 12 * density)
    canvas.stroke(wing[:4], 2.0, CORTEX * 5 * density)
