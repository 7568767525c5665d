"""The reading of a nodule at a point: the outline, then the probability of malignancy around the outline's middle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation

from ainode.models.following import Grid, Omission, Position
from ainode.models.lung_nodule.model import Prediction, Reader
from ainode.models.lung_nodule.patches import Scan
from ainode.models.nodule_malignancy.model import MalignancyModel
from ainode.models.nodule_outline.model import OutlinedNodule, OutlineModel
from ainode.models.nodule_reading.density import Density, density_of

_HALF_VOXEL = 0.5


@dataclass(frozen=True, slots=True)
class NoduleReader:
    """Outlines nodules and judges them by a single scan: the only place that says which network judges."""

    outlines: OutlineModel
    judge: Reader
    """reads the picture around an outline; it answers where no `traits` are"""
    traits: MalignancyModel | None = None
    """judges outlines by their traits, and tells those of nodules from those of vessels"""

    def nodule_at(self, scan: Grid, position_mm: Position) -> OutlinedNodule | Omission:
        """Return the outline of the nodule or the mass at a position, or why there is none."""
        if self.traits is None:
            return self.outlines.outline(scan, position_mm)
        reading = self.traits.read(scan, position_mm)
        return reading if isinstance(reading, Omission) else reading.nodule

    def outline(self, scan: Grid, position_mm: Position) -> OutlinedNodule | Omission:
        """Return the outline of the nodule at a position, or why nothing is read there: no nodule, or a mass."""
        nodule = self.nodule_at(scan, position_mm)
        return nodule if isinstance(nodule, Omission) else nodule.refusal or nodule

    def density(self, nodule: OutlinedNodule) -> Density:
        """Return whether an outlined nodule is solid, part-solid or ground glass."""
        return density_of(nodule) if self.traits is None else Density(self.traits.reading(nodule).kind)

    def prediction(self, nodule: OutlinedNodule, scan: Grid, slices_below: int = 0) -> Prediction:
        """Return how likely an outlined nodule of a scan is malignant, with a map: where the slice network looked.

        `slices_below` is the number of the whole scan's slices below `scan`.
        Raises: UnusablePicture if the scan shows nothing at the nodule.
        """
        judged = self.judge([scan_around(nodule.size.position_mm, scan, slices_below)])
        if self.traits is None or (likely := self.traits.reading(nodule).probability) is None:
            return judged
        return replace(judged, profile="traits", probability=likely)


def scan_around(position_mm: Position, scan: Grid, slices_below: int = 0) -> Scan:
    """Return a scan as the networks of malignancy take the scan, around a position within the scan."""
    last = np.asarray(scan.values.shape) - 1
    z, y, x = (float(index) for index in np.clip(scan.indices(position_mm), 0, last))
    return Scan(scan.values, scan.spacing_mm, (z, y, x), slices_below)


def is_cut(nodule: OutlinedNodule, scan: Grid) -> bool:
    """Return whether the outline reaches the edge of the scan, so that a part of the nodule may lie outside."""
    cells = np.argwhere(binary_dilation(nodule.mask))
    index = scan.indices(nodule.cells.positions(cells))
    last = np.asarray(scan.values.shape) - 1
    return bool(((index < -_HALF_VOXEL) | (index > last + _HALF_VOXEL)).any())
