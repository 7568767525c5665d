"""What of an answer no segmentation object can have, in the report's words; pure."""

from typing import Final

from ainode.node.domain import Instance, Result, Study
from ainode.node.imaging.picture_kind import CROSS_SECTIONAL

# PS3.3 C.7.4.1 and C.7.6.2: a segmentation object lies where its images lie.
_FRAME_OF_REFERENCE: Final = "FrameOfReferenceUID"
_OF_PLACE: Final = (_FRAME_OF_REFERENCE, "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def unplaced(result: Result, study: Study) -> tuple[tuple[str, str], ...]:
    """Return the parameter that says why no segmentation has what was marked; none where each image has a place.

    Saliency counts on slices alone: that of a projection is in no segmentation anyway.
    """
    maps = result.segmented.maps if result.segmented else ()
    outlined = {item.image.sop_instance_uid for item in maps if any(item.labels)}
    looked_at = {capture.image.sop_instance_uid for capture in result.captures if capture.saliency}
    images = [
        instance
        for instance in study.instances
        if instance.ref.sop_instance_uid in outlined
        or (instance.ref.sop_instance_uid in looked_at and instance.text("Modality") in CROSS_SECTIONAL)
    ]
    reasons = [reason for instance in images if (reason := _reason(instance))]
    if not reasons:
        return ()
    whose = "the images have" if len(reasons) == len(images) else f"{len(reasons)} of {len(images)} images have"
    return (("segmentation object", f"none, for {whose} {' or '.join(dict.fromkeys(reasons))}"),)


def _reason(instance: Instance) -> str:
    """Return what an image has in the way of a segmentation of it, '' if nothing."""
    missing = [keyword for keyword in _OF_PLACE if not instance.text(keyword)]
    if missing == [_FRAME_OF_REFERENCE]:
        return "no Frame of Reference UID"
    if missing:
        return "no place in the patient"
    return "" if instance.text("NumberOfFrames") in {"", "1"} else "several frames"
