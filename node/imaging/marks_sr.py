"""Marks of structured reports: the center of each measurement group (TID 1500) and CAD finding that has regions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydicom import Dataset

from ainode.node.domain import UID, Instance, Position
from ainode.node.imaging.extents import measured_extent
from ainode.node.imaging.marks import Mark, Points, center_and_area, code_and_meaning, items, joint_center, numbers

_CENTER_CONCEPT = "111010"  # DCM, in the CAD templates (TID 4104)
# DCM: Measurement Group, Composite Feature, Single Image Finding; the outermost such item stands for a lesion.
_LESION_GROUPS = frozenset({"125007", "111015", "111059"})
_TRACKING_UID_CONCEPT = "112040"
_PIXEL_VALUES = 2
_POSITION_VALUES = 3
_FINDING_SITE_CONCEPTS = frozenset({"363698007", "G-C0E3", "C0034693"})
# Real reports have 7 levels and some thousand items.
_MAX_DEPTH = 24
_MAX_ITEMS = 200_000


@dataclass(frozen=True, slots=True)
class _Node:
    """A content item with its ancestors in the content tree, root first."""

    item: Dataset
    ancestors: tuple[Dataset, ...]

    @property
    def group(self) -> Dataset:
        """Return the outermost ancestor that stands for a lesion, else the parent."""
        lesions = (ancestor for ancestor in self.ancestors if _concept_code(ancestor) in _LESION_GROUPS)
        return next(lesions, self.ancestors[-1])


def report_marks(report: Dataset, images: Mapping[UID, Instance]) -> list[Mark]:
    """Return a mark for each group that has regions; a SCOORD counts only if its image is among `images`.

    Source: PS3.16 TID 1410, 1411, 1501, 4100; PS3.3 C.18.6, C.18.9.
    """
    groups: dict[int, tuple[Dataset, list[_Node]]] = {}
    for node in _nodes(report):
        if str(node.item.get("ValueType")) in {"SCOORD", "SCOORD3D"} and node.ancestors:
            groups.setdefault(id(node.group), (node.group, []))[1].append(node)
    marks = (_mark(group, regions, report, images) for group, regions in groups.values())
    return [mark for mark in marks if mark]


def _nodes(report: Dataset) -> Iterator[_Node]:
    """Yield the content items in document order; items that are too deep or too many are left out."""
    pending = [_Node(report, ())]
    for _ in range(_MAX_ITEMS):
        if not pending:
            return
        node = pending.pop()
        yield node
        if len(node.ancestors) < _MAX_DEPTH:
            ancestors = (*node.ancestors, node.item)
            pending += [_Node(child, ancestors) for child in reversed(items(node.item, "ContentSequence"))]


def _concept_code(item: Dataset) -> str:
    """Return the code value of the item's concept name, '' where absent."""
    return next((code_and_meaning(concept)[0] for concept in items(item, "ConceptNameCodeSequence")), "")


def _mark(group: Dataset, regions: list[_Node], report: Dataset, images: Mapping[UID, Instance]) -> Mark | None:
    """Return the mark of a group; None if no region has a position, or the regions have several frames of reference."""
    center_points = [node for node in regions if _concept_code(node.item) == _CENTER_CONCEPT]
    # The region of the whole lesion is a child of the group; the region of a diameter is a child of its measurement.
    lesion_regions = [node for node in regions if node.ancestors[-1] is group]
    centers = []
    for node in center_points or lesion_regions or regions:
        center = _center_of_scoord3d(node.item) or _center_of_scoord(node.item, report, images)
        if center:
            centers.append(center)
    frame_uids = {center.frame_of_reference_uid for center in centers}
    position = joint_center(center.position_and_area for center in centers)
    if position is None or len(frame_uids) != 1:
        return None
    series_uids = {center.series_instance_uid for center in centers}
    codes_and_texts = list(_codes_and_texts(group))
    return Mark(
        position_mm=position,
        frame_of_reference_uid=frame_uids.pop(),
        series_instance_uid=series_uids.pop() if len(series_uids) == 1 else UID(""),
        tracking_uid=_tracking_uid(group),
        texts=tuple(text for _, text in codes_and_texts if text),
        codes=tuple(code for code, _ in codes_and_texts if code),
        extent=measured_extent(group),
    )


def _codes_and_texts(group: Dataset) -> Iterator[tuple[str, str]]:
    """Yield code value and text of the group's CODE and TEXT items, without the finding site."""
    for item in (group, *items(group, "ContentSequence")):
        if _concept_code(item) in _FINDING_SITE_CONCEPTS:
            continue
        if item.get("ValueType") == "CODE":
            yield from (code_and_meaning(code) for code in items(item, "ConceptCodeSequence"))
        elif item.get("ValueType") == "TEXT":
            yield "", str(item.get("TextValue") or "")


