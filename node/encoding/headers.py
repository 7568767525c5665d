"""One pass over a Part 10 file: its header as plain values, an `Instance`, a `Study`.

The walk is our own because pydicom recurses into every sequence of undefined length, asked for or not (a bomb of
nested sequences ends in RecursionError), and warns with the value in the text. This one loops, recurses only into
sequences that were asked for and only `_DEPTH` levels, and reads no pixel.
"""

import mmap
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword

from ainode.node.domain import UID, Header, Instance, InstanceRef, Series, Study, Value, is_uid
from ainode.node.errors import CannotUnderstand

Buffer: TypeAlias = "bytes | mmap.mmap"

NODE_KEYWORDS = frozenset(
    """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID
    Modality ImageType PresentationIntentType Manufacturer ManufacturerModelName ConversionType
    StudyDate StudyTime SeriesDate StudyDescription SeriesDescription ProtocolName
    SeriesNumber InstanceNumber AcquisitionNumber
    BodyPartExamined AnatomicRegionSequence SharedFunctionalGroupsSequence FrameAnatomySequence
    CodeValue LongCodeValue CodingSchemeDesignator CodeMeaning
    Laterality ImageLaterality ViewPosition ViewCodeSequence PatientOrientation
    Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation PixelSpacing ImagerPixelSpacing
    ImagePositionPatient ImageOrientationPatient SliceThickness FrameOfReferenceUID ConvolutionKernel ContrastBolusAgent
    ImagesInAcquisition NumberOfSeriesRelatedInstances NumberOfStudyRelatedInstances
    """.split()  # noqa: SIM905 - a table, not fifty lines
)
"""What routing, completeness and the order of slices need; nothing of it names a patient."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD  # PS3.5 7.5
_PIXELS = 0x7FE00000  # first tag of the pixel data group: the header ends here
_TRANSFER_SYNTAX = 0x00020010
_CHARACTER_SET = 0x00080005
_DEFAULT_ENCODING = "iso8859"  # what pydicom takes for no Specific Character Set
# VRs with a length of 32 bits, PS3.5 7.1.2; all others, also those that nobody knows, have 16.
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})  # PS3.5 A.5, A.7
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_WHOLE_TEXT = frozenset({"ST", "LT", "UT", "UR"})  # a backslash in them is text, PS3.5 6.2
_TEXT = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI"}) | _WHOLE_TEXT
# Bounds against hostile headers; real ones met here: 3 levels, 64 kB.
_DEPTH = 4
_ITEMS = 256
_VALUE_BYTES = 65_536
_ELEMENTS = 2_000_000
_BYTES = 16 * 1024**2  # of a deflated header


class _Element(NamedTuple):
    """Where one element lies: its value is `data[begin : begin + length]`."""

    tag: int
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class _Syntax:
    """How a data set is encoded: with or without VR, and the byte order as struct says it."""

    explicit: bool
    order: str
    head: struct.Struct
    """group, element, VR, length of 16 bits"""
    long: struct.Struct
    """length of 32 bits"""

    @classmethod
    def of(cls, *, explicit: bool, order: str = "<") -> "_Syntax":
        """Return the syntax with its structs."""
        return cls(explicit, order, struct.Struct(order + "HH2sH"), struct.Struct(order + "I"))


_META = _Syntax.of(explicit=True)


@cache
def _fields(keywords: frozenset[str]) -> Mapping[int, tuple[str, str]]:
    """Return tag to (keyword, VR) for every DICOM keyword; the dictionary's VR counts, not the file's."""
    tags = {tag: keyword for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None}
    return {tag: (keyword, dictionary_VR(tag)[:2]) for tag, keyword in tags.items()}


def _is_vr(two: bytes) -> bool:
    return two.isalpha() and two.isupper()


def _element(data: Buffer, at: int, syntax: _Syntax) -> _Element:
    """Return the element that starts at `at`.

    Raises: struct.error where the data ends before it.
    """
    group, number, vr, length = syntax.head.unpack_from(data, at)
    tag = group << 16 | number
    if syntax.explicit and group != _ITEM >> 16:
        if vr in _LONG:
            return _Element(tag, at + 12, syntax.long.unpack_from(data, at + 8)[0])
        if _is_vr(vr):
            return _Element(tag, at + 8, length)
    # Items, implicit VR, and what lies in an UN of undefined length (PS3.5 6.2.2, note on UN).
    return _Element(tag, at + 8, syntax.long.unpack_from(data, at + 4)[0])


def _end(data: Buffer, at: int, syntax: _Syntax) -> int:
    """Return where the undefined-length value at `at` ends, its delimiter included; a loop, whatever the nesting."""
    depth = 1
    for _ in range(_ELEMENTS):
        element = _element(data, at, syntax)
        at = element.begin
        if element.tag in (_SEQUENCE_END, _ITEM_END):
            depth -= 1
        elif element.length == _UNDEFINED:
            depth += 1
        else:
            at += element.length
        if not depth:
            return at
    raise struct.error("too many elements")


def _walk(data: Buffer, begin: int, end: int, syntax: _Syntax) -> Iterator[_Element]:
    """Yield the elements of one level; ends at the pixels, a delimiter, or where the data is cut off."""
    at = begin
    for _ in range(_ELEMENTS):
        if at >= end:
            return
        try:
            element = _element(data, at, syntax)
            after = element.begin + element.length
            if element.length == _UNDEFINED:
                after = _end(data, element.begin, syntax)
        except struct.error:
            return
        if element.tag in (_SEQUENCE_END, _ITEM_END) or (element.tag & 0xFFFF0000) == _PIXELS or after > end:
            return
        yield _Element(element.tag, element.begin, after - element.begin)
        at = after


def _number(text: str) -> Value:
    """Return IS or DS text as a number, and as it stands where it is none."""
    if re.fullmatch(r"[+-]?\d{1,12}", text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return number if isfinite(number) and "_" not in text else text  # Python reads 1_0 as a number, DICOM does not


def _decoded(raw: bytes, encoding: str) -> str:
    """Return text, whatever the bytes; UTF-8 that nobody declared is met often enough to be tried first."""
    try:
        return raw.decode("utf-8" if encoding == _DEFAULT_ENCODING else encoding)
    except UnicodeDecodeError:
        return raw.decode(encoding, errors="replace")


def _plain(raw: bytes, vr: str, syntax: _Syntax, encoding: str) -> "Value | None":
    """Return a value of one VR; None for bulk, and for what has no plain form."""
    if vr in _NUMBERS:
        count = len(raw) // struct.calcsize("<" + _NUMBERS[vr])
        numbers = struct.unpack_from(f"{syntax.order}{count}{_NUMBERS[vr]}", raw)
        values: tuple[Value, ...] = tuple(one if isfinite(one) else str(one) for one in numbers)
    elif vr in _TEXT:
        text = _decoded(raw, encoding)
        parts = [text] if vr in _WHOLE_TEXT else text.split("\\")
        stripped = tuple(part.strip(" \0\t\r\n") for part in parts)
        values = tuple(map(_number, stripped)) if vr in ("IS", "DS") else stripped
    else:
        return None
    return values[0] if len(values) == 1 else values or ""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What stays the same during one pass."""

    data: Buffer
    syntax: _Syntax
    fields: Mapping[int, tuple[str, str]]
    encoding: str

    def header(self, begin: int, end: int, depth: int = 0) -> Header:
        """Return the wanted elements between two offsets."""
        found: dict[str, Value] = {}
        for element in _walk(self.data, begin, end, self.syntax):
            keyword, vr = self.fields.get(element.tag, ("", ""))
            value = self._value(element, vr, depth) if keyword else None
            if value is not None:
                found[keyword] = value
        return found

    def _value(self, element: _Element, vr: str, depth: int) -> "Value | None":
        if vr == "SQ":
            return self._items(element, depth + 1) if depth < _DEPTH else None
        if element.length > _VALUE_BYTES:
            return None
        raw = bytes(self.data[element.begin : element.begin + element.length])
        return _plain(raw, vr, self.syntax, self.encoding)

    def _items(self, sequence: _Element, depth: int) -> tuple[Header, ...]:
        end = sequence.begin + sequence.length
        items = islice(_walk(self.data, sequence.begin, end, self.syntax), _ITEMS)
        return tuple(self.header(item.begin, item.begin + item.length, depth) for item in items if item.tag == _ITEM)


