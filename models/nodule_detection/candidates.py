"""Round bright places in the lungs, by differences of Gaussians over the sizes of nodules.

The second derivatives tell a ball from a vessel: along a vessel the density hardly bends.
Source of the ranking: Li, Sone and Doi, Medical Physics 2003 (dot enhancement); Lindeberg, IJCV 1998 (scales).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from ainode.models.following.grid import Values
from ainode.models.nodule_detection.cells import halved

Places = NDArray[np.float64]

_DARKEST, _BRIGHTEST = -1000.0, 200.0
_LUNG_HU = -850.0
"""stands for everything outside of the lungs, so that the wall is no edge"""
_RATIO = 2**0.5
_FINE_SIGMAS = tuple(1.3 * _RATIO**step for step in range(4))
_COARSE_SIGMAS = tuple(1.3 * _RATIO**step for step in range(2, 7))
_LEAST_RESPONSE_HU = 12.0
_APART_MM = 4.0
MOST = 600
"""candidates of a scan that the network reads"""
_ROWS_A_CANDIDATE = 10
"""maxima of neighboring scales that are one candidate: a limit, so that a scan of noise takes no longer"""
_DIAMETER = 2 * 3**0.5
"""a ball's diameter in the sigma of its strongest response"""


@dataclass(frozen=True, slots=True)
class Blobs:
    """Candidates of a scan, the most ball-like ones first.

    Shapes: places (n, 3) cells (z, y, x); diameters (n,); strengths (n,).
    Units: cells, about 1 mm; strengths in Hounsfield units.
    """

    places: Places
    diameters: NDArray[np.float64]
    strengths: NDArray[np.float64]


def blobs_of(values: Values, lung_share: Values, most: int = MOST) -> Blobs:
    """Return the candidates of a scan in cells of 1 mm.

    Shapes: values and lung_share (Z, Y, X); the share, 0 to 1, of each cell that is lung.
    """
    inner = np.clip(values, _DARKEST, _BRIGHTEST)
    inner -= np.float32(_LUNG_HU)
    inner *= lung_share
    fine = _maxima(inner, lung_share, _FINE_SIGMAS)
    coarse = _maxima(halved(inner), halved(lung_share), tuple(sigma / 2 for sigma in _COARSE_SIGMAS))
    coarse[:, :3] = coarse[:, :3] * 2 + 0.5  # the middle of a block of two cells
    coarse[:, 3] *= 2
    return _thinned(np.concatenate([fine, coarse]), most)


def _maxima(values: Values, lung_share: Values, sigmas: tuple[float, ...]) -> Places:
    """Return the maxima of all scales, (n, 5): place, sigma, strength."""
    rows = [np.zeros((0, 5))]
    smooth = blurred(values, sigmas[0])
    for sigma, wider in pairwise(sigmas):
        further = blurred(smooth, (wider**2 - sigma**2) ** 0.5)
        response = smooth - further
        places = _local_maxima(response, lung_share)
        bends = _least_bend(smooth, places) * sigma**2
        round_enough = bends > 0
        strength = np.sqrt(bends[round_enough] * response[tuple(places[round_enough].T)])
        middle = (sigma * wider) ** 0.5
        kept_places = places[round_enough]
        rows.append(np.column_stack([kept_places, np.full(len(kept_places), middle), strength]))
        smooth = further
    return np.concatenate(rows)


def blurred(values: Values, sigma: float) -> Values:
    """Return the values blurred by a Gaussian of `sigma` cells along all axes."""
    radius = max(1, round(3.5 * sigma))
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2)).astype(np.float32)
    kernel /= kernel.sum()
    result = np.empty_like(values)
    for number, plane in enumerate(values):
        cv2.sepFilter2D(plane, -1, kernel, kernel, dst=result[number], borderType=cv2.BORDER_REPLICATE)
    columns = result.reshape(len(values), -1)
    # One axis alone: the kernel of the other axis is a single 1.
    unit = np.full(1, 1, np.float32)
    smooth = cv2.sepFilter2D(columns, -1, unit, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smooth, np.float32).reshape(values.shape)


def _local_maxima(response: Values, lung_share: Values) -> NDArray[np.intp]:
    """Return the cells of the lungs whose response is the highest of the 27 cells around each."""
    inner = tuple(slice(1, -1) for _ in range(3))
    strong = (response[inner] > _LEAST_RESPONSE_HU) & (lung_share[inner] > 0.5)  # noqa: PLR2004  # half a cell
    places = np.argwhere(strong) + 1
    flat = response.ravel()
    _, ny, nx = response.shape
    for offset in _neighbors():
        cells = (places[:, 0] * ny + places[:, 1]) * nx + places[:, 2]
        step = (offset[0] * ny + offset[1]) * nx + offset[2]
        places = places[flat[cells] >= flat[cells + step]]
    return places


def _neighbors() -> list[tuple[int, int, int]]:
    """Return the offsets of the 26 neighbors of a cell, those beside a face first."""
    offsets = [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) != (0, 0, 0)]
    return sorted(offsets, key=lambda offset: sum(map(abs, offset)))


def _least_bend(values: Values, places: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return how much the values bend down along the axis of least bend, per cell squared; negative: they bend up."""

    def at(*offset: int) -> NDArray[np.float64]:
        z, y, x = (places + np.asarray(offset)).T
        return np.asarray(values[z, y, x], np.float64)

    hessian = np.empty((len(places), 3, 3))
    units = np.eye(3, dtype=int)
    for i in range(3):
        hessian[:, i, i] = at(*units[i]) - 2 * at(0, 0, 0) + at(*-units[i])
        for j in range(i):
            plus, minus = units[i] + units[j], units[i] - units[j]
            hessian[:, i, j] = hessian[:, j, i] = (at(*plus) + at(*-plus) - at(*minus) - at(*-minus)) / 4
    return np.asarray(-np.linalg.eigvalsh(hessian)[:, -1], np.float64)


def _thinned(rows: Places, most: int) -> Blobs:
    """Return the strongest candidates; a weaker candidate near a stronger one is left out."""
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][: _ROWS_A_CANDIDATE * most]
    chosen: list[int] = []
    places, reach = rows[:, :3], np.maximum(_APART_MM, rows[:, 3] * _DIAMETER / 2)
    free = np.full(len(rows), fill_value=True)
    for number in range(len(rows)):
        if not free[number]:
            continue
        chosen.append(number)
        if len(chosen) == most:
            break
        free &= np.linalg.norm(places - places[number], axis=1) > reach[number]
    best = rows[chosen]
    return Blobs(best[:, :3], best[:, 3] * _DIAMETER, best[:, 4])
