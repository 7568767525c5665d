"""Whether a nodule is solid, part-solid or ground glass, by the Hounsfield units in its outline."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from scipy import ndimage

from ainode.models.nodule_outline.model import OutlinedNodule

# Between ground glass and soft tissue; the blurred rim of a solid nodule is as dense as ground glass.
_SOLID_HU, _RIM_MM = -300.0, 1.5
_LEAST_SOLID, _LEAST_PART_SOLID = 0.8, 0.05
"""the least solid share of a solid nodule, and of a part-solid nodule"""


class Density(StrEnum):
    """The density of a nodule, in the radiologist's words."""

    SOLID = "solid"
    PART_SOLID = "part-solid"
    GROUND_GLASS = "ground glass"


def solid_share(nodule: OutlinedNodule) -> float:
    """Return the share of a nodule, 0 to 1, that is as dense as soft tissue; the rim does not count."""
    depth_mm = ndimage.distance_transform_edt(nodule.mask, sampling=nodule.cells.spacing_mm)
    inner = nodule.cells.values[depth_mm > min(_RIM_MM, float(depth_mm.max()) / 2)]
    return float(np.mean(inner > _SOLID_HU))


def density_of(nodule: OutlinedNodule) -> Density:
    """Return the density of an outlined nodule."""
    share = solid_share(nodule)
    if share >= _LEAST_SOLID:
        return Density.SOLID
    return Density.PART_SOLID if share >= _LEAST_PART_SOLID else Density.GROUND_GLASS
