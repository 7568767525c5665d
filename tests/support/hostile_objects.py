"""DICOM objects that somebody made to harm a reader: what their headers claim, their bytes do not hold.

`python -m support.hostile_objects FOLDER` decodes each object in a process with limited memory, and prints a row each.
"""

import json
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import compress
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from ainode.node import testing
from ainode.node.domain import UID, SyntheticImage
from ainode.node.encoding import headers
from ainode.node.encoding.part10 import head, parse
from ainode.node.errors import NodeError
from ainode.node.imaging import pixels

SIDE: Final = 64
MEMORY_BYTES: Final = 6 << 30
_PIXELS: Final = np.arange(SIDE * SIDE, dtype="<u2").reshape(SIDE, SIDE)


def _data_set(**header: object) -> Dataset:
    data_set = testing.dataset(SyntheticImage(SIDE, SIDE, _PIXELS.tobytes(), {}), study="hostile")
    for keyword, value in header.items():
        setattr(data_set, keyword, value)
    return data_set


def _file(data_set: Dataset) -> bytes:
    stream = BytesIO()
    data_set.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _compressed(syntax: str) -> Dataset:
    data_set = _data_set()
    compress(data_set, syntax, encoding_plugin="pylibjpeg" if syntax == JPEG2000Lossless else "")
    return data_set


def _encapsulated(syntax: str, *frames: bytes, **header: object) -> bytes:
    data_set = _data_set(**header)
    data_set.PixelData = encapsulate(list(frames))
    data_set["PixelData"].VR = "OB"
    data_set.file_meta.TransferSyntaxUID = syntax
    return _file(data_set)


def _frame(data_set: Dataset) -> bytearray:
    """Return the one frame of compressed pixel data."""
    content = data_set.PixelData
    (table_bytes,) = struct.unpack_from("<I", content, 4)
    (frame_bytes,) = struct.unpack_from("<I", content, 12 + table_bytes)
    return bytearray(content[16 + table_bytes : 16 + table_bytes + frame_bytes])


def _inserted(element: bytes, tag: int, **header: object) -> bytes:
    """Return a file with an encoded element at the place of its tag."""
    data_set = _data_set(**header)
    data_set.pop(tag, None)
    place = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"OB", 0, 2) + b"\xab\xcd"
    data_set.add_new(tag, "OB", b"\xab\xcd")
    return _file(data_set).replace(place, element)


def _long_rows() -> bytes:
    """Return an object whose Rows is a UL, as in CVE-2026-5442."""
    content = _file(_data_set())
    rows = struct.pack("<HH2sHH", 0x0028, 0x0010, b"US", 2, SIDE)
    return content.replace(rows, struct.pack("<HH2sHI", 0x0028, 0x0010, b"UL", 4, 1_000_000))


def _j2k_of_another_size(*, rows: int = SIDE, columns: int = SIDE, tile: int = 0, components: int = 1) -> bytes:
    """Return a JPEG 2000 object whose SIZ marker claims a size, a size of tiles, and components."""
    frame = _frame(_compressed(JPEG2000Lossless))
    size = frame.index(b"\xff\x51") + 4
    struct.pack_into(">II", frame, size + 2, columns, rows)
    if tile:
        struct.pack_into(">II", frame, size + 18, tile, tile)
    struct.pack_into(">H", frame, size + 34, components)
    frame[size + 36 : size + 36] = frame[size + 36 : size + 39] * (components - 1)
    struct.pack_into(">H", frame, size - 2, 38 + 3 * components)
    return _encapsulated(JPEG2000Lossless, bytes(frame))


def _jpeg_of_another_size(rows: int, columns: int) -> bytes:
    start = b"\xff\xd8\xff\xc0\x00\x0b\x08" + struct.pack(">HH", rows, columns) + b"\x01\x01\x11\x00"
    return _encapsulated(
        JPEGBaseline8Bit, start + b"\xff\xd9", Rows=rows, Columns=columns, BitsAllocated=8, BitsStored=8, HighBit=7
    )


def _rle(header: bytes, body: bytes) -> bytes:
    return _encapsulated(RLELossless, header.ljust(64, b"\0") + body)


def _deflated_zeros(gibibytes: int) -> bytes:
    """Return a deflated object with an element of zeros, for which the object has a thousandth of its length."""
    mark = struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, gibibytes << 30)
    content = _inserted(mark, 0x00091010)
    (group_bytes,) = struct.unpack_from("<I", content, 140)
    begin, middle = 144 + group_bytes, content.index(mark) + len(mark)
    deflate = zlib.compressobj(9, wbits=-15)
    block = bytes(1 << 22)
    zeros = b"".join(deflate.compress(block) for _ in range(gibibytes << 8))
    body = deflate.compress(content[begin:middle]) + zeros + deflate.compress(content[middle:]) + deflate.flush()
    origin, _ = parse(content)
    return head(replace(origin, transfer_syntax_uid=UID(DeflatedExplicitVRLittleEndian))) + body


