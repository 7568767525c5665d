"""From the network's probabilities to the outlines of lung and infection."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.lung_infection.card import Decision
from ainode.models.lung_infection.sides import Mask

# Lung on a slice in pieces smaller than this, in pixels of the picture, is trachea, bowel gas or noise.
_LEAST_LUNG = 60


def outlined(probabilities: NDArray[np.float32], decision: Decision) -> tuple[Mask, Mask]:
    """Return lung and infection; infection lies in the lung, and the lung holds it.

    Shapes: (n, 2, rows, columns) in; twice (n, rows, columns) out.
    """
    infected = probabilities[:, 1] > decision.infection
    lung = np.stack([_large_pieces(slice_, _LEAST_LUNG) for slice_ in probabilities[:, 0] > decision.lung])
    infected = np.stack([_large_pieces(slice_, decision.least_pixels) for slice_ in infected & lung])
    return lung, infected


def _large_pieces(mask: Mask, least: int) -> Mask:
    labels, count = cast("tuple[NDArray[Any], int]", ndimage.label(mask))
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())
    is_large = sizes >= least
    is_large[0] = False
    return np.asarray(is_large[labels], np.bool_)
