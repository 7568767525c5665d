"""The elements of an encoded data set: tag, VR, length and nesting, one after the other, and no value decoded.

Values are stepped over by their lengths; what has no length (sequences, items, encapsulated pixel data) is entered,
with a list instead of recursion. Nothing is allocated that a header claims.
"""

import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias

from ainode.node.errors import CannotUnderstand

EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
# Deflated Explicit VR Little Endian, JPIP Referenced Deflate, JPIP HTJ2K Referenced Deflate (PS3.5 A.5, A.6, A.11).
DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})

# PS3.5 7.5: the length of what ends by a delimiter, and the tags of nesting.
UNDEFINED: Final = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
DELIMITERS: Final = frozenset({ITEM_END, SEQUENCE_END})
_NESTING: Final = frozenset({ITEM, ITEM_END, SEQUENCE_END})

# Real objects nest fewer than 10 levels; pydicom recurses three frames a level and Python stops it at 1000.
MAX_DEPTH: Final = 64
# About a second of walking. A whole-slide image of 500,000 frames, or 10,000 frames with 90 elements each, is within.
MAX_ELEMENTS: Final = 1_000_000
# Deflate reaches 1000 : 1. A deflated data set beyond this is refused; its sender can send it uncompressed.
MAX_INFLATED_BYTES: Final = 1 << 28

# PS3.5 7.1.2: these have two reserved bytes and a 32-bit length; all others, also those that nobody knows, 16 bits.
_LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_TAG_BYTES, _SHORT_HEADER, _LONG_HEADER = 4, 8, 12
_NO_TAG: Final = -1
# PS3.5 7.1: groups 0000 to 0003 are those of commands and of the meta group, and of no data set.
_BEFORE_DATA_SET: Final = 0x0003FFFF
# Some hundred bytes hold most of an image's headers; more would be copied in vain between a million fragments.
_WINDOW_BYTES: Final = 1024


class OutOfOrder(CannotUnderstand):
    """An element comes after a higher tag, or twice (PS3.5 7.1): nobody can say which of two values counts."""


class Buffer(Protocol):
    """Bytes, or a file mapped into memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


class Source(Protocol):
    """Encoded elements, read at growing offsets from `begin` to `end`."""

    begin: int
    end: int
    """a number beyond all others until the end was seen, where only reading shows it"""

    def read(self, offset: int, length: int) -> bytes:
        """Return what there is at `offset`, at most `length` bytes; nothing only at or after the end."""
        ...


class Plain:
    """Elements as they are, from `begin` to `end` of a content."""

    __slots__ = ("_content", "begin", "end")

    def __init__(self, content: Buffer, begin: int = 0, end: int | None = None) -> None:
        self._content, self.begin, self.end = content, begin, len(content) if end is None else end

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the content."""
        return self._content[offset : min(offset + length, self.end)]


class Inflated:
    """A deflated data set, inflated as far as asked and forgotten behind the last offset."""

    _ENCODED_STEP: Final = 1 << 13
    _INFLATED_STEP: Final = 1 << 20

    def __init__(self, content: Buffer, begin: int) -> None:
        self._content, self._at = content, begin
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._window, self._window_at = b"", 0
        self.begin, self.end = 0, sys.maxsize

    def read(self, offset: int, length: int) -> bytes:
        """Return inflated bytes.

        Raises: CannotUnderstand if the content is not deflated, or inflates to too much.
        """
        while self._inflated_bytes < offset + length and self._inflate_more():
            skipped = min(offset - self._window_at, len(self._window))
            self._window, self._window_at = self._window[skipped:], self._window_at + skipped
        begin = offset - self._window_at
        return self._window[begin : begin + length]

    @property
    def _inflated_bytes(self) -> int:
        return self._window_at + len(self._window)

    def _inflate_more(self) -> bool:
        """Inflate one step; False where there is no more. A stream that is cut off has no end."""
        if self._inflate.eof:
            self.end = self._inflated_bytes
            return False
        encoded = self._inflate.unconsumed_tail
        if not encoded:
            encoded = self._content[self._at : self._at + self._ENCODED_STEP]
            self._at += len(encoded)
        try:
            inflated = self._inflate.decompress(encoded, self._INFLATED_STEP)
        except zlib.error as error:
            raise CannotUnderstand(f"deflated data set cannot be inflated: {error}; send the instance again") from error
        self._window += inflated
        if self._inflated_bytes > MAX_INFLATED_BYTES:
            raise CannotUnderstand(f"deflated data set is larger than {MAX_INFLATED_BYTES} bytes; send it undeflated")
        return bool(inflated or encoded)


