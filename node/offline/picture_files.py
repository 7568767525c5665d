"""PNG, JPEG, TIFF and WebP files, decoded as upright 8-bit RGB."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ainode.node.errors import BrokenSeries
from ainode.node.imaging.decoding import MAX_PIXELS

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")
# Lossy Image Compression Method (0028,2114) by format. The standard has no term for WebP; Pillow does not say whether a
# WebP is lossless.
_LOSSY_METHODS = {"JPEG": "ISO_10918_1", "MPO": "ISO_10918_1", "WEBP": "WEBP"}
_MAX_16_BIT, _OPAQUE = 65535, 255
# Devices save grays of 10, 12 or 14 bits unscaled in 16: of 12 bits, 16 grays of 255 would be left, all of them black.
_LEAST_WHITE = 2**14
# A few transparent pixels, as of rounded corners, show white. With half of a lesion white, 0.95 became 0.64.
_MOST_TRANSPARENT = 0.05
# TIFF 6.0: the first bit of NewSubfileType is a smaller version of another picture, Photometric 0 is white; DNG 1.4.
_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _DNG_VERSION = 254, 262, 50706
_DECODE_ERRORS = (EOFError, MemoryError, OSError, SyntaxError, TypeError, ValueError, UnidentifiedImageError)


@dataclass(frozen=True, slots=True)
class Picture:
    """The pixels of a picture as a viewer shows them.

    Shapes: rgb (rows, columns, 3) uint8.
    """

    rgb: NDArray[np.uint8] = field(repr=False)
    lossy_method: str
    """Lossy Image Compression Method of the file, '' if no detail was lost"""


def picture(path: Path) -> Picture:
    """Return the picture of a file, turned by its EXIF orientation; transparency is white, and 65535 of 16-bit gray.

    Raises: BrokenSeries if the file cannot be decoded, has several pages, has more than MAX_PIXELS, or is transparent.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                _refuse_unfit(image)
                is_jpeg_tiff = "jpeg" in str(image.info.get("compression", ""))
                lossy_method = _LOSSY_METHODS["JPEG"] if is_jpeg_tiff else _LOSSY_METHODS.get(image.format or "", "")
                # A copy has no tags. Where 0 is white, Pillow exchanges black and white of 1 and 8 bits, but not of 16.
                is_inverted = _tiff_tags(image).get(_PHOTOMETRIC) == 0 and image.mode.startswith("I")
                rgb = _rgb_pixels(ImageOps.exif_transpose(image))
                return Picture(255 - rgb if is_inverted else rgb, lossy_method)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BrokenSeries(f"the picture has more than {MAX_PIXELS} pixels; scale it down") from error
    except _DECODE_ERRORS as error:
        raise BrokenSeries(f"the picture cannot be decoded ({type(error).__name__}); save it again as PNG") from error


def _refuse_unfit(image: Image.Image) -> None:
    """Refuse a picture with too many pixels or several pages.

    Raises: BrokenSeries.
    """
    if image.width * image.height > MAX_PIXELS:
        raise BrokenSeries(f"the picture has {image.width} x {image.height} pixels ({MAX_PIXELS} are read)")
    # The MPO of a phone is a JPEG followed by a preview.
    tags = _tiff_tags(image)
    if tags.get(_DNG_VERSION) or int(tags.get(_NEW_SUBFILE_TYPE) or 0) & 1:
        raise BrokenSeries("the file is the raw file of a camera, or a preview; save the whole picture as JPEG or PNG")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise BrokenSeries("the file has several pages; save each page as a separate file")


def _rgb_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels as RGB, shape (rows, columns, 3).

    Raises: BrokenSeries if the range of the gray values is unknown, or too much of the picture is transparent.
    """
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > _MAX_16_BIT:
            raise BrokenSeries("the picture has gray values beyond 16 bits; save it in 8 or 16 bits")
        if values.max() < _LEAST_WHITE:
            raise BrokenSeries(
                f"the picture has gray values of 16 bits that end at {values.max()}, so that white is unknown; "
                "scale them to 65535, or save it in 8 bits"
            )
        gray = (values * 255 / _MAX_16_BIT).round().astype(np.uint8)
        return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    if image.mode == "F":
        raise BrokenSeries(
            "the picture has gray values with fractions, so that black and white are unknown; save it in 8 bits"
        )
    if image.mode in {"LA", "PA", "La", "RGBa", "RGBA"} or "transparency" in image.info:
        colored = image.convert("RGBA")
        share = float((np.asarray(colored.getchannel("A")) < _OPAQUE).mean())
        if share > _MOST_TRANSPARENT:
            raise BrokenSeries(
                f"{share:.1%} of the picture is transparent, and what was there is unknown; save it opaque"
            )
        background = Image.new("RGBA", colored.size, "white")
        return np.asarray(Image.alpha_composite(background, colored).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _tiff_tags(image: Image.Image) -> Mapping[int, Any]:
    """Return the tags of a TIFF; nothing for another format."""
    return getattr(image, "tag_v2", {})
