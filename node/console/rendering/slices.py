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

from ainode.node.domain import counted
from ainode.node.errors import BrokenSeries, NodeError
from ainode.node.imaging.decoding import BROKEN_FILE
from ainode.node.imaging.free_text import as_code
from ainode.node.imaging.functional_groups import frame_count, frame_header
from ainode.node.imaging.pixel_shape import height_per_width
from ainode.node.imaging.pixels import frame, lies_beside
from ainode.node.imaging.slice_order import runs_backward, upward_normal

Vector: TypeAlias = NDArray[np.float64]

_MOST_SLICES: Final = 4_096
_HEADER_BYTES: Final = 65_536
_ROUNDED: Final = 4
_MOST_ENTRIES: Final = 5
# A window below this width is of values as 0.35 per second, a wider one of Hounsfield units or gray.
_NARROW: Final = 10
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
# Words in Body Part Examined, and the window in which a person first looks at that part; else soft tissue.
_WINDOW_OF_PART: Final = {"CHEST": "Lung", "LUNG": "Lung", "THORAX": "Lung", "BRAIN": "Brain", "HEAD": "Brain"}


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
    path: Path

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
            slices += islice(_slices(header, path), max(_MOST_SLICES - len(slices), 0))
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
    window = _series_window(ordered, len(planes), headers[0])
    return {
        "modality": as_code(headers[0].get("Modality", "")),
        "frame_of_reference": str(headers[0].get("FrameOfReferenceUID", "")),
        "name": f"Series {headers[0].SeriesNumber}" if headers[0].get("SeriesNumber") is not None else "",
        "planes": list(planes.values()),
        "slices": [
            _row(item, numbers[item.key], index, words)
            for item, index, words in zip(ordered, _indices(ordered), _words(ordered), strict=True)
        ],
        "step_mm": _step(ordered, len(planes)),
        "window": window,
        "window_label": f"Series ({_window_text(*window)})" if window else "From the image",
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


def _slices(header: Dataset, path: Path) -> Iterator[_Slice]:
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
            path=path,
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


def _words(ordered: Sequence[_Slice]) -> list[str]:
    """Return what stands behind the number of each slice: an Instance Number that differs, and the position."""
    is_several = len({item.uid for item in ordered}) > 1
    differs = is_several and any(item.number not in {count, np.inf} for count, item in enumerate(ordered, start=1))
    images = [f", image {item.number:.0f}" if differs and item.number != np.inf else "" for item in ordered]
    heights = ["" if item.height is None else f", {item.height:.1f} mm" for item in ordered]
    return [image + height for image, height in zip(images, heights, strict=True)]


def _row(item: _Slice, plane: int, index: int, words: str) -> dict[str, Any]:
    height = item.height
    return {
        "uid": item.uid,
        "frame": item.frame,
        "plane": plane,
        "origin": None if item.origin is None else item.origin.tolist(),
        "index": index,
        "words": words,
        "at": None if height is None else round(height, _ROUNDED),
    }


def _step(ordered: Sequence[_Slice], planes: int) -> float | None:
    """Return the median distance between slices in mm; None without geometry, or with several planes."""
    heights = [item.height for item in ordered if item.height is not None]
    if planes > 1 or len(heights) < 2 or len(heights) < len(ordered):  # noqa: PLR2004 - a distance has two ends
        return None
    return round(float(np.median(np.abs(np.diff(heights)))), _ROUNDED)


def _series_window(ordered: Sequence[_Slice], planes: int, first: Dataset) -> tuple[float, float] | None:
    """Return center and width through which each slice of a series is shown first, by its middle slice.

    None where images have windows of their own: of colors, of views of a body, and where no slice can be decoded.
    """
    is_ct = first.get("Modality") == "CT"
    if not is_ct and (_step(ordered, planes) is None and len({item.uid for item in ordered}) > 1):
        return None
    middle = len(ordered) // 2
    for item in (ordered[middle], ordered[0], ordered[-1]):
        try:
            shown = frame(item.path, item.frame)
        except BrokenSeries:
            continue
        is_stated = shown.window is not None and shown.window == _stated(shown.header)
        preset = _ct_preset(first) if is_ct and shown.window and not is_stated else None
        return preset if preset and not lies_beside(shown.values, *preset) else shown.window
    return None


def _stated(header: Dataset) -> tuple[float, float] | None:
    """Return the first window of a header, None without one."""
    first = [_several(header.get(keyword))[:1] for keyword in ("WindowCenter", "WindowWidth")]
    return (float(first[0][0]), float(first[1][0])) if all(first) else None


def _ct_preset(header: Dataset) -> tuple[float, float]:
    """Return center and width of a CT that states none, by the part that the header names."""
    part = str(header.get("BodyPartExamined", "")).upper()
    name = next((name for word, name in _WINDOW_OF_PART.items() if word in part), "Mediastinum")
    return next((center, width) for preset, center, width in _CT_WINDOWS if preset == name)


def _windows(header: Dataset) -> list[dict[str, Any]]:
    """Return the windows that the first image states, then those of its modality."""
    merged = frame_header(header, 0)
    names = _several(merged.get("WindowCenterWidthExplanation"))
    pairs = zip(_several(merged.get("WindowCenter")), _several(merged.get("WindowWidth")), strict=False)
    windows: list[dict[str, Any]] = [
        {
            "name": as_code(str(names[number]).upper()).capitalize() if number < len(names) else "As stored",
            "center": float(center),
            "width": float(width),
        }
        for number, (center, width) in enumerate(islice(pairs, _MOST_ENTRIES))
        if np.isfinite([float(center), float(width)]).all() and float(width) > 1
    ]
    # A header may state one window for several purposes.
    windows = list({(item["center"], item["width"], item["name"]): item for item in windows}.values())
    if header.get("Modality") == "CT":
        windows += [{"name": name, "center": center, "width": width} for name, center, width in _CT_WINDOWS]
    return [{**item, "label": f"{item['name']} ({_window_text(item['center'], item['width'])})"} for item in windows]


def _window_text(center: float, width: float) -> str:
    """Return center and width for a person: whole numbers, with decimals in a narrow window alone."""
    return " / ".join(f"{round(value) if width >= _NARROW else round(value, 3)}" for value in (center, width))


def _several(value: object) -> list[Any]:
    """Return the values of an element as a list, [] where the element is empty."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float) else list(value)  # type: ignore[call-overload]
