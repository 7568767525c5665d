"""Lesions of a study that its SR, SEG and RTSTRUCT objects point at.

The marks of an object are lesions if their code or name says nodule, mass, tumor, lesion, neoplasm or GTV. If no mark
of the object says so and the object has exactly one mark, that mark is a lesion, unless its code or name says organ or
tissue. Objects that this node made are left out, unless the caller asks for the node's own reports: the report of an
earlier study says where a lesion was at that time.
"""

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from ainode.node.domain import CANDIDATE, FARTHEST_MM, OWN_REPORT, OWN_SEARCH, UID, Instance, Location, is_position
from ainode.node.errors import BrokenSeries
from ainode.node.identity import is_ours
from ainode.node.imaging.decoding import BROKEN_FILE
from ainode.node.imaging.marks import Mark, items, lesions
from ainode.node.imaging.marks_drawn import roi_marks, segment_marks
from ainode.node.imaging.marks_sr import report_marks

log = logging.getLogger(__name__)
_REPORT_PREFIX = "1.2.840.10008.5.1.4.1.1.88."
_KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
# Segmentation, Label Map Segmentation, RT Structure Set (PS3.4 B.5).
_DRAWN_KINDS = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
}
_KINDS = ("SR", "SEG", "RTSTRUCT", "")
# Real reports and structure sets have some MB and 50 MB; the label map of a thin chest CT has 200 MB.
_MAX_BYTES = {"SR": 64 * 2**20, "SEG": 512 * 2**20, "RTSTRUCT": 256 * 2**20}


class PointedLocation(NamedTuple):
    """A lesion's location and the object that points at the lesion; no object where a request points."""

    location: Location
    pointing_object: Instance | None = None


class _Contents(NamedTuple):
    """What one object says: the lesions it points at, and the node's own reports that it supersedes."""

    locations: tuple[Location, ...]
    superseded: frozenset[UID]


_EMPTY = _Contents((), frozenset())


def pointed_locations(instances: Iterable[Instance], *, own_reports: bool = False) -> tuple[PointedLocation, ...]:
    """Return the lesions that reports, segmentations and structure sets point at, those of reports first.

    `own_reports` adds the lesions of this node's reports, after all others, with source `own report`; a report that
    another report of this node supersedes adds none.

    A region in pixels counts only if its image is among `instances`. An object that is broken or too large is skipped,
    and its UID is logged. A mark is left out, which is logged, if a coordinate is no position; a region is skipped if a
    coordinate lies outside of its image. Of several marks with one tracking UID the first counts.
    Units: LPS mm.
    """
    # A segmentation of this node shows where the model looked; nobody pointed there.
    eligible = tuple(
        instance for instance in instances if not is_ours(instance) or (own_reports and _kind(instance) == "SR")
    )
    images = {instance.ref.sop_instance_uid: instance for instance in eligible if _has_position(instance)}
    contents = [(instance, _contents(instance, images)) for instance in sorted(eligible, key=_sort_key)]
    superseded = frozenset[UID]().union(*(content.superseded for _, content in contents))
    unique: dict[object, PointedLocation] = {}
    for instance, content in contents:
        for location in content.locations if instance.ref.sop_instance_uid not in superseded else ():
            key = (location.tracking_uid, location.frame_of_reference_uid) if location.tracking_uid else len(unique)
            unique.setdefault(key, PointedLocation(location, instance))
    return tuple(unique.values())


def _has_position(instance: Instance) -> bool:
    return "ImagePositionPatient" in instance.header


def _kind(instance: Instance) -> str:
    """Return the kind of object, `SR`, `SEG` or `RTSTRUCT`; '' for an object that cannot point at lesions."""
    sop_class = instance.ref.sop_class_uid
    if sop_class.startswith(_REPORT_PREFIX) and sop_class != _KEY_OBJECT_SELECTION:
        return "SR"
    return _DRAWN_KINDS.get(sop_class, "")


