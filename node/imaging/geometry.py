"""Slices as a stack in the patient, and a stack as a volume: LPS, mm, Hounsfield units.

Everything is taken from Image Position and Image Orientation (PS3.3 C.7.6.2); the order of files, of Instance Number
and of Slice Location means nothing here. What cannot be one even stack is answered with a coded reason, not repaired.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ainode.node.domain import UID, Instance, OutOfScope, Position, refs
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.pixels import modality_values

Vector: TypeAlias = NDArray[np.float64]

# Rounding of positions in real headers: DS has 16 characters, scanners write 2 to 6 decimals.
_SAME_MM = 0.01
# A missing slice doubles a distance; interpolated couches and rounding vary it by a few percent.
_UNEVEN = 0.1
_PARALLEL = 1e-4
_LEAST_SLICES = 2
_SIX, _THREE, _TWO = 6, 3, 2
_HALF_VOXEL = 0.5


@dataclass(frozen=True, slots=True)
class Stack:
    """Parallel slices of one size, evenly spaced, in the order of `normal`, straight above each other.

    Units: origin of the first slice's first pixel center in LPS mm; axes are unit vectors; spacing_mm is between
    slices, rows, columns. `row_axis` is where the column index grows (PS3.3 C.7.6.2.1.1).
    """

    instances: tuple[Instance, ...]
    origin_mm: Position
    row_axis: Position
    column_axis: Position
    normal: Position
    spacing_mm: tuple[float, float, float]
    rows: int
    columns: int

    @property
    def frame_of_reference_uid(self) -> UID:
        """Return the patient's coordinate system, '' where the header names none."""
        return UID(self.instances[0].text("FrameOfReferenceUID"))

    @property
    def coverage_mm(self) -> float:
        """Return the length along the normal, one slice thickness included."""
        return len(self.instances) * self.spacing_mm[0]

    def position(self, slice_: float, row: float, column: float) -> Position:
        """Return where a voxel's center is, from its indices (0 is the center of the first)."""
        return _position(np.asarray(self.origin_mm), self._axes(), self.spacing_mm, (slice_, row, column))

    def pixel(self, position_mm: Position) -> tuple[float, float, float]:
        """Return (slice, row, column) of a position, continuous; outside of the stack too."""
        return _index(np.asarray(self.origin_mm), self._axes(), self.spacing_mm, position_mm)

    def holds(self, position_mm: Position) -> bool:
        """Return whether a position lies within the voxels of the stack."""
        size = (len(self.instances), self.rows, self.columns)
        return all(0 <= at + _HALF_VOXEL < n for at, n in zip(self.pixel(position_mm), size, strict=True))

    def _axes(self) -> Vector:
        return np.asarray((self.normal, self.column_axis, self.row_axis))


@dataclass(frozen=True, slots=True)
class Volume:
    """A stack's values with array axes that run to the head, the back and the left, whatever was scanned how.

    Shapes: values (Z, Y, X) float32; axes: unit LPS vectors of the array's axes, nearest to (0, 0, 1), (0, 1, 0),
    (1, 0, 0).
    Units: Hounsfield units for CT; mm; origin of the center of voxel (0, 0, 0).
    """

    values: NDArray[np.float32] = field(repr=False)
    origin_mm: Position
    spacing_mm: tuple[float, float, float]
    axes: tuple[Position, Position, Position]

    def position(self, index: Sequence[float]) -> Position:
        """Return where the voxel (z, y, x) is."""
        return _position(np.asarray(self.origin_mm), np.asarray(self.axes), self.spacing_mm, index)

    def index(self, position_mm: Position) -> tuple[float, float, float]:
        """Return (z, y, x) of a position, continuous; outside of the volume too."""
        return _index(np.asarray(self.origin_mm), np.asarray(self.axes), self.spacing_mm, position_mm)


