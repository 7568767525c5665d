"""Whether the pixels of a CT can be as large as its header says: by the reconstructed field, by the body's width."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ainode.node.domain import Instance

WRONG_SIZE = "wrong-pixel-size"
"""the code of a refusal of pixels that cannot be as large as the header says"""
# PS3.3 C.8.2.1: the diameter of the region that was reconstructed, which is the side of the whole matrix. Of 14 real
# series of six manufacturers the side is 0.9996 to 1.0031 of it; some devices round to whole mm.
_TOLERANCE = 1.1
# A matrix of another size may be cut out of one of these, or padded a little.
_MATRICES = frozenset({256, 320, 340, 384, 512, 768, 1024})
_MOST_PADDING = 1.25
# Units: mm. Bores are up to 850 wide, bodies with their arms up to 700; the chest of a newborn is 90 to 110 wide. A
# table beside a body makes what is measured wider, never narrower.
_NARROWEST_MM, _WIDEST_MM = 80.0, 700.0
_TISSUE_HU, _LEAST_TISSUE = -300.0, 0.02


def field_reason(instances: Iterable[Instance]) -> str:
    """Return in words that Pixel Spacing contradicts Reconstruction Diameter; '' if nothing does.

    What was made after the examination, by zooming or in another plane, keeps the diameter of the images that it was
    made from; axial slices that were derived for a lossy compression alone are primary.
    """
    return next((reason for instance in instances if (reason := _field_reason(instance))), "")


def _field_reason(instance: Instance) -> str:
    kind = [str(word).upper() for word in instance.text("ImageType").split("\\")]
    diameter, spacing = instance.header.get("ReconstructionDiameter"), instance.header.get("PixelSpacing")
    is_made_later = "SECONDARY" in kind or ("DERIVED" in kind and "AXIAL" not in kind)
    if is_made_later or not isinstance(diameter, int | float) or diameter <= 0:
        return ""
    if not isinstance(spacing, tuple) or len(spacing) != 2 or not all(isinstance(mm, int | float) for mm in spacing):  # noqa: PLR2004
        return ""
    sizes = tuple(int(instance.text(name) or 0) for name in ("Rows", "Columns"))
    for count, mm, name in zip(sizes, (float(str(mm)) for mm in spacing), ("rows", "columns"), strict=True):
        most = _TOLERANCE if count in _MATRICES else _MOST_PADDING
        least = 1 / _TOLERANCE if sizes[0] == sizes[1] and count in _MATRICES else 0.0
        side_mm = count * mm
        if not least <= side_mm / diameter <= most:
            return (
                f"Pixel Spacing {mm:g} mm times {count} {name} is {side_mm:.0f} mm, but Reconstruction Diameter is "
                f"{diameter:.0f} mm; one of them is wrong, and sizes in mm may be: correct it and send the series again"
            )
    return ""


def width_reason(slices: Sequence[NDArray[np.float32]], spacing_mm: tuple[float, float]) -> str:
    """Return in words that a body is wider or narrower than bodies are; '' if it is not, or reaches the field's edge.

    Shapes: slices of (rows, columns), in Hounsfield units. Units: `spacing_mm` of rows and columns.
    """
    widths = [width for values in slices if (width := _width_mm(values > _TISSUE_HU, spacing_mm))]
    if not widths:
        return ""
    width_mm, is_whole = max(widths)
    if width_mm > _WIDEST_MM or (width_mm < _NARROWEST_MM and is_whole):
        row_mm, column_mm = spacing_mm
        return (
            f"by Pixel Spacing, {row_mm:g} x {column_mm:g} mm, the body is {width_mm:.0f} mm wide; bodies of "
            f"{_NARROWEST_MM:.0f} to {_WIDEST_MM:.0f} mm are read: correct Pixel Spacing and send the series again"
        )
    return ""


def _width_mm(tissue: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> tuple[float, bool] | None:
    """Return how wide the tissue on a slice is, and whether air surrounds it; None without tissue."""
    extents = []
    is_whole = True
    for axis, mm in ((0, spacing_mm[1]), (1, spacing_mm[0])):
        places = np.flatnonzero(tissue.mean(axis=axis) > _LEAST_TISSUE)
        if not len(places):
            return None
        extents.append(float(places[-1] - places[0] + 1) * mm)
        is_whole = is_whole and places[0] > 0 and places[-1] < tissue.shape[1 - axis] - 1
    return max(extents), is_whole
