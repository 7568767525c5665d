"""Whether two files hold the same data set, however it is encoded.

An archive may encode a data set anew when it sends it (DCMTK and Orthanc drop group lengths and change how sequences
say their length), so the same instance over C-STORE and over HTTP has other bytes. It is read once all the same.
"""

import hashlib
import mmap
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from pydicom.datadict import dictionary_VR

from ainode.node.encoding.dataset_scan import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE
from ainode.node.encoding.part10 import parse

_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA: Final = 0x7FE00010
_TRAILING_PADDING: Final = 0xFFFCFFFC
# PS3.5 7.1.2: these have two reserved bytes and a 32-bit length.
_LONG_VR: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
# Deeper than any real data set; beyond it two files count as different, and are both read.
_MAX_DEPTH: Final = 32
_HEADER: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<I")


@cache
def _is_sequence(tag: int) -> bool:
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False


@dataclass(slots=True)
class _Digest:
    """One pass over a data set: tags, values and the nesting of items; neither VR nor how a length is said."""

    data: mmap.mmap
    hash: "hashlib._Hash"

    def elements(self, at: int, end: int, *, explicit: bool, depth: int = 0) -> int:
        """Take the elements from `at` to `end`, or to a delimiter; return where it stopped."""
        if depth > _MAX_DEPTH:
            raise ValueError("too deep or too odd to be compared")
        while at < end:
            tag, vr, at, length = self._header(at, explicit=explicit)
            if tag in (_ITEM_END, _SEQUENCE_END):
                return at
            if not tag & 0xFFFF or tag == _TRAILING_PADDING:
                at += length
                continue
            self.hash.update(struct.pack("<I", tag))
            if vr == b"SQ" or length == _UNDEFINED or (not vr and _is_sequence(tag)):
                # PS3.5 6.2.2, note on UN of undefined length: what lies in it is implicit
                inner = explicit and vr != b"UN"
                at = self._items(at, end if length == _UNDEFINED else at + length, inner, tag=tag, depth=depth)
            else:
                at = self._value(at, length)
        return at

    def _items(self, at: int, end: int, explicit: bool, *, tag: int, depth: int) -> int:  # noqa: FBT001
        while at < end:
            mark, _, at, length = self._header(at, explicit=False)
            if mark == _SEQUENCE_END:
                break
            if mark != _ITEM:
                raise ValueError("too deep or too odd to be compared")
            self.hash.update(b"(")
            if tag == _PIXEL_DATA:
                at = self._value(at, length)
            else:
                stop = end if length == _UNDEFINED else at + length
                at = self.elements(at, stop, explicit=explicit, depth=depth + 1)
            self.hash.update(b")")
        return at

    def _value(self, at: int, length: int) -> int:
        if at + length > len(self.data):
            raise ValueError("cut off")
        self.hash.update(_LONG.pack(length))
        with memoryview(self.data) as view:
            self.hash.update(view[at : at + length])
        return at + length

    def _header(self, at: int, *, explicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR ('' where it is implicit), where the value begins, and its length."""
        group, element, vr, length = _HEADER.unpack_from(self.data, at)
        tag = group << 16 | element
        if explicit and group != _ITEM >> 16 and b"AA" <= vr <= b"ZZ":
            if vr in _LONG_VR:
                return tag, vr, at + 12, _LONG.unpack_from(self.data, at + 8)[0]
            return tag, vr, at + 8, length
        return tag, b"", at + 8, _LONG.unpack_from(self.data, at + 4)[0]


def _canonical(data: mmap.mmap) -> str | None:
    """Return a digest that another encoding of the data set shares; None where there is none."""
    origin, start = parse(data)
    syntax = origin.transfer_syntax_uid
    if syntax in DEFLATED or syntax == EXPLICIT_BIG:
        return None
    digest = _Digest(data, hashlib.sha256())
    try:
        digest.elements(start, len(data), explicit=syntax != IMPLICIT_LITTLE)
    except (ValueError, struct.error):
        return None
    return digest.hash.hexdigest()


def same_data_set(one: Path, other: Path) -> bool:
    """Whether two files of the spool hold the same elements with the same values."""
    with ExitStack() as stack:
        digests = {
            _canonical(stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
            for file in (stack.enter_context(path.open("rb")) for path in (one, other))
        }
    return len(digests) == 1 and None not in digests
