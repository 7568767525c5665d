"""What a DICOM object of a program refers to, held against the images: instances, series, frames of reference.

A reference is known if an image that was read, or another object of the same answer, is what it names, or if one of the
images refers to the same. A program that works on copies with UIDs of their own would else have its outlines shown on
nothing, or at another place than it saw them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pydicom import Dataset, dcmread

from ainode.node.domain import NO_UID, UID, Instance, InstanceRef, refs
from ainode.node.reading.statements import STUDY_SEQUENCES, concept_of_item, plain, texts

# What stands in a patient's coordinates; the frames of a volume, a table or a machine are made by who measures in them.
_FRAMES: Final = frozenset(
    (
        "FrameOfReferenceUID",
        "ReferencedFrameOfReferenceUID",
        "RelatedFrameOfReferenceUID",
        "SourceFrameOfReferenceUID",
        "TargetFrameOfReferenceUID",
    )
)
_INSTANCES: Final = frozenset(("ReferencedSOPInstanceUID", "MultiFrameSourceSOPInstanceUID"))
_SERIES: Final = "SeriesInstanceUID"
_RTSTRUCT: Final = "1.2.840.10008.5.1.4.1.1.481.3"
# PS3.4 B.5: segmentations, presentation states and key objects say something of other instances alone.
_SEGMENTATIONS_AND_KEY_OBJECTS: Final = frozenset(
    (
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.5",
        "1.2.840.10008.5.1.4.1.1.66.7",
        "1.2.840.10008.5.1.4.1.1.88.59",
    )
)
_PRESENTATION_STATES: Final = "1.2.840.10008.5.1.4.1.1.11."


class _Kind(Enum):
    """What a reference names."""

    INSTANCE = auto()
    SERIES = auto()
    FRAME = auto()


# PS3.16 annex D: what a content item of type UIDREF names.
_CONTENT_ITEMS: Final = {
    "112002": _Kind.SERIES,
    "112227": _Kind.FRAME,
    "121232": _Kind.SERIES,
    "121323": _Kind.SERIES,
}


@dataclass(frozen=True, slots=True)
class _Reference:
    """One reference of an object or an image."""

    kind: _Kind
    uid: UID
    place: str
    """the keyword of the sequence, or of the element, that holds it"""
    series: UID = NO_UID
    """of an instance: the series in which the object says that it is; '' where it does not say"""


def foreign_reference(dataset: Dataset, images: Sequence[Instance], objects: Iterable[InstanceRef]) -> str:
    """Return what of an object's references, at any depth, is none of the images; '' if all are.

    `objects` are the other objects of the same answer.
    """
    references = tuple(dict.fromkeys(_references(dataset)))
    series_of = {ref.sop_instance_uid: ref.series_instance_uid for ref in (*refs(images), *objects)}
    words = (
        _missing(str(dataset.SOPClassUID), references)
        or _misplaced(references, series_of)
        or _unknown(references, series_of, images)
    )
    return f"it is of SOP Class {dataset.SOPClassUID.name}, and {words}" if words else ""


def _missing(sop_class_uid: str, references: Iterable[_Reference]) -> str:
    """Return what an object of a class has to refer to and does not; '' where nothing is missing."""
    kinds = {reference.kind for reference in references}
    is_of_images = sop_class_uid in _SEGMENTATIONS_AND_KEY_OBJECTS or sop_class_uid.startswith(_PRESENTATION_STATES)
    if is_of_images and _Kind.INSTANCE not in kinds:
        return "refers to no image, which its kind has to"
    if sop_class_uid == _RTSTRUCT and kinds.isdisjoint((_Kind.INSTANCE, _Kind.FRAME)):
        return "refers to no image and no Frame of Reference, one of which its kind has to"
    return ""


def _misplaced(references: Iterable[_Reference], series_of: Mapping[UID, UID]) -> str:
    """Return which reference names a known instance in a series that the instance is not in; '' if none does."""
    for item in references:
        if item.series and series_of.get(item.uid, item.series) != item.series:
            return f"its {item.place} names an image in a series that is not the image's own"
    return ""


def _unknown(references: Sequence[_Reference], series_of: Mapping[UID, UID], images: Iterable[Instance]) -> str:
    """Return what is neither known nor named by an image: how many instances, else a series or Frame of Reference."""
    known = {(_Kind.INSTANCE, uid) for uid in series_of} | {(_Kind.SERIES, uid) for uid in series_of.values()}
    unknown = [item for item in references if (item.kind, item.uid) not in known]
    for image in images if unknown else ():
        of_image = {(item.kind, item.uid) for item in _references(dcmread(image.path, stop_before_pixels=True))}
        unknown = [item for item in unknown if (item.kind, item.uid) not in of_image]
        if not unknown:
            break
    if not unknown:
        return ""
    first = min(unknown, key=lambda item: item.kind.value)
    if first.kind is not _Kind.INSTANCE:
        thing = "series" if first.kind is _Kind.SERIES else "Frame of Reference"
        return f"its {first.place} names a {thing} that is none of the images'"
    foreign, every = (
        len({item.uid for item in items if item.kind is _Kind.INSTANCE}) for items in (unknown, references)
    )
    return f"of {every} SOP Instance UIDs to which it refers, {foreign} in {first.place} are none of the images'"


def _references(dataset: Dataset, place: str = "", series: UID = NO_UID) -> Iterator[_Reference]:
    """Yield what a data set refers to, at any depth; `place` is the sequence of an item, '' for the whole object."""
    if (kind := _CONTENT_ITEMS.get(concept_of_item(dataset))) and (uid := UID(plain(dataset.get("UID")))):
        yield _Reference(kind, uid, place)
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                own_series = UID(plain(item.get(_SERIES))) or series
                yield from _references(item, element.keyword or str(element.tag), own_series)
        elif kind := _kind(element.keyword, place):
            holder = element.keyword if kind is _Kind.FRAME else place or element.keyword
            of_series = series if kind is _Kind.INSTANCE else NO_UID
            yield from (_Reference(kind, UID(uid), holder, of_series) for uid in texts(element) if uid)


def _kind(keyword: str, place: str) -> _Kind | None:
    """Return what an element of an item of the sequence `place` refers to; None of one that refers to nothing."""
    if keyword in _FRAMES:
        return _Kind.FRAME
    if keyword == _SERIES and place:
        return _Kind.SERIES
    return _Kind.INSTANCE if keyword in _INSTANCES and place not in STUDY_SEQUENCES else None
