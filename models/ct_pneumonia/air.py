"""Whether the gas of a CT lies where Hounsfield units put it: where only one class is moved, its label is learned."""

from __future__ import annotations

import numpy as np

from ainode.models.ct_pneumonia.preprocess import Array

# Units: Hounsfield units. Below is padding; air is -1000, and measures -1007 to -947 around real chests.
_PADDING, _GAS, _AIR = -1500.0, -600.0, (-1060.0, -940.0)
# Of the gas of seven real chests, whole or with nothing left around the lungs, 0.042 and more lies there, and 0.014 at
# most below. Moved up by 100, 0.008 at most lies there; moved down by 200, 0.26 and more lies below.
_LEAST_AIR, _MOST_BELOW = 0.02, 0.2
_SIDE = 128


def reason_moved_air(hounsfield: Array) -> str:
    """Return in words how the gas of a chest lies beside -1000 HU; '' if it does not.

    Shapes: (Z, Y, X).
    """
    step = max(2, min(hounsfield.shape[1:]) // _SIDE)
    rows, columns = (size // step for size in hounsfield.shape[1:])
    blocks = hounsfield[:, : rows * step, : columns * step].reshape(-1, rows, step, columns, step)
    cells, lowest = blocks.mean(axis=(2, 4)), blocks.min(axis=(2, 4))
    is_gas = (lowest > _PADDING) & (cells < _GAS)
    # Around a scan that was cut out lies one value, whichever.
    below = cells[is_gas & (cells < _AIR[0]) & (blocks.max(axis=(2, 4)) > lowest)]
    if len(below) > _MOST_BELOW * is_gas.sum():
        return f"gas measures {np.median(below):.0f} HU, where air is -1000 and nothing is thinner"
    if (is_gas & (cells > _AIR[0]) & (cells < _AIR[1])).sum() <= _LEAST_AIR * is_gas.sum():
        return "hardly any gas lies near -1000 HU, as air does; save the scan in Hounsfield units"
    return ""
