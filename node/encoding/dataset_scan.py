"""Whose an encoded data set is, and whether it is whole: read without decoding anything.

Top-level elements are stepped over by their lengths; only what has no length (sequences, items, encapsulated
pixel data) is entered, with a list instead of recursion. Nothing is allocated that a header claims.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Final, Protocol

from ainode.node.domain import UID, InstanceRef
from ainode.node.errors import CannotUnderstand

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
# Deflated Explicit VR Little Endian, JPIP Referenced Deflate, JPIP HTJ2K Referenced Deflate (PS3.5 A.5, A.6, A.11).
DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})

# Real objects nest fewer than 10 levels; pydicom recurses three frames a level and Python stops it at 1000.
MAX_DEPTH: Final = 64
# About a second of walking. A whole-slide image of 500,000 frames, or 10,000 frames with 90 elements each, is within.
MAX_ELEMENTS: Final = 1_000_000
# Deflate reaches 1000 : 1. A deflated data set beyond this is refused; its sender can send it uncompressed.
MAX_INFLATED_BYTES: Final = 1 << 28

_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONGEST_HEADER: Final = 12
# PS3.5 7.1.2: these have two reserved bytes and a 32-bit length.
_LONG_VR: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
# PS3.5 9.1, and no more: leading zeros do occur.
_UID: Final = re.compile(rb"[0-9.]{1,64}")
_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_WANTED: Final = {
    _SOP_CLASS: "SOP Class UID",
    _SOP_INSTANCE: "SOP Instance UID",
    _STUDY: "Study Instance UID",
    _SERIES: "Series Instance UID",
}


class Buffer(Protocol):
    """Bytes, or a file mapped into memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


class _Source(Protocol):
    """Encoded elements, asked for at growing offsets."""

    def read(self, offset: int, length: int) -> bytes:
        """Return what there is at `offset`, at most `length` bytes; nothing only at or after the end."""
        ...

    def size(self) -> int:
        """Return how many bytes there are; asked only after the end was seen."""
        ...


class _Plain:
    """A data set as it is."""

    __slots__ = ("_content", "_start")

    def __init__(self, content: Buffer, start: int) -> None:
        self._content, self._start = content, start

    def read(self, offset: int, length: int) -> bytes:
        begin = self._start + offset
        return self._content[begin : begin + length]

    def size(self) -> int:
        return len(self._content) - self._start


class _Inflated:
    """A deflated data set, inflated as far as asked and forgotten behind the last offset."""

    _ENCODED_STEP: Final = 1 << 13
    _INFLATED_STEP: Final = 1 << 20

    def __init__(self, content: Buffer, start: int) -> None:
        self._content, self._at = content, start
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._window, self._window_at = b"", 0

    def read(self, offset: int, length: int) -> bytes:
        while self.size() < offset + length and self._more():
            skipped = min(offset - self._window_at, len(self._window))
            self._window, self._window_at = self._window[skipped:], self._window_at + skipped
        begin = offset - self._window_at
        return self._window[begin : begin + length]

    def size(self) -> int:
        return self._window_at + len(self._window)

    def _more(self) -> bool:
        """Inflate one step; False at the end of the stream."""
        if self._inflate.eof:
            return False
        encoded = self._inflate.unconsumed_tail
        if not encoded:
            encoded = self._content[self._at : self._at + self._ENCODED_STEP]
            self._at += len(encoded)
        try:
            inflated = self._inflate.decompress(encoded, self._INFLATED_STEP)
        except zlib.error as error:
            raise CannotUnderstand(f"data set is not deflated as its transfer syntax says: {error}") from error
        if not inflated and not encoded:
            raise CannotUnderstand("deflated data set is cut off; send the instance again")
        self._window += inflated
        if self.size() > MAX_INFLATED_BYTES:
            raise CannotUnderstand(f"deflated data set is larger than {MAX_INFLATED_BYTES} bytes; send it undeflated")
        return True


