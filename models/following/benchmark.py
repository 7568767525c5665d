"""The duration of registering two CTs of full size: 300 slices of 512 x 512, one patient who lies differently."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from ainode.models.following.grid import Grid, Omission
from ainode.models.following.registration import register
from ainode.models.phantoms.thorax import Field, thorax

SIZE = (300, 512, 512)
# A chest from neck to liver, and a field of view of 36 cm.
_SPACING_MM = (1.0, 0.7, 0.7)
# The phantom is painted with voxels twice as wide: registration reads blocks of 2 mm and more.
_COARSER = 2
# Hounsfield units, of a thin slice.
_NOISE_HU = 20.0
_PATIENT = 1


def registration_seconds(runs: int = 3) -> tuple[float, ...]:
    """Return the duration of each run in seconds, from two decoded CTs to the transform.

    Raises: ValueError if registration refuses the two scans.
    """
    fixed, moving = scan(1), scan(2)
    durations = []
    for _ in range(runs):
        start_s = time.perf_counter()
        transform = register(fixed, moving)
        durations.append(time.perf_counter() - start_s)
        match transform:
            case Omission(reason=reason):
                raise ValueError(reason)
    return tuple(durations)


def scan(day: int, size: tuple[int, int, int] = SIZE) -> Grid:
    """Return the patient's CT on a day, with noise in each voxel.

    Shapes: size (Z, Y, X), even numbers.
    """
    coarse_size = (size[0] // _COARSER, size[1] // _COARSER, size[2] // _COARSER)
    z, y, x = _SPACING_MM
    field = Field(coarse_size, (z * _COARSER, y * _COARSER, x * _COARSER))
    coarse_values = thorax(_PATIENT, day, scanned=field).values
    random = np.random.default_rng(day)
    values: NDArray[np.float32] = np.empty(size, np.float32)
    for number in range(size[0]):
        values[number] = coarse_values[number // _COARSER].repeat(_COARSER, axis=0).repeat(_COARSER, axis=1)
        values[number] += _NOISE_HU * random.standard_normal(size[1:], np.float32)
    return Grid(values, (0.0, 0.0, 0.0), _SPACING_MM, ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
