"""The findings of a synthetic spine: their changes of the layout, and their drawings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ainode.models.phantoms.canvas import Canvas
from ainode.models.phantoms.spine_anatomy import Change, Vertebra
from ainode.models.phantoms.spine_tissue import CORTEX, METAL, SPONGY, ellipse

# The seven classes of the original detector, in the order its training text lists them.
# The order inside the original's own checkpoint is unknown: a checkpoint's own names win.
OSTEOPHYTES, DISC_NARROWING, IMPLANT, SLIP, _, OTHER, COLLAPSE = range(7)
CLASS_NAMES = (
    "Osteophytes",
    "Disc space narrowing",
    "Surgical implant",
    "Spondylolisthesis",
    "Foraminal stenosis",
    "Other lesions",
    "Vertebral collapse",
)

# The frequency of each finding. Foraminal stenosis needs an oblique view, so it has no examples; a slip is visible
# from the side only.
_FREQUENCY = {
    "AP": {OSTEOPHYTES: 0.30, DISC_NARROWING: 0.18, IMPLANT: 0.16, OTHER: 0.18, COLLAPSE: 0.18},
    "LATERAL": {OSTEOPHYTES: 0.25, DISC_NARROWING: 0.17, IMPLANT: 0.14, SLIP: 0.14, OTHER: 0.14, COLLAPSE: 0.16},
}
_IMPLANT_LEVELS = (2, 3, 4)
_SCLEROTIC = 0.7


@dataclass(frozen=True, slots=True)
class Lesion:
    """One planned finding: its class, the index of its level, its strength (0 to 1)."""

    kind: int
    level: int
    strength: float


def random_lesions(random: np.random.Generator, view: str, levels: tuple[int, ...]) -> tuple[Lesion, ...]:
    """Return one to three random findings, each at another of the visible `levels`."""
    kinds, weights = zip(*_FREQUENCY[view].items(), strict=True)
    probability = np.asarray(weights) / sum(weights)
    count = min(int(random.choice([1, 2, 3], p=[0.45, 0.35, 0.2])), max(1, len(levels) // 2))
    lesions: list[Lesion] = []
    unused = set(levels)
    for _ in range(count):
        kind = int(random.choice(kinds, p=probability))
        free_levels = sorted(level for level in unused if level + 1 in unused)
        if not free_levels or (kind == IMPLANT and any(lesion.kind == IMPLANT for lesion in lesions)):
            continue
        level = int(random.choice(free_levels))
        lesions.append(Lesion(kind, level, float(random.uniform(0.25, 1.0))))
        reach = 3 if kind == IMPLANT else 1
        unused -= set(range(level - 1, level + reach + 1))
    return tuple(lesions) or (Lesion(OSTEOPHYTES, levels[len(levels) // 2], 0.7),)


def layout_changes(lesion: Lesion, view: str) -> dict[int, Change]:
    """Return a finding's changes of the layout, by the index of the level."""
    s = lesion.strength
    if lesion.kind == DISC_NARROWING:
        return {lesion.level: Change(disc=0.50 - 0.40 * s)}
    if lesion.kind == SLIP:
        return {lesion.level: Change(slip=0.18 + 0.22 * s, disc=0.6)}
    if lesion.kind == COLLAPSE and view == "AP":
        return {lesion.level: Change(height=0.68 - 0.30 * s, bow=0.08)}
    if lesion.kind == COLLAPSE:
        return {lesion.level: Change(height=0.85 - 0.25 * s, wedge=0.22 + 0.28 * s, bow=0.05)}
    return {}