def _tracking_uid(group: Dataset) -> UID:
    """Return the Tracking Unique Identifier of a group, '' where absent."""
    children = items(group, "ContentSequence")
    uids = (child.get("UID") for child in children if _concept_code(child) == _TRACKING_UID_CONCEPT)
    return UID(str(next(uids, None) or ""))


class _Center(NamedTuple):
    """The center of a region; no series where the region is drawn in space and not on an image."""

    frame_of_reference_uid: UID
    series_instance_uid: UID
    position_and_area: tuple[Position, float]


def _center_of_scoord3d(item: Dataset) -> _Center | None:
    """Return the center of a SCOORD3D; None for another value type or broken coordinates."""
    data = numbers(item, "GraphicData")
    if item.get("ValueType") != "SCOORD3D" or not data.size or data.size % _POSITION_VALUES:
        return None
    points = data.reshape(-1, _POSITION_VALUES)
    center = center_and_area(points, closed=_is_closed(item, points))
    return _Center(UID(str(item.get("ReferencedFrameOfReferenceUID") or "")), UID(""), center) if center else None


def _center_of_scoord(item: Dataset, report: Dataset, images: Mapping[UID, Instance]) -> _Center | None:
    """Return the center of a SCOORD; None for another value type, an absent image or broken coordinates."""
    data = numbers(item, "GraphicData")
    image = images.get(_image_uid(item, report))
    if image is None or item.get("ValueType") != "SCOORD" or not data.size or data.size % _PIXEL_VALUES:
        return None
    pixels = data.reshape(-1, _PIXEL_VALUES)
    if item.get("GraphicType") == "CIRCLE":  # the center, then a point on the circle
        pixels = pixels[:1]
    points = _positions(pixels, image)
    center = None if points is None else center_and_area(points, closed=_is_closed(item, points))
    return _Center(UID(image.text("FrameOfReferenceUID")), image.ref.series_instance_uid, center) if center else None


def _is_closed(item: Dataset, points: Points) -> bool:
    graphic_type = item.get("GraphicType")
    return graphic_type == "POLYGON" or (graphic_type == "POLYLINE" and bool(np.allclose(points[0], points[-1])))


def _image_uid(item: Dataset, report: Dataset) -> UID:
    """Return the SOP Instance UID of the image that a SCOORD is drawn on, '' where the image is absent.

    The image is a child of the SCOORD, or a child refers to the image's item (PS3.3 C.17.3.2.5).
    """
    for child in items(item, "ContentSequence"):
        path = child.get("ReferencedContentItemIdentifier")
        image = child if path is None else _item_at(report, list(np.atleast_1d(path)))
        for reference in items(image, "ReferencedSOPSequence"):
            if reference.get("ReferencedFrameNumber") in (None, 1):
                return UID(str(reference.get("ReferencedSOPInstanceUID") or ""))
    return UID("")


def _item_at(report: Dataset, path: list[int]) -> Dataset:
    """Return the item at a content item identifier, an empty data set where there is none.

    The identifier is 1 for the root, then the item's position among its siblings on each level.
    """
    item = report
    for position in path[1 : _MAX_DEPTH + 1]:
        children = items(item, "ContentSequence")
        if not 0 < position <= len(children):
            return Dataset()
        item = children[position - 1]
    return item


def _positions(pixels: Points, image: Instance) -> Points | None:
    """Return (column, row) pairs as positions; None if a pair lies outside of the image, or the image has no geometry.

    Numbers that are not finite give NaN.

    Source: PS3.3 C.7.6.2.1.1; C.18.6.1.1 (the center of the first pixel is 0.5, 0.5).
    """
    header = image.header
    try:
        size = np.asarray((header["Columns"], header["Rows"]), np.float64)
        origin = np.asarray(header["ImagePositionPatient"], np.float64)
        axes = np.asarray(header["ImageOrientationPatient"], np.float64).reshape(2, 3)
        spacing = np.asarray(header["PixelSpacing"], np.float64)[::-1]
    except (KeyError, TypeError, ValueError):
        return None
    if not np.isfinite(pixels).all():
        return np.full((1, _POSITION_VALUES), np.nan)
    if not ((pixels >= 0) & (pixels <= size)).all() or image.text("NumberOfFrames") not in {"", "1"}:
        return None
    return np.asarray(origin + ((pixels - 0.5) * spacing) @ axes)
