"""How large a solid nodule is, cut from vessels and wall: its diameters, its volume; or why it is left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform

from ainode.models.following.grid import Grid, LeftOut, Position, Values, triple

Mask = NDArray[np.bool_]

_STEP_MM = 0.6
_HALF_MM = 33.0
"""of the cube that is looked at: a nodule is at most 30 mm, or it is called a mass"""
_FIRST_THRESHOLD_HU = -400.0
# Lung is darker; the wall, vessels and the nodule are not part of the background.
_LUNG_HU = -550.0
_LEAST_CONTRAST_HU = 350.0
"""between nodule and lung; ground glass has less and no sharp edge to measure at"""
_SEED_MM, _CLIMB_MM = 5.0, 12.0
_SMALLEST_MM, _LARGEST_MM = 3.0, 35.0
# Least and further erosions in parts of the inscribed radius; vessels up to this radius are always taken off.
# Kuhnigk et al., IEEE Trans Med Imaging 2006, erode as little as separates; the figures are ours.
_EROSIONS, _VESSEL_MM = (0.3, 0.5, 0.6, 0.7, 0.8), 1.5
_LONGEST = 2.6
"""farthest point of a nodule from its middle, in inscribed radii; more is a vessel or the wall"""
_MARGIN_MM = 8.0
_EDGE_MM = 1.5
"""how far the blur of a scanner reaches beyond the edge at half density"""
_RING_MM = (2.0, 6.0)
_CORE, _USUAL_LUNG_HU = 0.6, -850.0
_RIM = 0.5
"""voxels from the outermost centers to the edge: mean of balls of 5 to 20 mm"""


@dataclass(frozen=True, slots=True)
class Measured:
    """A nodule's size at one date.

    Units: mm, mm3; `position_mm` is the middle of its region in LPS. Long and short axis stand upright on each other in
    the axial slice with the largest mean of both; `diameter_mm` is that mean, rounded by who shows it
    (MacMahon et al., Guidelines for Management of Incidental Pulmonary Nodules, Radiology 2017). `maximum_mm` is the
    largest diameter in any direction.
    """

    position_mm: Position
    long_axis_mm: float
    short_axis_mm: float
    maximum_mm: float
    volume_mm3: float
    density_hu: float

    @property
    def diameter_mm(self) -> float:
        """Return the mean of long and short axis."""
        return (self.long_axis_mm + self.short_axis_mm) / 2


@dataclass(frozen=True, slots=True)
class _Region:
    """A nodule in the part of the patch around it.

    Shapes: mask, others and depth_mm are of that window; the depth is negative outside of the mask.
    """

    window: tuple[slice, ...]
    mask: Mask
    others: Mask
    """dense, but not of the nodule"""
    depth_mm: Values


@dataclass(frozen=True, slots=True)
class _Tissue:
    """Hounsfield units of the nodule and of the lung around."""

    nodule: float
    lung: float

    @property
    def contrast(self) -> float:
        return self.nodule - self.lung

    @property
    def halfway(self) -> float:
        return (self.nodule + self.lung) / 2


@dataclass(frozen=True, slots=True)
class _Found:
    patch: Grid
    region: _Region
    tissue: _Tissue


def measured(scan: Grid, position_mm: Position) -> Measured | LeftOut:
    """Return the size of the solid nodule at a position, or why it has none that can be relied on."""
    if not scan.holds(position_mm):
        return LeftOut("outside", "the nodule's place is outside of the scan")
    patch = _patch(scan, position_mm, _HALF_MM)
    first = _found(scan, patch, _FIRST_THRESHOLD_HU)
    # Again at half of its own contrast, which is where a blurred edge is.
    found = first if isinstance(first, LeftOut) else _found(scan, first.patch, first.tissue.halfway)
    if isinstance(found, LeftOut):
        return found
    if np.isnan(found.patch.values[found.region.depth_mm > -_EDGE_MM]).any():
        return LeftOut("cut", "the nodule reaches the edge of the scan")
    return _sizes(found)


def _found(scan: Grid, patch: Grid, threshold_hu: float) -> _Found | LeftOut:
    """Return the region at a threshold, in a patch that is just large enough for it."""
    seed = _seed(patch.values > threshold_hu)
    if isinstance(seed, LeftOut):
        return seed
    place, radius = seed
    around = _patch(scan, triple(patch.positions(place)), min(_HALF_MM, _LONGEST * radius + _MARGIN_MM))
    region = _region(around.values > threshold_hu)
    if isinstance(region, LeftOut):
        return region
    patch = around.cropped(region.window)
    tissue = _tissue(patch.values, region)
    if tissue.contrast < _LEAST_CONTRAST_HU:
        what = f"it is {tissue.contrast:.0f} HU denser than the lung; solid nodules are measured"
        return LeftOut("not-solid", what)
    return _Found(patch, region, tissue)


def _patch(scan: Grid, position_mm: Position, half_mm: float) -> Grid:
    """Return the cube around a position along the scan's axes, NaN outside of the scan."""
    count = 2 * round(half_mm / _STEP_MM) + 1
    steps = (np.arange(count) - count // 2) * _STEP_MM
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1)
    around = Grid(scan.values, position_mm, (1.0, 1.0, 1.0), scan.axes)
    positions = around.positions(offsets)
    return Grid(scan.sampled(positions), triple(positions[0, 0, 0]), (_STEP_MM,) * 3, scan.axes)


