"""A frame of an image file, mostly the first: modality values, brightness on a viewer's screen, and an 8-bit picture.

Every error of reading a broken file becomes BrokenSeries.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut, convert_color_space

from ainode.node.domain import Window
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.color_spaces import color_fault
from ainode.node.imaging.decoding import BROKEN_FILE, decoded_frame
from ainode.node.imaging.free_text import as_code
from ainode.node.imaging.functional_groups import frame_header
from ainode.node.imaging.lookup_tables import mapped, palette_colors, white_value
from ainode.node.imaging.padding import padded_pixels

# Share of the gray range that the middle 98 % of the pixels must fill; a stored window with less contrast is replaced.
_MIN_CONTRAST = 0.1
# PS3.3 C.7.6.3.1.2. A decoder of JPEG 2000 turns YBR_ICT and YBR_RCT into RGB.
_COLOR_SPACES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PICTURE_BITS = 8
# With 32 bits of stored values, float32 holds every product; no unit needs as much.
_MAX_RESCALE = 1e12


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as a viewer needs the frame.

    Shapes: `values` (rows, columns) float32, or (rows, columns, 3) uint8 RGB.
    Units: `values` and `window` those of Rescale Type; Hounsfield units for CT.
    """

    header: Dataset
    """with what the functional groups say of the frame"""
    values: NDArray[Any]
    window: tuple[float, float] | None
    """center and width through which a gray frame is shown first; None for colors"""


def frame(path: Path, index: int = 0) -> Frame:
    """Return a frame with the window of its header; the percentiles replace a window beside which the values lie.

    Raises: BrokenSeries if the file cannot be decoded.
    """
    with _decoding(path):
        header, stored = decoded_frame(path, index)
        header = frame_header(header, index)
        if not _is_gray(header):
            return Frame(header, _rgb_values(header, stored), None)
        values = _modality_values(header, stored)
        sample = _sample(values, padded_pixels(header, stored))
        return Frame(header, values, _window(header, sample) or _automatic_window(sample))


def _automatic_window(sample: NDArray[np.float32]) -> tuple[float, float]:
    """Return center and width between the percentiles 0.5 and 99.5."""
    low, high = np.percentile(sample, (0.5, 99.5))
    return float(low + high) / 2, max(float(high - low), 1e-6)


def modality_values(path: Path) -> NDArray[np.float32]:
    """Return the values after the Modality LUT or rescale; padding is no brighter than the darkest of the image.

    Padding below all of the image keeps its value: by it a CT tells the field that was scanned.

    Shapes: (rows, columns) float32.
    Units: those of Rescale Type; Hounsfield units for CT.
    Raises: BrokenSeries if the file cannot be decoded or is a color image.
    Source: PS3.3 C.11.1.
    """
    with _decoding(path):
        _, values, is_padding = _gray_image(path)
        if is_padding.any() and not is_padding.all():
            values[is_padding] = np.minimum(values[is_padding], values[~is_padding].min())
        return values


def image_values(path: Path) -> NDArray[np.float32]:
    """Return the modality values, not a number (NaN) where a pixel is padding and shows nothing.

    Shapes: (rows, columns) float32.
    Units: those of Rescale Type; Hounsfield units for CT.
    Raises: BrokenSeries if the file cannot be decoded, is a color image, or has a value that is no finite number.
    """
    with _decoding(path):
        header, values, is_padding = _gray_image(path)
        if not np.isfinite(values).all():
            raise BrokenSeries(
                f"instance {header.get('SOPInstanceUID')}: a value is no finite number; correct the image"
            )
        values[is_padding] = np.nan
        return values


def display_values(path: Path, *, padding: float = 0.0) -> NDArray[np.float32]:
    """Return the brightness of each pixel as a viewer shows the image, with VOI LUT or window applied.

    The percentiles 0.5 and 99.5 replace a window that is missing or leaves the image flat. Pixels that are padding have
    the brightness `padding`, and count in no percentile.

    Shapes: (rows, columns) float32.
    Units: 0 is black, 1 is white.
    Raises: BrokenSeries if the file cannot be decoded or is a color image.
    Source: PS3.3 C.11.2 (VOI LUT), C.7.6.3.1.2 (MONOCHROME1).
    """
    with _decoding(path):
        header, values, is_padding = _gray_image(path)
        return _brightness(header, values, is_padding, padding)


