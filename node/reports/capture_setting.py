"""What a source header says around its capture: the shape of a pixel, the sides of the patient, series, slice, date."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ainode.node.domain import Capture, InstanceRef
from ainode.node.imaging.pixel_shape import height_per_width
from ainode.node.reports.dates import iso_date
from ainode.node.reports.drawing import Setting

_OPPOSITE_SIDES = str.maketrans("RLAPHF", "LRPAFH")
# The axes of the patient (PS3.3 C.7.6.2.1.1), to the greater coordinate.
_SIDES = "LPH"


def setting_of(header: Dataset, capture: Capture, evidence: Sequence[InstanceRef]) -> Setting:
    """Return what the header of the source says around the capture; `evidence` has the slices that were read."""
    return Setting(height_per_width(header), _letters(header), tuple(_captions(header, capture, evidence)))


def _letters(header: Dataset) -> tuple[str, str, str, str]:
    """Return the side of the patient at the left, right, top and bottom edge; empty where the header does not say."""
    right, bottom = _directions(header)
    return right.translate(_OPPOSITE_SIDES), right, bottom.translate(_OPPOSITE_SIDES), bottom


def _directions(header: Dataset) -> tuple[str, str]:
    """Return the sides to which rows and columns of the image run."""
    if cosines := header.get("ImageOrientationPatient"):
        row, column = np.asarray(cosines, np.float64).reshape(2, 3)
        return _side(row), _side(column)
    orientation = [str(value) for value in header.get("PatientOrientation") or ()]
    if orientation and not set("".join(orientation)) - set("RLAPHF"):
        return orientation[0][:1], orientation[1][:1]
    return "", ""


def _side(direction: NDArray[np.float64]) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return _SIDES[axis] if direction[axis] > 0 else _SIDES[axis].translate(_OPPOSITE_SIDES)


def _captions(header: Dataset, capture: Capture, evidence: Sequence[InstanceRef]) -> list[str]:
    """Return series, slice and frame, and the date of the study."""
    series = header.get("SeriesNumber")
    slices = [ref.sop_instance_uid for ref in evidence if ref.series_instance_uid == capture.image.series_instance_uid]
    place = [f"Series {series}"] if series is not None else []
    if len(slices) > 1 and capture.image.sop_instance_uid in slices:
        place += _slice(header, slices.index(capture.image.sop_instance_uid), len(slices))
    place += [f"frame {capture.frame}/{header.NumberOfFrames}"] if capture.frame else []
    return [line for line in (" ".join(place), iso_date(header.get("StudyDate"))) if line]


def _slice(header: Dataset, index: int, count: int) -> list[str]:
    """Return the Instance Number, by which viewers number a slice; and how many there are, if all of them were read.

    A part of a series is told by its numbers: they are counted from neither end.
    """
    number = header.get("InstanceNumber")
    if number is None:
        return []
    return [f"{number}/{count}"] if number in (index + 1, count - index) else [f"image {number}"]
