"""Saliency and outlines as lines, which leave what lies below them to be seen."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ainode.node.domain import Saliency

# Shares of the greatest saliency of the picture that the lines enclose.
_LEVELS: Final = (0.5, 0.8)
_SRGB_KNEE: Final = 0.0031308
_QUIET_COLOR: Final = (120, 126, 138)
# A map whose greatest value is below this share of the scale has no place that stands out.
_LEAST_PEAK: Final = 16


def heat_colors(strength: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return a color for each strength from 0 to 1, from violet over red to yellow; lightness grows evenly.

    Shapes: (...) in, (..., 3) uint8 sRGB out.
    Source: OKLab (B. Ottosson, 2020), lightness 0.45 to 0.92, hue -50 to 105 degrees.
    """
    lightness, hue = 0.45 + 0.47 * strength, np.radians(-50 + 155 * strength)
    a, b = 0.17 * np.cos(hue), 0.17 * np.sin(hue)
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_linear_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cones**3 @ to_linear_rgb.T, 0, 1)
    # The transfer function of IEC 61966-2-1.
    part10_bytes = np.where(linear <= _SRGB_KNEE, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(part10_bytes * 255), np.uint8)


def resized_saliency(saliency: Saliency, size: tuple[int, int]) -> Image.Image:
    """Return the saliency as an 8-bit image of `size` (columns, rows)."""
    grid = Image.frombytes("L", (saliency.columns, saliency.rows), saliency.values)
    return grid.resize(size, Image.Resampling.BICUBIC)


def contour_color(level: float) -> tuple[int, int, int]:
    """Return the color of the line that encloses a share of the greatest saliency."""
    red, green, blue = heat_colors(np.array([level]))[0].tolist()
    return red, green, blue


def with_contours(picture: Image.Image, strength: Image.Image, *, is_quiet: bool, width: int) -> Image.Image:
    """Return the picture with lines around the places of most saliency; quiet lines are gray and thin.

    Shapes: `strength` is the saliency, in 8 bits and in the size of the picture.
    """
    values = np.asarray(strength)
    peak = int(values.max())
    if peak < _LEAST_PEAK:
        return picture
    pixels = np.array(picture)
    for level in _LEVELS:
        line = edge(values >= level * peak)
        for _ in range(0 if is_quiet else width // 2):
            line = _thickened(line)
        pixels[line] = _QUIET_COLOR if is_quiet else contour_color(level)
    return Image.fromarray(pixels)


def edge(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels inside that have a pixel outside beside them."""
    line = np.zeros_like(inside)
    line[1:] |= inside[1:] & ~inside[:-1]
    line[:-1] |= inside[:-1] & ~inside[1:]
    line[:, 1:] |= inside[:, 1:] & ~inside[:, :-1]
    line[:, :-1] |= inside[:, :-1] & ~inside[:, 1:]
    return line


def _thickened(line: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a line with the pixels beside it."""
    thick = line.copy()
    thick[1:] |= line[:-1]
    thick[:-1] |= line[1:]
    thick[:, 1:] |= line[:, :-1]
    thick[:, :-1] |= line[:, 1:]
    return thick
