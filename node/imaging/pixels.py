"""The first frame of an image file: modality values, brightness on a viewer's screen, and an 8-bit picture.

Every error of reading a broken file becomes BrokenSeries.
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

# A stitched whole-spine radiograph has some 30 million pixels; a header with far more pixels is an attack.
MAX_PIXELS = 2**26

# Errors that pydicom 3.0 and its decoders raised on corrupt, truncated and hostile files.
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

# SOF0 to SOF15 without DHT, JPG and DAC (ITU-T T.81 table B.1), and SOF55 (T.87).
_FRAME_HEADERS = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC} | {0xFFF7}

# Share of the gray range that the middle 98 % of the pixels must fill; a stored window with less contrast is replaced.
_MIN_CONTRAST = 0.1


def modality_values(path: Path) -> NDArray[np.float32]:
    """Return the values after the Modality LUT or rescale.

    Shapes: (rows, columns) float32.
    Units: those of Rescale Type; Hounsfield units for CT.
    Raises: BrokenSeries if the file cannot be decoded or is a color image.
    Source: PS3.3 C.11.1.
    """
    with _decoding(path):
        return _gray_image(path)[1]


def display_values(path: Path) -> NDArray[np.float32]:
    """Return the brightness of each pixel as a viewer shows the image, with VOI LUT or window applied.

    The percentiles 0.5 and 99.5 replace a window that is missing or leaves the image flat.

    Shapes: (rows, columns) float32.
    Units: 0 is black, 1 is white.
    Raises: BrokenSeries if the file cannot be decoded or is a color image.
    Source: PS3.3 C.11.2 (VOI LUT), C.7.6.3.1.2 (MONOCHROME1).
    """
    with _decoding(path):
        return _brightness(*_gray_image(path))


def picture(path: Path) -> NDArray[np.uint8]:
    """Return the image as a viewer shows the image, in 8 bits.

    Shapes: (rows, columns, 3) uint8, RGB.
    Raises: BrokenSeries if the file cannot be decoded.
    """
    with _decoding(path):
        header, stored = _first_frame(path)
        if _is_gray(header):
            gray = np.rint(_brightness(header, _modality_values(header, stored)) * 255).astype(np.uint8)
            return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
        if header.PhotometricInterpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, header)
        return np.asarray(stored if stored.dtype == np.uint8 else stored >> np.uint8(8), np.uint8)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Raise BrokenSeries in place of any error that reading a broken file raises."""
    try:
        yield
    except BROKEN_FILE as error:
        # Only the class of the error is shown: the message of a decoder may quote the header.
        cause = type(error).__name__
        raise BrokenSeries(
            f"instance {_instance_uid(path)}: its image cannot be decoded ({cause}); resend it, best uncompressed",
        ) from error


def _instance_uid(path: Path) -> str:
    """Return the SOP Instance UID of a file that may be broken, or words that say that the file has none."""
    try:
        return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
    except BROKEN_FILE:
        return "without SOP Instance UID"


def _is_gray(header: Dataset) -> bool:
    return str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME")


def _gray_image(path: Path) -> tuple[Dataset, NDArray[np.float32]]:
    """Return the header and the modality values of a gray image.

    Raises: BrokenSeries if the image is a color image.
    """
    header, stored = _first_frame(path)
    if not _is_gray(header):
        raise BrokenSeries(
            f"instance {header.get('SOPInstanceUID')}: a color image ({header.get('PhotometricInterpretation')}); "
            "only MONOCHROME1 and MONOCHROME2 have modality values",
        )
    return header, _modality_values(header, stored)


def _first_frame(path: Path) -> tuple[Dataset, NDArray[Any]]:
    """Return the header and the stored values of the first frame."""
    header = dcmread(path, stop_before_pixels=True)
    for rows, columns in ((header.Rows, header.Columns), *_codestream_sizes(path, header)):
        if not 0 < rows * columns <= MAX_PIXELS:
            raise ValueError(f"{rows} x {columns} pixels (1 to {MAX_PIXELS} are read)")
    syntax = header.file_meta.TransferSyntaxUID
    # From a path, pydicom 3.0 reads only the pixels of the frame; a deflated file must be read whole.
    source = dcmread(path) if syntax.is_deflated else path
    # On a damaged file the faster RLE decoder panics in Rust, and no `except Exception` stops the panic.
    return header, pixel_array(source, index=0, decoding_plugin="pydicom" if syntax == RLELossless else "")


