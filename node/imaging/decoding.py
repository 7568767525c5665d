"""The header and the stored values of one frame of an image file, the first unless another is asked for.

Bits above Bits Stored never leave this module, whatever the transfer syntax: old archives keep overlays in these bits,
and a transcoder compresses the overlays too.
"""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from ainode.node.errors import BrokenSeries
from ainode.node.imaging.codestreams import Codestream, codestream
from ainode.node.imaging.damaged_frames import jpeg_2000_damage, jpeg_damage, lossless_jpeg_damage, rle_damage
from ainode.node.imaging.stored_order import order_fault, sign_fault

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

# Retired processes of JPEG (PS3.5 A.4.1 of 2004): spectral selection and full progression, which libjpeg decodes as it
# decodes the extended process.
_EXTENDED_KINDS = frozenset({"1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"})
# Type 1 of PS3.3 C.7.6.3 (Image Pixel): without these nobody knows what the bytes are.
_NEEDED = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
)
# On a damaged file the faster RLE decoder panics in Rust, and no `except Exception` stops the panic. Of two decoders of
# JPEG-LS only CharLS refuses a frame whose values end elsewhere than its pixels.
_DECODERS = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls"}
_LOSSLESS_JPEG = frozenset({JPEGLossless, JPEGLosslessSV1})
_PIXEL_GROUP = 0x7FE0
_FLOATING = "f"
# Colors and their opacity; a decoder makes room for each component that a codestream claims.
_MAX_COMPONENTS = 4


def decoded_frame(path: Path, index: int = 0) -> tuple[Dataset, NDArray[Any]]:
    """Return the header and the stored values of a frame, colors still in their photometric interpretation.

    Raises: BrokenSeries if the object has no pixel data, no decoder knows its transfer syntax, its frame is cut short
    or damaged, or its header says another size, other bits or another order than the frame has; one of BROKEN_FILE.
    """
    header = _header(path)
    compressed, syntax = _compressed_frame(path, header, index), header.file_meta.TransferSyntaxUID
    # Decoders allocate memory by the size in the codestream, not by the size in the header: a file of 80 kB with
    # 60,000 x 60,000 in its codestream took 14 GB and 75 s.
    stream = codestream(compressed) if compressed and syntax != RLELossless else None
    sizes = [(header.Rows, header.Columns), *([(stream.rows, stream.columns)] if stream else [])]
    for rows, columns in sizes:
        if not 0 < rows * columns <= MAX_PIXELS:
            raise ValueError(f"{rows} x {columns} pixels (1 to {MAX_PIXELS} are read)")
    if stream and stream.components > _MAX_COMPONENTS:
        raise ValueError(f"{stream.components} components of a pixel (1 to {_MAX_COMPONENTS} are read)")
    if len(set(sizes)) > 1:
        header_size, frame_size = (f"{rows} x {columns}" for rows, columns in sizes)
        raise _contradiction(header, f"its compressed frame has {frame_size} pixels, its header says {header_size}")
    _check_values(compressed, stream, header)
    decoded = Dataset()
    frame = pixel_array(
        _source(path, syntax),
        index=index,
        raw=True,
        ds_out=decoded,
        decoding_plugin=_DECODERS.get(syntax, ""),
        correct_unused_bits=False,
    )
    if stream and syntax in _LOSSLESS_JPEG:
        _refuse_damage(lossless_jpeg_damage(compressed, frame), header)
    header.PhotometricInterpretation = decoded.get("PhotometricInterpretation", header.PhotometricInterpretation)
    if stream and stream.photometric_interpretation and header.SamplesPerPixel > 1:
        header.PhotometricInterpretation = stream.photometric_interpretation
    if not compressed:
        _refuse_contradiction(order_fault(frame, header), header)
    values = _stored_values(frame, header, precision=stream.bits if stream else frame.dtype.itemsize * 8)
    _refuse_contradiction(sign_fault(values, header), header)
    return header, values


def _stored_values(frame: NDArray[Any], header: Dataset, *, precision: int) -> NDArray[Any]:
    """Return the values of the Bits Stored bits that end at High Bit.

    `precision` is the number of bits of a value in the codestream: a frame that was compressed as it is stored has lost
    the bits below the stored bits.
    Source: PS3.5 8.1.1 (Bits Allocated, Bits Stored, High Bit), 8.2 (codestreams).
    """
    width, stored = frame.dtype.itemsize * 8, int(header.get("BitsStored") or 0)
    if frame.dtype.kind == _FLOATING or not 0 < stored < width or header.BitsAllocated == 1:
        return frame
    high = int(header.get("HighBit") or stored - 1)
    is_shifted = stored <= high < width and precision > stored
    if is_shifted and _fits(frame, stored):
        raise _contradiction(header, f"High Bit is {high}, but no value has a bit above bit {stored - 1}")
    unused = width - (high + 1 if is_shifted else stored)
    # Shifted to the left and back, a signed value takes its sign from its highest stored bit.
    values = np.asarray((frame << frame.dtype.type(unused)) >> frame.dtype.type(width - stored))
    if not is_shifted and _are_cut(frame, values):
        raise _contradiction(header, f"Bits Stored is {stored}, but its values have more bits")
    return values


def _fits(frame: NDArray[Any], bits: int) -> bool:
    """Return whether every value can be written in so many bits."""
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if frame.dtype.kind == "i" else (0, 1 << bits)
    return bool(frame.min() >= low and frame.max() < high)