def stack(instances: Iterable[Instance]) -> Stack | OutOfScope:
    """Return the stack that these images are, by their headers alone, or why they are none.

    Source: PS3.3 C.7.6.2.1.1 (Image Position and Image Orientation).
    """
    found = tuple(instances)
    planes = [_plane(instance) for instance in found]
    missing = [instance for instance, plane in zip(found, planes, strict=True) if plane is None]
    if missing:
        uid = missing[0].ref.sop_instance_uid
        return OutOfScope(
            f"instance {uid}: no Image Position, Orientation or Pixel Spacing, or several frames; "
            "single-frame slices with all three are read",
            "no-geometry",
            refs(missing),
        )
    if len(found) < _LEAST_SLICES:
        return OutOfScope(f"{len(found)} slice cannot be a volume", "too-few-slices", refs(found))
    return _ordered(found, [plane for plane in planes if plane is not None])


@dataclass(frozen=True, slots=True)
class _Plane:
    position: Vector
    axes: Vector
    """normal, column axis, row axis"""
    spacing: tuple[float, float]
    size: tuple[int, int]

    def along(self, normal: Vector) -> float:
        return float(self.position @ normal)

    def is_like(self, other: "_Plane") -> bool:
        return (
            self.size == other.size
            and bool(np.allclose(self.axes, other.axes, atol=_PARALLEL))
            and bool(np.allclose(self.spacing, other.spacing, rtol=_PARALLEL))
        )


def _plane(instance: Instance) -> _Plane | None:
    position = _numbers(instance, "ImagePositionPatient", _THREE)
    orientation = _numbers(instance, "ImageOrientationPatient", _SIX)
    spacing = _numbers(instance, "PixelSpacing", _TWO)
    if position is None or orientation is None or spacing is None or instance.text("NumberOfFrames") not in {"", "1"}:
        return None
    row, column = orientation[:3], orientation[3:]
    normal = np.cross(row, column)
    if not np.isclose(np.linalg.norm(normal), 1, atol=1e-2) or min(spacing) <= 0:
        return None
    axes = np.stack([normal, column, row])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    size = (int(instance.text("Rows") or 0), int(instance.text("Columns") or 0))
    return _Plane(position, axes, (float(spacing[0]), float(spacing[1])), size)


def _numbers(instance: Instance, keyword: str, count: int) -> Vector | None:
    value = instance.header.get(keyword)
    if not isinstance(value, tuple) or len(value) != count or any(isinstance(one, str | dict) for one in value):
        return None
    numbers = np.asarray(value, np.float64)
    return numbers if bool(np.isfinite(numbers).all()) else None


def _ordered(instances: tuple[Instance, ...], planes: list[_Plane]) -> Stack | OutOfScope:
    first = planes[0]
    if not all(plane.is_like(first) for plane in planes):
        what = "the slices differ in orientation, pixel spacing or size; a series of one stack is read"
        return OutOfScope(what, "several-stacks", refs(instances))
    normal = first.axes[0]
    order = sorted(range(len(planes)), key=lambda i: planes[i].along(normal))
    sorted_instances = tuple(instances[i] for i in order)
    positions = np.stack([planes[i].position for i in order])
    if reason := _uneven(positions, first, sorted_instances):
        return reason
    step = (positions[-1] - positions[0]) / (len(order) - 1)
    return Stack(
        instances=sorted_instances,
        origin_mm=triple(positions[0]),
        row_axis=triple(first.axes[2]),
        column_axis=triple(first.axes[1]),
        normal=triple(normal),
        spacing_mm=(float(step @ normal), *first.spacing),
        rows=first.size[0],
        columns=first.size[1],
    )


