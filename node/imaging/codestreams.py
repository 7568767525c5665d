"""What the compressed frame of an image says of itself: its size, the bits of its values, the space of its colors.

A header may say otherwise. Decoders allocate memory by the size in the codestream, and give out its colors.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

RGB: Final = "RGB"
YBR: Final = "YBR_FULL"

# SOF0 to SOF15 without DHT, JPG and DAC (ITU-T T.81 table B.1), and SOF55 (T.87).
_FRAME_HEADERS: Final = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC} | {0xFFF7}
_JFIF, _ADOBE = 0xFFE0, 0xFFEE
# Of the Adobe marker (ITU-T T.872 6.5.3): RGB or CMYK, YCbCr.
_ADOBE_TRANSFORMS: Final[Mapping[int, str]] = {0: RGB, 1: YBR}
_ADOBE_TRANSFORM_AT: Final = 11
_RGB_COMPONENTS: Final = frozenset({b"RGB", b"rgb"})
_J2K_START: Final = b"\xff\x4f\xff\x51"
_COD, _SOT = 0xFF52, 0xFF90
# EOI (ITU-T T.81 B.1.1.3), no part of compressed values. Writers pad the frame behind it.
_END: Final = b"\xff\xd9"
_TAIL_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a codestream says of its frame."""

    rows: int
    columns: int
    bits: int
    """bits of a value"""
    components: int
    photometric_interpretation: str
    """of the decoded colors; '' where the codestream does not say"""
    is_whole: bool = True
    """whether the frame has its end"""
    is_jpeg_2000: bool = False


def codestream(frame: bytes) -> Codestream:
    """Return what a JPEG, JPEG-LS or JPEG 2000 frame says of itself.

    Of JPEG 2000 the decoder tells whether the frame is whole.
    Raises: struct.error or IndexError if the frame is damaged.
    """
    start = frame.find(_J2K_START)
    return _jpeg(frame) if start < 0 else _jpeg_2000(frame, start)


def _jpeg_2000(frame: bytes, start: int) -> Codestream:
    """Return what a JPEG 2000 frame says (ISO/IEC 15444-1 A.5.1, SIZ; A.6.1, COD)."""
    columns, rows = struct.unpack_from(">II", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    bits = (frame[start + 42] & 0x7F) + 1  # the highest bit is the sign
    offset = start + 2
    while True:
        marker, length = struct.unpack_from(">HH", frame, offset)
        if marker in {_COD, _SOT}:
            # The transform of several components turns the decoded values into RGB.
            has_transform = marker == _COD and frame[offset + 8] == 1
            return Codestream(rows, columns, bits, components, RGB if has_transform else "", is_jpeg_2000=True)
        offset += 2 + length


def _jpeg(frame: bytes) -> Codestream:
    """Return what the first frame header of a JPEG and the markers before it say (ITU-T T.81 B.2.2; T.87 C.2.2)."""
    offset, color = 2, ""
    while True:
        marker, length, precision, rows, columns = struct.unpack_from(">HHBHH", frame, offset)
        segment = frame[offset + 4 : offset + 2 + length]
        if marker in _FRAME_HEADERS:
            identifiers, samplings = segment[6::3], segment[7::3]
            color = color or (RGB if identifiers in _RGB_COMPONENTS else "")
            # Only the two color differences have fewer samples than the brightness.
            color = color or (YBR if len(set(samplings)) > 1 else "")
            return Codestream(rows, columns, precision, len(identifiers), color, _END in frame[-_TAIL_BYTES:])
        if marker == _ADOBE and segment.startswith(b"Adobe") and len(segment) > _ADOBE_TRANSFORM_AT:
            color = _ADOBE_TRANSFORMS.get(segment[_ADOBE_TRANSFORM_AT], color)
        elif marker == _JFIF and segment.startswith(b"JFIF"):
            color = color or YBR
        offset += 2 + length
