"""A synthetic chest CT around one nodule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ainode.models.phantoms.thorax import Field, Nodule, nodule_position, thorax
from ainode.models.phantoms.thorax_anatomy import Build

SPACING_MM = (1.5, 1.0, 1.0)
_SIZE = (40, 192, 192)


def chest(seed: int, *, grown: float = 1.0) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Return slices around a spiculated nodule of a part of its diameter, and the voxel (z, y, x) of its center.

    Shapes: (40, 192, 192), axes to the head, the back and the left.
    Units: Hounsfield units; spacing as `SPACING_MM`.
    """
    random = np.random.default_rng([seed, 3])
    patient, size = int(random.integers(2**31)), float(random.uniform(11, 16))
    nodule = Nodule(nodule_position(random, patient, size), grown * size, spiculated=True)
    field = Field(_SIZE, SPACING_MM, nodule.center_mm(Build.of_patient(patient)))
    scan = seed + round(1000 * (1 - grown))  # no two dates have the same noise
    phantom = thorax(patient, scan, scanned=field, nodules=(nodule,))
    return phantom.values, phantom.nodule_centers[0]
