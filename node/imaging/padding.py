"""Which pixels of a gray image are padding: they fill the rectangle around the image, and show nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ainode.node.errors import BrokenSeries

_SIGNED = "i"
_HALF, _WHOLE = 1 << 15, 1 << 16
# Of the pixels; no real image with padding had any.
_MOST_INNER = 0.01


def padded_pixels(header: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which stored values of a gray frame are padding, by Pixel Padding Value and Pixel Padding Range Limit.

    Raises: BrokenSeries if a part of the image itself has these values: what it shows would count for nothing.
    Source: PS3.3 C.7.5.1.1.2.
    """
    value, limit = (header.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if not isinstance(value, int):
        return np.zeros(stored.shape, np.bool_)
    bounds = [_as_stored(number, stored) for number in (value, limit if isinstance(limit, int) else value)]
    is_padding = np.asarray((stored >= min(bounds)) & (stored <= max(bounds)), np.bool_)
    if _inner_share(stored, is_padding) > _MOST_INNER:
        reason = f"Pixel Padding Value is {value}, but a part of the image itself has the values of padding"
        raise BrokenSeries(f"instance {header.get('SOPInstanceUID')}: {reason}; correct the header at its source")
    return is_padding


def _inner_share(stored: NDArray[Any], is_padding: NDArray[np.bool_]) -> float:
    """Return the share of pixels that are padding, are not at the edge, and have a value that others have around it."""
    if not is_padding.any() or is_padding.all():
        return 0.0
    joined = np.logical_and.accumulate
    at_edge = joined(is_padding, 0) | joined(is_padding[::-1], 0)[::-1]
    at_edge |= joined(is_padding, 1) | joined(is_padding[:, ::-1], 1)[:, ::-1]
    inner = is_padding & ~at_edge
    if inner.mean() <= _MOST_INNER:  # the percentiles take longer than all else
        return 0.0
    low, high = np.percentile(stored[~is_padding], (1, 99))
    return float((inner & (stored > low) & (stored < high)).mean())


def _as_stored(number: int, stored: NDArray[Any]) -> int:
    """Return a value of 16 bits with the sign of the pixels: headers write -2000 as 63536, too."""
    if stored.dtype.kind == _SIGNED:
        return number - _WHOLE if number >= _HALF else number
    return number + _WHOLE if number < 0 else number
