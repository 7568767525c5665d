"""Slices as a stack in the patient, and a stack as a volume: LPS, mm, Hounsfield units.

Image Position and Image Orientation alone decide (PS3.3 C.7.6.2); the order of files, Instance Number and Slice
Location mean nothing. Slices that do not form an even stack are out of scope, with a reason; no slice is repaired.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ainode.node.domain import UID, Instance, OutOfScope, Position, refs
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.pixels import modality_values
from ainode.node.imaging.slice_pixels import check_slices

Vector: TypeAlias = NDArray[np.float64]

# Positions in real headers are rounded: DS has 16 characters, scanners write 2 to 6 decimals.
_SAME_MM = 0.01
# A missing slice doubles a distance between slices; couch movement and rounding change a distance by a few percent.
_MAX_UNEVENNESS = 0.1
_PARALLEL = 1e-4
_MIN_SLICES = 2
# Numbers of values (PS3.3 C.7.6.2, C.10.7.1.3).
_POSITION_VALUES, _ORIENTATION_VALUES, _SPACING_VALUES = 3, 6, 2
_HALF_VOXEL = 0.5


@dataclass(frozen=True, slots=True)
class Stack:
    """Parallel slices of one size, evenly spaced, in the order of `normal`, straight above each other.

    Units: `origin_mm` is the center of the first pixel of the first slice in LPS mm; axes are unit vectors;
    `spacing_mm` is between slices, between rows, between columns. The column index grows along `row_axis`
    (PS3.3 C.7.6.2.1.1).
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
        """Return the UID of the coordinate system, '' where the header names none."""
        return UID(self.instances[0].text("FrameOfReferenceUID"))

    @property
    def coverage_mm(self) -> float:
        """Return the number of slices times the distance between two slices."""
        return len(self.instances) * self.spacing_mm[0]

    def position(self, slice_: float, row: float, column: float) -> Position:
        """Return the position of a voxel's center from its indices; fractions are allowed."""
        return _position(np.asarray(self.origin_mm), self._axes(), self.spacing_mm, (slice_, row, column))

    def pixel(self, position_mm: Position) -> tuple[float, float, float]:
        """Return (slice, row, column) of a position as fractions; the position may lie outside of the stack."""
        return _index(np.asarray(self.origin_mm), self._axes(), self.spacing_mm, position_mm)

    def holds(self, position_mm: Position) -> bool:
        """Return whether a position lies within the voxels of the stack."""
        size = (len(self.instances), self.rows, self.columns)
        indices = self.pixel(position_mm)
        return all(0 <= index + _HALF_VOXEL < count for index, count in zip(indices, size, strict=True))

    def _axes(self) -> Vector:
        """Return normal, column axis and row axis as rows of a matrix."""
        return np.asarray((self.normal, self.column_axis, self.row_axis))


@dataclass(frozen=True, slots=True)
class Volume:
    """A stack's values; the array axes run to the head, the back and the left, however the stack was scanned.

    Shapes: values (Z, Y, X) float32; `axes` are the unit LPS vectors of the array axes, nearest to (0, 0, 1),
    (0, 1, 0), (1, 0, 0).
    Units: Hounsfield units for CT; `origin_mm` is the center of voxel (0, 0, 0) in LPS mm.
    """

    values: NDArray[np.float32] = field(repr=False)
    origin_mm: Position
    spacing_mm: tuple[float, float, float]
    axes: tuple[Position, Position, Position]

    def position(self, index: Sequence[float]) -> Position:
        """Return the position of the center of voxel (z, y, x)."""
        return _position(np.asarray(self.origin_mm), np.asarray(self.axes), self.spacing_mm, index)

    def index(self, position_mm: Position) -> tuple[float, float, float]:
        """Return (z, y, x) of a position as fractions; the position may lie outside of the volume."""
        return _index(np.asarray(self.origin_mm), np.asarray(self.axes), self.spacing_mm, position_mm)


