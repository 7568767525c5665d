"""The same images in other clothes: what is written of them, with the same patient, place and UIDs."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset, dcmread, dcmwrite
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from ainode.node.domain import Point
from ainode.node.proving.sameness import Move

Edit = Callable[[Dataset], None]
_NO_IMAGES: Final = frozenset({"SEG", "RTDOSE"})
"""modalities of objects with pixels that are statements about an image, and no image"""


@dataclass(frozen=True, slots=True)
class Turn:
    """Another way to store the slices of a volume: the edit, and how a place on a turned image is turned back."""

    edit: Edit
    back: Callable[[int, int], Move]
    """of rows and columns of the image as it was"""


def read_images(paths: Iterable[Path]) -> Iterator[tuple[Path, Dataset]]:
    """Yield each file with its data set."""
    for path in paths:
        yield path, dcmread(path)


def written(paths: Sequence[Path], folder: Path, edit: Edit, *, of_images: bool = True) -> tuple[Path, ...]:
    """Write every object anew after `edit`, and return the paths; with `of_images`, objects without pixels stay."""
    folder.mkdir(parents=True)
    copies = []
    for number, (_, item) in enumerate(read_images(paths)):
        if not of_images or is_image(item):
            edit(item)
        copies.append(save(item, folder / f"{number:05d}.dcm"))
    return tuple(copies)


def is_image(item: Dataset) -> bool:
    """Return whether an object, or its header, is an image."""
    return "Rows" in item and item.get("Modality") not in _NO_IMAGES


def copy(path: Path, target: Path) -> Path:
    """Copy a file into a folder that may not be there yet, and return the path of the copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(path, target))


def save(item: Dataset, path: Path) -> Path:
    """Write an object in the transfer syntax that its meta group names, and return the path."""
    dcmwrite(path, item, enforce_file_format=True)
    return path


def is_encapsulated(item: Dataset) -> bool:
    """Return whether the pixels of an image are compressed."""
    return bool(item.file_meta.TransferSyntaxUID.is_encapsulated)


def _compressed(syntax: UID) -> Edit:
    def edit(item: Dataset) -> None:
        item.compress(syntax, generate_instance_uid=False)

    return edit


def _deflated(item: Dataset) -> None:
    item.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def _implicit(item: Dataset) -> None:
    item.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def _big_endian(item: Dataset) -> None:
    item.decode()  # an element that nobody has looked at would be written with its bytes as they are
    item.walk(lambda _, element: _swap(element))
    item.file_meta.TransferSyntaxUID = ExplicitVRBigEndian


def _swap(element: DataElement) -> None:
    """Exchange the bytes of 16-bit words, which pydicom writes as they are."""
    if element.VR == "OW" and element.value:
        element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()


COMPRESSIONS: Final = {"JPEG-LS": JPEGLSLossless, "RLE": RLELossless, "JPEG 2000": JPEG2000Lossless}
SYNTAXES: Final[Mapping[str, Edit]] = {
    **{name: _compressed(syntax) for name, syntax in COMPRESSIONS.items()},
    "deflated": _deflated,
    "big endian": _big_endian,
    "implicit VR": _implicit,
}
"""lossless ways to store the same pixels, by name"""


def missing_encoder(name: str) -> str:
    """Return why images cannot be stored so on this machine, '' if they can."""
    syntax = COMPRESSIONS.get(name)
    if syntax is None or get_encoder(syntax).is_available:
        return ""
    packages = {"JPEG-LS": "pyjpegls", "JPEG 2000": "pylibjpeg-openjpeg"}
    return f"no encoder for {name} is installed; `pip install {packages.get(name, 'pylibjpeg')}`"


def plain_pixels(item: Dataset) -> NDArray[Any]:
    """Return the stored values of an image of one value a pixel, which is decompressed for it."""
    if is_encapsulated(item):
        item.decompress(generate_instance_uid=False)
    return np.asarray(item.pixel_array)


