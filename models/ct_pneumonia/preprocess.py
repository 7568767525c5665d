"""A chest CT as the network's input.

The network's axes are x to the patient's left, y to the back, z to the head: the order in which a NIfTI file
converted from axial DICOM keeps its voxels, and the original never turned them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SHAPE = (128, 128, 64)
"""of the input: x, y, z"""
# Hounsfield units, as the original clips.
WINDOW = (-1000.0, 400.0)


def network_input(hounsfield: Array) -> Array:
    """Return a volume as the network's input: windowed to 0 to 1, resized, with its axes in the order x, y, z.

    Slices are chosen, never mixed: a mean of two has less noise than a slice, and the network takes that for disease.

    Shapes: (Z, Y, X) in, axes to the head, the back and the left; (1, 1, 128, 128, 64) float32 out, axes x, y, z.
    Units: Hounsfield units in; 0 to 1 out.
    Source: along y and x linear interpolation with the outer voxel centers kept, as scipy.ndimage.zoom of order 1.
    """
    numbers, places = np.unique(chosen_slices(len(hounsfield)), return_inverse=True)
    resized: Array = hounsfield if len(numbers) == len(hounsfield) else hounsfield[numbers]
    # The axis that shrinks most comes first: so the later axis interpolates the fewest voxels.
    first, second = sorted((1, 2), key=lambda axis: SHAPE[2 - axis] / hounsfield.shape[axis])
    resized = _resized_axis(resized, first, SHAPE[2 - first], window=True)
    resized = _resized_axis(resized, second, SHAPE[2 - second])
    return np.ascontiguousarray(resized[places].transpose(2, 1, 0))[None, None]


def chosen_slices(count: int) -> NDArray[np.int64]:
    """Return the numbers of the slices, of `count`, that the network is given: the nearest to evenly spaced places."""
    return np.rint(np.linspace(0, count - 1, SHAPE[2])).astype(np.int64)


def windowed_values(hounsfield: Array) -> Array:
    """Return Hounsfield units as 0 to 1 within the window."""
    low, high = WINDOW
    return np.asarray((np.clip(hounsfield, low, high) - low) / (high - low), np.float32)


def source_index(index: tuple[float, float, float], shape: tuple[int, ...]) -> tuple[float, float, float]:
    """Return the index (z, y, x) in a volume of that shape of a voxel (x, y, z) of the network's input."""
    z, y, x = (
        place * (count - 1) / (size - 1) for place, count, size in zip(index[::-1], shape, SHAPE[::-1], strict=True)
    )
    return (z, y, x)


def _resized_axis(values: Array, axis: int, count: int, *, window: bool = False) -> Array:
    """Return values with one axis resized; Hounsfield units are windowed before they are interpolated."""
    positions = np.linspace(0, values.shape[axis] - 1, count)
    low = np.floor(positions).astype(int)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (positions - low).astype(np.float32).reshape([-1 if number == axis else 1 for number in range(3)])
    near, far = values.take(low, axis), values.take(high, axis)
    if window:
        near, far = windowed_values(near), windowed_values(far)
    return np.asarray(near + share * (far - near), np.float32)