def stack(instances: Iterable[Instance]) -> Stack | OutOfScope:
    """Return the stack that the images form, by their headers alone, or why the images form no stack.

    Source: PS3.3 C.7.6.2.1.1 (Image Position and Image Orientation).
    """
    images = tuple(instances)
    if refusal := _several_frames(images):
        return refusal
    planes = [_plane(instance) for instance in images]
    missing = [instance for instance, plane in zip(images, planes, strict=True) if plane is None]
    if missing:
        uid = missing[0].ref.sop_instance_uid
        return OutOfScope(
            f"instance {uid}: no Image Position, Orientation or Pixel Spacing; slices with all three are read",
            "no-geometry",
            refs(missing),
        )
    if len(images) < _MIN_SLICES:
        return OutOfScope(f"{len(images)} slice cannot be a volume", "too-few-slices", refs(images))
    return _stack_of_planes(images, [plane for plane in planes if plane is not None])


def _several_frames(images: Sequence[Instance]) -> OutOfScope | None:
    """Return the refusal of an image with several frames; None if every image has a single frame."""
    for instance in images:
        frames = instance.text("NumberOfFrames")
        if frames not in {"", "1"}:
            uid = instance.ref.sop_instance_uid
            reason = f"instance {uid} is a multi-frame image of {frames} frames; single-frame slices are read"
            return OutOfScope(reason, "multi-frame", (instance.ref,))
    return None


@dataclass(frozen=True, slots=True)
class _Plane:
    """Where one image lies: LPS mm, spacing and size as (rows, columns)."""

    position: Vector
    axes: Vector
    """normal, column axis, row axis"""
    spacing: tuple[float, float]
    size: tuple[int, int]

    def height(self, normal: Vector) -> float:
        """Return the position along a normal in mm."""
        return float(self.position @ normal)

    def is_parallel_to(self, other: "_Plane") -> bool:
        """Return whether orientation, spacing and size are equal."""
        return (
            self.size == other.size
            and bool(np.allclose(self.axes, other.axes, atol=_PARALLEL))
            and bool(np.allclose(self.spacing, other.spacing, rtol=_PARALLEL))
        )


def _plane(instance: Instance) -> _Plane | None:
    """Return the plane of an image; None if the header lacks a part of it."""
    position = _numbers(instance, "ImagePositionPatient", _POSITION_VALUES)
    orientation = _numbers(instance, "ImageOrientationPatient", _ORIENTATION_VALUES)
    spacing = _numbers(instance, "PixelSpacing", _SPACING_VALUES)
    if position is None or orientation is None or spacing is None:
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
    """Return the `count` finite numbers of an element; None if the element has other values."""
    values = instance.header.get(keyword)
    if not isinstance(values, tuple) or len(values) != count or any(isinstance(value, str | dict) for value in values):
        return None
    numbers = np.asarray(values, np.float64)
    return numbers if bool(np.isfinite(numbers).all()) else None


def _stack_of_planes(instances: tuple[Instance, ...], planes: list[_Plane]) -> Stack | OutOfScope:
    """Return the stack of images with their planes, sorted along the normal, or why the images form no stack."""
    first = planes[0]
    if not all(plane.is_parallel_to(first) for plane in planes):
        reason = "the slices differ in orientation, pixel spacing or size; a series of one stack is read"
        return OutOfScope(reason, "several-stacks", refs(instances))
    normal = first.axes[0]
    order = sorted(range(len(planes)), key=lambda number: planes[number].height(normal))
    sorted_instances = tuple(instances[number] for number in order)
    positions = np.stack([planes[number].position for number in order])
    if refusal := _unevenness(positions, first, sorted_instances):
        return refusal
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