def _encoding(data: Buffer, begin: int, syntax: _Syntax) -> str:
    """Return the Python codec of the data set: of the last known term, for the later ones extend the first."""
    leading = islice(_walk(data, begin, len(data), syntax), 3)  # at most group length and one more stand before it
    raw = [data[one.begin : one.begin + one.length] for one in leading if one.tag == _CHARACTER_SET]
    terms = b"".join(raw).decode("ascii", errors="replace").split("\\")
    known = [python_encoding[term] for one in terms if (term := one.strip(" \0")) in python_encoding]
    return known[-1] if known else _DEFAULT_ENCODING


def _meta(data: Buffer) -> tuple[str, int]:
    """Return the Transfer Syntax UID and where the data set begins (PS3.10 7.1)."""
    if data[128:132] != b"DICM":
        raise CannotUnderstand("the file is not DICOM Part 10: no DICM after 128 bytes; export it again as Part 10")
    syntax_uid, begin = "", 132
    for element in _walk(data, 132, len(data), _META):
        if element.tag >> 16 != 0x0002:  # noqa: PLR2004 - the group of the file meta information
            break
        begin = element.begin + element.length
        if element.tag == _TRANSFER_SYNTAX:
            syntax_uid = data[element.begin : begin].rstrip(b" \0").decode("ascii", errors="replace")
    if not syntax_uid:
        raise CannotUnderstand("the file names no Transfer Syntax UID (0002,0010); export it again as Part 10")
    return syntax_uid, begin