def _nested(depth: int) -> bytes:
    opened = struct.pack("<HH2sHI", 0x0040, 0x0260, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closed = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return _inserted((opened + item) * depth + closed * depth, 0x00400260)


def _short_palette() -> bytes:
    header = {"PhotometricInterpretation": "PALETTE COLOR"}
    for color in ("Red", "Green", "Blue"):
        header[f"{color}PaletteColorLookupTableDescriptor"] = [0, 0, 16]
        header[f"{color}PaletteColorLookupTableData"] = b"\0\1"
    return _file(_data_set(**header))


def _short_modality_table() -> bytes:
    item = Dataset()
    item.LUTDescriptor = [0, 0, 16]
    item.add_new("LUTData", "OW", bytes(10))
    return _file(_data_set(ModalityLUTSequence=[item]))


def _wide_overlay() -> bytes:
    data_set = _data_set()
    for element, vr, value in (
        (0x0010, "US", 65535),
        (0x0011, "US", 65535),
        (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1),
        (0x0102, "US", 0),
        (0x3000, "OW", bytes(2)),
    ):
        data_set.add_new((0x6000, element), vr, value)
    return _file(data_set)


def _empty_groups(count: int) -> bytes:
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    sequence = struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, len(item) * count) + item * count
    return _inserted(sequence, 0x52009230, NumberOfFrames=count)


def _fragments(count: int) -> bytes:
    content = _encapsulated(RLELossless, bytes(64))
    fragment = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    return content[:-8] + fragment * count + content[-8:]


def _polyglot(start: bytes) -> bytes:
    content = _file(_data_set())
    return start.ljust(128, b"\0") + content[128:]


OBJECTS: Final[Mapping[str, Callable[[], bytes]]] = {
    "rows as UL of a million": _long_rows,
    "65,535 frames of 65,535 squared": lambda: _file(_data_set(Rows=65535, Columns=65535, NumberOfFrames=65535)),
    "a hundred bytes of pixels": lambda: _file(_data_set(PixelData=bytes(100))),
    "no bytes of pixels": lambda: _file(_data_set(PixelData=b"")),
    "255 bits allocated": lambda: _file(_data_set(BitsAllocated=255)),
    "no bits allocated": lambda: _file(_data_set(BitsAllocated=0)),
    "65,535 samples per pixel": lambda: _file(_data_set(SamplesPerPixel=65535, PlanarConfiguration=0)),
    "more frames than a number holds": lambda: _inserted(
        struct.pack("<HH2sH", 0x0028, 0x0008, b"IS", 12) + b"999999999999", 0x00280008
    ),
    "JPEG 2000 of two billion squared": lambda: _j2k_of_another_size(rows=2**31 - 1, columns=2**31 - 1),
    "JPEG 2000 in tiles of one pixel": lambda: _j2k_of_another_size(tile=1),
    "JPEG 2000 of 16,384 components": lambda: _j2k_of_another_size(components=16384),
    "JPEG of 65,500 squared": lambda: _jpeg_of_another_size(65500, 65500),
    "JPEG that ends in its header": lambda: _encapsulated(JPEGBaseline8Bit, b"\xff\xd8\xff\xc0\x00\x0b"),
    "JPEG-LS of noise": lambda: _encapsulated(JPEGLSLossless, bytes(range(256)) * 4),
    "RLE of four billion segments": lambda: _rle(struct.pack("<I", 0xFFFFFFFF), b""),
    "RLE segments outside the frame": lambda: _rle(struct.pack("<3I", 2, 0x7FFFFFFF, 0xFFFFFF00), bytes(64)),
    "RLE that expands 64 times": lambda: _rle(struct.pack("<3I", 2, 64, 64), b"\x81\0" * (1 << 20)),
    "a million empty fragments": lambda: _fragments(1_000_000),
    "a gigabyte of deflated zeros": lambda: _deflated_zeros(1),
    "sequences of depth 1,000": lambda: _nested(1_000),
    "sequences of depth 100,000": lambda: _nested(100_000),
    "a palette of two bytes": _short_palette,
    "a modality table of ten bytes": _short_modality_table,
    "an overlay of 65,535 squared": _wide_overlay,
    "65,535 empty functional groups": lambda: _empty_groups(65535),
    "numbers beyond a double": lambda: _file(_data_set(RescaleSlope="1e308", RescaleIntercept="-1e308")),
    "a slope of zero": lambda: _file(_data_set(RescaleSlope="0", RescaleIntercept="0")),
    "a program before the data set": lambda: _polyglot(b"MZ\x90\0"),
    "a script before the data set": lambda: _polyglot(b"#!/bin/sh\nrm -rf /\n"),
}


def write(folder: Path) -> None:
    """Write each object into a folder, under its name."""
    for name, content in OBJECTS.items():
        (folder / f"{name}.dcm").write_bytes(content())


def _outcome(path: Path) -> str:
    """Return 'read', or the class of the node's error, or `crash` and the class of any other error."""
    try:
        headers.instance(path, sha256="0" * 64)
        pixels.modality_values(path)
        pixels.picture(path)
    except NodeError as error:
        return type(error).__name__
    except Exception as error:  # noqa: BLE001 - the row names what an object provokes
        return f"crash {type(error).__name__}"
    return "read"


def _peak_bytes() -> int:
    """Return the peak of the memory of this program; getrusage tells that of the process that started it, if larger."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Print a row in JSON for each object: name, outcome, seconds, peak of the memory in bytes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for path in sorted(Path(sys.argv[1]).iterdir()):
        begin = time.monotonic()
        outcome = _outcome(path)
        sys.stdout.write(json.dumps([path.stem, outcome, time.monotonic() - begin, _peak_bytes()]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