def _unevenness(positions: Vector, plane: _Plane, instances: tuple[Instance, ...]) -> OutOfScope | None:
    """Return why sorted slices are duplicate, uneven or tilted; None if the slices form an even, upright stack."""
    heights = positions @ plane.axes[0]
    steps = np.diff(heights)
    if steps.min() < _SAME_MM:
        number = int(steps.argmin())
        reason = f"two slices lie at {heights[number]:.2f} mm; a series with one acquisition of each slice is read"
        return OutOfScope(reason, "duplicate-slices", refs(instances[number : number + 2]))
    median_step = float(np.median(steps))
    if steps.max() > median_step * (1 + _MAX_UNEVENNESS) or steps.min() < median_step * (1 - _MAX_UNEVENNESS):
        number = int(np.abs(steps - median_step).argmax())
        reason = (
            f"the distance between slices is {median_step:.2f} mm, but {steps[number]:.2f} mm between "
            f"{heights[number]:.1f} and {heights[number + 1]:.1f} mm; resend the series if slices are missing"
        )
        return OutOfScope(reason, "gap", refs(instances[number : number + 2]))
    # A tilted gantry shifts each slice along rows or columns; the indices of a stack ignore such a shift.
    drift = float(np.linalg.norm(np.ptp(positions @ plane.axes[1:].T, axis=0)))
    if drift > max(_HALF_VOXEL * min(plane.spacing), _SAME_MM):
        tilt = np.degrees(np.arctan2(drift, heights[-1] - heights[0]))
        reason = f"the gantry is tilted by {tilt:.1f} degrees, which moves slices by {drift:.1f} mm"
        return OutOfScope(f"{reason}; upright slices are read", "gantry-tilt")
    return None


def volume(slices: Stack, values_of: Callable[[Path], NDArray[np.float32]] = modality_values) -> Volume:
    """Return the volume of a stack, decoded from the files of its images by `values_of`.

    Raises: BrokenSeries if an image cannot be decoded, its size is not the size in its header, or slices are empty,
    copies or turned against each other.
    """
    values = np.empty((len(slices.instances), slices.rows, slices.columns), np.float32)
    for number, instance in enumerate(slices.instances):
        decoded = values_of(instance.path)
        if decoded.shape != values.shape[1:]:
            uid = instance.ref.sop_instance_uid
            raise BrokenSeries(
                f"instance {uid}: its image is {decoded.shape}, its header says {values.shape[1:]}; resend the image"
            )
        values[number] = decoded
    check_slices(slices.instances, values)
    axes = np.asarray((slices.normal, slices.column_axis, slices.row_axis))
    return _canonical_volume(values, np.asarray(slices.origin_mm), axes, slices.spacing_mm)


def _canonical_volume(
    values: NDArray[np.float32], origin: Vector, axes: Vector, spacing: tuple[float, float, float]
) -> Volume:
    """Return the volume with its axes permuted and flipped to head, back, left; nothing is interpolated."""
    order = _axis_order(np.abs(axes))
    axes, spacings = axes[order], np.asarray(spacing)[order]
    aligned = values.transpose(order)
    for axis, component in enumerate((2, 1, 0)):
        if axes[axis, component] < 0:
            origin = origin + axes[axis] * spacings[axis] * (aligned.shape[axis] - 1)
            axes[axis] = -axes[axis]
            aligned = np.flip(aligned, axis)
    return Volume(
        values=np.ascontiguousarray(aligned),
        origin_mm=triple(origin),
        spacing_mm=triple(spacings),
        axes=(triple(axes[0]), triple(axes[1]), triple(axes[2])),
    )


def _axis_order(components: Vector) -> list[int]:
    """Return the array axes nearest to head, to back, to left; no axis comes twice.

    Shapes: (array axis, x y z), absolute values.
    """
    order: list[int] = []
    for component in (2, 1, 0):
        free_axes = [axis for axis in range(3) if axis not in order]
        order.append(max(free_axes, key=lambda axis: components[axis, component]))
    return order


def _position(origin: Vector, axes: Vector, spacing: Sequence[float], index: Sequence[float]) -> Position:
    """Return the position of an index in a grid."""
    return triple(origin + (np.asarray(index, np.float64) * np.asarray(spacing)) @ axes)


def _index(origin: Vector, axes: Vector, spacing: Sequence[float], position_mm: Position) -> tuple[float, float, float]:
    """Return the index of a position in a grid, as fractions; rows need not be quite perpendicular to columns."""
    beyond_mm = np.asarray(position_mm, np.float64) - origin
    return triple(np.linalg.solve(axes.T, beyond_mm) / np.asarray(spacing))


def triple(vector: NDArray[np.float64]) -> Position:
    """Return a vector of three numbers as a position."""
    return (float(vector[0]), float(vector[1]), float(vector[2]))
