"""Regions in structured reports: TID 1500 measurement groups and CAD findings, by SCOORD and SCOORD3D."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from ainode.node.domain import UID, Instance, Position
from ainode.node.imaging.marks import Mark, Points, center, coded, items, middle, numbers

_CENTER = "111010"  # DCM, in the CAD templates (TID 4104)
# DCM: Measurement Group, Composite Feature, Single Image Finding; the outermost of them is one lesion.
_GROUPS = frozenset({"125007", "111015", "111059"})
_TRACKING_UID = "112040"
_FLAT = 2
_SPATIAL = 3
# Real reports: 7 levels, some thousand items.
_DEPTH = 24
_ITEMS = 200_000


@dataclass(frozen=True, slots=True)
class _Node:
    """A content item with the items above it, root first."""

    item: Dataset
    above: tuple[Dataset, ...]

    @property
    def group(self) -> Dataset:
        """Return the outermost item that is one lesion, else the one right above."""
        return next((one for one in self.above if _concept(one) in _GROUPS), self.above[-1])


def report_marks(report: Dataset, images: Mapping[UID, Instance]) -> list[Mark]:
    """Return one mark per group that has regions; `images` are those that SCOORDs may be drawn on.

    Source: PS3.16 TID 1410, 1411, 1501, 4100; PS3.3 C.18.6, C.18.9.
    """
    groups: dict[int, tuple[Dataset, list[_Node]]] = {}
    for node in _walk(report):
        if str(node.item.get("ValueType")) in {"SCOORD", "SCOORD3D"} and node.above:
            groups.setdefault(id(node.group), (node.group, []))[1].append(node)
    found = (_mark(group, regions, report, images) for group, regions in groups.values())
    return [mark for mark in found if mark]


def _walk(report: Dataset) -> Iterator[_Node]:
    waiting = [_Node(report, ())]
    for _ in range(_ITEMS):
        if not waiting:
            return
        node = waiting.pop()
        yield node
        if len(node.above) < _DEPTH:
            below = (*node.above, node.item)
            waiting += [_Node(one, below) for one in reversed(items(node.item, "ContentSequence"))]


def _concept(item: Dataset) -> str:
    return next((coded(one)[0] for one in items(item, "ConceptNameCodeSequence")), "")


def _mark(group: Dataset, regions: list[_Node], report: Dataset, images: Mapping[UID, Instance]) -> Mark | None:
    centers = [node for node in regions if _concept(node.item) == _CENTER]
    # Diameters lie below their measurement; the region of the whole lesion is right below the group.
    whole = [node for node in regions if node.above[-1] is group]
    placed = []
    for node in centers or whole or regions:
        place = _spatial(node.item) or _flat(node.item, report, images)
        if place:
            placed.append(place)
    frames = {frame for frame, _, _ in placed}
    position = middle(shape for _, _, shape in placed)
    if position is None or len(frames) != 1:
        return None
    series = {one for _, one, _ in placed}
    said = list(_said(group))
    return Mark(
        position_mm=position,
        frame_of_reference_uid=frames.pop(),
        series_instance_uid=series.pop() if len(series) == 1 else UID(""),
        tracking_uid=_tracking(group),
        texts=tuple(text for _, text in said if text),
        codes=tuple(code for code, _ in said if code),
    )


def _said(group: Dataset) -> Iterator[tuple[str, str]]:
    """Yield code and text of what a group says of itself, not of what it measures or where it lies."""
    for item in (group, *items(group, "ContentSequence")):
        if _concept(item) in {"363698007", "G-C0E3", "C0034693"}:  # finding site
            continue
        if item.get("ValueType") == "CODE":
            yield from (coded(one) for one in items(item, "ConceptCodeSequence"))
        elif item.get("ValueType") == "TEXT":
            yield "", str(item.get("TextValue") or "")


def _tracking(group: Dataset) -> UID:
    found = (item.get("UID") for item in items(group, "ContentSequence") if _concept(item) == _TRACKING_UID)
    return UID(str(next(found, None) or ""))


_Place = tuple[UID, UID, tuple[Position, float]]


def _spatial(item: Dataset) -> _Place | None:
    """Return frame of reference and center of a SCOORD3D."""
    data = numbers(item, "GraphicData")
    if item.get("ValueType") != "SCOORD3D" or not data.size or data.size % _SPATIAL:
        return None
    shape = center(data.reshape(-1, _SPATIAL), closed=_is_closed(item, data.reshape(-1, _SPATIAL)))
    return (UID(str(item.get("ReferencedFrameOfReferenceUID") or "")), UID(""), shape) if shape else None


def _flat(item: Dataset, report: Dataset, images: Mapping[UID, Instance]) -> _Place | None:
    """Return frame of reference, series and center of a SCOORD on an image that is here."""
    data = numbers(item, "GraphicData")
    image = images.get(_referenced(item, report))
    if image is None or item.get("ValueType") != "SCOORD" or not data.size or data.size % _FLAT:
        return None
    pixels = data.reshape(-1, _FLAT)
    if item.get("GraphicType") == "CIRCLE":  # center, then a point on it
        pixels = pixels[:1]
    points = _in_patient(pixels, image)
    shape = None if points is None else center(points, closed=_is_closed(item, points))
    return (UID(image.text("FrameOfReferenceUID")), image.ref.series_instance_uid, shape) if shape else None


def _is_closed(item: Dataset, points: Points) -> bool:
    kind = item.get("GraphicType")
    return kind == "POLYGON" or (kind == "POLYLINE" and bool(np.allclose(points[0], points[-1])))


def _referenced(item: Dataset, report: Dataset) -> UID:
    """Return the image below a SCOORD, in place or by reference to another item (PS3.3 C.17.3.2.5)."""
    for below in items(item, "ContentSequence"):
        path = below.get("ReferencedContentItemIdentifier")
        image = below if path is None else _item_at(report, list(np.atleast_1d(path)))
        for one in items(image, "ReferencedSOPSequence"):
            frames = one.get("ReferencedFrameNumber")
            if frames in (None, 1):
                return UID(str(one.get("ReferencedSOPInstanceUID") or ""))
    return UID("")


def _item_at(report: Dataset, path: list[int]) -> Dataset:
    """Return the item at an identifier: 1 is the root, then positions among siblings."""
    at = report
    for position in path[1 : _DEPTH + 1]:
        below = items(at, "ContentSequence")
        if not 0 < position <= len(below):
            return Dataset()
        at = below[position - 1]
    return at


def _in_patient(pixels: Points, image: Instance) -> Points | None:
    """Return (column, row) pairs as positions; None where a pair is outside of the image, or it has no place.

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
    if not ((pixels >= 0) & (pixels <= size)).all() or image.text("NumberOfFrames") not in {"", "1"}:
        return None
    return np.asarray(origin + ((pixels - 0.5) * spacing) @ axes)
