"""Data sets that hypothesis makes up, as pydicom encodes them, and as pydicom reads them back."""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from pydicom import DataElement, Dataset, dcmread, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ainode.node.domain import UID, InstanceRef
from ainode.node.encoding.part10 import Origin, head

REF = InstanceRef(UID("1.2.3"), UID("1.2.3.4"), UID("1.2.840.10008.5.1.4.1.1.7"), UID("1.2.3.4.5"))
SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
# Sequences that are in the dictionary, for only those are sequences to who reads Implicit VR.
_SEQUENCES = (0x00081110, 0x00081115, 0x00081140, 0x00400260, 0x00480105, 0x52009229)
_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_TEXT_VRS = ("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT", "UR", "PN", "UI", "DA", "TM", "DT", "AS", "IS", "DS")
_NUMBER_VRS = {"US": 2, "SS": 2, "AT": 4, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "SV": 8, "UV": 8}
_BULK_VRS = {"OB": 2, "OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8, "UN": 2}

Nested: TypeAlias = "tuple[int, str, bytes | tuple[tuple[Nested, ...], ...]]"
"""tag, VR ('' where the element has none, SQ where it holds items), and the value or the items"""


@dataclass(frozen=True)
class Encoded:
    """A data set as it travels, and as the node keeps it."""

    syntax: str
    content: bytes

    @property
    def meta(self) -> bytes:
        """Return preamble and meta group."""
        return head(Origin(REF.sop_class_uid, REF.sop_instance_uid, UID(self.syntax), "PACS"))

    @property
    def file(self) -> bytes:
        """Return the Part 10 file."""
        return self.meta + self.content


@st.composite
def values(draw: DrawFn, tag: BaseTag) -> DataElement:
    """Return a private element of any VR that is no sequence."""
    vr = draw(st.sampled_from((*_TEXT_VRS, *_NUMBER_VRS, *_BULK_VRS)))
    size = _NUMBER_VRS.get(vr) or _BULK_VRS.get(vr)
    if size is None:
        digits = draw(st.text("0123456789", max_size=16))
        return DataElement(tag, vr, digits, validation_mode=0)
    content = bytes(size * draw(st.integers(0, 40 if vr in _BULK_VRS else 3)))
    return DataElement(tag, vr, content if vr in _BULK_VRS else _numbers(vr, content, size))


def _numbers(vr: str, content: bytes, size: int) -> list[int] | list[float]:
    count = len(content) // size
    return [0.5] * count if vr in {"FL", "FD"} else [7] * count


@st.composite
def datasets(draw: DrawFn, depth: int = 3) -> Dataset:
    """Return a data set with values, and with sequences of either kind of length."""
    dataset = Dataset()
    for number in sorted(draw(st.sets(st.integers(0x1000, 0x10FF), max_size=4))):
        dataset.add(draw(values(Tag(draw(st.sampled_from((0x0009, 0x0021, 0x6001))), number))))
    for tag in draw(st.sets(st.sampled_from(_SEQUENCES), max_size=2)) if depth else ():
        dataset.add(DataElement(tag, "SQ", draw(st.lists(datasets(depth - 1), max_size=2))))
        dataset[tag].is_undefined_length = draw(st.booleans())
        for item in dataset[tag].value:
            item.is_undefined_length_sequence_item = draw(st.booleans())
    return dataset


@st.composite
def instances(draw: DrawFn) -> Dataset:
    """Return a data set that says which instance it is, with or without pixels."""
    dataset = draw(datasets())
    dataset.SOPClassUID, dataset.SOPInstanceUID = REF.sop_class_uid, REF.sop_instance_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = REF.study_instance_uid, REF.series_instance_uid
    if draw(st.booleans()):
        dataset.add(DataElement(0x7FE00010, "OB", bytes(2 * draw(st.integers(0, 900)))))
    return dataset


def encoded(dataset: Dataset, syntax: str) -> Encoded:
    """Return the data set in a transfer syntax, written by pydicom."""
    stream = BytesIO()
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    bare = Dataset()
    bare.update(dataset)
    dcmwrite(stream, bare, implicit_vr=implicit, little_endian=little)
    if syntax == DeflatedExplicitVRLittleEndian:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return Encoded(syntax, deflate.compress(stream.getvalue()) + deflate.flush())
    return Encoded(syntax, stream.getvalue())


@st.composite
def mutated(draw: DrawFn, content: bytes) -> bytes:
    """Return bytes that differ from `content` in a few places: cut off, turned over, put in or taken out."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        match draw(st.sampled_from(("cut", "turn", "insert", "remove", "repeat"))):
            case "cut":
                del changed[at:]
            case "turn" if changed:
                changed[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                changed[at:at] = draw(st.binary(min_size=1, max_size=12))
            case "remove":
                del changed[at : at + draw(st.integers(1, 12))]
            case "repeat":
                changed += changed[at : at + draw(st.integers(8, 64))]
    return bytes(changed)


def noise() -> SearchStrategy[bytes]:
    """Return bytes that are no data set, or one by accident."""
    header = st.builds(
        struct.pack, st.just("<HH2sH"), st.just(8), st.integers(0, 99), st.just(b"UI"), st.integers(0, 9)
    )
    return st.one_of(st.binary(max_size=200), st.lists(header, max_size=6).map(b"".join))


def read_by_pydicom(content: Encoded) -> tuple[Nested, ...]:
    """Return what pydicom sees in the file."""
    return _nested(dcmread(BytesIO(content.file)))


def _nested(dataset: Dataset) -> tuple[Nested, ...]:
    return tuple(_element(dataset, tag) for tag in dataset.keys())  # noqa: SIM118 - its iterator sorts


def _element(dataset: Dataset, tag: BaseTag) -> Nested:
    raw = dataset._dict[tag]  # its public ways decode the value
    if isinstance(raw, RawDataElement) and raw.VR != "SQ" and (raw.VR or tag not in _SEQUENCES):
        return int(tag), raw.VR or "", bytes(raw.value or b"")
    return int(tag), "SQ", tuple(_nested(item) for item in dataset[tag].value)
