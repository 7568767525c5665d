"""How bright aorta and liver are on a CT: by them the phase of the contrast agent is told where no header says it.

Source: usual ranges of radiology textbooks. Without an agent blood has 30 to 60 HU; in the arterial phase the aorta has
more than 200 HU and the liver little more than without an agent; in the portal venous phase the aorta has 110 to 200.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]

# A disk within the aorta, a disk within the liver, and the distance at which most of what surrounds an aorta is darker.
_VESSEL_MM, _LIVER_MM, _AROUND_MM = 5.0, 10.0, 17.0
_DIRECTIONS, _DARKER_DIRECTIONS, _DARKER_HU = 8, 5, 30.0
# Where the aorta and the liver lie, as shares of the body's box: left, right, top, bottom.
_AORTA_WINDOW, _LIVER_WINDOW = (0.42, 0.62, 0.38, 0.66), (0.08, 0.42, 0.12, 0.80)
# In HU: even blood and liver by their deviation within a disk; cortex of bone, closed over the marrow.
_EVEN, _TISSUE, _BRIGHTEST = 25.0, (20.0, 200.0), 700.0
_CORTEX, _MARROW_MM = 250.0, 8.0
# As many places tell the liver from a rim of muscle.
_LEAST_LIVER = 50
_LEAST_SLICES = 3


@dataclass(frozen=True, slots=True)
class Enhancement:
    """How bright aorta and liver are, in Hounsfield units; None where a scan shows too little of one."""

    aorta_hu: float | None
    liver_hu: float | None

    def __str__(self) -> str:
        """Return both numbers in words."""
        parts = (("aorta", self.aorta_hu), ("liver", self.liver_hu))
        return ", ".join(f"{name} {'not found' if hu is None else f'{hu:.0f} HU'}" for name, hu in parts)


def enhancement(planes: Iterable[Plane], boxes: Iterable[Box | None], pixel_mm: float) -> Enhancement:
    """Return the median over slices; a slice without a body counts for nothing.

    Shapes: each plane (rows, columns), to the back and to the left; boxes left, top, right, bottom of the body.
    Units: Hounsfield units; `pixel_mm` is a pixel's side.
    """
    aortas, livers = [], []
    for plane, box in zip(planes, boxes, strict=True):
        if box is not None:
            aortas.append(_aorta(plane, box, pixel_mm))
            livers.append(_liver(plane, box, pixel_mm))
    return Enhancement(_median(aortas), _median(livers))


def _median(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.median(numbers)) if len(numbers) >= _LEAST_SLICES else None


def _aorta(plane: Plane, box: Box, pixel_mm: float) -> float | None:
    """Return the brightest even disk before the spine that most directions around are darker than."""
    mean, deviation = _in_disks(plane, _VESSEL_MM / pixel_mm)
    smooth = cv2.blur(plane, (3, 3))
    count = np.zeros(plane.shape, np.int64)
    for angle in np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS):
        step = tuple(round(float(_AROUND_MM / pixel_mm * part)) for part in (np.sin(angle), np.cos(angle)))
        count += np.roll(smooth, step, (0, 1)) < mean - _DARKER_HU
    is_vessel = (deviation < _EVEN) & (count >= _DARKER_DIRECTIONS) & (mean > _TISSUE[0]) & (mean < _BRIGHTEST)
    # The marrow is uneven where it is as bright as its cortex, so an even disk of that brightness is blood.
    is_vessel &= ~_bone(plane, pixel_mm) | (mean > _CORTEX)
    is_vessel &= _window(plane.shape, box, _AORTA_WINDOW)
    return float(mean[is_vessel].max()) if is_vessel.any() else None


def _liver(plane: Plane, box: Box, pixel_mm: float) -> float | None:
    """Return the median of the even tissue on the right of the body."""
    mean, deviation = _in_disks(plane, _LIVER_MM / pixel_mm)
    is_liver = (deviation < _EVEN) & (mean > _TISSUE[0]) & (mean < _TISSUE[1])
    values = mean[is_liver & _window(plane.shape, box, _LIVER_WINDOW)]
    return float(np.median(values)) if len(values) >= _LEAST_LIVER else None


def _bone(plane: Plane, pixel_mm: float) -> Mask:
    """Return bone with its marrow."""
    size = 2 * round(_MARROW_MM / pixel_mm) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    closed = cv2.morphologyEx(np.asarray(plane > _CORTEX, np.uint8), cv2.MORPH_CLOSE, kernel)
    return np.asarray(ndimage.binary_fill_holes(closed), np.bool_)


def _in_disks(plane: Plane, radius: float) -> tuple[Plane, Plane]:
    """Return mean and deviation in the disk around each pixel; radius in pixels."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = np.asarray(x * x + y * y <= max(radius, 1.0) ** 2, np.float32)
    disk /= disk.sum()
    mean = np.asarray(cast("Any", cv2.filter2D(plane, cv2.CV_32F, disk)), np.float32)
    squares = np.asarray(cast("Any", cv2.filter2D(plane * plane, cv2.CV_32F, disk)), np.float32)
    return mean, np.sqrt(np.maximum(squares - mean * mean, 0))


def _window(shape: tuple[int, ...], box: Box, shares: tuple[float, float, float, float]) -> Mask:
    left, top, right, bottom = box
    rows, columns = np.indices(shape)
    x, y = (columns - left) / (right - left), (rows - top) / (bottom - top)
    return np.asarray((x > shares[0]) & (x < shares[1]) & (y > shares[2]) & (y < shares[3]), np.bool_)
