"""The layout of a synthetic patient's vertebrae, T1 to S1, in either projection.

Millimeters; x to the right of the picture, y down, (0, 0) at its middle.
In the lateral projection anterior is to the left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

LEVELS = (*(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 6)), "S1")

# Typical adult sizes: body height, width and depth at T1, T12, L5; linear between.
# Source: order of magnitude of Panjabi et al., Spine 1991/1992 (thoracic, lumbar morphometry).
_ANCHORS = (0, 11, 16)
_HEIGHT_MM = (16.0, 23.0, 27.0)
_WIDTH_MM = (27.0, 39.0, 50.0)
_DEPTH_MM = (18.0, 30.0, 35.0)
_DISC_MM = (3.6, 6.5, 11.0)
# The vertebra in the middle of a picture, by region; how far the spine lies beside its line, and how much farther in
# a picture of the whole spine.
_CENTERS = {"THORACIC": (4.5, 7.5), "LUMBAR": (13.0, 14.6), "WHOLE": (8.0, 9.5)}
_CURVE_MM, _SCOLIOSIS = 3.5, 4.0


@dataclass(frozen=True, slots=True)
class Vertebra:
    """One vertebral body: a slightly waisted box, and the disc below it.

    Units: millimeters and radians; `extent` is the width (AP) or depth (lateral).
    """

    name: str
    center: tuple[float, float]
    extent: float
    height: float
    disc: float
    angle: float
    wedge: float = 0.0
    """Fraction of the height lost at the anterior (left) edge."""
    bow: float = 0.06
    """Inward bow of the endplates, as a fraction of the height."""

    def place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points of the vertebra's own axes, in half extents and half heights, in millimeters of the picture."""
        local = np.asarray(points, np.float64) * (self.extent / 2, self.height / 2)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = local @ np.asarray([[cos, sin], [-sin, cos]])
        placed: NDArray[np.float64] = turned + self.center
        return placed

    def corners(self) -> NDArray[np.float64]:
        """Return the top left, top right, bottom left and bottom right corner, (4, 2)."""
        return self.place(np.asarray([[-1.0, -1 + 2 * self.wedge], [1, -1], [-1, 1], [1, 1]]))

    def outline(self) -> NDArray[np.float64]:
        """Return the closed contour of the body, (n, 2), clockwise from the upper left."""
        t = np.linspace(-1.0, 1.0, 9)
        dip = 2 * self.bow * (1 - t**2)
        left_loss = self.wedge * (1 - t)
        waist = 1 - 0.10 * (1 - t**2)
        top = np.stack([t, -1 + dip + left_loss], axis=1)
        right = np.stack([waist, t], axis=1)[1:-1]
        bottom = np.stack([t, 1 - dip], axis=1)[::-1]
        left_t = np.linspace(1.0, -1.0 + 2 * self.wedge, 9)[1:-1]
        left = np.stack([-(1 - 0.10 * (1 - left_t**2)), left_t], axis=1)
        return self.place(np.concatenate([top, right, bottom, left]))


@dataclass(frozen=True, slots=True)
class Change:
    """A lesion's change of the layout at one level; the default changes nothing.

    Units: `slip` is a fraction of the depth, anterior positive.
    """

    height: float = 1.0
    wedge: float = 0.0
    bow: float = 0.0
    disc: float = 1.0
    slip: float = 0.0


@dataclass(frozen=True, slots=True)
class Build:
    """The measures of one patient and one exposure."""

    size: float
    curve_mm: float
    curve_phase: float
    kyphosis_mm: float
    lordosis_mm: float
    tilt: float
    offset_mm: float
    center_level: float

    @classmethod
    def of_region(cls, random: np.random.Generator, region: str) -> Build:
        """Return a random build whose picture centers on `region`; whole spines are photographed for their curve."""
        low, high = _CENTERS[region]
        return cls(
            size=float(random.uniform(0.88, 1.12)),
            curve_mm=float(random.normal(0, _CURVE_MM * (_SCOLIOSIS if region == "WHOLE" else 1))),
            curve_phase=float(random.uniform(0, 2 * np.pi)),
            kyphosis_mm=float(random.uniform(14, 42)),
            lordosis_mm=float(random.uniform(8, 26)),
            tilt=float(random.normal(0, 0.025)),
            offset_mm=float(random.normal(0, 8)),
            center_level=float(random.uniform(low, high)),
        )


def _line_x(build: Build, view: str, y: float, thorax_mm: float, total_mm: float) -> float:
    """Return the x of the spinal line at depth `y` below T1."""
    if view == "AP":
        return build.curve_mm * float(np.sin(2 * np.pi * y / total_mm + build.curve_phase))
    if y < thorax_mm:
        return build.kyphosis_mm * float(np.sin(np.pi * y / thorax_mm))
    return -build.lordosis_mm * float(np.sin(np.pi * (y - thorax_mm) / (total_mm - thorax_mm)))


def layout(build: Build, view: str, changes: dict[int, Change], random: np.random.Generator) -> tuple[Vertebra, ...]:
    """Return the vertebrae T1 to S1 of one patient with `changes` by level index."""
    levels = np.arange(len(LEVELS))
    extents = np.interp(levels, _ANCHORS, _WIDTH_MM if view == "AP" else _DEPTH_MM) * build.size
    normal_heights = np.interp(levels, _ANCHORS, _HEIGHT_MM) * build.size * random.normal(1, 0.02, len(LEVELS))
    normal_discs = np.interp(levels, _ANCHORS, _DISC_MM) * build.size * random.normal(1, 0.05, len(LEVELS))
    change_of_level = [changes.get(int(i), Change()) for i in levels]
    heights = normal_heights * [change.height for change in change_of_level]
    discs = normal_discs * [change.disc for change in change_of_level]
    tops = np.concatenate([[0.0], np.cumsum(heights + discs)[:-1]])
    middles = tops + heights / 2
    thorax, total = float(middles[11]), float(middles[-1])
    x = np.asarray([_line_x(build, view, float(m), thorax, total) for m in middles])
    # A slipped body moves all bodies above it too.
    slips = np.asarray([change.slip for change in change_of_level]) * extents
    x = x - np.cumsum(slips[::-1])[::-1]
    angles = -np.arctan(np.gradient(x + np.cumsum(slips[::-1])[::-1], middles))
    center_y = float(np.interp(build.center_level, levels, middles))
    center_x = float(np.interp(build.center_level, levels, x))
    tilt_matrix = np.asarray([[np.cos(build.tilt), np.sin(build.tilt)], [-np.sin(build.tilt), np.cos(build.tilt)]])
    centers = np.stack([x - center_x, middles - center_y], axis=1) @ tilt_matrix + (build.offset_mm, 0.0)
    return tuple(
        Vertebra(
            name=LEVELS[i],
            center=(float(centers[i, 0]), float(centers[i, 1])),
            extent=float(extents[i]),
            height=float(heights[i]),
            disc=float(discs[i]),
            angle=float(angles[i] + build.tilt),
            wedge=change_of_level[i].wedge,
            bow=0.06 + change_of_level[i].bow,
        )
        for i in range(len(LEVELS))
    )


def shifted_vertebra(vertebra: Vertebra, dx: float, dy: float) -> Vertebra:
    """Return the vertebra shifted in its own axes, in half extents and half heights."""
    x, y = vertebra.place(np.asarray([[dx, dy]]))[0]
    return replace(vertebra, center=(float(x), float(y)))
