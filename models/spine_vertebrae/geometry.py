"""Angles, balance and heights of a column of vertebrae, from their corners alone.

Shapes: corners (n, 4, 2) of n vertebrae from the head to the feet, each top left, top right, bottom left and bottom
right; x to the right of the picture, y down, pixels square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Corners = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve between two end vertebrae, by their order in the column from the head.

    Units: degrees between the middle lines of both, 0 and more.
    """

    upper: int
    lower: int
    apex: int
    """the vertebra farthest beside the line through both ends"""
    angle: float
    is_convex_right: bool
    """whether the apex lies on the picture's right"""

    @property
    def ends(self) -> tuple[int, int]:
        """Return both end vertebrae."""
        return self.upper, self.lower


def tilts(corners: Corners) -> NDArray[np.float64]:
    """Return the tilt of each vertebra's middle line in degrees; positive where it falls to the picture's right."""
    left, right = corners[:, [0, 2]].mean(axis=1), corners[:, [1, 3]].mean(axis=1)
    x, y = (right - left).T
    return np.asarray(np.degrees(np.arctan2(y, x)))


def curves(corners: Corners) -> tuple[Curve, ...]:
    """Return the curves from the head to the feet, each beginning where the one above ends; the column has two or more.

    The largest lies between the two vertebrae that are tilted most against each other; above its upper end follows the
    one to the vertebra that is tilted most against this end, and so on, and below its lower end alike.
    Source: Cobb 1948, on the middle lines of the vertebrae, as SpineWeb's data set 16 was measured.
    """
    tilt = tilts(corners)
    first, last = sorted((int(tilt.argmin()), int(tilt.argmax())))
    ends = [(first, last)]
    while (upper := ends[0][0]) > 0:
        ends.insert(0, (int(np.abs(tilt[:upper] - tilt[upper]).argmax()), upper))
    while (lower := ends[-1][1]) < len(tilt) - 1:
        ends.append((lower, lower + 1 + int(np.abs(tilt[lower + 1 :] - tilt[lower]).argmax())))
    return tuple(_curve(corners, tilt, *pair) for pair in ends if pair[0] < pair[1])


def largest(spine_curves: tuple[Curve, ...]) -> Curve:
    """Return the curve with the largest angle."""
    return max(spine_curves, key=lambda curve: curve.angle)


def challenge_angles(corners: Corners, rows: int) -> NDArray[np.float64]:
    """Return the three angles of a film as the set and its challenge count them, the largest first, in degrees.

    The second and the third lie above and below the largest; of an S-shaped spine whose largest curve lies in the lower
    half of the film, both lie above. Where there is none, 0.
    Source: the angles that come with SpineWeb's data set 16, for which this rule was found.
    """
    spine_curves = curves(corners)
    main = spine_curves.index(largest(spine_curves))
    angle = dict(enumerate(curve.angle for curve in spine_curves))
    ends = corners[list(spine_curves[main].ends)].mean(axis=1)
    is_low = ends[:, 1].sum() > rows
    beside = _beside(corners.mean(axis=1), 0, len(corners) - 1)
    is_s_shaped = beside.min() < 0 < beside.max()
    third = main - 2 if is_low and is_s_shaped else main + 1
    return np.array([angle[main], angle.get(main - 1, 0.0), angle.get(third, 0.0)])


def _curve(corners: Corners, tilt: NDArray[np.float64], upper: int, lower: int) -> Curve:
    beside = _beside(corners.mean(axis=1), upper, lower)
    apex = int(np.abs(beside).argmax())
    angle = abs(float(tilt[lower] - tilt[upper]))
    # Two neighbors have no apex between them: the side to which they open tells.
    side = beside[apex] if lower - upper > 1 else tilt[lower] - tilt[upper]
    return Curve(upper, lower, upper + apex, angle, is_convex_right=bool(side > 0))


def _beside(middles: Corners, upper: int, lower: int) -> NDArray[np.float64]:
    """Return how far each middle from `upper` to `lower` lies beside the line through both, to its left and right."""
    along = middles[lower] - middles[upper]
    away = middles[upper : lower + 1] - middles[upper]
    return np.asarray((away[:, 0] * along[1] - away[:, 1] * along[0]) / max(float(np.hypot(*along)), 1e-9))


def end_plate(corners: Corners, number: int, *, upper: bool) -> Corners:
    """Return the left and the right end of a vertebra's upper or lower end plate; (2, 2)."""
    return np.asarray(corners[number, :2] if upper else corners[number, 2:])


def height_ratios(corners: Corners) -> NDArray[np.float64]:
    """Return the height of each vertebra's lower side in its higher side, 0 to 1; 1 is no wedge."""
    heights = np.linalg.norm(corners[:, 2:] - corners[:, :2], axis=2)
    return np.asarray(heights.min(axis=1) / np.maximum(heights.max(axis=1), 1e-9))


def widths(corners: Corners) -> NDArray[np.float64]:
    """Return the mean width of each vertebra's end plates in pixels."""
    return np.asarray(np.linalg.norm(corners[:, [1, 3]] - corners[:, [0, 2]], axis=2).mean(axis=1))


def offset(corners: Corners) -> float:
    """Return how far the highest vertebra's middle lies to the picture's right of the lowest one's, in pixels."""
    middles = corners.mean(axis=1)
    return float(middles[0, 0] - middles[-1, 0])
