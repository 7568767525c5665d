"""The size of a lesion as someone drew or measured it: its axes and its volume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ainode.node.domain import Extent
from ainode.node.imaging.marks import Points, code_and_meaning, first_item, items, numbers

_DIRECTIONS = 180
# A pixel's center lies half a pixel within the edge of a mask; half of that, both ends together, fits balls best.
_RIM_PIXELS = 0.5
# SNOMED CT and SRT codes of PS3.16 CID 7470 (linear measurements) and CID 7472 (volumes); length is a viewer's ruler.
_LONG_AXES = ("103339001", "G-A185", "81827009", "M-02550", "410668003", "G-D7FE")
_SHORT_AXES = ("103340004", "G-A186")
_VOLUMES = ("118565006", "G-D705")
_MILLIMETERS: Mapping[str, float] = {"mm": 1.0, "cm": 10.0, "mm3": 1.0, "cm3": 1000.0, "ml": 1000.0, "mL": 1000.0}


@dataclass(frozen=True, slots=True)
class Layer:
    """What one plane shows of a lesion: its axes, its area, and a point of the plane. Units: mm, mm2."""

    long_axis_mm: float
    short_axis_mm: float
    area_mm2: float
    point: Points
    normal: Points


def layer_of(points: Points, area_mm2: float, rim_mm: float = 0.0) -> Layer:
    """Return the layer of the points (n, 3) at the edge of a shape; `rim_mm` is what lies beyond the points."""
    middle = points.mean(axis=0)
    axes = np.linalg.svd(points - middle, full_matrices=True)[2]
    flat = (points - middle) @ axes[:2].T
    angles = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    widths = np.ptp(flat @ np.stack([np.cos(angles), np.sin(angles)]), axis=0) + rim_mm
    longest = int(widths.argmax())
    across = (longest + _DIRECTIONS // 2) % _DIRECTIONS
    return Layer(float(widths[longest]), float(widths[across]), area_mm2, middle, axes[2])


def mask_layer(mask: NDArray[np.bool_], origin: Points, row_step: Points, column_step: Points) -> Layer:
    """Return the layer of a mask (rows, columns) with a pixel at least.

    Units: mm; `origin` is the center of the first pixel, a step leads to the next row or column.
    """
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rows, columns = np.nonzero(mask & ~inner)
    points = origin + rows[:, None] * row_step + columns[:, None] * column_step
    row_mm, column_mm = float(np.linalg.norm(row_step)), float(np.linalg.norm(column_step))
    return layer_of(points, float(mask.sum()) * row_mm * column_mm, _RIM_PIXELS * (row_mm + column_mm) / 2)


def extent_of(layers: Sequence[Layer], thickness_mm: float | None = None) -> Extent | None:
    """Return the extent of a lesion drawn in parallel planes, or of the thickness of a single one; None for no size."""
    if not layers:
        return None
    widest = max(layers, key=lambda layer: layer.long_axis_mm + layer.short_axis_mm)
    heights = np.unique([round(float(layer.point @ widest.normal), 2) for layer in layers])
    step_mm = float(np.median(np.diff(heights))) if len(heights) > 1 else thickness_mm
    volume_mm3 = step_mm * sum(layer.area_mm2 for layer in layers) if step_mm else None
    return _extent(widest.long_axis_mm, widest.short_axis_mm, volume_mm3)


def measured_extent(group: Dataset) -> Extent | None:
    """Return the extent by the long axis, diameter or length of a measurement group; None without one (TID 1419)."""
    values: dict[str, float] = {}
    for item in items(group, "ContentSequence"):
        concept, _ = code_and_meaning(first_item(item, "ConceptNameCodeSequence"))
        measured = first_item(item, "MeasuredValueSequence")
        unit, _ = code_and_meaning(first_item(measured, "MeasurementUnitsCodeSequence"))
        number = numbers(measured, "NumericValue")
        if number.size == 1 and unit in _MILLIMETERS:
            values.setdefault(concept, float(number[0]) * _MILLIMETERS[unit])
    long_axis, short_axis, volume = (
        next((values[code] for code in codes if code in values), None) for codes in (_LONG_AXES, _SHORT_AXES, _VOLUMES)
    )
    return None if long_axis is None else _extent(long_axis, short_axis, volume)


def _extent(long_axis_mm: float, short_axis_mm: float | None, volume_mm3: float | None) -> Extent | None:
    """Return the extent, None if a number is no size."""
    try:
        return Extent(long_axis_mm, short_axis_mm, volume_mm3)
    except ValueError:
        return None
