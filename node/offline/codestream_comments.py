"""Compressed frames without what is no part of the picture: comments, data of applications, bytes behind the end.

Each such byte becomes 0 in its place: no length and no offset changes, and a decoder makes the same pixels of a frame.
"""

import struct
from typing import Final

_START: Final = 0xD8
_END: Final = 0xD9
_SCAN: Final = 0xDA
_COMMENT: Final = 0xFE
_APPLICATIONS: Final = range(0xE0, 0xF0)
_RESTARTS: Final = range(0xD0, 0xD8)
# SOF0 to SOF15 with DHT and DAC but without JPG, DQT to EXP (ITU-T T.81 table B.1); SOF55 and LSE of T.87 C.1.1
_SEGMENTS: Final = frozenset(range(0xC0, 0xD0)) - {0xC8} | frozenset(range(0xDB, 0xE0)) | {0xF7, 0xF8}
# What tells a decoder of colors: JFIF's header without its thumbnail (ITU-T T.871 10.1), Adobe's transform (T.872
# 6.5.3), the color transform of HP's JPEG-LS.
_COLOR_HEADS: Final = ((0xE0, b"JFIF\0", 12), (0xEE, b"Adobe", 12), (0xE8, b"mrfx", 5))

_J2K_START, _J2K_TILE_PART, _J2K_DATA, _J2K_END = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9
_J2K_COMMENT: Final = 0xFF64
# ISO/IEC 15444-1 table A.2 with CAP and PRF; 15444-15 (CPF) and 15444-2 (CBD, MCT, MCC, MCO)
_J2K_SEGMENTS: Final = frozenset(
    {
        *(0xFF50, 0xFF51, 0xFF52, 0xFF53, 0xFF55, 0xFF56, 0xFF57, 0xFF58, 0xFF59, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F),
        *(0xFF60, 0xFF61, 0xFF63, _J2K_COMMENT, 0xFF74, 0xFF75, 0xFF77, 0xFF78),
    }
)


class UnknownBytes(ValueError):
    """A frame whose bytes cannot all be told: the words say why, and quote nothing of it."""


def jpeg_without_comments(frame: bytes) -> bytes:
    """Return a JPEG or JPEG-LS frame without comments, application data and what follows its end.

    Raises: UnknownBytes if the frame cannot be followed to its end.
    """
    blank = bytearray(frame)
    try:
        if frame[:2] != bytes((0xFF, _START)):
            raise UnknownBytes("is no JPEG from its first byte on")
        end = _blank_segments(blank, 2)
    except (IndexError, struct.error) as error:
        raise UnknownBytes("has a JPEG that breaks off") from error
    blank[end:] = bytes(len(blank) - end)
    return bytes(blank)


def jpeg_2000_without_comments(frame: bytes) -> bytes:
    """Return a JPEG 2000 codestream without comments and what follows its end.

    Raises: UnknownBytes if the frame cannot be followed to its end, or is a file (JP2) rather than a codestream.
    Source: ISO/IEC 15444-1 A.4.2 (SOT), A.4.4 (EOC), A.9.2 (COM).
    """
    blank = bytearray(frame)
    try:
        if _marker(frame, 0) != _J2K_START:
            raise UnknownBytes("is no JPEG 2000 codestream from its first byte on")
        at = _blank_comments(blank, 2)
        while _marker(frame, at) == _J2K_TILE_PART:
            (length,) = struct.unpack_from(">I", frame, at + 6)
            end = at + length if length else frame.rindex(b"\xff\xd9")
            if _marker(blank, _blank_comments(blank, at + 12)) != _J2K_DATA or not at < end <= len(frame):
                raise UnknownBytes("has a JPEG 2000 tile of which the node does not know where it ends")
            at = end
            if len(frame) - at < 2:  # some encoders leave the end marker out  # noqa: PLR2004
                break
    except (IndexError, ValueError, struct.error) as error:
        raise error if isinstance(error, UnknownBytes) else UnknownBytes("has a JPEG 2000 that breaks off") from error
    end = at + 2 if frame[at : at + 2] == b"\xff\xd9" else at
    blank[end:] = bytes(len(blank) - end)
    return bytes(blank)


def _blank_segments(blank: bytearray, at: int) -> int:
    """Blank what is no picture in the segments from an offset on; return the offset behind the end marker."""
    while True:
        if blank[at] != 0xFF:  # noqa: PLR2004
            raise UnknownBytes("has bytes between the segments of its JPEG")
        while blank[at + 1] == 0xFF:  # fill bytes (ITU-T T.81 B.1.1.2)  # noqa: PLR2004
            at += 1
        kind = blank[at + 1]
        if kind == _END:
            return at + 2
        if kind not in {*_SEGMENTS, *_APPLICATIONS, _COMMENT, _SCAN}:
            raise UnknownBytes("has a segment in its JPEG that the node does not know")
        (length,) = struct.unpack_from(">H", blank, at + 2)
        start, end = at + 4, at + 2 + length
        if not start <= end <= len(blank):
            raise UnknownBytes("has a JPEG that breaks off")
        if kind == _COMMENT or kind in _APPLICATIONS:
            blank_from = min(start + _length_of_color_head(kind, bytes(blank[start:end])), end)
            blank[blank_from:end] = bytes(end - blank_from)
        at = _behind_scan(blank, end) if kind == _SCAN else end


def _length_of_color_head(kind: int, content: bytes) -> int:
    """Return how many bytes of application data a decoder needs."""
    return next(
        (length for marker, head, length in _COLOR_HEADS if marker == kind and content.startswith(head)),
        0,
    )


def _behind_scan(blank: bytearray, at: int) -> int:
    """Return the offset of the marker behind the coded data of a scan (ITU-T T.81 B.1.1.5; T.87 A.1)."""
    while True:
        if (at := blank.find(0xFF, at)) < 0:
            raise UnknownBytes("has a JPEG that breaks off")
        # In JPEG a zero follows a byte of ones; in JPEG-LS a byte whose highest bit is zero.
        if blank[at + 1] < 0x80 or blank[at + 1] in _RESTARTS:  # noqa: PLR2004
            at += 2
        elif blank[at + 1] == 0xFF:  # noqa: PLR2004
            at += 1
        else:
            return at


def _marker(frame: bytes | bytearray, at: int) -> int:
    (marker,) = struct.unpack_from(">H", frame, at)
    return int(marker)


def _blank_comments(blank: bytearray, at: int) -> int:
    """Blank the comments of a header; return the offset of the tile-part or the data behind it."""
    while (marker := _marker(blank, at)) not in {_J2K_TILE_PART, _J2K_DATA, _J2K_END}:
        (length,) = struct.unpack_from(">H", blank, at + 2)
        end = at + 2 + length
        if marker not in _J2K_SEGMENTS:
            raise UnknownBytes("has a segment in its JPEG 2000 that the node does not know")
        if not at + 4 <= end <= len(blank):
            raise UnknownBytes("has a JPEG 2000 that breaks off")
        if marker == _J2K_COMMENT:
            blank[at + 4 : end] = bytes(end - at - 4)
        at = end
    return at
