"""The shape of a pixel: an image whose pixels are no squares is squashed until somebody stretches it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from pydicom import Dataset

SIZES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
"""height and width of a pixel, of which the ratio counts (PS3.3 10.7, C.7.6.3.1.7)"""

# Two elements agree within what their decimal places leave; no receptor has pixels that are longer.
_SAME_SHAPE, _LONGEST = 0.02, 10.0


@dataclass(frozen=True, slots=True)
class PixelWidth:
    """How wide a pixel is, and which element of the header says it."""

    millimeters: float
    keyword: str

    def __str__(self) -> str:
        """Return where the millimeters are measured, for a report (PS3.3 10.7.1)."""
        if self.keyword == "PixelSpacing":
            return "as Pixel Spacing says"
        return "on the receptor, by Imager Pixel Spacing: larger than in the patient by the magnification"


def pixel_width(header: Dataset | Mapping[str, object]) -> PixelWidth | None:
    """Return the width of a radiograph's pixel: calibrated where somebody did, else on the receptor; None without."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        sizes = _numbers(header.get(keyword))
        if len(sizes) == 2 and min(sizes) > 0:  # noqa: PLR2004 - of rows and of columns
            return PixelWidth(sizes[1], keyword)
    return None


def height_per_width(header: Dataset | Mapping[str, object]) -> float:
    """Return the height of a pixel in widths of the pixel, 1 if the header does not say."""
    return next(iter(_ratios(header).values()), 1.0)


def shape_fault(header: Dataset | Mapping[str, object]) -> str | None:
    """Return why nobody knows the shape of the image's pixels; None if the header says it, or says nothing."""
    ratios = _ratios(header)
    for keyword, ratio in ratios.items():
        if not 1 / _LONGEST <= ratio <= _LONGEST:
            return f"{keyword} says that a pixel is {ratio:.3g} times as high as wide"
        first, decisive = next(iter(ratios.items()))
        if abs(ratio / decisive - 1) > _SAME_SHAPE:
            return (
                f"{first} says that a pixel is {decisive:.3g} times as high as wide, {keyword} says {ratio:.3g} times"
            )
    return None


def _ratios(header: Dataset | Mapping[str, object]) -> dict[str, float]:
    """Return the height of a pixel in widths of the pixel, by the element that says it; the first counts."""
    pairs = {keyword: _numbers(header.get(keyword)) for keyword in SIZES}
    return {
        keyword: sizes[0] / sizes[1]
        for keyword, sizes in pairs.items()
        if len(sizes) == 2 and min(sizes) > 0  # noqa: PLR2004 - height and width
    }


def _numbers(values: object) -> tuple[float, ...]:
    """Return the values of an element as numbers; none if one of them is no finite number."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return ()
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return ()
    return numbers if all(isfinite(number) for number in numbers) else ()
