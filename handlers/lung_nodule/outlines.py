"""The outlines of nodules on the pixels of the current CT, one segment for each nodule."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product, starmap
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from ainode.handlers import ABNORMAL_STRUCTURE, label_map, voxels_under
from ainode.handlers.lung_nodule.places import Place
from ainode.models.nodule_outline.model import OutlinedNodule, voxel_mask
from ainode.node.domain import Code, InstanceRef, Outline, Segment, Segmented
from ainode.node.imaging.geometry import triple

NODULE = Code("27925004", "SCT", "Nodule")
_LEAST_CONTOURS = 2
"""as many contours enclose a volume"""


def outline_of(place: Place) -> Outline | None:
    """Return the contours in the patient; None without a volume, or without a known patient space."""
    frame = place.slices.frame_of_reference_uid
    if not isinstance(place.outlined, OutlinedNodule) or not frame:
        return None
    contours = place.outlined.size.outline
    if len(contours) < _LEAST_CONTOURS:
        return None
    return Outline(frame, place.key_slice.series_instance_uid, contours)


@dataclass(frozen=True, slots=True)
class SegmentedNodules:
    """The segments of the nodules of the current study."""

    segmented: Segmented | None
    """None without an outline"""
    owners: Mapping[str, str]
    """by the name of a nodule whose outline has pixels of an earlier one: the name of that one"""


@dataclass(slots=True)
class _Labels:
    """The labels on each image so far."""

    by_image: dict[InstanceRef, NDArray[np.uint8]] = field(default_factory=dict)

    def add(self, place: Place, nodule: OutlinedNodule, label: int, threshold: float) -> int:
        """Put a label on the pixels of the nodule that no other nodule has; return one that has some, 0 for none."""
        owner = 0
        mask = voxel_mask(nodule, place.grid, threshold)
        last = np.asarray(mask.shape)[:, None, None] - 1
        for number in _slices_through(place, nodule):
            index = np.rint(voxels_under(place.slices, number, place.volume)).astype(int)
            z, y, x = np.clip(index, 0, last)
            inside = mask[z, y, x]
            if inside.any():
                image = place.slices.instances[number].ref
                labels = self.by_image.setdefault(image, np.zeros(inside.shape, np.uint8))
                owner = max(owner, int(labels[inside].max()))
                labels[inside & (labels == 0)] = label
        return owner


def _slices_through(place: Place, nodule: OutlinedNodule) -> range:
    """Return the numbers of the slices that may cut a nodule."""
    places = np.argwhere(nodule.mask)
    corners = product(*zip(places.min(axis=0) - 1, places.max(axis=0) + 1, strict=True))
    depths = [place.slices.pixel(triple(nodule.cells.positions(np.asarray(corner))))[0] for corner in corners]
    return range(max(0, floor(min(depths))), min(len(place.slices.instances), ceil(max(depths)) + 1))


def segmented(places: Mapping[str, Place], threshold: float) -> SegmentedNodules:
    """Return a segment for each nodule of the current study by its name; a pixel is of the first that has it."""
    labels, names = _Labels(), tuple(places)
    owners: dict[str, str] = {}
    for label, (name, place) in enumerate(places.items(), start=1):
        owner = labels.add(place, place.outlined, label, threshold) if isinstance(place.outlined, OutlinedNodule) else 0
        if owner:
            owners[name] = names[owner - 1]
    if not labels.by_image:
        return SegmentedNodules(None, owners)
    segments = tuple(Segment(name, ABNORMAL_STRUCTURE, NODULE, finding=name) for name in names)
    maps = starmap(label_map, labels.by_image.items())
    distances_mm = {place.slices.spacing_mm[0] for place in places.values()}
    distance_mm = distances_mm.pop() if len(distances_mm) == 1 else None
    return SegmentedNodules(Segmented("LUNG_NODULES", segments, tuple(maps), distance_mm), owners)