def _vectors(item: Dataset) -> tuple[NDArray[np.float64], ...]:
    """Return position, direction of a row, direction of a column, and spacing of rows and columns in mm."""
    orientation = np.asarray(item.ImageOrientationPatient, np.float64)
    position, spacing = np.asarray(item.ImagePositionPatient, np.float64), np.asarray(item.PixelSpacing, np.float64)
    return position, orientation[:3], orientation[3:], spacing


def _place(item: Dataset, position: NDArray[np.float64], row: NDArray[np.float64], column: NDArray[np.float64]) -> None:
    item.ImagePositionPatient = [round(float(number), 6) for number in position]
    item.ImageOrientationPatient = [float(number) for number in (*row, *column)]


def _store(item: Dataset, pixels: NDArray[Any]) -> None:
    item.Rows, item.Columns = pixels.shape
    item.PixelData = np.ascontiguousarray(pixels).tobytes()


def _upside_down(item: Dataset) -> None:
    pixels = plain_pixels(item)
    position, row, column, spacing = _vectors(item)
    _store(item, pixels[::-1])
    _place(item, position + column * spacing[0] * (item.Rows - 1), row, -column)


def _mirrored(item: Dataset) -> None:
    pixels = plain_pixels(item)
    position, row, column, spacing = _vectors(item)
    _store(item, pixels[:, ::-1])
    _place(item, position + row * spacing[1] * (item.Columns - 1), -row, column)


def _transposed(item: Dataset) -> None:
    pixels = plain_pixels(item)
    position, row, column, spacing = _vectors(item)
    _store(item, pixels.T)
    item.PixelSpacing = [float(spacing[1]), float(spacing[0])]
    _place(item, position, column, row)


def _upside_down_back(rows: int, columns: int) -> Move:
    del columns
    return lambda column, row: (column, rows - row)


def _mirrored_back(rows: int, columns: int) -> Move:
    del rows
    return lambda column, row: (columns - column, row)


def _transposed_back(rows: int, columns: int) -> Move:
    del rows, columns
    return _exchanged


def _exchanged(column: float, row: float) -> Point:
    return row, column


TURNS: Final[Mapping[str, Turn]] = {
    "rows reversed": Turn(_upside_down, _upside_down_back),
    "columns reversed": Turn(_mirrored, _mirrored_back),
    "rows as columns": Turn(_transposed, _transposed_back),
}
"""ways to store the slices of a volume that show the same patient at the same place"""


def inverted(item: Dataset) -> None:
    """Store the grays of a radiograph the other way round, and say so (PS3.3 C.7.6.3.1.2, C.11.2, C.11.6)."""
    pixels = plain_pixels(item)
    signed = bool(item.PixelRepresentation)
    ends = -1 if signed else (1 << int(item.BitsStored)) - 1
    _store(item, (ends - pixels.astype(np.int64)).astype(pixels.dtype))
    was_inverse = item.PhotometricInterpretation == "MONOCHROME1"
    item.PhotometricInterpretation = "MONOCHROME2" if was_inverse else "MONOCHROME1"
    if "PresentationLUTShape" in item:
        item.PresentationLUTShape = "IDENTITY" if was_inverse else "INVERSE"
    # A window is linear about its center minus a half.
    total = float(item.get("RescaleSlope") or 1) * ends + 2 * float(item.get("RescaleIntercept") or 0)
    if centers := item.get("WindowCenter"):
        values = [total - float(center) + 1 for center in (centers if item["WindowCenter"].VM > 1 else [centers])]
        item.WindowCenter = values if len(values) > 1 else values[0]
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if keyword in item:
            item[keyword].value = ends - int(item[keyword].value)


def is_turnable(item: Dataset) -> bool:
    """Return whether an image is a slice with a place in the patient, of one value a pixel and one frame."""
    needed = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
    return all(item.get(keyword) for keyword in needed) and _is_gray(item)


def is_invertible(item: Dataset) -> bool:
    """Return whether an image is a projection in gray without a table of grays, which would have to be turned, too."""
    has_table = "VOILUTSequence" in item or "ModalityLUTSequence" in item
    return not is_turnable(item) and _is_gray(item) and not has_table


def _is_gray(item: Dataset) -> bool:
    return item.get("SamplesPerPixel") == 1 and str(item.get("PhotometricInterpretation")).startswith("MONOCHROME")
