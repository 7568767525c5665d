"""Where people and other programs pointed at: the lesions in a study's SR, SEG and RTSTRUCT objects.

Of each object those items count whose code or name says nodule, mass, tumor, lesion, neoplasm or GTV; where none does
and there is exactly one item, that one, unless it is called an organ or a tissue. What this node made is not read back,
unless that is asked for: its report of an earlier study says where a lesion was then.
"""

import logging
import warnings
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from ainode.node.domain import OWN_REPORT, UID, Instance, Location
from ainode.node.errors import BrokenSeries
from ainode.node.identity import is_ours
from ainode.node.imaging.marks import Mark, items, lesions
from ainode.node.imaging.marks_drawn import regions, segments
from ainode.node.imaging.marks_sr import marks
from ainode.node.imaging.pixels import BROKEN_FILE

log = logging.getLogger(__name__)
# As reports/uids.py says; importing it would load all that makes reports.
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"
# Segmentation, Label Map Segmentation, RT Structure Set (PS3.4 B.5).
_DRAWN = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
}
_SOURCES = ("SR", "SEG", "RTSTRUCT", "")
# Real ones: some MB, 200 MB for a label map of a thin chest CT, 50 MB.
_BYTES = {"SR": 64 * 2**20, "SEG": 512 * 2**20, "RTSTRUCT": 256 * 2**20}


class Pointed(NamedTuple):
    """A lesion, and the object that points at it; None where a request does."""

    location: Location
    by: Instance | None = None


def positions(instances: Iterable[Instance], *, ours: bool = False) -> tuple[Location, ...]:
    """Return the lesions of `pointed`, without what points at them."""
    return tuple(one.location for one in pointed(instances, ours=ours))


def pointed(instances: Iterable[Instance], *, ours: bool = False) -> tuple[Pointed, ...]:
    """Return the lesions that reports, segmentations and structure sets of a study point at, reports first.

    `ours` adds the reports of this node, after all others, but for those that another of ours supersedes; their source
    is `own report`.

    Regions in pixels need their image among `instances`. An object that is broken or too large is skipped and logged
    by its UID; an item with coordinates outside of its image, or that are no numbers, is skipped. Of items with the
    same tracking UID the first counts.
    Units: LPS mm.
    """
    # A segmentation of ours is where the model looked, which nobody pointed at.
    found = tuple(one for one in instances if not is_ours(one) or (ours and _source(one) == "SR"))
    images = {one.ref.sop_instance_uid: one for one in found if "ImagePositionPatient" in one.header}
    said = [(instance, *_said(instance, images)) for instance in sorted(found, key=_order)]
    superseded = frozenset[UID]().union(*(earlier for *_, earlier in said))
    unique: dict[object, Pointed] = {}
    for instance, locations, _ in said:
        for location in locations if instance.ref.sop_instance_uid not in superseded else ():
            key = (location.tracking_uid, location.frame_of_reference_uid) if location.tracking_uid else len(unique)
            unique.setdefault(key, Pointed(location, instance))
    return tuple(unique.values())


def _source(instance: Instance) -> str:
    """Return what kind of object may point at lesions, '' where it is none."""
    sop_class = instance.ref.sop_class_uid
    if sop_class.startswith(_REPORTS) and sop_class != _KEY_OBJECT:
        return "SR"
    return _DRAWN.get(sop_class, "")


def _order(instance: Instance) -> tuple[bool, int, UID]:
    return is_ours(instance), _SOURCES.index(_source(instance)), instance.ref.sop_instance_uid


def _said(instance: Instance, images: Mapping[UID, Instance]) -> tuple[tuple[Location, ...], frozenset[UID]]:
    """Return where an object points at, and which reports of ours it supersedes."""
    source, nothing = _source(instance), ((), frozenset[UID]())
    if not source:
        return nothing
    try:
        drawn, superseded = _read(instance, source, images)
        found = lesions(drawn)
    except (*BROKEN_FILE, BrokenSeries) as error:
        uid = instance.ref.sop_instance_uid
        log.warning(
            "%s %s points at nothing: it cannot be read (%s)",
            source,
            uid,
            type(error).__name__,
            extra={"action": "positions_skipped", "sop_instance_uid": uid},
        )
        return nothing
    who = OWN_REPORT if is_ours(instance) else source
    locations = (
        Location(one.position_mm, who, one.frame_of_reference_uid, one.tracking_uid, one.series_instance_uid)
        for one in found
    )
    return tuple(locations), superseded


def _read(instance: Instance, source: str, images: Mapping[UID, Instance]) -> tuple[list[Mark], frozenset[UID]]:
    if instance.size_bytes > _BYTES[source]:
        raise BrokenSeries(f"it has {instance.size_bytes} bytes")
    # pydicom's warnings quote values, and they may be the patient's.
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(instance.path, stop_before_pixels=True)
        if source == "SR":
            return marks(dataset, images), _predecessors(dataset) if is_ours(instance) else frozenset()
        return segments(dataset, instance.path) if source == "SEG" else regions(dataset), frozenset()


def _predecessors(report: Dataset) -> frozenset[UID]:
    """Return what Predecessor Documents Sequence names (PS3.3 C.17.2.3)."""
    series = (
        one
        for study in items(report, "PredecessorDocumentsSequence")
        for one in items(study, "ReferencedSeriesSequence")
    )
    named = (ref.get("ReferencedSOPInstanceUID") for one in series for ref in items(one, "ReferencedSOPSequence"))
    return frozenset(UID(str(one)) for one in named)