def _seed(dense: Mask) -> tuple[NDArray[np.intp], float] | LeftOut:
    """Return the deepest voxel uphill from the middle and how deep it is in mm."""
    middle = np.asarray(dense.shape) // 2
    reach = round(_SEED_MM / _STEP_MM)
    near = np.argwhere(dense[tuple(slice(m - reach, m + reach + 1) for m in middle)]) - reach
    near = near[np.linalg.norm(near, axis=1) <= reach]
    if not len(near):
        return LeftOut("nothing-dense", f"nothing dense lies within {_SEED_MM:.0f} mm of the nodule's place")
    depth = _depth(dense)
    at = middle + near[np.linalg.norm(near, axis=1).argmin()]
    for _ in range(round(_CLIMB_MM / _STEP_MM)):
        corner = np.clip(at - 1, 0, None)
        block = depth[tuple(slice(c, c + 3) for c in corner)]
        top = corner + np.unravel_index(int(block.argmax()), block.shape)
        if depth[tuple(top)] <= depth[tuple(at)]:
            break
        at = top
    return at, float(depth[tuple(at)])


def _region(dense: Mask) -> _Region | LeftOut:
    """Return the nodule in the middle, with as little erosion as takes it off what it touches."""
    depth = _depth(dense)
    seed = tuple(n // 2 for n in dense.shape)
    radius = float(depth[seed])
    if not _SMALLEST_MM <= 2 * radius <= _LARGEST_MM:
        what = f"it is {2 * radius:.0f} mm wide; {_SMALLEST_MM:.0f} to {_LARGEST_MM:.0f} mm are measured"
        return LeftOut("too-small" if 2 * radius < _SMALLEST_MM else "too-large", what)
    least = max(_EROSIONS[0] * radius, min(_EROSIONS[1] * radius, _VESSEL_MM))
    for erosion in (least, *(part * radius for part in _EROSIONS if part * radius > least)):
        labels, _ = ndimage.label(depth > erosion)
        core = labels == labels[seed]
        away = np.linalg.norm((np.argwhere(core) - seed) * _STEP_MM, axis=1).max() + erosion
        if away <= _LONGEST * radius:
            mask = dense & (_depth(~core) <= erosion + _STEP_MM / 2)
            return _windowed(mask, dense & ~mask)
    return LeftOut("attached", "it cannot be told from the wall or the vessels that it touches")


def _windowed(mask: Mask, others: Mask) -> _Region:
    rim = round(_MARGIN_MM / _STEP_MM)
    window = tuple(
        slice(max(0, one.start - rim), one.stop + rim) for one in ndimage.find_objects(mask.astype(np.int8))[0]
    )
    inner = mask[window]
    return _Region(window, inner, others[window], _depth(inner) - _depth(~inner))


def _depth(mask: Mask) -> Values:
    """Return the distance of each voxel of a mask to what is not of it, in mm."""
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=_STEP_MM), np.float32)


def _tissue(values: Values, region: _Region) -> _Tissue:
    """Return the densities of the nodule, away from its blurred edge, and of the lung around."""
    ring = (region.depth_mm < -_RING_MM[0]) & (region.depth_mm > -_RING_MM[1]) & (values < _LUNG_HU)
    lung = float(np.median(values[ring])) if ring.any() else _USUAL_LUNG_HU
    return _Tissue(float(np.median(values[region.depth_mm >= _CORE * region.depth_mm.max()])), lung)


def _volume(found: _Found) -> float:
    """Return the volume in mm3, voxels at the edge by the part of them that is filled.

    Source: Kuhnigk et al., IEEE Trans Med Imaging 2006 (partial volume analysis).
    """
    region, tissue = found.region, found.tissue
    foreign = ndimage.binary_dilation(region.others, iterations=2) & ~region.mask
    counted = found.patch.values[(region.depth_mm > -_EDGE_MM) & ~foreign]
    share = np.clip((counted - tissue.lung) / tissue.contrast, 0, 1)
    return float(share.sum()) * _STEP_MM**3


def _sizes(found: _Found) -> Measured:
    voxels = np.argwhere(found.region.mask)
    long_axis, short_axis = max((_axes(one) for one in found.region.mask if one.any()), key=sum)
    return Measured(
        position_mm=triple(found.patch.positions(voxels.mean(axis=0))),
        long_axis_mm=long_axis,
        short_axis_mm=short_axis,
        maximum_mm=(float(pdist(_hull(voxels)).max(initial=0.0)) + _RIM) * _STEP_MM,
        volume_mm3=_volume(found),
        density_hu=found.tissue.nodule,
    )


def _axes(slice_: Mask) -> tuple[float, float]:
    """Return the longest diameter of a slice and the width across it, in mm."""
    points = _hull(np.argwhere(slice_))
    between = squareform(pdist(points))
    one, other = np.unravel_index(int(between.argmax()), between.shape)
    along = points[other] - points[one]
    length = float(np.linalg.norm(along))
    across = np.ptp(points @ np.asarray((-along[1], along[0]))) / length if length else 0.0
    return (length + _RIM) * _STEP_MM, (float(across) + _RIM) * _STEP_MM


def _hull(points: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the corners of the convex hull; all points where they are too few or flat."""
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except (QhullError, ValueError):
        return points
