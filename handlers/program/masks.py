"""A label map of a program, laid over the images that the program read: voxel by voxel, or not at all."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ainode.handlers import ANATOMICAL_STRUCTURE, BODY, VOLUME, content_label, label_map
from ainode.handlers.program.answer import content_of
from ainode.handlers.program.nifti import Labels, UnfitMask, labels
from ainode.node.domain import Code, Finding, Measurement, Segment, Segmented
from ainode.node.errors import HandlerError
from ainode.node.imaging.geometry import Stack

# Of a voxel: coordinates in 32 bits are rounded, over 500 mm by 0.03 mm.
_SAME = 0.1
_CUBIC_MM = Code("mm3", "UCUM", "mm3")
# What older editions of PS3.16 CID 7150 have, "Body structure" in SNOMED CT: many tools write it.
_ANATOMICAL: Final = frozenset({ANATOMICAL_STRUCTURE.value, "123037004"})


def segmented_of(
    names: object, slices: Stack | None, folder: Path, segments: Mapping[int, Segment], model: str
) -> Segmented | None:
    """Return what the mask that result.json names outlines, None without a mask; `folder` is that of the answer.

    Raises: HandlerError.
    """
    if names == []:
        return None
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise HandlerError("result.json: masks is a list with the name of one label map")
    if not segments:
        raise HandlerError("result.json names a mask, and no [[output.segments]] of model.toml says what it marks")
    if slices is None:
        raise HandlerError("the program wrote a mask, and the images that it read are no series of slices")
    count = len(slices.instances) * slices.rows * slices.columns
    content = content_of(folder, names[0], 8 * count + (1 << 20))
    try:
        return segmented(labels(content, count), slices, segments, model)
    except UnfitMask as error:
        raise HandlerError(f"the program's mask does not fit: {error}") from error


def outlined_findings(outlined: Segmented, slices: Stack, site: Code | None) -> list[Finding]:
    """Return a finding with its volume for each segment that is there, on the slice that has most of it."""
    depth_mm, row_mm, column_mm = slices.spacing_mm
    findings = []
    for number, segment in enumerate(outlined.segments, start=1):
        counts = [(plane.labels.count(number), plane.image) for plane in outlined.maps]
        voxel_count = sum(count for count, _ in counts)
        _, image = max(counts, key=lambda pair: pair[0], default=(0, None))
        if voxel_count and image:
            volume = Measurement(VOLUME, round(voxel_count * depth_mm * row_mm * column_mm, 1), _CUBIC_MM, (image,))
            findings.append(Finding(segment.label, segment.kind, site or _site(segment), (volume,), (image,)))
    return findings


def _site(segment: Segment) -> Code:
    """Return the site of a segment: itself if it is a part of the body; of a tumor the description has to say it."""
    return segment.kind if segment.category.value in _ANATOMICAL else BODY


def segmented(mask: Labels, slices: Stack, segments: Mapping[int, Segment], name: str) -> Segmented:
    """Return what a label map outlines on the slices.

    Raises: UnfitMask if the map does not lie on the voxels of the slices, or has a label that nothing describes.
    """
    values = laid_over(mask, slices)
    unknown = sorted(set(np.unique(values).tolist()) - {0, *segments})
    if unknown:
        raise UnfitMask(f"it has the label {unknown[0]}, which [[output.segments]] does not name")
    numbers = np.zeros(256, np.uint8)
    for number, label in enumerate(segments, start=1):
        numbers[label] = number
    numbered = numbers[values]
    maps = tuple(
        label_map(instance.ref, plane)
        for instance, plane in zip(slices.instances, numbered, strict=True)
        if plane.any()
    )
    return Segmented(content_label(name), tuple(segments.values()), maps, slices.spacing_mm[0])


def laid_over(mask: Labels, slices: Stack) -> NDArray[np.uint8]:
    """Return a label map in the order of the slices: shape (slice, row, column).

    Raises: UnfitMask if its voxels are not those of the slices.
    """
    size = (len(slices.instances), slices.rows, slices.columns)
    to_lps = np.eye(4)
    axes = (slices.normal, slices.column_axis, slices.row_axis)
    to_lps[:3, :3] = (np.asarray(axes) * np.asarray(slices.spacing_mm)[:, None]).T
    to_lps[:3, 3] = slices.origin_mm
    # From (slice, row, column) to the indices of the mask: a change of axes and of directions, or another grid.
    exact = np.linalg.inv(mask.to_lps) @ to_lps
    turn = np.rint(exact[:3, :3]).astype(int)
    shift = np.rint(exact[:3, 3]).astype(int)
    corners = np.asarray([(*corner, 1) for corner in product(*((0, count - 1) for count in size))], np.float64)
    rounded = corners[:, :3] @ turn.T + shift
    is_permutation = bool((np.abs(turn).sum(axis=0) == 1).all() and (np.abs(turn).sum(axis=1) == 1).all())
    if not is_permutation or np.abs(corners @ exact[:3].T - rounded).max() > _SAME:
        raise UnfitMask("its voxels do not lie on those of the images: their geometry is another")
    if rounded.min() < 0 or (rounded.max(axis=0) >= mask.values.shape).any():
        raise UnfitMask("it does not cover the images")
    order = [int(np.abs(turn[:, axis]).argmax()) for axis in range(3)]
    values = mask.values.transpose(order)
    flips = tuple(axis for axis in range(3) if turn[order[axis], axis] < 0)
    laid = np.flip(values, flips)
    if laid.shape != size:
        raise UnfitMask("it has another number of voxels than the images")
    return np.ascontiguousarray(laid)
