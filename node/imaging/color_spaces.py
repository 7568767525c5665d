"""Whether the samples of a color image can be of the color space that its header names.

Judged is what 2,611 photographs of skin show with certainty, as they are and as their twins in the other space.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# About so many pixels a side are looked at.
_SIDE: Final = 256
# Of YBR as 8 bits the differences of color lie around 128, and vary less than the brightness.
_MIDDLE: Final = 128
# In RGB the first color varied at most 1.3 times as much as the others, in YBR 1.4 to 4.6 times. With these limits no
# RGB image is taken for YBR, and 97 % of the YBR images are found.
_MOST_DIFFERENCE, _LEAST_SHARE, _LEAST_RATIO, _LEAST_SPREAD = 64, 0.995, 2.0, 40
# YBR of an image leads back to colors between black and white, but for rounding and loss. No twin had one color beside
# these; 88 % of the RGB images had more.
_BESIDE, _MOST_BESIDE = 20.0, 0.02
# PS3.3 C.7.6.3.1.2, inverted: red, green and blue of a difference to blue and to red.
_TO_RGB: Final = np.asarray([[0.0, -0.344136, 1.772], [1.402, -0.714136, 0.0]], np.float32)


def color_fault(samples: NDArray[Any], photometric_interpretation: str) -> str:
    """Return what says that samples are not of a color space, in words; '' if nothing does.

    Shapes: (rows, columns, 3), of 8 bits.
    """
    step = max(1, min(samples.shape[:2]) // _SIDE)
    looked_at = samples[::step, ::step].reshape(-1, 3).astype(np.float32)
    if photometric_interpretation == "RGB" and _looks_like_ybr(looked_at):
        return "Photometric Interpretation is RGB, but its samples are brightness and differences of color (YBR)"
    if photometric_interpretation.startswith("YBR_FULL") and _lies_beside_colors(looked_at):
        return f"Photometric Interpretation is {photometric_interpretation}, but its samples are no YBR of any color"
    return ""


def _looks_like_ybr(samples: NDArray[np.float32]) -> bool:
    low, high = np.percentile(samples, (1, 99), axis=0)
    brightness, *differences = (high - low).tolist()
    near = (np.abs(samples[:, 1:] - _MIDDLE) <= _MOST_DIFFERENCE).all(axis=1)
    is_wide = brightness >= max(_LEAST_SPREAD, _LEAST_RATIO * max(differences))
    return bool(is_wide and near.mean() >= _LEAST_SHARE)


def _lies_beside_colors(samples: NDArray[np.float32]) -> bool:
    # Tools that take writing out of an image leave zeros, whatever the color space.
    shown = samples[samples.any(axis=1)]
    colors = shown[:, :1] + (shown[:, 1:] - _MIDDLE) @ _TO_RGB
    beside = ((colors < -_BESIDE) | (colors > 255 + _BESIDE)).any(axis=1)
    return bool(beside.sum() > _MOST_BESIDE * len(samples))