def _are_cut(frame: NDArray[Any], values: NDArray[Any]) -> bool:
    """Return whether the bits above the stored bits belong to the values: without these bits the image is rougher.

    An overlay in these bits makes an image rougher, and so does the value of padding.
    """
    return bool((frame != values).any()) and _roughness(values) >= _roughness(frame)


def _roughness(values: NDArray[Any]) -> float:
    """Return the mean difference between neighbors in the rows of an image of one sample or several."""
    return float(np.abs(np.diff(values.astype(np.float32), axis=1)).mean()) if values.shape[1] > 1 else 0.0


def _refuse_contradiction(fault: str, header: Dataset) -> None:
    """Refuse an image whose header says other than its pixels show; '' for no fault."""
    if fault:
        raise _contradiction(header, fault)


def _contradiction(header: Dataset, reason: str) -> BrokenSeries:
    uid = header.get("SOPInstanceUID", "without SOP Instance UID")
    return BrokenSeries(f"instance {uid}: {reason}; correct the image at its source")


def _header(path: Path) -> Dataset:
    """Return the header of an image file.

    Raises: BrokenSeries if the object has no pixel data, or no decoder knows its transfer syntax; one of BROKEN_FILE.
    """
    with path.open("rb") as file:
        header = dcmread(file, stop_before_pixels=True)
        syntax, start = header.file_meta.TransferSyntaxUID, file.read(12)
    uid = header.get("SOPInstanceUID", "without SOP Instance UID")
    try:
        get_decoder(JPEGExtended12Bit if syntax in _EXTENDED_KINDS else syntax)
    except NotImplementedError as error:
        name = syntax if syntax.name == syntax else f"{syntax.name}, {syntax}"
        reason = f"no decoder knows its transfer syntax ({name}); resend it, best uncompressed"
        raise BrokenSeries(f"instance {uid}: {reason}") from error
    count = _pixel_bytes(start, ">" if syntax == ExplicitVRBigEndian else "<")
    if syntax != DeflatedExplicitVRLittleEndian and not count:
        raise BrokenSeries(f"instance {uid}: the object has no pixel data; send the images of the study")
    if missing := [keyword for keyword in _NEEDED if header.get(keyword) in {None, ""}]:
        raise BrokenSeries(f"instance {uid}: its header has no {', '.join(missing)}; correct the image at its source")
    if not syntax.is_encapsulated and syntax != DeflatedExplicitVRLittleEndian:
        _check_length(header, count)
    return header


def _pixel_bytes(start: bytes, order: str) -> int:
    """Return the length of the pixel data that begin with these bytes; 0 if no pixel data begin."""
    if len(start) < struct.calcsize("HHI") or struct.unpack_from(f"{order}H", start)[0] != _PIXEL_GROUP:
        return 0
    # Explicit VR: tag, VR, two reserved bytes, length; implicit VR: tag, length (PS3.5 7.1).
    at = 8 if start[4:6] in {b"OB", b"OW", b"OF", b"OD", b"OV"} else 4
    return int(struct.unpack_from(f"{order}I", start, at)[0]) if len(start) >= at + 4 else 0


def _check_length(header: Dataset, count: int) -> None:
    """Refuse uncompressed pixel data that hold several times the pixels of which the header tells.

    The frame that the header tells of would be a part of them, or none. Less than that is padding.
    """
    bits = header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated
    expected = bits * max(int(header.get("NumberOfFrames") or 1), 1) // 8
    if 0 < expected <= count // 2:
        raise _contradiction(header, f"its pixel data are {count / expected:.3g} times as long as its header says")


def _source(path: Path, syntax: UID) -> Path | Dataset:
    """Return what the decoder reads: the path, from which pydicom 3.0 reads only the pixels of the frame."""
    if syntax == DeflatedExplicitVRLittleEndian:
        return dcmread(path)
    if syntax in _EXTENDED_KINDS:
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
        return dataset
    return path


def _compressed_frame(path: Path, header: Dataset, index: int) -> bytes:
    """Return the bytes of a frame; b"" of a frame that is not compressed."""
    if not header.file_meta.TransferSyntaxUID.is_encapsulated:
        return b""
    with path.open("rb") as file:
        dcmread(file, stop_before_pixels=True)
        # Tag, VR, reserved and undefined length of Pixel Data (PS3.5 A.4).
        file.seek(12, 1)
        return get_frame(file, index, number_of_frames=int(header.get("NumberOfFrames") or 1))


def _check_values(compressed: bytes, stream: Codestream | None, header: Dataset) -> None:
    """Refuse a compressed frame whose values are damaged: decoders read on behind the damage, without a word.

    Raises: BrokenSeries that says what is seen of the damage; one of BROKEN_FILE.
    """
    if stream and not stream.is_whole:
        raise _contradiction(header, "its compressed frame has no end, so it is cut short")
    damage = ""
    if header.file_meta.TransferSyntaxUID == RLELossless and header.BitsAllocated % 8 == 0:
        damage = rle_damage(compressed, header.Rows * header.Columns)
    elif stream:
        damage = jpeg_2000_damage(compressed) if stream.is_jpeg_2000 else jpeg_damage(compressed)
    _refuse_damage(damage, header)


def _refuse_damage(damage: str, header: Dataset) -> None:
    if damage:
        uid = header.get("SOPInstanceUID", "without SOP Instance UID")
        raise BrokenSeries(f"instance {uid}: {damage}; resend it, best uncompressed")
