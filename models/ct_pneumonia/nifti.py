"""A CT volume of a NIfTI file on the node's axes, whichever way the file keeps its voxels."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from ainode.models.ct_pneumonia.preprocess import Array
from ainode.models.errors import ModelError

_AXES = 3
_MM = frozenset({"mm", "unknown"})
"""a header without a unit is in mm by custom"""
# NIfTI-1 sform_code and qform_code of a template: Talairach, MNI 152, another. Source: https://nifti.nimh.nih.gov.
_TEMPLATES = frozenset({3, 4, 5})
# The cosine of 18 degrees: slices that lean further are no axial slices.
_LEAST_COSINE = 0.95
_DECODE_ERRORS = (
    ArithmeticError,
    EOFError,
    HeaderDataError,
    ImageFileError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
    WrapStructError,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Scan:
    """A CT volume.

    Shapes: values (Z, Y, X), axes to the head, the back and the left; spacing_mm in the same order.
    Units: as stored and scaled, which must be Hounsfield units; mm.
    """

    values: Array = field(repr=False)
    spacing_mm: tuple[float, float, float]


def read_scan(path: Path) -> Scan:
    """Return the volume of a NIfTI file.

    Raises: ModelError with the name of the file if it is damaged, is not one volume, does not say which way the patient
    lies, or has a voxel that is no number.
    """
    try:
        image: Any = nibabel.load(path)
        reason = _reason_no_volume(image) or _reason_no_place(image)
        values = np.empty(0, np.float32) if reason else _oriented_values(image)
    except _DECODE_ERRORS as error:
        raise ModelError(f"{path}: the NIfTI file is damaged ({type(error).__name__})") from error
    if reason:
        raise ModelError(f"{path}: {reason}")
    if not np.isfinite(values).all():
        raise ModelError(f"{path}: voxels that are no finite numbers; fill them, as with -1024 HU")
    file_axes = _axes_of_patient(image)
    z, y, x = (float(np.linalg.norm(image.affine[:3, axis])) for axis in file_axes)
    return Scan(values, (z, y, x))


def _axes_of_patient(image: Any) -> tuple[int, ...]:  # noqa: ANN401 - nibabel has no types
    """Return the numbers of the file's axes that run along the patient's z, y and x."""
    # Of each axis of the file: the patient's axis that it runs along.
    patient_axes = np.abs(image.affine[:3, :3]).argmax(axis=0).tolist()
    return tuple(patient_axes.index(axis) for axis in (2, 1, 0))


def _oriented_values(image: Any) -> Array:  # noqa: ANN401 - nibabel has no types
    """Return the scaled voxels of an image, (Z, Y, X), axes to the head, the back and the left."""
    file_axes = _axes_of_patient(image)
    values = np.asarray(image.dataobj, np.float32).transpose(file_axes)
    # An affine counts to the right, the front and the head.
    z, y, x = (image.affine[row, axis] for row, axis in zip((2, 1, 0), file_axes, strict=True))
    turned = tuple(number for number, is_turned in enumerate((z < 0, y > 0, x > 0)) if is_turned)
    return np.ascontiguousarray(np.flip(values, turned))


def _reason_no_volume(image: Any) -> str:  # noqa: ANN401 - nibabel has no types
    """Return why a file is not one volume of numbers in mm; '' if it is."""
    if len(image.shape) != _AXES or image.get_data_dtype().kind not in "iuf" or 0 in image.shape:
        return f"{' x '.join(map(str, image.shape))} values, no single volume of numbers"
    unit = image.header.get_xyzt_units()[0]
    return "" if unit in _MM else f"the unit of lengths is {unit}; mm is read"


def _reason_no_place(image: Any) -> str:  # noqa: ANN401 - nibabel has no types
    """Return why a file does not say which way the patient lies; '' if it does."""
    (sform, sform_code), (qform, qform_code) = image.get_sform(coded=True), image.get_qform(coded=True)
    if not (sform_code or qform_code):
        return "sform and qform codes are both 0: the file does not say which way the patient lies"
    if {int(sform_code), int(qform_code)} & _TEMPLATES:
        return "the file is in the space of a template, not of the patient"
    steps = np.asarray(image.affine[:3, :3], np.float64)
    lengths = np.linalg.norm(steps, axis=0)
    if not np.isfinite(steps).all() or not (lengths > 0).all():
        return "the orientation has no finite, positive spacing"
    along = np.abs(steps / lengths)
    if along.max(axis=0).min() < _LEAST_COSINE or len(set(along.argmax(axis=0).tolist())) < _AXES:
        return "the slices lean: the axes of the file do not run along the patient"
    if sform_code and qform_code:
        corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*np.subtract(image.shape, 1), 1)
        if np.abs(corners @ (sform - qform).T).max() > lengths.max():
            return "sform and qform disagree: the file has two orientations"
    return ""
