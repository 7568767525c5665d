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


@dataclass(slots=True)
class _Labels:
    """The labels on each image so far."""

    by_image: dict[InstanceRef, NDArray[np.uint8]] = field(default_factory=dict)

    def add(self, place: Place, nodule: OutlinedNodule, label: int, threshold: float) -> None:
        """Put a label on the pixels of the nodule that no other nodule has."""
        mask = voxel_mask(nodule, place.grid, threshold)
        last = np.asarray(mask.shape)[:, None, None] - 1
        for number in _slices_through(place, nodule):
            index = np.rint(voxels_under(place.slices, number, place.volume)).astype(int)
            z, y, x = np.clip(index, 0, last)
            inside = mask[z, y, x]
            if inside.any():
                image = place.slices.instances[number].ref
                labels = self.by_image.setdefault(image, np.zeros(inside.shape, np.uint8))
                labels[inside & (labels == 0)] = label


def _slices_through(place: Place, nodule: OutlinedNodule) -> range:
    """Return the numbers of the slices that may cut a nodule."""
    places = np.argwhere(nodule.mask)
    corners = product(*zip(places.min(axis=0) - 1, places.max(axis=0) + 1, strict=True))
    depths = [place.slices.pixel(triple(nodule.cells.positions(np.asarray(corner))))[0] for corner in corners]
    return range(max(0, floor(min(depths))), min(len(place.slices.instances), ceil(max(depths)) + 1))


def segmented(places: Mapping[str, Place], threshold: float) -> Segmented | None:
    """Return a segment for each nodule of the current study by its name; None without an outline."""
    labels = _Labels()
    for label, place in enumerate(places.values(), start=1):
        if isinstance(place.outlined, OutlinedNodule):
            labels.add(place, place.outlined, label, threshold)
    if not labels.by_image:
        return None
    segments = tuple(Segment(name, ABNORMAL_STRUCTURE, NODULE, finding=name) for name in places)
    maps = starmap(label_map, labels.by_image.items())
    distances_mm = {place.slices.spacing_mm[0] for place in places.values()}
    distance_mm = distances_mm.pop() if len(distances_mm) == 1 else None
    return Segmented("LUNG_NODULES", segments, tuple(maps), distance_mm)
