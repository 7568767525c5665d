"""PNG, JPEG and TIFF files as 8-bit RGB, upright, whatever they hold."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ainode.node.errors import BrokenSeries
from ainode.node.imaging.pixels import MAX_PIXELS

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "TIFF")
_LOSSY = frozenset({"JPEG", "MPO"})
_SIXTEEN_BIT = 65535
_BROKEN = (EOFError, MemoryError, OSError, SyntaxError, TypeError, ValueError, UnidentifiedImageError)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a person sees it.

    Shapes: rgb (rows, columns, 3) uint8.
    """

    rgb: NDArray[np.uint8] = field(repr=False)
    lossy: bool
    """whether it was compressed by JPEG, so that detail was lost before it came here"""


def picture(path: Path) -> Picture:
    """Return the picture of a file: EXIF orientation applied, transparency on white, 16-bit gray with 65535 as white.

    Raises: BrokenSeries if it cannot be decoded, has several pages, or claims more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                _refused(image)
                lossy = image.format in _LOSSY or "jpeg" in str(image.info.get("compression", ""))
                upright = ImageOps.exif_transpose(image)
                return Picture(_rgb(upright), lossy)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BrokenSeries(f"the picture has more than {MAX_PIXELS} pixels; scale it down") from error
    except _BROKEN as error:
        raise BrokenSeries(f"the picture cannot be decoded ({type(error).__name__}); save it again as PNG") from error


def _refused(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise BrokenSeries(f"the picture has {image.width} x {image.height} pixels ({MAX_PIXELS} are read)")
    # A phone's MPO is a JPEG with a preview behind it.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise BrokenSeries("the file has several pages; save each as a file of its own")


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > _SIXTEEN_BIT:
            raise BrokenSeries("the picture has gray values beyond 16 bits; save it in 8 or 16 bits")
        gray = (values * 255 / _SIXTEEN_BIT).round().astype(np.uint8)
        return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    if image.mode == "F":
        raise BrokenSeries("the picture has gray values with fractions, without a black and white; save it in 8 bits")
    if image.mode in {"LA", "PA", "La", "RGBa", "RGBA"} or "transparency" in image.info:
        colored = image.convert("RGBA")
        page = Image.new("RGBA", colored.size, "white")
        return np.asarray(Image.alpha_composite(page, colored).convert("RGB"))
    return np.asarray(image.convert("RGB"))
