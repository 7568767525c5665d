"""Where people and other programs pointed at: the lesions in a study's SR, SEG and RTSTRUCT objects.

Of each object those items count whose code or name says nodule, mass, tumor, lesion, neoplasm or GTV; where none does
and there is exactly one item, that one, unless it is called an organ or a tissue. What this node made is not read back,
unless that is asked for: its report of an earlier study says where a lesion was then.
"""

import logging
import warnings
from collections.abc import Iterable, Mapping

from pydicom import dcmread
from pydicom.config import disable_value_validation

from ainode.node.domain import UID, Instance, Location
from ainode.node.errors import BrokenSeries
from ainode.node.marks import Mark, lesions
from ainode.node.marks_drawn import regions, segments
from ainode.node.marks_sr import marks
from ainode.node.pixels import BROKEN_FILE

log = logging.getLogger(__name__)
# As reports/uids.py says; importing it would load all that makes reports.
_OURS = ("ainode project", "ainode")
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


def positions(instances: Iterable[Instance], *, ours: bool = False) -> tuple[Location, ...]:
    """Return the lesions that reports, segmentations and structure sets of a study point at, reports first.

    `ours` adds the reports of this node, after all others.

    Regions in pixels need their image among `instances`. An object that is broken or too large is skipped and logged
    by its UID; an item with coordinates outside of its image, or that are no numbers, is skipped. Of items with the
    same tracking UID the first counts.
    Units: LPS mm.
    """
    found = tuple(one for one in instances if ours or not _is_ours(one))
    images = {one.ref.sop_instance_uid: one for one in found if "ImagePositionPatient" in one.header}
    unique: dict[object, Location] = {}
    for location in (one for instance in sorted(found, key=_order) for one in _locations(instance, images)):
        key = (location.tracking_uid, location.frame_of_reference_uid) if location.tracking_uid else len(unique)
        unique.setdefault(key, location)
    return tuple(unique.values())


def _is_ours(instance: Instance) -> bool:
    return (instance.text("Manufacturer"), instance.text("ManufacturerModelName")) == _OURS


def _source(instance: Instance) -> str:
    """Return what kind of object may point at lesions, '' where it is none."""
    sop_class = instance.ref.sop_class_uid
    if sop_class.startswith(_REPORTS) and sop_class != _KEY_OBJECT:
        return "SR"
    return _DRAWN.get(sop_class, "")


def _order(instance: Instance) -> tuple[bool, int, UID]:
    return _is_ours(instance), _SOURCES.index(_source(instance)), instance.ref.sop_instance_uid


def _locations(instance: Instance, images: Mapping[UID, Instance]) -> tuple[Location, ...]:
    source = _source(instance)
    if not source:
        return ()
    try:
        found = lesions(_marks(instance, source, images))
    except (*BROKEN_FILE, BrokenSeries) as error:
        uid = instance.ref.sop_instance_uid
        log.warning(
            "%s %s points at nothing: it cannot be read (%s)",
            source,
            uid,
            type(error).__name__,
            extra={"action": "positions_skipped", "sop_instance_uid": uid},
        )
        return ()
    return tuple(
        Location(one.position_mm, source, one.frame_of_reference_uid, one.tracking_uid, one.series_instance_uid)
        for one in found
    )


def _marks(instance: Instance, source: str, images: Mapping[UID, Instance]) -> list[Mark]:
    if instance.size_bytes > _BYTES[source]:
        raise BrokenSeries(f"it has {instance.size_bytes} bytes")
    # pydicom's warnings quote values, and they may be the patient's.
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(instance.path, stop_before_pixels=True)
        if source == "SR":
            return marks(dataset, images)
        return segments(dataset, instance.path) if source == "SEG" else regions(dataset)
