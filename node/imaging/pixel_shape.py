"""The shape of a pixel: an image whose pixels are no squares is squashed until somebody stretches it."""

from collections.abc import Mapping, Sequence

from pydicom import Dataset

SIZES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
"""height and width of a pixel, of which the ratio counts (PS3.3 10.7, C.7.6.3.1.7)"""


def height_per_width(header: Dataset | Mapping[str, object]) -> float:
    """Return the height of a pixel in widths of the pixel, 1 if the header does not say."""
    for keyword in SIZES:
        sizes = _numbers(header.get(keyword))
        if len(sizes) == 2 and min(sizes) > 0:  # noqa: PLR2004 - height and width
            return sizes[0] / sizes[1]
    return 1.0


def _numbers(values: object) -> tuple[float, ...]:
    """Return the values of an element as numbers; none if one of them is no number."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return ()
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return ()
