"""The search through one scan: lungs, cells, candidates, and the cubes around candidates that the network reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import ModelError
from ainode.models.following.grid import Grid, Omission, Values
from ainode.models.nodule_detection.candidates import MOST, Blobs, blobs_of, blurred
from ainode.models.nodule_detection.cells import cells_of, cube, halved
from ainode.models.nodule_detection.lungs import Lungs, lungs_of

CELL_MM = 1.0
SIDE = 24
"""the cells along a side of a cube: 24 mm in fine cells, 48 mm in coarse cells"""
LARGER_SIDE = 32
"""the cubes of a training, from which turned cubes of `SIDE` are taken"""
_DARKEST, _BRIGHTEST = -1000.0, 400.0
_MARGIN_MM = float(LARGER_SIDE)


@dataclass(frozen=True, slots=True)
class Search:
    """The candidates of a scan.

    Shapes: `cells` and `coarse` as network values, 0 to 1; the coarse cells are twice as wide.
    """

    cells: Grid = field(repr=False)
    coarse: Values = field(repr=False)
    blobs: Blobs = field(repr=False)

    def cubes(self, places: NDArray[np.float64], side: int = SIDE) -> Values:
        """Return the cubes around places (n, 3) in cells, (n, 2, side, side, side): fine cells and coarse cells."""
        result = np.empty((len(places), 2, side, side, side), np.float32)
        for number, place in enumerate(places):
            result[number, 0] = cube(self.cells.values, np.rint(place).astype(int), side)
            result[number, 1] = cube(self.coarse, np.rint((place - 0.5) / 2).astype(int), side)
        return result


def searched(scan: Grid, most: int = MOST) -> Search | Omission:
    """Return the candidates of a chest CT, or why nodules are not searched in the scan."""
    lungs = lungs_of(scan)
    match lungs:
        case Omission():
            return lungs
        case Lungs():
            return _search(scan, lungs, most)


def search_of(scan: Grid) -> Search:
    """Return the candidates of a chest CT.

    Raises: ModelError if nodules are not searched in the scan.
    """
    search = searched(scan)
    if isinstance(search, Omission):
        raise ModelError(search.reason)
    return search


def _search(scan: Grid, lungs: Lungs, most: int) -> Search:
    """Return the candidates in the lungs of a scan."""
    cells = cells_of(scan.part_in(lungs.window(scan, _MARGIN_MM)), CELL_MM)
    share = blurred(lungs.grid.nearest_values(cells), 1.0)
    blobs = blobs_of(cells.values, share, most)
    values = network_values(cells.values)
    return Search(Grid(values, cells.origin_mm, cells.spacing_mm, cells.axes), halved(values), blobs)


def network_values(hounsfield: Values) -> Values:
    """Return Hounsfield units as the network reads the units: 0 at air, 1 at bone."""
    values = np.clip(hounsfield, _DARKEST, _BRIGHTEST)
    values -= np.float32(_DARKEST)
    values /= np.float32(_BRIGHTEST - _DARKEST)
    return values