@dataclass(frozen=True, slots=True)
class _Encoding:
    """How an element header is laid out: tag, VR and 16-bit length; or a 32-bit length."""

    explicit: bool
    short: struct.Struct
    long: struct.Struct

    def header(self, head: bytes) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty where it is implicit), and the lengths of header and value."""
        if len(head) < 8:  # noqa: PLR2004 - the shortest header, PS3.5 7.1.3
            raise _cut_off()
        group, element, vr, length = self.short.unpack_from(head)
        tag = group << 16 | element
        # Items have no VR; an element without one in an explicit data set does occur, and pydicom reads it this way.
        if not self.explicit or group == _ITEM >> 16 or not b"AA" <= vr <= b"ZZ":
            return tag, b"", 8, self.long.unpack_from(head, 4)[0]
        if vr not in _LONG_VR:
            return tag, vr, 8, length
        if len(head) < _LONGEST_HEADER:
            raise _cut_off()
        return tag, vr, _LONGEST_HEADER, self.long.unpack_from(head, 8)[0]


_IMPLICIT: Final = _Encoding(explicit=False, short=struct.Struct("<HH2sH"), long=struct.Struct("<I"))
_EXPLICIT: Final = _Encoding(explicit=True, short=struct.Struct("<HH2sH"), long=struct.Struct("<I"))
_EXPLICIT_BIG: Final = _Encoding(explicit=True, short=struct.Struct(">HH2sH"), long=struct.Struct(">I"))


def identity(content: Buffer, transfer_syntax_uid: str, *, start: int = 0) -> InstanceRef:
    """Return whose the data set is that begins at `start` and goes on to the end of `content`.

    Raises: CannotUnderstand if it is cut off, is no data set, or lacks one of the four UIDs.
    Source: PS3.5 7.1 (data elements), 7.5 (nesting), A.4 (encapsulation), A.5 (deflated).
    """
    source = (_Inflated if transfer_syntax_uid in DEFLATED else _Plain)(content, start)
    if transfer_syntax_uid == IMPLICIT_LITTLE:
        values = _walk(source, _IMPLICIT)
    else:
        values = _walk(source, _EXPLICIT_BIG if transfer_syntax_uid == EXPLICIT_BIG else _EXPLICIT)
    uids = {tag: valid_uid(values.get(tag, b""), name) for tag, name in _WANTED.items()}
    return InstanceRef(uids[_STUDY], uids[_SERIES], uids[_SOP_CLASS], uids[_SOP_INSTANCE])


def valid_uid(value: bytes, name: str) -> UID:
    """Return the value as UID, without its padding.

    Raises: CannotUnderstand if it is none, naming the attribute and not the value.
    """
    bare = value.rstrip(b"\0 ")
    if not _UID.fullmatch(bare):
        problem = "is no UID" if bare else "is missing"
        raise CannotUnderstand(f"{name} {problem}; correct the instance at its source and send it again")
    return UID(bare.decode("ascii"))


def _cut_off() -> CannotUnderstand:
    return CannotUnderstand("data set is cut off before its last byte; send the instance again")


def _walk(source: _Source, encoding: _Encoding) -> dict[int, bytes]:
    """Return the values of the wanted elements of the top level, after a step over every element."""
    values: dict[int, bytes] = {}
    open_: list[tuple[int, _Encoding]] = []  # what closes each container, and the encoding to go back to
    offset = 0
    for _ in range(MAX_ELEMENTS):
        head = source.read(offset, _LONGEST_HEADER)
        if not head:
            if open_ or offset != source.size():
                raise _cut_off()
            return values
        tag, vr, header_length, length = encoding.header(head)
        offset += header_length
        closing = open_[-1][0] if open_ else None
        if tag == closing:
            encoding = open_.pop()[1]
            continue
        _check_place(tag, closing)
        if length == _UNDEFINED:
            open_.append((_ITEM_END if tag == _ITEM else _SEQUENCE_END, encoding))
            _check_depth(len(open_))
            encoding = _IMPLICIT if vr == b"UN" else encoding  # PS3.5 6.2.2, note on UN of undefined length
            continue
        if not open_ and tag in _WANTED:
            values[tag] = source.read(offset, min(length, 66))  # 64, the padding, and one more to be noticed
        offset += length
    raise CannotUnderstand(f"data set has more than {MAX_ELEMENTS} elements")


def _check_place(tag: int, closing: int | None) -> None:
    """Refuse anything but items in a sequence, and items anywhere else."""
    if (tag == _ITEM) != (closing == _SEQUENCE_END) or tag in {_ITEM_END, _SEQUENCE_END}:
        raise CannotUnderstand(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) stands where the data set cannot have it")


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise CannotUnderstand(f"sequences are nested deeper than {MAX_DEPTH // 2} levels")
