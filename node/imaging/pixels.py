"""Decode one image: its modality values, what a viewer shows of it, and that as an 8-bit picture.

Only the first frame is read. Every way in which a file can be broken ends in BrokenSeries.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RLELossless

from ainode.node.errors import BrokenSeries

# A stitched whole-spine radiograph has some 30 million pixels; a decoder asked for more is being abused.
MAX_PIXELS = 2**26

# What pydicom 3.0 and its decoders were seen to raise on corrupt, truncated and hostile files.
BROKEN_FILE = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

# SOF0 to SOF15 but DHT, JPG and DAC, which lie among them (ITU-T T.81 table B.1), and SOF55 (T.87).
_FRAME_HEADERS = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC} | {0xFFF7}

# Share of the gray range that the middle 98 % of the pixels must fill for a stored window to be believed.
_LEAST_CONTRAST = 0.1


def modality_values(path: Path) -> NDArray[np.float32]:
    """Return the values after the Modality LUT or rescale.

    Shapes: (rows, columns) float32.
    Units: those of Rescale Type; Hounsfield units for CT.
    Raises: BrokenSeries if the file cannot be decoded or is a color image.
    Source: PS3.3 C.11.1.
    """
    with _translated(path):
        return _gray(path)[1]


def display_values(path: Path) -> NDArray[np.float32]:
    """Return the image as a viewer shows it: VOI LUT or window applied, larger is brighter.

    A window that is missing, or that leaves the image flat, is replaced by the percentiles 0.5 to 99.5.

    Shapes: (rows, columns) float32.
    Units: 0 is black, 1 is white.
    Raises: BrokenSeries if the file cannot be decoded or is a color image.
    Source: PS3.3 C.11.2 (VOI LUT), C.7.6.3.1.2 (MONOCHROME1).
    """
    with _translated(path):
        return _presented(*_gray(path))


def picture(path: Path) -> NDArray[np.uint8]:
    """Return what a viewer shows, in 8 bits.

    Shapes: (rows, columns, 3) uint8, RGB.
    Raises: BrokenSeries if the file cannot be decoded.
    """
    with _translated(path):
        header, stored = _decoded(path)
        if _is_gray(header):
            shown = _presented(header, _modality_values(header, stored))
            return np.repeat(np.rint(shown * 255).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
        if header.PhotometricInterpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, header)
        return np.asarray(stored if stored.dtype == np.uint8 else stored >> np.uint8(8), np.uint8)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn whatever reading a broken file raises, at any element of it, into BrokenSeries."""
    try:
        yield
    except BROKEN_FILE as error:
        # The cause is named by its class alone: a decoder's message may quote the header.
        cause = type(error).__name__
        raise BrokenSeries(
            f"instance {_uid(path)}: its image cannot be decoded ({cause}); resend it, best uncompressed",
        ) from error


def _uid(path: Path) -> str:
    try:
        return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
    except BROKEN_FILE:
        return "without SOP Instance UID"


def _is_gray(header: Dataset) -> bool:
    return str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME")


def _gray(path: Path) -> tuple[Dataset, NDArray[np.float32]]:
    header, stored = _decoded(path)
    if not _is_gray(header):
        raise BrokenSeries(
            f"instance {header.get('SOPInstanceUID')}: a color image ({header.get('PhotometricInterpretation')}); "
            "only MONOCHROME1 and MONOCHROME2 have modality values",
        )
    return header, _modality_values(header, stored)


def _decoded(path: Path) -> tuple[Dataset, NDArray[Any]]:
    """Return the header and the stored values of the first frame."""
    header = dcmread(path, stop_before_pixels=True)
    for rows, columns in ((header.Rows, header.Columns), *_codestream_sizes(path, header)):
        if not 0 < rows * columns <= MAX_PIXELS:
            raise ValueError(f"{rows} x {columns} pixels (1 to {MAX_PIXELS} are read)")
    syntax = header.file_meta.TransferSyntaxUID
    # Given a path, only the pixels of that frame are read; pydicom 3.0 cannot do that through deflate.
    source = dcmread(path) if syntax.is_deflated else path
    # The faster decoder of RLE answers damage with a panic of Rust, which no `except Exception` stops.
    return header, pixel_array(source, index=0, decoding_plugin="pydicom" if syntax == RLELossless else "")


