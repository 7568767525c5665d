"""The same study in other clothes: what must not change an answer."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless

Edit = Callable[[Dataset, int], None]


def _vectors(image: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return position, row axis, column axis and (row, column) spacing."""
    orientation = np.asarray(image.ImageOrientationPatient, float)
    position, spacing = np.asarray(image.ImagePositionPatient, float), np.asarray(image.PixelSpacing, float)
    return position, orientation[:3], orientation[3:], spacing


def _place(image: Dataset, position: np.ndarray, row: np.ndarray, column: np.ndarray) -> None:
    image.ImagePositionPatient = [round(float(one), 6) for one in position]
    image.ImageOrientationPatient = [float(one) for one in (*row, *column)]


def upside_down(image: Dataset, _: int) -> None:
    """Turn the rows around, and say so."""
    position, row, column, spacing = _vectors(image)
    image.PixelData = np.ascontiguousarray(image.pixel_array[::-1]).tobytes()
    _place(image, position + column * spacing[0] * (image.Rows - 1), row, -column)


def mirrored(image: Dataset, _: int) -> None:
    """Turn the columns around, and say so."""
    position, row, column, spacing = _vectors(image)
    image.PixelData = np.ascontiguousarray(image.pixel_array[:, ::-1]).tobytes()
    _place(image, position + row * spacing[1] * (image.Columns - 1), -row, column)


def transposed(image: Dataset, _: int) -> None:
    """Make rows of columns, and say so."""
    position, row, column, spacing = _vectors(image)
    image.PixelData = np.ascontiguousarray(image.pixel_array.T).tobytes()
    image.Rows, image.Columns = image.Columns, image.Rows
    image.PixelSpacing = [float(spacing[1]), float(spacing[0])]
    _place(image, position, column, row)


def renumbered(image: Dataset, number: int) -> None:
    """Give the instances numbers that say nothing of their order."""
    image.InstanceNumber = (number * 7919) % 997 + 1


def run_length(image: Dataset, _: int) -> None:
    """Compress without loss (RLE)."""
    image.compress(RLELossless, generate_instance_uid=False)


def wavelets(image: Dataset, _: int) -> None:
    """Compress without loss (JPEG 2000)."""
    image.compress(JPEG2000Lossless, generate_instance_uid=False)


# Turning an axis is for what has a place in the patient.
OF_ANY_IMAGE: Mapping[str, Edit] = {"RLE": run_length, "JPEG 2000": wavelets, "renumbered": renumbered}
OF_SLICES: Mapping[str, Edit] = {
    **OF_ANY_IMAGE,
    "upside down": upside_down,
    "mirrored": mirrored,
    "transposed": transposed,
}


def edited(paths: Iterable[Path], folder: Path, edit: Edit) -> tuple[Path, ...]:
    """Write every image anew after `edit`, in the reverse order of files; what is no image is copied."""
    folder.mkdir(parents=True)
    written = []
    for number, path in enumerate(sorted(paths, reverse=True)):
        image = dcmread(path)
        if "PixelData" in image:
            edit(image, number)
        target = folder / f"{number:04d}.dcm"
        image.save_as(target, enforce_file_format=True)
        written.append(target)
    return tuple(written)