def _codestream_sizes(path: Path, header: Dataset) -> tuple[tuple[int, int], ...]:
    """Return (rows, columns) in the codestream of the first frame; nothing for a frame that is not compressed.

    Decoders allocate memory by the size in the codestream, not by the size in the header: a file of 80 kB with
    60,000 x 60,000 in its codestream took 14 GB and 75 s.
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
    """Return (rows, columns) in the first frame header of a JPEG (ITU-T T.81 B.2.2; JPEG-LS: T.87 C.2.2)."""
    offset = 2
    while True:
        marker, length, _, rows, columns = struct.unpack_from(">HHBHH", frame, offset)
        if marker in _FRAME_HEADERS:
            return rows, columns
        offset += 2 + length


def _lut_values(values: NDArray[Any], item: Dataset) -> NDArray[np.float32]:
    """Return the LUT's entry for each value; a value outside of the LUT has the first or last (PS3.3 C.11.1.1)."""
    _, first_value, _ = item.LUTDescriptor
    data = item.LUTData
    table = np.frombuffer(data, dtype="<u2") if isinstance(data, bytes) else np.asarray(data)
    indices = np.clip(values.astype(np.int64) - int(first_value), 0, len(table) - 1)
    return table.astype(np.float32)[indices]


def _modality_values(header: Dataset, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return stored values after the Modality LUT or rescale."""
    if sequence := header.get("ModalityLUTSequence"):
        return _lut_values(stored, sequence[0])
    values = stored.astype(np.float32)
    values *= np.float32(header.get("RescaleSlope") or 1)
    values += np.float32(header.get("RescaleIntercept") or 0)
    return values


def _brightness(header: Dataset, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return modality values as brightness from 0 (black) to 1 (white)."""
    brightness = _voi_values(header, values)
    if brightness is None or _contrast(brightness) < _MIN_CONTRAST:
        low, high = np.percentile(_sample(values), (0.5, 99.5)).astype(np.float32)
        brightness = np.clip((values - low) / max(high - low, np.float32(1e-6)), 0, 1)
    return (
        np.subtract(1, brightness, dtype=np.float32)
        if header.PhotometricInterpretation == "MONOCHROME1"
        else brightness
    )


def _voi_values(header: Dataset, values: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the values, 0 to 1, after the first VOI LUT or else the first window; None if neither can be applied."""
    with suppress(*BROKEN_FILE):
        if header.get("VOILUTSequence"):
            return _voi_lut_values(header.VOILUTSequence[0], values)
    center, width = (_first_number(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width <= 1:
        return None
    function = header.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        brightness = 1 / (1 + np.exp(-4 * (values - center) / width))
    elif function == "LINEAR_EXACT":
        brightness = (values - center) / width + 0.5
    else:
        brightness = (values - center + 0.5) / (width - 1) + 0.5
    return np.asarray(brightness.clip(0, 1), np.float32)


def _voi_lut_values(item: Dataset, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the values after a VOI LUT, 0 to 1.

    Raises: one of BROKEN_FILE if the item is no usable LUT.
    """
    white = 2 ** int(item.LUTDescriptor[2]) - 1
    if white < 1:
        raise ValueError("the entries of the LUT have no bits")
    return (_lut_values(np.rint(values), item) / np.float32(white)).clip(0, 1)


def _first_number(value: object) -> float | None:
    """Return the first value of a DS element; None if the element is empty or the value is no finite number."""
    number = next(iter(value), None) if isinstance(value, MultiValue) else value
    return float(number) if isinstance(number, (float, Decimal)) and np.isfinite(float(number)) else None


def _sample(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return about 256 x 256 of the pixels: these give the percentiles fast on a large radiograph."""
    step = max(1, min(values.shape) // 256)
    return values[::step, ::step]


def _contrast(brightness: NDArray[np.float32]) -> float:
    """Return the difference between the percentiles 99 and 1."""
    low, high = np.percentile(_sample(brightness), (1, 99))
    return float(high - low)