def draw_lesion(
    canvas: Canvas, lesion: Lesion, spine: tuple[Vertebra, ...], view: str, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the parts of a finding that the layout does not show; return the finding's points in millimeters."""
    body, next_body = spine[lesion.level], spine[lesion.level + 1]
    if lesion.kind == OSTEOPHYTES:
        return _draw_osteophytes(canvas, body, next_body, lesion.strength, random)
    if lesion.kind == IMPLANT:
        return _draw_implant(canvas, lesion, spine, view, random)
    if lesion.kind == OTHER:
        return _draw_focus(canvas, body, lesion.strength, random)
    if lesion.kind == DISC_NARROWING:
        return _draw_narrow_disc(canvas, body, next_body)
    if lesion.kind == SLIP:
        return np.concatenate([body.outline(), next_body.place(np.asarray([[-1.0, -1.0], [1.0, -1.0], [0.0, -0.4]]))])
    return body.outline()


def _draw_osteophytes(
    canvas: Canvas, body: Vertebra, below: Vertebra, strength: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw beaks at both rims of one disc, on one side."""
    side = int(random.choice([-1, 1])) if body.extent > body.height * 1.2 else -1
    length = 0.22 + 0.30 * strength
    upper = np.asarray([[0.9, 0.45], [1.0 + 0.7 * length, 0.8], [1.0 + length, 1.18], [0.98, 1.02], [0.7, 0.95]])
    lower = upper * (1, -1)
    points = []
    for vertebra, beak in ((body, upper), (below, lower)):
        placed = vertebra.place(beak * (side, 1))
        canvas.fill(placed, SPONGY * 34)
        canvas.stroke(placed, 1.2, CORTEX * 8, closed=True)
        points.append(placed)
    return np.concatenate(points)


def _draw_narrow_disc(canvas: Canvas, body: Vertebra, below: Vertebra) -> NDArray[np.float64]:
    rim = np.linspace(-0.95, 0.95, 7)
    edges = []
    for vertebra, edge in ((body, 0.93), (below, -0.93)):
        line = vertebra.place(np.stack([rim, np.full(7, edge)], axis=1))
        canvas.stroke(line, 3.0, CORTEX * 5)
        edges.append(vertebra.place(np.stack([rim, np.full(7, edge * 0.85)], axis=1)))
    return np.concatenate(edges)


def _draw_focus(canvas: Canvas, body: Vertebra, strength: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw a sclerotic (dense) or lytic (punched-out) focus inside a body."""
    place = (random.uniform(-0.4, 0.4), random.uniform(-0.25, 0.25))
    x, y = body.place(np.asarray([place]))[0]
    radius = body.height * random.uniform(0.26, 0.42)
    radii = (radius * random.uniform(0.9, 1.3), radius)
    if random.random() < _SCLEROTIC:
        canvas.add_ellipsoid((float(x), float(y)), radii, 0.5 + 0.7 * strength)
    else:
        canvas.add_ellipsoid((float(x), float(y)), radii, -0.45 - 0.25 * strength)
        canvas.stroke(ellipse(float(x), float(y), *radii), 1.0, CORTEX * 4, closed=True)
    return ellipse(float(x), float(y), *radii)


def _draw_implant(
    canvas: Canvas, lesion: Lesion, spine: tuple[Vertebra, ...], view: str, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw pedicle screws at two to four levels and the rods that join them."""
    count = int(random.choice(_IMPLANT_LEVELS))
    levels = spine[lesion.level : min(lesion.level + count, len(spine))]
    points = []
    for side in (-1, 1) if view == "AP" else (0.0, 0.12):
        heads = []
        for vertebra in levels:
            screw = np.asarray([[0.62, -0.25], [0.30, -0.12]]) * (side, 1)
            if view != "AP":
                screw = np.asarray([[1.7, -0.55 + side], [-0.45, -0.25 + side]])
            placed = vertebra.place(screw)
            canvas.stroke(placed, 4.6, METAL * 1.6)
            heads.append(placed[0])
            canvas.fill(ellipse(float(placed[0, 0]), float(placed[0, 1]), 4.2, 4.2), METAL * 1.5)
            points.append(placed)
        rod = np.asarray(heads)
        reach = rod[[0, -1]] + (rod[0] - rod[-1]) / max(1.0, float(np.linalg.norm(rod[0] - rod[-1]))) * 7 * np.asarray(
            [[1], [-1]]
        )
        line = np.concatenate([reach[:1], rod, reach[1:]])
        canvas.stroke(line, 5.2, METAL * 2.2)
        points.append(line)
    return np.concatenate(points)
