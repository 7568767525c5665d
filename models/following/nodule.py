"""The size of a solid nodule, cut from vessels and wall: its diameters and its volume; or why it has no size."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ainode.models.following.extents import Mask, axes_mm, contours, maximum_mm
from ainode.models.following.grid import Grid, Omission, Position, Values, triple

_STEP_MM = 0.6
_HALF_MM = 33.0
"""half the side of the cube that is searched: a nodule is at most 30 mm, a larger lesion is a mass"""
_FIRST_THRESHOLD_HU = -400.0
# Lung is darker than this; wall, vessels and nodule are denser.
_LUNG_HU = -550.0
_LEAST_CONTRAST_HU = 350.0
"""the least contrast between nodule and lung; ground glass has less, and no sharp edge to measure"""
_SEED_MM, _CLIMB_MM = 5.0, 12.0
_SMALLEST_MM, _LARGEST_MM = 3.0, 35.0
# The erosions that are tried, in parts of the inscribed radius; vessels up to `_VESSEL_MM` are always eroded.
# Kuhnigk et al., IEEE Trans Med Imaging 2006, erode as little as separates the nodule; the figures are this module's.
_EROSIONS, _VESSEL_MM = (0.3, 0.5, 0.6, 0.7, 0.8), 1.5
_LONGEST = 2.6
"""the farthest point of a nodule from its middle, in inscribed radii; a point beyond is vessel or wall"""
_MARGIN_MM = 8.0
_EDGE_MM = 1.5
"""the reach of a scanner's blur beyond the edge at half density"""
_RING_MM = (2.0, 6.0)
_CORE, _USUAL_LUNG_HU = 0.6, -850.0


@dataclass(frozen=True, slots=True)
class NoduleSize:
    """A nodule's size at one date.

    Units: mm, mm3; `position_mm` is the middle of the nodule's region in LPS. The long and the short axis are
    perpendicular, in the axial slice with the largest mean of both; `diameter_mm` is that mean, not rounded
    (MacMahon et al., Guidelines for Management of Incidental Pulmonary Nodules, Radiology 2017). `maximum_mm` is the
    largest diameter in any direction.

    Of an outline by the network, axes, volume and contours are those of the voxels of the scan that it holds.
    """

    position_mm: Position
    long_axis_mm: float
    short_axis_mm: float
    maximum_mm: float
    volume_mm3: float
    density_hu: float
    outline: tuple[tuple[Position, ...], ...] = field(default=(), repr=False)
    """closed contours through the outermost voxels of the region, one for each slice of the scan that cuts it"""

    @property
    def diameter_mm(self) -> float:
        """Return the mean of the long and the short axis."""
        return (self.long_axis_mm + self.short_axis_mm) / 2


@dataclass(frozen=True, slots=True)
class _Region:
    """The voxels of a nodule in a window of a patch.

    Shapes: mask, others and depth_mm have the window's shape; the depth is negative outside of the mask.
    """

    window: tuple[slice, ...]
    mask: Mask
    others: Mask
    """dense voxels that are not the nodule's"""
    depth_mm: Values


@dataclass(frozen=True, slots=True)
class _Tissue:
    """The Hounsfield units of the nodule and of the lung around the nodule."""

    nodule: float
    lung: float

    @property
    def contrast(self) -> float:
        return self.nodule - self.lung

    @property
    def halfway(self) -> float:
        return (self.nodule + self.lung) / 2


@dataclass(frozen=True, slots=True)
class _Segmentation:
    """A nodule cut out of a scan: the patch around the nodule, its region in the patch, its densities."""

    patch: Grid
    region: _Region
    tissue: _Tissue


def nodule_size(scan: Grid, position_mm: Position) -> NoduleSize | Omission:
    """Return the size of the solid nodule at a position, or why no size is reliable."""
    if not scan.holds(position_mm):
        return Omission("outside", "the nodule's place is outside of the scan")
    patch = _patch(scan, position_mm, _HALF_MM)
    rough = _segmentation(scan, patch, _FIRST_THRESHOLD_HU)
    # A second time at half of the nodule's own contrast: a blurred edge lies there.
    segmentation = rough if isinstance(rough, Omission) else _segmentation(scan, rough.patch, rough.tissue.halfway)
    if isinstance(segmentation, Omission):
        return segmentation
    if np.isnan(segmentation.patch.values[segmentation.region.depth_mm > -_EDGE_MM]).any():
        return Omission("cut", "the nodule reaches the edge of the scan")
    return _size(segmentation, scan)


def _segmentation(scan: Grid, patch: Grid, threshold_hu: float) -> _Segmentation | Omission:
    """Return the nodule at the middle of a patch, cut out at a threshold, in a patch just large enough for it."""
    seed = _seed(patch.values > threshold_hu)
    if isinstance(seed, Omission):
        return seed
    deepest, radius = seed
    cube = _patch(scan, triple(patch.positions(deepest)), min(_HALF_MM, _LONGEST * radius + _MARGIN_MM))
    region = _region(cube.values > threshold_hu)
    if isinstance(region, Omission):
        return region
    patch = cube.part_in(region.window)
    tissue = _tissue(patch.values, region)
    if tissue.contrast < _LEAST_CONTRAST_HU:
        reason = f"it is {tissue.contrast:.0f} HU denser than the lung; solid nodules are measured"
        return Omission("not-solid", reason)
    return _Segmentation(patch, region, tissue)


