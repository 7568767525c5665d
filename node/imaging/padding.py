"""Which pixels of a gray image are padding: they fill the rectangle around the image, and show nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

_SIGNED = "i"
_HALF, _WHOLE = 1 << 15, 1 << 16


def padded_pixels(header: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which stored values of a gray frame are padding, by Pixel Padding Value and Pixel Padding Range Limit.

    Source: PS3.3 C.7.5.1.1.2.
    """
    value, limit = (header.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if not isinstance(value, int):
        return np.zeros(stored.shape, np.bool_)
    bounds = [_as_stored(number, stored) for number in (value, limit if isinstance(limit, int) else value)]
    return np.asarray((stored >= min(bounds)) & (stored <= max(bounds)), np.bool_)


def _as_stored(number: int, stored: NDArray[Any]) -> int:
    """Return a value of 16 bits with the sign of the pixels: headers write -2000 as 63536, too."""
    if stored.dtype.kind == _SIGNED:
        return number - _WHOLE if number >= _HALF else number
    return number + _WHOLE if number < 0 else number
