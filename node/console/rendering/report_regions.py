"""The regions of a structured report of the node, for the viewer: shapes on images, and outlines in the patient."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread

from ainode.node.domain import probability_text
from ainode.node.imaging.marks import code_and_meaning, items, numbers

# DCM (PS3.16 CID 29 and TID 1410, 1411, 1500)
_MEASUREMENT_GROUP: Final = "125007"
_IMAGE_REGION: Final = "111030"
_VOLUME_SURFACE: Final = "121231"
_TRACKING_IDENTIFIER: Final = "112039"
_TRACKING_UID: Final = "112040"
_PERCENT: Final = "%"
_THRESHOLD: Final = "122411"
_MAX_DEPTH: Final = 12


def report_regions(path: Path) -> list[dict[str, Any]]:
    """Return each region once: its label, the UID of its finding, its type and its points, on an image or in mm.

    A point on an image is (column, row) from the outer corner of the first pixel (PS3.3 C.18.6.1.1), and in the
    patient (x, y, z) in LPS mm (PS3.3 C.18.9).

    Raises: one of BROKEN_FILE.
    """
    report = dcmread(path)
    groups = list(_groups(report, 0))
    chances = {uid: chance for group in groups if (uid := _child_uid(group)) and (chance := _chance(group))}
    regions: dict[str, dict[str, Any]] = {}
    for number, group in enumerate(groups, start=1):
        uid = _child_uid(group)
        label = " ".join(filter(None, (_identifier(group) or f"finding {number}", chances.get(uid, ""))))
        for item in items(group, "ContentSequence"):
            if region := _region(item):
                regions.setdefault(repr((uid, region)), {"label": label, "finding": uid, **region})
    return list(regions.values())


def _groups(item: Dataset, depth: int) -> Iterator[Dataset]:
    if _concept(item) == _MEASUREMENT_GROUP:
        yield item
    elif depth < _MAX_DEPTH:
        for child in items(item, "ContentSequence"):
            yield from _groups(child, depth + 1)


def _concept(item: Dataset) -> str:
    return next((code_and_meaning(concept)[0] for concept in items(item, "ConceptNameCodeSequence")), "")


def _child_uid(group: Dataset) -> str:
    children = items(group, "ContentSequence")
    return next((str(child.get("UID", "")) for child in children if _concept(child) == _TRACKING_UID), "")


def _identifier(group: Dataset) -> str:
    children = items(group, "ContentSequence")
    return next((str(child.get("TextValue", "")) for child in children if _concept(child) == _TRACKING_IDENTIFIER), "")


def _chance(group: Dataset) -> str:
    """Return the first number in percent as a probability, which is that of the finding; "" without such a number."""
    for child in items(group, "ContentSequence"):
        for measured in items(child, "MeasuredValueSequence"):
            units = [code_and_meaning(unit)[0] for unit in items(measured, "MeasurementUnitsCodeSequence")]
            if units == [_PERCENT] and _concept(child) != _THRESHOLD:
                return probability_text(float(measured.NumericValue) / 100)
    return ""


def _region(item: Dataset) -> dict[str, Any] | None:
    """Return the shape of a content item that is a region of its group; None for another item."""
    kind, concept = str(item.get("ValueType", "")), _concept(item)
    data = [float(number) for number in numbers(item, "GraphicData")]
    graphic_type = str(item.get("GraphicType", ""))
    if kind == "SCOORD" and concept == _IMAGE_REGION:
        images = [image for child in items(item, "ContentSequence") for image in items(child, "ReferencedSOPSequence")]
        points = list(zip(data[::2], data[1::2], strict=False))
        if not images:
            return None
        frame = int(images[0].get("ReferencedFrameNumber") or 1) - 1
        uid = str(images[0].ReferencedSOPInstanceUID)
        return {"image": uid, "frame": frame, "type": graphic_type, "points": points}
    if kind == "SCOORD3D" and concept in {_IMAGE_REGION, _VOLUME_SURFACE}:
        frame_uid = str(item.get("ReferencedFrameOfReferenceUID", ""))
        positions = list(zip(data[::3], data[1::3], data[2::3], strict=False))
        return {"frame_of_reference": frame_uid, "type": graphic_type, "positions": positions}
    return None
