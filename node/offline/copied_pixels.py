"""Pixel data for a de-identified copy: the stored values and nothing else.

Bits above Bits Stored (old archives keep overlays in these), bytes behind the last pixel, and comments in compressed
frames go; no stored value changes. Where the node cannot tell what bytes are, the image does not leave.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.pixels.utils import get_expected_length, get_nr_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from ainode.node.imaging.codestreams import codestream
from ainode.node.offline.codestream_comments import UnknownBytes, jpeg_2000_without_comments, jpeg_without_comments

_NATIVE: Final = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}
)
# Retired processes of JPEG (PS3.5 A.4.1 of 2004), which are decoded as the extended process is.
_EXTENDED_KINDS: Final = frozenset({UID("1.2.840.10008.1.2.4.53"), UID("1.2.840.10008.1.2.4.55")})
_JPEG: Final = frozenset({*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes}) | _EXTENDED_KINDS
_JPEG_2000: Final = frozenset(JPEG2000TransferSyntaxes)
_PIXEL_DATA: Final = 0x7FE00010
_WIDTHS: Final = frozenset({1, 8, 16, 32})
_BYTE: Final = 8
_SUBSAMPLED: Final = "YBR_FULL_422"
_BESIDE_THE_BITS: Final = "has values beside its stored bits that may be an overlay"


def copied_pixels(dataset: Dataset) -> DataElement:
    """Return the Pixel Data of an image without what is none of its stored values.

    Raises: UnknownBytes if the node cannot tell what some bytes are; ValueError and others of pydicom for a damaged
    image.
    """
    syntax, width = dataset.file_meta.TransferSyntaxUID, dataset.BitsAllocated
    if width not in _WIDTHS or not 0 < dataset.BitsStored <= width:
        raise UnknownBytes(f"has {width} bits for a pixel, {dataset.BitsStored} of them stored")
    if syntax in _NATIVE:
        element = DataElement(_PIXEL_DATA, dataset["PixelData"].VR, _native(dataset))
    elif syntax == RLELossless or syntax in _JPEG | _JPEG_2000:
        frames = _run_lengths(dataset) if syntax == RLELossless else _codestreams(dataset)
        element = DataElement(_PIXEL_DATA, "OB", encapsulate(frames))
        element.is_undefined_length = True
    else:
        raise UnknownBytes("is encoded in a way in which the node does not find comments; send it uncompressed")
    return element


def _native(dataset: Dataset) -> bytes:
    """Return uncompressed pixels as long as the header says, 0 in what is no stored bit."""
    length = get_expected_length(dataset)
    if dataset.PhotometricInterpretation == _SUBSAMPLED and len(dataset.PixelData) >= length // 2 * 3:
        length = length // 2 * 3  # says that colors are subsampled, and has them all
    is_big = dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    # In big endian words the last of an odd number of bytes stands behind the padding.
    pixels = bytes(dataset.PixelData[: length + length % 2 if is_big else length])
    if dataset.BitsAllocated == 1:
        pixels = _without_spare_bits(pixels, dataset)
    elif dataset.BitsStored < dataset.BitsAllocated:
        order, whole = ">" if is_big else "<", len(pixels) - len(pixels) % (dataset.BitsAllocated // _BYTE)
        kind = "i" if dataset.PixelRepresentation else "u"
        values = np.frombuffer(pixels[:whole], f"{order}{kind}{dataset.BitsAllocated // _BYTE}")
        pixels = _stored_bits(values, dataset).astype(values.dtype).tobytes() + pixels[whole:]
    return pixels + bytes(len(pixels) % 2)


def _without_spare_bits(pixels: bytes, dataset: Dataset) -> bytes:
    """Return pixels of one bit, 0 in the bits of the last byte that are no pixel (PS3.5 8.1.1: the lowest is first)."""
    used = get_expected_length(dataset, "pixels") % _BYTE
    if not used or len(pixels) < get_expected_length(dataset):
        return pixels
    last = get_expected_length(dataset) - 1
    return pixels[:last] + bytes([pixels[last] & (1 << used) - 1]) + pixels[last + 1 :]


def _stored_bits(values: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Return values without the bits above the stored ones; a negative value keeps its sign in them.

    Raises: UnknownBytes if the stored bits do not begin at the lowest, and others hold something: readers differ in
    which of them are the image.
    """
    width, stored = values.dtype.itemsize * _BYTE, int(dataset.BitsStored)
    high = int(dataset.get("HighBit") or stored - 1)
    if not stored - 1 <= high < width:
        raise UnknownBytes("has a High Bit that does not fit its stored bits")
    native = values.astype(values.dtype.newbyteorder("="))
    above = native.dtype.type(width - 1 - high)
    below = native.dtype.type(width - stored)
    alone = np.left_shift(np.right_shift(np.left_shift(native, above), below), native.dtype.type(high + 1 - stored))
    if high != stored - 1 and not np.array_equal(alone, native):
        raise UnknownBytes(_BESIDE_THE_BITS)
    return np.asarray(alone)


def _codestreams(dataset: Dataset) -> list[bytes]:
    """Return the compressed frames without comments, and without what follows the last of them.

    Raises: UnknownBytes, also if a frame holds more bits than the stored ones and something is in them: the frame
    would have to be compressed anew.
    """
    is_jpeg = dataset.file_meta.TransferSyntaxUID in _JPEG
    without_comments = jpeg_without_comments if is_jpeg else jpeg_2000_without_comments
    count = get_nr_frames(dataset, warn=False)
    offsets = [dataset.get(f"ExtendedOffsetTable{part}") for part in ("", "Lengths")]
    frames = generate_frames(
        dataset.PixelData, number_of_frames=count, extended_offsets=tuple(offsets) if all(offsets) else None
    )
    alone = [without_comments(frame) for _, frame in zip(range(count), frames, strict=False)]
    for index, frame in enumerate(alone):
        if codestream(frame).bits > dataset.BitsStored:
            values = _decoded(dataset, index)
            without_sign = values & values.dtype.type((1 << dataset.BitsStored) - 1)
            if not any(np.array_equal(values, alone) for alone in (_stored_bits(values, dataset), without_sign)):
                raise UnknownBytes(_BESIDE_THE_BITS)
    return alone


def _run_lengths(dataset: Dataset) -> list[bytes]:
    """Return the frames of an image in RLE, compressed anew from their stored bits; RLE loses nothing."""
    encoder = get_encoder(RLELossless)
    return [
        encoder.encode(
            _stored_bits(_decoded(dataset, index), dataset),
            rows=dataset.Rows,
            columns=dataset.Columns,
            number_of_frames=1,
            samples_per_pixel=dataset.SamplesPerPixel,
            bits_allocated=dataset.BitsAllocated,
            bits_stored=dataset.BitsStored,
            pixel_representation=dataset.PixelRepresentation,
            photometric_interpretation=dataset.PhotometricInterpretation,
            planar_configuration=0,
        )
        for index in range(get_nr_frames(dataset, warn=False))
    ]


def _decoded(dataset: Dataset, index: int) -> NDArray[Any]:
    """Return the values of a frame with all bits of the codestream."""
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(JPEGExtended12Bit if syntax in _EXTENDED_KINDS else syntax)
    # On a damaged file the faster RLE decoder panics in Rust, and no `except Exception` stops the panic.
    plugin = "pydicom" if syntax == RLELossless else ""
    all_bits: dict[str, Any] = {"correct_unused_bits": False}
    values, _ = decoder.as_array(dataset, index=index, raw=True, decoding_plugin=plugin, **all_bits)
    return values