def _codestream_sizes(path: Path, header: Dataset) -> tuple[tuple[int, int], ...]:
    """Return (rows, columns) as the first compressed frame itself says, () where it is not compressed.

    The decoders allocate by these numbers and not by the header's: 60,000 x 60,000 in a file of 80 kB was seen to
    take 14 GB and 75 s.
    """
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == RLELossless:
        return ()
    with path.open("rb") as file:
        dcmread(file, stop_before_pixels=True)
        # Tag, VR, reserved and undefined length of Pixel Data (PS3.5 A.4).
        file.seek(12, 1)
        parse_basic_offsets(file)
        frame = next(iter(generate_fragments(file)))
    if (start := frame.find(b"\xff\x4f\xff\x51")) >= 0:
        # ISO/IEC 15444-1 A.5.1: SOC, then SIZ with length, capabilities, width, height.
        columns, rows = struct.unpack_from(">II", frame, start + 8)
        return ((rows, columns),)
    return (_jpeg_size(frame),)


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    """Return (rows, columns) of the first frame header (ITU-T T.81 B.2.2; JPEG-LS: T.87 C.2.2)."""
    at = 2
    while True:
        marker, length, _, rows, columns = struct.unpack_from(">HHBHH", frame, at)
        if marker in _FRAME_HEADERS:
            return rows, columns
        at += 2 + length


def _looked_up(values: NDArray[Any], item: Dataset) -> NDArray[np.float32]:
    """Return `values` through a LUT; those outside it take its first or last entry (PS3.3 C.11.1.1)."""
    _, first, _ = item.LUTDescriptor
    data = item.LUTData
    table = np.frombuffer(data, dtype="<u2") if isinstance(data, bytes) else np.asarray(data)
    entries = np.clip(values.astype(np.int64) - int(first), 0, len(table) - 1)
    return table.astype(np.float32)[entries]


def _modality_values(header: Dataset, stored: NDArray[Any]) -> NDArray[np.float32]:
    if sequence := header.get("ModalityLUTSequence"):
        return _looked_up(stored, sequence[0])
    values = stored.astype(np.float32)
    values *= np.float32(header.get("RescaleSlope") or 1)
    values += np.float32(header.get("RescaleIntercept") or 0)
    return values


def _presented(header: Dataset, values: NDArray[np.float32]) -> NDArray[np.float32]:
    shown = _voi(header, values)
    if shown is None or _contrast(shown) < _LEAST_CONTRAST:
        low, high = np.percentile(_thinned(values), (0.5, 99.5)).astype(np.float32)
        shown = np.clip((values - low) / max(high - low, np.float32(1e-6)), 0, 1)
    return np.subtract(1, shown, dtype=np.float32) if header.PhotometricInterpretation == "MONOCHROME1" else shown


def _voi(header: Dataset, values: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the first VOI LUT or window applied, 0 to 1; None where there is none that can be applied."""
    with suppress(*BROKEN_FILE):
        if header.get("VOILUTSequence"):
            return _tabled(header.VOILUTSequence[0], values)
    center, width = (_first(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width <= 1:
        return None
    function = header.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(-4 * (values - center) / width))
    elif function == "LINEAR_EXACT":
        shown = (values - center) / width + 0.5
    else:
        shown = (values - center + 0.5) / (width - 1) + 0.5
    return np.asarray(shown.clip(0, 1), np.float32)


def _tabled(item: Dataset, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `values` through a VOI LUT, 0 to 1; raises one of BROKEN_FILE if it is none."""
    white = 2 ** int(item.LUTDescriptor[2]) - 1
    if white < 1:
        raise ValueError("a LUT of no bits")
    return (_looked_up(np.rint(values), item) / np.float32(white)).clip(0, 1)


def _first(value: object) -> float | None:
    """Return the first value of a DS element, None where it is empty or no finite number."""
    one = next(iter(value), None) if isinstance(value, MultiValue) else value
    return float(one) if isinstance(one, (float, Decimal)) and np.isfinite(float(one)) else None


def _thinned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return about 256 x 256 of the pixels: enough for percentiles, and fast on a large radiograph."""
    step = max(1, min(values.shape) // 256)
    return values[::step, ::step]


def _contrast(shown: NDArray[np.float32]) -> float:
    low, high = np.percentile(_thinned(shown), (1, 99))
    return float(high - low)