def _uneven(positions: Vector, plane: _Plane, instances: tuple[Instance, ...]) -> OutOfScope | None:
    """Return why sorted slices are no even, upright stack, None if they are."""
    along = positions @ plane.axes[0]
    steps = np.diff(along)
    if steps.min() < _SAME_MM:
        at = int(steps.argmin())
        what = f"two slices lie at {along[at]:.2f} mm; a series with one acquisition of each slice is read"
        return OutOfScope(what, "duplicate-slices", refs(instances[at : at + 2]))
    usual = float(np.median(steps))
    if steps.max() > usual * (1 + _UNEVEN) or steps.min() < usual * (1 - _UNEVEN):
        at = int(np.abs(steps - usual).argmax())
        what = (
            f"the distance between slices is {usual:.2f} mm, but {steps[at]:.2f} mm between {along[at]:.1f} and "
            f"{along[at + 1]:.1f} mm; resend the series if slices are missing"
        )
        return OutOfScope(what, "gap", refs(instances[at : at + 2]))
    # Along rows and columns: a tilted gantry moves each slice, and positions in a stack leave that out.
    drift = float(np.linalg.norm(np.ptp(positions @ plane.axes[1:].T, axis=0)))
    if drift > max(_HALF_VOXEL * min(plane.spacing), _SAME_MM):
        tilt = np.degrees(np.arctan2(drift, along[-1] - along[0]))
        what = f"the gantry is tilted by {tilt:.1f} degrees, which moves slices by {drift:.1f} mm"
        return OutOfScope(f"{what}; upright slices are read", "gantry-tilt")
    return None


def volume(slices: Stack) -> Volume:
    """Decode a stack into a volume.

    Raises: BrokenSeries if an image cannot be decoded or is not of the size in its header.
    """
    values = np.empty((len(slices.instances), slices.rows, slices.columns), np.float32)
    for number, instance in enumerate(slices.instances):
        decoded = modality_values(instance.path)
        if decoded.shape != values.shape[1:]:
            uid = instance.ref.sop_instance_uid
            raise BrokenSeries(f"instance {uid}: its image is {decoded.shape}, its header says {values.shape[1:]}")
        values[number] = decoded
    axes = np.asarray((slices.normal, slices.column_axis, slices.row_axis))
    return _canonical(values, np.asarray(slices.origin_mm), axes, slices.spacing_mm)


def _canonical(
    values: NDArray[np.float32], origin: Vector, axes: Vector, spacing: tuple[float, float, float]
) -> Volume:
    """Return the volume with its axes permuted and flipped to head, back, left; nothing is interpolated."""
    strength = np.abs(axes)
    order = _assignment(strength)
    axes, spacings = axes[order], np.asarray(spacing)[order]
    turned = values.transpose(order)
    for axis, component in enumerate((2, 1, 0)):
        if axes[axis, component] < 0:
            origin = origin + axes[axis] * spacings[axis] * (turned.shape[axis] - 1)
            axes[axis] = -axes[axis]
            turned = np.flip(turned, axis)
    return Volume(
        values=np.ascontiguousarray(turned),
        origin_mm=triple(origin),
        spacing_mm=triple(spacings),
        axes=(triple(axes[0]), triple(axes[1]), triple(axes[2])),
    )


def _assignment(strength: Vector) -> list[int]:
    """Return which array axis is nearest to head, to back, to left; each is taken once."""
    order: list[int] = []
    for component in (2, 1, 0):
        free = [axis for axis in range(3) if axis not in order]
        order.append(max(free, key=lambda axis: strength[axis, component]))
    return order


def _position(origin: Vector, axes: Vector, spacing: Sequence[float], index: Sequence[float]) -> Position:
    return triple(origin + (np.asarray(index, np.float64) * np.asarray(spacing)) @ axes)


def _index(origin: Vector, axes: Vector, spacing: Sequence[float], position_mm: Position) -> Position:
    return triple(axes @ (np.asarray(position_mm, np.float64) - origin) / np.asarray(spacing))


def triple(vector: NDArray[np.float64]) -> Position:
    """Return a vector of three numbers as a position."""
    return (float(vector[0]), float(vector[1]), float(vector[2]))
