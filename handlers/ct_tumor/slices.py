"""The slices of an organ in a study: which are read, by their headers, and their values in the part of the organ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.handlers import voxels_under
from ainode.models.ct_tumor.card import Organ
from ainode.node.domain import Instance, OutOfScope, Series
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.ct_parts import CtPart, below_lungs, lungs
from ainode.node.imaging.ct_series import CtRequirements, ct_stack
from ainode.node.imaging.geometry import Stack, stack, volume
from ainode.node.imaging.picture_kind import screen_reason
from ainode.node.imaging.pixels import modality_values, picture

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, slots=True)
class OrganSlices:
    """Slices to read, each with the instance it is of.

    Shapes: values (n, rows, columns), columns to the left, rows to the back; `acquired` turns (number, map) into the
    map on the instance's own rows and columns.
    Units: Hounsfield units, or gray of 0 to 255.
    """

    instances: tuple[Instance, ...]
    values: Sequence[NDArray[Any]] = field(repr=False)
    acquired: Callable[[int, NDArray[np.float32]], NDArray[np.float32]] = field(repr=False)
    hounsfield: bool
    numbers: tuple[int, ...]
    """by which a person knows each slice in the whole scan, from 1"""
    whole_count: int
    """slices of the whole scan"""
    statement: str = ""
    """the slices that are read and what they show, for the report"""


def organ_instances(organ: Organ, series: Sequence[Series]) -> tuple[Instance, ...] | OutOfScope:
    """Return the slices of an organ: the best stack, else pictures of slices, else why there are none."""
    organ_series = [item for item in series if _shows(organ, item)]
    if not organ_series:
        return OutOfScope(f"no series shows the {organ.name}", "wrong-body-part")
    scans = [Series(item.series_instance_uid, item.modality, _no_pictures(item)) for item in organ_series]
    stack_or_refusal = ct_stack([item for item in scans if item.instances], _requirements(organ))
    if isinstance(stack_or_refusal, Stack):
        return stack_or_refusal.instances
    pictures = tuple(instance for item in organ_series for instance in item.instances if _is_picture(instance))
    return pictures or stack_or_refusal


def _requirements(organ: Organ) -> CtRequirements:
    return CtRequirements(
        organ.min_slices, organ.min_coverage_mm, organ.max_spacing_mm, "soft", contrast=organ.contrast
    )


def _shows(organ: Organ, series: Series) -> bool:
    """Return whether a series shows the organ by its header; of a CT that names no part, the look decides."""
    part = body_part(series.instances[0].header)
    if part.parts:
        return bool(part.names & set(organ.body_parts))
    return series.modality == "CT" and not any(map(_is_picture, series.instances))


def are_pictures(instances: Sequence[Instance]) -> bool:
    """Return whether what `organ_instances` chose are slices that were made pictures."""
    return _is_picture(instances[0])


def _no_pictures(series: Series) -> tuple[Instance, ...]:
    return tuple(instance for instance in series.instances if not _is_picture(instance))


def _is_picture(instance: Instance) -> bool:
    """Return whether this is a slice that was made a picture: a Secondary Capture of CT or of no modality."""
    kind = instance.text("ImageType").upper().split("\\")[:2]
    secondary = instance.ref.sop_class_uid == _SECONDARY_CAPTURE and kind == ["DERIVED", "SECONDARY"]
    return secondary and instance.text("Modality") in {"CT", "OT"} and not screen_reason(instance)


def organ_slices(organ: Organ, instances: tuple[Instance, ...]) -> OrganSlices | OutOfScope:
    """Decode what `organ_instances` chose, cut to the part of the body with the organ, or return why that is too small.

    Raises: BrokenSeries if an image cannot be decoded, or slices that were a stack are none.
    """
    if are_pictures(instances):
        pictures = [_gray(image) for image in instances]
        return OrganSlices(
            instances,
            pictures,
            lambda _, values: values,
            hounsfield=False,
            numbers=tuple(range(1, len(instances) + 1)),
            whole_count=len(instances),
        )
    slices = stack(instances)
    if isinstance(slices, OutOfScope):
        raise BrokenSeries(slices.reason)
    cut = lungs if organ.name == "lung" else below_lungs
    part = cut(slices, volume(slices), _requirements(organ))
    return part if isinstance(part, OutOfScope) else _upright(part)


def _upright(part: CtPart) -> OrganSlices:
    """Return the slices from the feet to the head as a standing reader sees them, however they were acquired."""
    slices, scan = part.slices, part.volume
    numbers = [round(slices.pixel(scan.position((z, 0, 0)))[0]) for z in range(len(scan.values))]

    def acquired(z: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        _, y, x = voxels_under(slices, numbers[z], scan)
        at = np.rint(y).astype(int), np.rint(x).astype(int)
        return np.asarray(values[at], np.float32)

    instances = tuple(slices.instances[number] for number in numbers)
    return OrganSlices(
        instances,
        tuple(scan.values),
        acquired,
        hounsfield=True,
        numbers=tuple(map(part.number, numbers)),
        whole_count=part.whole_count,
        statement=str(part),
    )


def _gray(instance: Instance) -> NDArray[np.uint8]:
    """Return a picture as it came, in gray, larger is brighter; 8-bit values are not stretched."""
    photometric = instance.text("PhotometricInterpretation")
    if instance.text("BitsStored") == "8" and photometric.startswith("MONOCHROME"):
        values = np.asarray(modality_values(instance.path), np.uint8)
        return 255 - values if photometric == "MONOCHROME1" else values
    return np.asarray(picture(instance.path).mean(axis=-1), np.uint8)