_Header: TypeAlias = Callable[[bytes, int], tuple[int, bytes, int, int]]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are written."""

    order: str
    """of bytes, as struct says it"""
    header: _Header = field(repr=False)
    """returns tag, VR (empty where there is none), and the lengths of header and value of the element at an offset of
    some bytes; struct.error where the bytes end before"""


def _explicit(order: str) -> Encoding:
    unpack, long_length = struct.Struct(order + "HH2sH").unpack_from, struct.Struct(order + "I").unpack_from

    def header(window: bytes, at: int) -> tuple[int, bytes, int, int]:
        group, number, vr, length = unpack(window, at)
        tag = group << 16 | number
        if tag not in _NESTING:
            if vr in _SHORT_VRS:
                return tag, vr, _SHORT_HEADER, length
            if vr in _LONG_VRS:
                return tag, vr, _LONG_HEADER, long_length(window, at + _SHORT_HEADER)[0]
            if _is_vr(vr):
                return tag, vr, _SHORT_HEADER, length
        # Items have no VR; an element without one in an explicit data set does occur, and pydicom reads it this way.
        return tag, b"", _SHORT_HEADER, long_length(window, at + _TAG_BYTES)[0]

    return Encoding(order, header)


def _implicit() -> Encoding:
    unpack = struct.Struct("<HHI").unpack_from

    def header(window: bytes, at: int) -> tuple[int, bytes, int, int]:
        group, number, length = unpack(window, at)
        return group << 16 | number, b"", _SHORT_HEADER, length

    return Encoding("<", header)


def _is_vr(letters: bytes) -> bool:
    return letters.isalpha() and letters.isupper()


IMPLICIT: Final = _implicit()
EXPLICIT: Final = _explicit("<")
_BIG: Final = _explicit(">")


def encoding_of(source: Source, transfer_syntax_uid: str) -> Encoding:
    """Return how the data set is encoded, which its first element tells better than the name of its syntax.

    Private syntaxes may be implicit (GE's 1.2.840.113619.5.2); a length of 16 kB that reads as a VR begins no data set.
    """
    if not _is_vr(source.read(source.begin, _TAG_BYTES + 2)[_TAG_BYTES:]):
        return IMPLICIT
    return _BIG if transfer_syntax_uid == EXPLICIT_BIG else EXPLICIT


class Element(NamedTuple):
    """One element, item or delimiter; its value begins at `begin` of its source."""

    tag: int
    vr: bytes
    """empty where there is none"""
    begin: int
    length: int
    """UNDEFINED: what lies in it comes next, and then its delimiter"""
    depth: int
    """how many sequences and items are around it; a delimiter has the depth of what it ends"""
    encoding: Encoding

    @property
    def inner(self) -> Encoding:
        """Return how its items are encoded: those of an UN implicitly (PS3.5 6.2.2)."""
        return IMPLICIT if self.vr == b"UN" else self.encoding


class _Level:
    """A data set, a sequence or an item that a walk is within."""

    __slots__ = ("depth", "encoding", "end_tag", "is_ordered", "is_sequence", "previous")

    def __init__(self, encoding: Encoding, depth: int, *, end_tag: int, is_sequence: bool, is_ordered: bool) -> None:
        """Take the delimiter that ends the level, if its length does not."""
        self.encoding, self.depth, self.end_tag = encoding, depth, end_tag
        self.is_sequence, self.is_ordered = is_sequence, is_ordered
        self.previous = _BEFORE_DATA_SET if is_ordered and not is_sequence else ITEM
        """elements with a higher tag, below that of an item, can come next without another look"""
        if depth > MAX_DEPTH:
            raise CannotUnderstand(f"sequences are nested deeper than {MAX_DEPTH // 2} levels")

    def check(self, tag: int) -> None:
        """Look again at a tag that does not simply follow.

        Raises: CannotUnderstand if the tag cannot stand here.
        """
        if self.is_sequence != (tag == ITEM) or tag in DELIMITERS:
            raise CannotUnderstand(f"{_shown(tag)} stands where the data set cannot have it")
        if self.is_ordered and not self.is_sequence and tag <= self.previous:
            raise _out_of_order(self.previous, tag)
        if not self.is_sequence:
            self.previous = max(self.previous, tag)

    def opened(self, element: Element) -> "_Level":
        """Return the level of an element without length."""
        is_sequence = element.tag != ITEM
        end_tag = SEQUENCE_END if is_sequence else ITEM_END
        return _Level(
            element.inner, self.depth + 1, end_tag=end_tag, is_sequence=is_sequence, is_ordered=self.is_ordered
        )


def walk(source: Source, encoding: Encoding) -> Iterator[Element]:
    """Yield every element of a data set, and what lies in those without length; its end is the end of the source.

    Raises: CannotUnderstand if it is cut off, or is no data set; OutOfOrder if its tags do not ascend.
    Source: PS3.5 7.1 (data elements), 7.5 (nesting), A.4 (encapsulation).
    """
    return _walk(source, _Level(encoding, 0, end_tag=_NO_TAG, is_sequence=False, is_ordered=True))


def meta_group(content: Buffer, begin: int) -> Iterator[Element]:
    """Yield the elements of a file from its meta group on, which is always explicit (PS3.10 7.1), in any order.

    Raises: CannotUnderstand as `walk`.
    """
    level = _Level(EXPLICIT, 0, end_tag=_NO_TAG, is_sequence=False, is_ordered=False)
    return _walk(Plain(content, begin), level)


def inside(content: Buffer, element: Element) -> Iterator[Element]:
    """Yield what lies in a sequence or an item of this length, one level deeper.

    The order of tags is not looked at: reception steps over a sequence that has a length.
    Raises: CannotUnderstand as `walk`.
    """
    source = Plain(content, element.begin, element.begin + element.length)
    is_sequence = element.tag != ITEM
    level = _Level(element.inner, element.depth + 1, end_tag=_NO_TAG, is_sequence=is_sequence, is_ordered=False)
    return _walk(source, level)


def outermost(elements: Iterable[Element]) -> Iterator[Element]:
    """Yield the elements that lie in no other, those without length with the length they turn out to have."""
    opened: Element | None = None
    for element in elements:
        if opened is None and element.length != UNDEFINED:
            yield element
        elif opened is None:
            opened = element
        elif element.depth == opened.depth:
            yield opened._replace(length=element.begin - _SHORT_HEADER - opened.begin)
            opened = None


def _walk(source: Source, level: _Level) -> Iterator[Element]:
    around: list[_Level] = []
    header, end = level.encoding.header, source.end
    window, window_at, last_at, offset = b"", 0, -1, source.begin
    new_element = tuple.__new__  # what Element(…) does, in half the time: this runs for each element that is received
    for _ in range(MAX_ELEMENTS):
        at = offset - window_at
        if at > last_at:
            window, window_at, at = source.read(offset, _WINDOW_BYTES), offset, 0
            last_at = len(window) - _LONG_HEADER
        try:
            tag, vr, header_length, length = header(window, at)
        except struct.error:
            return _refuse_unfinished(source, offset, around)
        offset += header_length
        if level.previous < tag < ITEM:
            level.previous = tag
        elif tag == level.end_tag:
            level = around.pop()
            header = level.encoding.header
            yield new_element(Element, (tag, vr, offset, length, level.depth, level.encoding))
            continue
        else:
            level.check(tag)
        after = offset if length == UNDEFINED else offset + length
        if after > end:
            raise _cut_off()
        element = new_element(Element, (tag, vr, offset, length, level.depth, level.encoding))
        yield element
        offset = after
        if length == UNDEFINED:
            around.append(level)
            level = level.opened(element)
            header = level.encoding.header
    raise CannotUnderstand(f"data set has more than {MAX_ELEMENTS} elements")


def _refuse_unfinished(source: Source, offset: int, around: list[_Level]) -> None:
    """Refuse a data set that ends here, unless its source does."""
    if around or offset != source.end:
        raise _cut_off()


def _cut_off() -> CannotUnderstand:
    return CannotUnderstand("data set is cut off before its last byte; send the instance again")


def _out_of_order(previous: int, tag: int) -> OutOfOrder:
    """Return the refusal; its first 64 characters are what an Error Comment holds."""
    if previous == _BEFORE_DATA_SET:
        return OutOfOrder(f"{_shown(tag)} belongs to no data set; correct the instance at its source")
    place = "stands twice" if tag == previous else f"comes after {_shown(previous)}, or twice"
    return OutOfOrder(f"{_shown(tag)} {place}; correct the order of elements at the source")


def _shown(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
