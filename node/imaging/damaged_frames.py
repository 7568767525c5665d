"""Whether the coded values of a compressed frame are damaged, as far as their number and lengths can tell.

Decoders read on behind a damaged place and give out what they find. But the codes there have other lengths, so that the
values end before or behind the coded data. A damage that changes a value and no length stays unseen.
"""

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ainode.node.imaging import lossless_scans
from ainode.node.imaging.huffman_scans import scans

ENDS_ELSEWHERE: Final = "its compressed values end elsewhere than its pixels, so it is damaged"
HAS_POINT_TRANSFORM: Final = "its lossless JPEG has a point transform, which the decoder gets wrong"
HAS_HOLE: Final = "a part of its compressed values is all zeros, so it is damaged"

_SIZ, _COD = b"\xff\x4f\xff\x51", b"\xff\x52"
# Coded values of JPEG 2000 look like noise, in which so many zeros in a row never come.
_HOLE_BYTES: Final = 64

_RLE_HEADER: Final = struct.Struct("<16L")
# PS3.5 G.3.1: below are heads of bytes as they are, above heads of a byte that is repeated.
_RLE_NOTHING: Final = 128


def jpeg_damage(frame: bytes) -> str:
    """Return what is damaged in a JPEG frame, in words; '' if nothing is seen.

    Judged are Huffman codes of the baseline and the extended sequential processes.
    Raises: struct.error, LookupError or ValueError if a segment is damaged.
    """
    return "" if all(scan.is_lossless or scan.ends_with_its_units() for scan in scans(frame)) else ENDS_ELSEWHERE


def lossless_jpeg_damage(frame: bytes, pixels: NDArray[Any]) -> str:
    """Return what is wrong in the decoded pixels of a lossless JPEG frame, in words; '' if nothing is seen.

    Shapes: pixels (rows, columns), or (rows, columns, components).
    Raises: as `jpeg_damage`.
    """
    samples = pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels  # noqa: PLR2004 - rows and columns alone
    lossless = [scan for scan in scans(frame) if scan.is_lossless]
    if any(scan.point_transform for scan in lossless):
        return HAS_POINT_TRANSFORM
    return "" if all(lossless_scans.ends_with_its_pixels(scan, samples) for scan in lossless) else ENDS_ELSEWHERE


def jpeg_2000_damage(frame: bytes) -> str:
    """Return what is damaged in a JPEG 2000 frame, in words; '' if nothing is seen.

    Raises: struct.error or ValueError if a segment is cut short.
    Source: ISO/IEC 15444-1 A.5.1 (SIZ), A.6.1 (COD).
    """
    start = frame.index(_SIZ) + 4
    columns, rows, _, _, tile_width, tile_height = struct.unpack_from(">6L", frame, start + 4)
    (components,) = struct.unpack_from(">H", frame, start + 36)
    style, _, layers, _, levels = struct.unpack_from(">BBHBB", frame, frame.index(_COD, start) + 4)
    has_precincts = style & 1
    tiles = (columns // max(tile_width, 1) + 2) * (rows // max(tile_height, 1) + 2)
    # A packet that holds nothing is a zero (B.10.3).
    most_zeros = tiles * components * layers * (levels + 1) + _HOLE_BYTES
    return HAS_HOLE if not has_precincts and most_zeros < len(frame) and bytes(most_zeros) in frame else ""


def rle_damage(frame: bytes, pixels: int) -> str:
    """Return what is damaged in a frame of RLE Lossless, in words; '' if nothing is seen.

    Zeros behind the last value of a segment are padding.
    Raises: struct.error if the frame is cut short.
    Source: PS3.5 G.3 to G.5.
    """
    count, *offsets = _RLE_HEADER.unpack_from(frame)
    ends = (*offsets[1:count], len(frame))
    segments = (frame[start:end] for start, end in zip(offsets[:count], ends, strict=True))
    return "" if all(_holds(segment, pixels) for segment in segments) else ENDS_ELSEWHERE


def _holds(segment: bytes, pixels: int) -> bool:
    """Return whether a segment holds so many bytes of pixels, and then nothing."""
    position, found = 0, 0
    while found < pixels and position < len(segment):
        head = segment[position]
        if head < _RLE_NOTHING:
            found += head + 1
            position += head + 2
        elif head > _RLE_NOTHING:
            found += 2 * _RLE_NOTHING + 1 - head
            position += 2
        else:
            position += 1
    return found == pixels and position <= len(segment) and not segment[position:].strip(b"\0")
