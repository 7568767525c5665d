"""Positions, directions and sizes that a header cannot mean: no document repeats them."""

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.multival import MultiValue

from ainode.node.domain import is_uid
from ainode.node.imaging.pixel_shape import SIZES

# How many values the geometry has (PS3.3 10.7, C.7.6.1.1.1, C.7.6.2). Real headers have a spacing of 0 or of one value.
_GEOMETRY = dict.fromkeys((*SIZES, "PatientOrientation"), 2) | {"ImagePositionPatient": 3, "ImageOrientationPatient": 6}
# The axis of the patient that a letter of Patient Orientation lies on (PS3.3 C.7.6.1.1.1).
_AXES = {"R": 0, "L": 0, "A": 1, "P": 1, "H": 2, "F": 2}


def without_odd_geometry(header: Dataset) -> Dataset:
    """Return the header without odd positions, directions, sizes and frames: of too few values, or impossible."""
    for keyword, count in _GEOMETRY.items():
        values = header.get(keyword)
        is_whole = isinstance(values, MultiValue) and len(values) == count
        if not is_whole or (keyword in SIZES and min(values) <= 0):
            header.pop(keyword, None)
    if not _are_directions(header.get("PatientOrientation") or ()):
        header.pop("PatientOrientation", None)
    if not is_uid(str(header.get("FrameOfReferenceUID", ""))):
        header.pop("FrameOfReferenceUID", None)
    return header


def _are_directions(orientation: Sequence[object]) -> bool:
    """Return whether each value is a direction in a person, and rows and columns run along two axes."""
    axes = [[_AXES.get(letter) for letter in str(value)] for value in orientation]
    is_each_direct = all(None not in letters and len(set(letters)) == len(letters) for letters in axes)
    main_axes = [letters[0] for letters in axes if letters]
    return is_each_direct and len(set(main_axes)) == len(main_axes)