def header(data: Buffer, keywords: frozenset[str] = NODE_KEYWORDS) -> tuple[UID, Header]:
    """Return the Transfer Syntax UID and the asked-for elements of a Part 10 file, at every level.

    A truncated or damaged data set gives what stands before the damage.
    Raises: CannotUnderstand if it is not Part 10, or a deflated data set cannot be inflated.
    Source: PS3.5 7 (data set), PS3.10 7 (file format).
    """
    syntax_uid, begin = _meta(data)
    if syntax_uid in _DEFLATED:
        try:
            data, begin = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[begin : begin + _BYTES], _BYTES), 0
        except zlib.error as error:
            raise CannotUnderstand(f"the deflated data set cannot be inflated ({error}); send it again") from error
    # The first element tells better than the syntax's name: GE's private 1.2.840.113619.5.2 is implicit.
    explicit = _is_vr(data[begin + 4 : begin + 6])
    syntax = _Syntax.of(explicit=explicit, order=">" if syntax_uid == _BIG_ENDIAN else "<")
    reading = _Reading(data, syntax, _fields(keywords), _encoding(data, begin, syntax))
    return UID(syntax_uid), reading.header(begin, len(data))


def _uid(found: Header, keyword: str) -> UID:
    """Return one of the identifiers of an instance.

    Raises: CannotUnderstand if it is absent or no UID (PS3.5 9.1); the value itself is not repeated.
    """
    value = found.get(keyword, "")
    if not (isinstance(value, str) and is_uid(value)):
        raise CannotUnderstand(f"the data set has no valid {keyword}; correct it at the sender and send it again")
    return UID(value)


def instance(path: Path, *, sha256: str, size: int | None = None, keywords: frozenset[str] = NODE_KEYWORDS) -> Instance:
    """Return what the file at `path` holds, without its pixels; `keywords` are read beside the node's own.

    Raises: CannotUnderstand if it is not Part 10 or does not say which instance of which series and study it is.
    """
    size_bytes = path.stat().st_size if size is None else size
    if not size_bytes:
        raise CannotUnderstand("the file is empty; send it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        transfer_syntax_uid, found = header(data, keywords | NODE_KEYWORDS)
    uids = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
    ref = InstanceRef(*(_uid(found, keyword) for keyword in uids))
    return Instance(ref, transfer_syntax_uid, path, sha256, size_bytes, found)


def _order(one: Instance, keyword: str, uid: UID) -> tuple[float, UID]:
    """Return a sorting key: the number, else last; ties by UID so that the order is always the same."""
    number = one.header.get(keyword)
    return (number if isinstance(number, int | float) else float("inf"), uid)


def _series(instances: Iterable[Instance]) -> Series:
    ordered = tuple(sorted(instances, key=lambda one: _order(one, "InstanceNumber", one.ref.sop_instance_uid)))
    return Series(ordered[0].ref.series_instance_uid, ordered[0].text("Modality"), ordered)


def study(instances: Iterable[Instance], sources: tuple[str, ...] = ()) -> Study:
    """Return the study of the instances: series by Series Number, instances by Instance Number.

    Raises: ValueError if there are none, or they are of several studies.
    """
    by_series: dict[UID, list[Instance]] = {}
    for one in instances:
        by_series.setdefault(one.ref.series_instance_uid, []).append(one)
    series = sorted(
        map(_series, by_series.values()),
        key=lambda one: _order(one.instances[0], "SeriesNumber", one.series_instance_uid),
    )
    uids = {one.ref.study_instance_uid for group in series for one in group.instances}
    if len(uids) != 1:
        raise ValueError(f"the instances are of {len(uids)} studies, not of one")
    return Study(uids.pop(), tuple(series), sources)
