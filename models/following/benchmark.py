"""How long registration of two CTs of full size takes: 300 slices of 512 x 512, one patient who lies differently."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from ainode.models.following.grid import Grid, LeftOut
from ainode.models.following.registration import register
from ainode.models.phantoms.thorax import Field, thorax

SIZE = (300, 512, 512)
# A chest from neck to liver, and a field of view of 36 cm.
_SPACING_MM = (1.0, 0.7, 0.7)
# Painted half as fine: registration looks at blocks of 2 mm and more.
_COARSER = 2
# Hounsfield units, of a thin slice.
_NOISE_HU = 20.0
_PATIENT = 1


def registering(runs: int = 3) -> tuple[float, ...]:
    """Return the seconds of each run, from two decoded CTs to the transform.

    Raises: ValueError if the scans are not matched: then there is nothing to time.
    """
    now, then = scan(1), scan(2)
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        found = register(now, then)
        taken.append(time.perf_counter() - started)
        match found:
            case LeftOut(reason=reason):
                raise ValueError(reason)
    return tuple(taken)


def scan(day: int, size: tuple[int, int, int] = SIZE) -> Grid:
    """Return the patient's CT of a day, with noise in each voxel.

    Shapes: (Z, Y, X), even numbers.
    """
    coarse = (size[0] // _COARSER, size[1] // _COARSER, size[2] // _COARSER)
    z, y, x = _SPACING_MM
    field = Field(coarse, (z * _COARSER, y * _COARSER, x * _COARSER))
    painted = thorax(_PATIENT, day, scanned=field).values
    random = np.random.default_rng(day)
    values: NDArray[np.float32] = np.empty(size, np.float32)
    for number in range(size[0]):
        values[number] = painted[number // _COARSER].repeat(_COARSER, axis=0).repeat(_COARSER, axis=1)
        values[number] += _NOISE_HU * random.standard_normal(size[1:], np.float32)
    return Grid(values, (0.0, 0.0, 0.0), _SPACING_MM, ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
