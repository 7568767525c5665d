"""The slices of a series for the viewer: their order, where they lie, and what stands at the edges of the picture.

Image Position and Image Orientation decide the order; the Instance Number decides which end is first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from ainode.node.counting import counted
from ainode.node.errors import BrokenSeries, NodeError
from ainode.node.imaging.decoding import BROKEN_FILE
from ainode.node.imaging.free_text import as_code
from ainode.node.imaging.functional_groups import frame_count, frame_header
from ainode.node.imaging.pixel_shape import height_per_width
from ainode.node.imaging.slice_order import runs_backward, upward_normal

Vector: TypeAlias = NDArray[np.float64]

_MOST_SLICES: Final = 4_096
_HEADER_BYTES: Final = 65_536
_ROUNDED: Final = 4
_MOST_ENTRIES: Final = 5
# A direction has the letter of each axis along which it runs for more than this share of its length.
_OBLIQUE: Final = 0.25
# LPS: the letters of the ends of each axis of the patient (PS3.3 C.7.6.1.1.1).
_LETTERS: Final = (("L", "R"), ("P", "A"), ("H", "F"))
_OPPOSITE: Final = dict(zip("LRPAHF", "RLAPFH", strict=True))
# Center and width in HU.
_CT_WINDOWS: Final = (
    ("Lung", -600, 1500),
    ("Mediastinum", 40, 400),
    ("Abdomen", 60, 360),
    ("Bone", 500, 2000),
    ("Brain", 40, 80),
)


@dataclass(frozen=True, slots=True)
class _Slice:
    """A frame of a file."""

    uid: str
    frame: int
    number: float
    """Instance Number"""
    plane: dict[str, Any]
    origin: Vector | None
    """center of the first pixel in LPS mm"""

    @property
    def height(self) -> float | None:
        """Return the position along the normal in mm, None without geometry."""
        axes = self.plane["axes"]
        return None if axes is None or self.origin is None else float(upward_normal(np.asarray(axes)) @ self.origin)

    @property
    def key(self) -> str:
        """Return what slices of one plane share."""
        return repr(self.plane)


def series_view(paths: Sequence[Path]) -> dict[str, Any]:
    """Return planes, slices and windows of a series; a file that is no image, or is damaged, is named in `left_out`.

    Raises: BrokenSeries if no file holds an image.
    """
    slices: list[_Slice] = []
    headers: list[Dataset] = []
    left_out: list[str] = []
    for path in paths[:_MOST_SLICES]:
        try:
            header = _header(path)
            slices += islice(_slices(header), max(_MOST_SLICES - len(slices), 0))
            headers = headers or [header]
        except NodeError as error:
            left_out.append(str(error))
        except BROKEN_FILE as error:
            left_out.append(f"a file is damaged ({type(error).__name__})")
    if not slices:
        raise BrokenSeries(f"the series has no image to show: {left_out[0] if left_out else 'it has no file'}")
    planes = {item.key: item.plane for item in slices}
    numbers = {key: number for number, key in enumerate(planes)}
    ordered = _ordered(slices, numbers)
    return {
        "modality": as_code(headers[0].get("Modality", "")),
        "frame_of_reference": str(headers[0].get("FrameOfReferenceUID", "")),
        "planes": list(planes.values()),
        "slices": [
            _row(item, numbers[item.key], index) for item, index in zip(ordered, _indices(ordered), strict=True)
        ],
        "step_mm": _step(ordered, len(planes)),
        "windows": _windows(headers[0]),
        "left_out": left_out[:_MOST_ENTRIES] + _beyond(len(paths)),
    }


def _beyond(count: int) -> list[str]:
    """Return what is said of more files than a person looks at."""
    return [f"{counted(count - _MOST_SLICES, 'file')} beyond the first {_MOST_SLICES}"] if count > _MOST_SLICES else []


def _header(path: Path) -> Dataset:
    header = dcmread(path, stop_before_pixels=True, defer_size=_HEADER_BYTES)
    if not header.get("Rows") or not header.get("Columns"):
        raise BrokenSeries(f"instance {header.get('SOPInstanceUID', 'without UID')}: the object is no image")
    return header


def _slices(header: Dataset) -> Iterator[_Slice]:
    number = header.get("InstanceNumber")
    for index in range(frame_count(header)):
        merged = frame_header(header, index)
        origin = _vector(merged.get("ImagePositionPatient"), 3)
        yield _Slice(
            uid=str(header.get("SOPInstanceUID", "")),
            frame=index,
            number=float(number) if isinstance(number, int | float) else np.inf,
            plane=_plane(merged),
            origin=origin,
        )


def _plane(header: Dataset) -> dict[str, Any]:
    """Return what slices that lie above each other share: size, pixel, directions, letters."""
    axes = _axes(header)
    spacing = _vector(header.get("PixelSpacing"), 2)
    return {
        "rows": int(header.Rows),
        "columns": int(header.Columns),
        "spacing": None if spacing is None or spacing.min() <= 0 else spacing.tolist(),
        "aspect": height_per_width(header),
        "axes": None if axes is None else axes.round(6).tolist(),
        "letters": _edge_letters(header, axes),
    }


def _axes(header: Dataset) -> Vector | None:
    """Return the directions in which the column index and the row index grow, as unit vectors in LPS."""
    orientation = _vector(header.get("ImageOrientationPatient"), 6)
    if orientation is None:
        return None
    axes = orientation.reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    return None if lengths.min() <= 0 else axes / lengths


def _vector(value: object, count: int) -> Vector | None:
    try:
        vector = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return vector if vector.shape == (count,) and bool(np.isfinite(vector).all()) else None


def _edge_letters(header: Dataset, axes: Vector | None) -> dict[str, str] | None:
    """Return the letters of the four edges; None where nothing tells the directions."""
    if axes is None:
        named = header.get("PatientOrientation") or ()
        directions = ["".join(letter for letter in str(text).upper() if letter in _OPPOSITE) for text in named]
    else:
        directions = [_letters(axis) for axis in axes]
    if len(directions) != 2 or not all(directions):  # noqa: PLR2004 - rows and columns
        return None
    right, bottom = directions
    return {"right": right, "bottom": bottom, "left": _opposite(right), "top": _opposite(bottom)}


def _letters(direction: Vector) -> str:
    """Return the letters of a direction, that of its longest part first."""
    order = np.argsort(-np.abs(direction))
    return "".join(_LETTERS[axis][int(direction[axis] < 0)] for axis in order if abs(direction[axis]) > _OBLIQUE)


def _opposite(letters: str) -> str:
    return "".join(_OPPOSITE[letter] for letter in letters)


def _ordered(slices: Sequence[_Slice], planes: dict[str, int]) -> list[_Slice]:
    """Return slices of one plane along its normal, plane by plane; without geometry, by Instance Number."""
    heights = {id(item): item.height for item in slices}

    def order(item: _Slice) -> tuple[float, ...]:
        height = heights[id(item)]
        return (planes[item.key], 0.0 if height is None else round(height, _ROUNDED), item.number, item.frame)

    ordered = sorted(slices, key=order)
    return ordered[::-1] if runs_backward([(item.number, item.frame) for item in ordered]) else ordered


def _indices(ordered: Sequence[_Slice]) -> list[int]:
    """Return the index of each slice in the volume, which grows along the normal of rows and columns."""
    heights = [item.height for item in ordered]
    if any(height is None for height in heights) or len({item.key for item in ordered}) > 1:
        return list(range(len(ordered)))
    axes = np.asarray(ordered[0].plane["axes"])
    sign = 1 if np.allclose(upward_normal(axes), np.cross(axes[0], axes[1])) else -1
    order = np.argsort([sign * (height or 0.0) for height in heights], kind="stable")
    return [int(index) for index in np.argsort(order)]


def _row(item: _Slice, plane: int, index: int) -> dict[str, Any]:
    height = item.height
    return {
        "uid": item.uid,
        "frame": item.frame,
        "plane": plane,
        "origin": None if item.origin is None else item.origin.tolist(),
        "index": index,
        "at": None if height is None else round(height, _ROUNDED),
    }


def _step(ordered: Sequence[_Slice], planes: int) -> float | None:
    """Return the median distance between slices in mm; None without geometry, or with several planes."""
    heights = [item.height for item in ordered if item.height is not None]
    if planes > 1 or len(heights) < 2 or len(heights) < len(ordered):  # noqa: PLR2004 - a distance has two ends
        return None
    return round(float(np.median(np.abs(np.diff(heights)))), _ROUNDED)


def _windows(header: Dataset) -> list[dict[str, Any]]:
    """Return the windows that the first image states, then those of its modality."""
    merged = frame_header(header, 0)
    names = _several(merged.get("WindowCenterWidthExplanation"))
    pairs = zip(_several(merged.get("WindowCenter")), _several(merged.get("WindowWidth")), strict=False)
    windows = [
        {
            "name": as_code(str(names[number]).upper()).capitalize() if number < len(names) else "As stored",
            "center": float(center),
            "width": float(width),
        }
        for number, (center, width) in enumerate(islice(pairs, _MOST_ENTRIES))
        if np.isfinite([float(center), float(width)]).all() and float(width) > 1
    ]
    if header.get("Modality") == "CT":
        windows += [{"name": name, "center": center, "width": width} for name, center, width in _CT_WINDOWS]
    return windows


def _several(value: object) -> list[Any]:
    """Return the values of an element as a list, [] where the element is empty."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float) else list(value)  # type: ignore[call-overload]
