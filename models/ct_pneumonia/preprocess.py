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


def prepared(hounsfield: Array) -> Array:
    """Return a volume as the network's input: windowed to 0 to 1, then resized, axes turned.

    Shapes: (Z, Y, X) in, axes to the head, the back and the left; (1, 1, 128, 128, 64) float32 out, axes x, y, z.
    Units: Hounsfield units in; 0 to 1 out.
    Source: linear interpolation with the outer voxel centers kept, as scipy.ndimage.zoom of order 1.
    """
    resized: Array = hounsfield
    # The longest axis first: what is left to interpolate is smallest then.
    wanted = SHAPE[::-1]
    for axis in sorted(range(3), key=lambda one: wanted[one] / hounsfield.shape[one]):
        resized = _along(resized, axis, wanted[axis], first=resized is hounsfield)
    return np.ascontiguousarray(resized.transpose(2, 1, 0))[None, None]


def windowed(hounsfield: Array) -> Array:
    """Return Hounsfield units as 0 to 1 within the window."""
    low, high = WINDOW
    return np.asarray((np.clip(hounsfield, low, high) - low) / (high - low), np.float32)


def source_index(index: tuple[float, float, float], shape: tuple[int, ...]) -> tuple[float, float, float]:
    """Return where an input voxel (x, y, z) lies in the volume it came from, as (z, y, x)."""
    z, y, x = (at * (n - 1) / (wanted - 1) for at, n, wanted in zip(index[::-1], shape, SHAPE[::-1], strict=True))
    return (z, y, x)


def _along(values: Array, axis: int, count: int, *, first: bool) -> Array:
    """Resize one axis; the window is applied to what the first one picks, before anything is mixed."""
    at = np.linspace(0, values.shape[axis] - 1, count)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (at - low).astype(np.float32).reshape([-1 if one == axis else 1 for one in range(3)])
    near, far = values.take(low, axis), values.take(high, axis)
    if first:
        near, far = windowed(near), windowed(far)
    return np.asarray(near + share * (far - near), np.float32)