def picture(path: Path, window: Window | None = None, index: int = 0) -> NDArray[np.uint8]:
    """Return a frame in 8 bits as a viewer shows the image, a gray image through a window if one is given.

    Shapes: (rows, columns, 3) uint8, RGB.
    Raises: BrokenSeries if the file cannot be decoded.
    """
    with _decoding(path):
        header, stored = decoded_frame(path, index)
        header = frame_header(header, index)
        if _is_gray(header):
            values = _modality_values(header, stored)
            is_padding = padded_pixels(header, stored)
            if window:
                brightness = np.where(is_padding, 0, _windowed(values, window.center, window.width))
            else:
                brightness = _brightness(header, values, is_padding)
            gray = np.rint(brightness * 255).astype(np.uint8)
            return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
        return _rgb_values(header, stored)


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


def _rgb_values(header: Dataset, stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the colors of a color image in 8 bits, scaled by the bits in which the image stores them.

    Raises: BrokenSeries if the colors are in a color space that is not read, or cannot be of the one that is named.
    """
    photometric = str(header.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        if "SegmentedRedPaletteColorLookupTableData" in header:
            entries = apply_color_lut(stored, header)
            return _in_8_bits(entries, entries.dtype.itemsize * 8)
        return _in_8_bits(*palette_colors(stored, header))
    if photometric not in _COLOR_SPACES:
        name = as_code(photometric) if photometric else "no color space"
        raise BrokenSeries(
            f"instance {header.get('SOPInstanceUID')}: its colors are in {name}; "
            f"{', '.join(_COLOR_SPACES)} and PALETTE COLOR are read; convert the image at its source",
        )
    bits = int(header.BitsStored)
    if bits > _PICTURE_BITS and stored.max() < 2**_PICTURE_BITS:
        raise BrokenSeries(
            f"instance {header.get('SOPInstanceUID')}: its colors use 8 of its {bits} bits stored, so that white is "
            "unknown; correct Bits Stored, or scale the colors",
        )
    colors: NDArray[Any] = _in_8_bits(stored, bits)
    if fault := color_fault(colors, photometric):
        raise BrokenSeries(f"instance {header.get('SOPInstanceUID')}: {fault}; correct the header at its source")
    if photometric.startswith("YBR_FULL"):
        colors = convert_color_space(colors, photometric, "RGB")
    return np.asarray(colors, np.uint8)


def _in_8_bits(colors: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return values of some bits in 8 bits: black stays black, white stays white."""
    if bits == _PICTURE_BITS:
        return np.asarray(colors, np.uint8)
    return np.asarray(np.rint(colors * (255 / (2**bits - 1))), np.uint8)


def _gray_image(path: Path) -> tuple[Dataset, NDArray[np.float32], NDArray[np.bool_]]:
    """Return the header and the modality values of a gray image, and which pixels are padding.

    Raises: BrokenSeries if the image is a color image.
    """
    header, stored = decoded_frame(path)
    if not _is_gray(header):
        name = as_code(header.get("PhotometricInterpretation"))
        raise BrokenSeries(
            f"instance {header.get('SOPInstanceUID')}: a color image ({name}); "
            "only MONOCHROME1 and MONOCHROME2 have modality values; send the gray image",
        )
    return header, _modality_values(header, stored), padded_pixels(header, stored)


def _modality_values(header: Dataset, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return stored values after the Modality LUT or rescale.

    Raises: BrokenSeries if the rescale leads to no finite number, or to one number for all.
    """
    if sequence := header.get("ModalityLUTSequence"):
        return mapped(stored, sequence[0], header)
    slope, intercept = (
        default if value in (None, "") else float(value)
        for value, default in ((header.get("RescaleSlope"), 1.0), (header.get("RescaleIntercept"), 0.0))
    )
    if not (0 < abs(slope) < _MAX_RESCALE and abs(intercept) < _MAX_RESCALE):
        raise BrokenSeries(
            f"instance {header.get('SOPInstanceUID')}: Rescale Slope is 0, or the rescale is beyond every unit; "
            "correct the image at its source"
        )
    values = stored.astype(np.float32)
    values *= np.float32(slope)
    values += np.float32(intercept)
    return values


def _brightness(
    header: Dataset, values: NDArray[np.float32], is_padding: NDArray[np.bool_], padding: float = 0.0
) -> NDArray[np.float32]:
    """Return modality values as brightness from 0 (black) to 1 (white), those of padding as `padding`."""
    brightness = _voi_values(header, values)
    if brightness is None or _contrast(_sample(brightness, is_padding)) < _MIN_CONTRAST:
        low, high = np.percentile(_sample(values, is_padding), (0.5, 99.5)).astype(np.float32)
        brightness = np.clip((values - low) / max(high - low, np.float32(1e-6)), 0, 1)
    if header.PhotometricInterpretation == "MONOCHROME1":
        brightness = np.subtract(1, brightness, dtype=np.float32)
    # No window is meant for padding, whose values may be above or below all of the image.
    return np.where(is_padding, np.float32(padding), brightness) if is_padding.any() else brightness


def _windowed(values: NDArray[np.float32], center: float, width: float) -> NDArray[np.float32]:
    """Return modality values as brightness from 0 to 1 through a window (PS3.3 C.11.2.1.2.1)."""
    return np.asarray(((values - center + 0.5) / (width - 1) + 0.5).clip(0, 1), np.float32)


def _window(header: Dataset, sample: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return center and width of the first window; None without a window, or if a sample lies beside the window."""
    center, width = (_first_number(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if header.get("VOILUTSequence") or center is None or width is None or width <= 1:
        return None
    return None if _lies_beside(sample, center, width) else (center, width)


def lies_beside(values: NDArray[np.float32], center: float, width: float) -> bool:
    """Return whether values that differ enough for a window lie outside of the window."""
    return _lies_beside(_sample(values), center, width)


def _lies_beside(sample: NDArray[np.float32], center: float, width: float) -> bool:
    return _contrast(_windowed(sample, center, width)) < _MIN_CONTRAST <= _contrast(sample) / width


def _voi_values(header: Dataset, values: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the values, 0 to 1, after the first VOI LUT or else the first window; None if neither can be applied."""
    with suppress(*BROKEN_FILE):
        if header.get("VOILUTSequence"):
            item = header.VOILUTSequence[0]
            return (mapped(np.rint(values), item, header) / np.float32(white_value(item, header))).clip(0, 1)
    center, width = (_first_number(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width <= 1:
        return None
    function = header.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        brightness = 1 / (1 + np.exp(-4 * (values - center) / width))
    elif function == "LINEAR_EXACT":
        brightness = (values - center) / width + 0.5
    else:
        return _windowed(values, center, width)
    return np.asarray(brightness.clip(0, 1), np.float32)


def _first_number(value: object) -> float | None:
    """Return the first value of a DS element; None if the element is empty or the value is no finite number."""
    number = next(iter(value), None) if isinstance(value, MultiValue) else value
    return float(number) if isinstance(number, (float, Decimal)) and np.isfinite(float(number)) else None


def _sample(values: NDArray[np.float32], is_padding: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Return about 256 x 256 of the pixels, without padding: these give the percentiles fast on a large radiograph."""
    step = max(1, min(values.shape) // 256)
    sample = values[::step, ::step]
    image = sample if is_padding is None else sample[~is_padding[::step, ::step]]
    return image if image.size else sample


def _contrast(sample: NDArray[np.float32]) -> float:
    """Return the difference between the percentiles 99 and 1."""
    low, high = np.percentile(sample, (1, 99))
    return float(high - low)
