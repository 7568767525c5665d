"""Boxes into a network's input: the way that `Placement.to_source` comes back from."""

import numpy as np
from numpy.typing import NDArray

from ainode.models.spine_radiograph.preprocess import Placement


def on_input(boxes: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """Return (n, 4) boxes of the source on the input grid."""
    return np.asarray(boxes * np.tile(placement.scale, 2) + np.tile(placement.shift, 2), np.float32)