def _patch(scan: Grid, position_mm: Position, half_mm: float) -> Grid:
    """Return the cube around a position, along the scan's axes, with NaN outside of the scan."""
    count = 2 * round(half_mm / _STEP_MM) + 1
    steps = (np.arange(count) - count // 2) * _STEP_MM
    offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1)
    local_axes = Grid(scan.values, position_mm, (1.0, 1.0, 1.0), scan.axes)
    positions = local_axes.positions(offsets)
    return Grid(scan.values_at(positions), triple(positions[0, 0, 0]), (_STEP_MM,) * 3, scan.axes)


def _seed(dense: Mask) -> tuple[NDArray[np.intp], float] | Omission:
    """Climb in depth from the dense voxel nearest to the middle; return the deepest voxel and its depth in mm."""
    middle = np.asarray(dense.shape) // 2
    reach = round(_SEED_MM / _STEP_MM)
    near = np.argwhere(dense[tuple(slice(m - reach, m + reach + 1) for m in middle)]) - reach
    near = near[np.linalg.norm(near, axis=1) <= reach]
    if not len(near):
        return Omission("nothing-dense", f"nothing dense lies within {_SEED_MM:.0f} mm of the nodule's place")
    depth = _depth(dense)
    voxel = middle + near[np.linalg.norm(near, axis=1).argmin()]
    for _ in range(round(_CLIMB_MM / _STEP_MM)):
        corner = np.clip(voxel - 1, 0, None)
        block = depth[tuple(slice(c, c + 3) for c in corner)]
        neighbor = corner + np.unravel_index(int(block.argmax()), block.shape)
        if depth[tuple(neighbor)] <= depth[tuple(voxel)]:
            break
        voxel = neighbor
    return voxel, float(depth[tuple(voxel)])


def _region(dense: Mask) -> _Region | Omission:
    """Return the nodule in the middle, eroded as little as separates the nodule from wall and vessels."""
    depth = _depth(dense)
    seed = tuple(n // 2 for n in dense.shape)
    radius = float(depth[seed])
    if not _SMALLEST_MM <= 2 * radius <= _LARGEST_MM:
        reason = f"it is {2 * radius:.0f} mm wide; {_SMALLEST_MM:.0f} to {_LARGEST_MM:.0f} mm are measured"
        return Omission("too-small" if 2 * radius < _SMALLEST_MM else "too-large", reason)
    smallest = max(_EROSIONS[0] * radius, min(_EROSIONS[1] * radius, _VESSEL_MM))
    for erosion in (smallest, *(share * radius for share in _EROSIONS if share * radius > smallest)):
        labels, _ = ndimage.label(depth > erosion)
        core = labels == labels[seed]
        farthest_mm = np.linalg.norm((np.argwhere(core) - seed) * _STEP_MM, axis=1).max() + erosion
        if farthest_mm <= _LONGEST * radius:
            mask = dense & (_depth(~core) <= erosion + _STEP_MM / 2)
            return _region_around(mask, dense & ~mask)
    return Omission("attached", "it cannot be told from the wall or the vessels that it touches")


def _region_around(mask: Mask, others: Mask) -> _Region:
    """Return the region of a nodule's mask, in a window with a margin around the mask."""
    rim = round(_MARGIN_MM / _STEP_MM)
    window = tuple(
        slice(max(0, extent.start - rim), extent.stop + rim) for extent in ndimage.find_objects(mask.astype(np.int8))[0]
    )
    inner = mask[window]
    return _Region(window, inner, others[window], _depth(inner) - _depth(~inner))


def _depth(mask: Mask) -> Values:
    """Return the distance of each voxel of a mask to the nearest voxel outside of the mask, in mm."""
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=_STEP_MM), np.float32)


def _tissue(values: Values, region: _Region) -> _Tissue:
    """Return the median density of the nodule, away from its blurred edge, and of the lung around the nodule."""
    ring = (region.depth_mm < -_RING_MM[0]) & (region.depth_mm > -_RING_MM[1]) & (values < _LUNG_HU)
    lung = float(np.median(values[ring])) if ring.any() else _USUAL_LUNG_HU
    return _Tissue(float(np.median(values[region.depth_mm >= _CORE * region.depth_mm.max()])), lung)


def _volume(segmentation: _Segmentation) -> float:
    """Return the nodule's volume in mm3; a voxel at the edge counts by the part that the nodule fills.

    Source: Kuhnigk et al., IEEE Trans Med Imaging 2006 (partial volume analysis).
    """
    region, tissue = segmentation.region, segmentation.tissue
    foreign = ndimage.binary_dilation(region.others, iterations=2) & ~region.mask
    values = segmentation.patch.values[(region.depth_mm > -_EDGE_MM) & ~foreign]
    filled = np.clip((values - tissue.lung) / tissue.contrast, 0, 1)
    return float(filled.sum()) * _STEP_MM**3


def _size(segmentation: _Segmentation, scan: Grid) -> NoduleSize:
    """Return the size of a nodule that is cut out of a scan."""
    voxels = np.argwhere(segmentation.region.mask)
    long_axis, short_axis = axes_mm(segmentation.region.mask, (_STEP_MM, _STEP_MM))
    return NoduleSize(
        position_mm=triple(segmentation.patch.positions(voxels.mean(axis=0))),
        long_axis_mm=long_axis,
        short_axis_mm=short_axis,
        maximum_mm=maximum_mm(segmentation.region.mask, _STEP_MM),
        volume_mm3=_volume(segmentation),
        density_hu=segmentation.tissue.nodule,
        outline=tuple(contours(segmentation.patch, segmentation.region.mask, scan)),
    )