def _sort_key(instance: Instance) -> tuple[bool, int, UID]:
    """Return the sort key: own reports last, then by kind of object, then by UID."""
    return is_ours(instance), _KINDS.index(_kind(instance)), instance.ref.sop_instance_uid


def _contents(instance: Instance, images: Mapping[UID, Instance]) -> _Contents:
    """Return the lesions and the superseded reports of one object; a broken object is logged and has none."""
    kind = _kind(instance)
    if not kind:
        return _EMPTY
    try:
        marks, superseded = _marks_and_predecessors(instance, kind, images)
        lesion_marks = lesions(_marks_with_position(marks, kind, instance))
    except (*BROKEN_FILE, BrokenSeries) as error:
        uid = instance.ref.sop_instance_uid
        log.warning(
            "%s %s points at nothing: the object cannot be read (%s)",
            kind,
            uid,
            type(error).__name__,
            extra={"action": "positions_skipped", "sop_instance_uid": uid},
        )
        return _EMPTY
    sources = [_own_source(mark) if is_ours(instance) else kind for mark in lesion_marks]
    locations = (
        Location(
            mark.position_mm,
            source,
            mark.frame_of_reference_uid,
            mark.tracking_uid,
            mark.series_instance_uid,
            None if is_ours(instance) else mark.extent,  # the node measures again what it measured
        )
        for mark, source in zip(lesion_marks, sources, strict=True)
    )
    return _Contents(tuple(locations), superseded)


def _own_source(mark: Mark) -> str:
    """Return whether a lesion of the node's own report was pointed at, or marked by a search."""
    return OWN_SEARCH if any(text.startswith(CANDIDATE) for text in mark.texts) else OWN_REPORT


def _marks_with_position(marks: Sequence[Mark], kind: str, instance: Instance) -> tuple[Mark, ...]:
    """Return the marks that have a position; a log line counts the others."""
    usable_marks = tuple(mark for mark in marks if is_position(mark.position_mm))
    if len(usable_marks) < len(marks):
        uid = instance.ref.sop_instance_uid
        log.warning(
            "%s %s: %d of %d marks are left out: a coordinate is not finite, or more than %g mm",
            kind,
            uid,
            len(marks) - len(usable_marks),
            len(marks),
            FARTHEST_MM,
            extra={"action": "marks_skipped", "sop_instance_uid": uid},
        )
    return usable_marks


def _marks_and_predecessors(
    instance: Instance, kind: str, images: Mapping[UID, Instance]
) -> tuple[list[Mark], frozenset[UID]]:
    """Return every mark of the object; for a report of this node also the reports that it supersedes.

    Raises: BrokenSeries if the file is too large; what pydicom raises on a broken file is passed on.
    """
    if instance.size_bytes > _MAX_BYTES[kind]:
        raise BrokenSeries(f"the object has {instance.size_bytes} bytes; at most {_MAX_BYTES[kind]} are read")
    # A warning of pydicom quotes values, which may be the patient's.
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(instance.path, stop_before_pixels=True)
        if kind == "SR":
            return report_marks(dataset, images), _predecessors(dataset) if is_ours(instance) else frozenset()
        if kind == "SEG":
            return segment_marks(dataset, instance.path), frozenset()
        return roi_marks(dataset), frozenset()


def _predecessors(report: Dataset) -> frozenset[UID]:
    """Return the UIDs in Predecessor Documents Sequence (PS3.3 C.17.2.3)."""
    series_items = (
        series
        for study in items(report, "PredecessorDocumentsSequence")
        for series in items(study, "ReferencedSeriesSequence")
    )
    predecessor_uids = (
        reference.get("ReferencedSOPInstanceUID")
        for series in series_items
        for reference in items(series, "ReferencedSOPSequence")
    )
    return frozenset(UID(str(uid)) for uid in predecessor_uids)
