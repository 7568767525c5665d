"""The conversion of volumes and pictures into DICOM instances, so that the pipeline reads nothing but DICOM.

A volume becomes a CT series in patient coordinates, a picture a photograph, a secondary capture or a radiograph. The
instances name no patient and no file. The UIDs are derived from the bytes: the same file always becomes the same study.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
)
from pydicom.valuerep import DSfloat

from ainode.node.disk import sha256_of
from ainode.node.domain import Position
from ainode.node.errors import BrokenSeries
from ainode.node.identity import made_uid
from ainode.node.offline import picture_files, volume_files
from ainode.node.offline.picture_files import Picture
from ainode.node.offline.volume_files import Grid

_INT16 = np.iinfo(np.int16)
# The slope of float values has three decimals, exact in the 16 characters of a DS; a range of 6500 HU needs 0.1.
_SLOPE_STEPS_PER_UNIT = 1000
_SMALLEST_SLOPE = 0.01
_HEAD_AXIS = 2


class PictureKind(StrEnum):
    """The content of a picture file, which decides the SOP class of its instance."""

    PHOTOGRAPH = "photograph"
    """VL Photographic Image, Modality XC"""
    SLICE = "slice"
    """one CT slice saved as a picture: Secondary Capture Image, Modality OT"""
    RADIOGRAPH = "radiograph"
    """a film saved as a gray picture: Computed Radiography Image, Modality CR"""


_SOP_CLASS_OF_PICTURE: Final = {
    PictureKind.PHOTOGRAPH: VLPhotographicImageStorage,
    PictureKind.SLICE: SecondaryCaptureImageStorage,
    PictureKind.RADIOGRAPH: ComputedRadiographyImageStorage,
}


@dataclass(frozen=True, slots=True)
class ConvertedStudy:
    """The DICOM instances that were written for a volume or for pictures."""

    paths: tuple[Path, ...]
    """DICOM instances, in the order of Instance Number"""
    grid: Grid | None = None
    """the grid of a volume, which turns voxel indices of the file into positions; None for pictures"""


def convert_volume(path: Path, folder: Path, *, body_part: str = "") -> ConvertedStudy:
    """Write an NRRD or NIfTI volume as a CT series, sliced along the axis nearest to the head.

    Units: Hounsfield units. Whole numbers in a range of 65536 are stored exactly; other numbers are rounded by at most
    half of range / 65536, which is below 0.05 HU for a range of 6500 HU.
    Raises: BrokenSeries and ConfigError, as `volume_files.grid` does.
    Source: PS3.3 A.3 (CT Image), C.7.6.2 (Image Plane).
    """
    grid = volume_files.grid(path)
    digest = "\\".join(map(sha256_of, volume_files.parts(path)))
    common = _common_attributes(digest, CTImageStorage, body_part)
    common.Modality, common.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    common.FrameOfReferenceUID, common.PositionReferenceIndicator = made_uid("converted", digest, "frame"), ""
    common.PatientPosition, common.KVP, common.AcquisitionNumber = "", None, None
    common.RescaleType = "HU"
    stored, common.RescaleSlope, common.RescaleIntercept = _stored_values(grid.values)
    paths = (_write(instance, folder, source=path) for instance in _slice_instances(common, stored, grid))
    return ConvertedStudy(tuple(paths), grid)


def convert_pictures(paths: Sequence[Path], folder: Path, *, kind: PictureKind, body_part: str = "") -> ConvertedStudy:
    """Write pictures as the instances of one series, in the order of `paths`.

    Raises: BrokenSeries, as `picture_files.picture` does, and if a radiograph has colors.
    Source: PS3.3 A.32.4 (VL Photographic Image), A.8.1 (Secondary Capture Image), A.2 (Computed Radiography Image).
    """
    digests = [sha256_of(path) for path in paths]
    common = _common_attributes("\\".join(digests), _SOP_CLASS_OF_PICTURE[kind], body_part)
    if kind is PictureKind.PHOTOGRAPH:
        common.Modality, common.ImageType, common.AcquisitionContextSequence = "XC", ["ORIGINAL", "PRIMARY"], []
    elif kind is PictureKind.SLICE:
        common.Modality, common.ImageType, common.ConversionType = "OT", ["DERIVED", "SECONDARY"], "WSD"
    else:
        common.Modality, common.ImageType, common.ViewPosition = "CR", ["DERIVED", "PRIMARY"], ""
        common.BodyPartExamined = body_part
    written_paths = []
    for number, path in enumerate(paths, start=1):
        instance = _instance(common, number)
        picture, is_gray = picture_files.picture(path), kind is PictureKind.RADIOGRAPH
        _set_picture(instance, picture, path.stat().st_size, is_gray=is_gray)
        written_paths.append(_write(instance, folder, source=path))
    return ConvertedStudy(tuple(written_paths))


def _common_attributes(digest: str, sop_class_uid: str, body_part: str) -> Dataset:
    """Return the attributes that all instances of a converted study share; elements of type 2 are empty."""
    common = Dataset()
    common.SpecificCharacterSet = "ISO_IR 192"
    common.SOPClassUID = sop_class_uid
    common.StudyInstanceUID = made_uid("converted", digest, "study")
    common.SeriesInstanceUID = made_uid("converted", digest, sop_class_uid, body_part)
    common.PatientName, common.PatientID, common.PatientBirthDate, common.PatientSex = "Anonymous", "", "", ""
    common.StudyDate = common.StudyTime = common.StudyID = common.AccessionNumber = common.ReferringPhysicianName = ""
    common.Manufacturer, common.SeriesNumber, common.SeriesDescription = "", 1, "Converted from a file"
    common.PatientOrientation = ""
    if body_part:
        common.BodyPartExamined = body_part
    common.file_meta = FileMetaDataset()
    common.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return common


def _instance(common: Dataset, number: int) -> Dataset:
    """Return an instance with the common attributes and an Instance Number."""
    instance = Dataset()
    instance.update(common)
    instance.file_meta = common.file_meta
    instance.InstanceNumber = number
    instance.SOPInstanceUID = made_uid("converted", str(common.SeriesInstanceUID), str(number))
    return instance


def _write(instance: Dataset, folder: Path, *, source: Path) -> Path:
    """Write an instance and return its path; the instance gets the age of its source, which dates the documents."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{instance.InstanceNumber:04d}.dcm"
    meta = FileMetaDataset()
    meta.update(instance.file_meta)
    instance.file_meta = meta
    instance.save_as(path, enforce_file_format=True)
    mtime_ns = source.stat().st_mtime_ns
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def _stored_values(values: NDArray[Any]) -> tuple[NDArray[np.int16], float, float]:
    """Return the values as 16-bit integers, and the Rescale Slope and Intercept that turn the integers back."""
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    if whole and high - low <= _INT16.max - _INT16.min:
        in_range = _INT16.min <= low and high <= _INT16.max
        slope, intercept = 1.0, 0.0 if in_range else low - _INT16.min
    else:
        smallest_slope = (high - low) / (_INT16.max - _INT16.min - 1)
        slope = max(_SMALLEST_SLOPE, float(np.ceil(smallest_slope * _SLOPE_STEPS_PER_UNIT) / _SLOPE_STEPS_PER_UNIT))
        intercept = round((np.floor(low / slope) - _INT16.min) * slope, 3)
    stored = np.empty(values.shape, np.int16)
    for plane, source in zip(stored, values, strict=True):
        plane[...] = np.rint((source.astype(np.float64) - intercept) / slope)
    return stored, slope, float(intercept)


def _slice_instances(common: Dataset, stored: NDArray[np.int16], grid: Grid) -> Iterator[Dataset]:
    """Yield a CT image per slice, with its position."""
    steps = np.asarray(grid.steps_mm)
    spacings = np.linalg.norm(steps, axis=1)
    slice_axis = int(np.argmax(np.abs(steps[:, _HEAD_AXIS]) / spacings))
    row_axis, column_axis = (axis for axis in range(3) if axis != slice_axis)
    common.ImageOrientationPatient = _decimals(
        (*steps[column_axis] / spacings[column_axis], *steps[row_axis] / spacings[row_axis])
    )
    common.PixelSpacing = _decimals((spacings[row_axis], spacings[column_axis]))
    common.SliceThickness = _decimals((spacings[slice_axis],))[0]
    for number, pixels in enumerate(np.moveaxis(stored, slice_axis, 0)):
        instance = _instance(common, number + 1)
        instance.ImagePositionPatient = _decimals(np.asarray(grid.origin_mm) + number * steps[slice_axis])
        instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
        instance.Rows, instance.Columns = pixels.shape
        instance.BitsAllocated, instance.BitsStored, instance.HighBit, instance.PixelRepresentation = 16, 16, 15, 1
        instance.add_new("PixelData", "OW", np.ascontiguousarray(pixels, "<i2").tobytes())
        yield instance


def _set_picture(instance: Dataset, picture: Picture, size_bytes: int, *, is_gray: bool) -> None:
    """Set the pixels of an instance, and the Lossy Image Compression of its source (PS3.3 C.7.6.1.1.5).

    Raises: BrokenSeries if a gray picture is wanted and the picture has colors.
    """
    values = _gray(picture.rgb) if is_gray else picture.rgb
    instance.Rows, instance.Columns = values.shape[:2]
    if is_gray:
        instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
    else:
        instance.SamplesPerPixel, instance.PhotometricInterpretation, instance.PlanarConfiguration = 3, "RGB", 0
    instance.BitsAllocated, instance.BitsStored, instance.HighBit, instance.PixelRepresentation = 8, 8, 7, 0
    instance.LossyImageCompression = "01" if picture.lossy_method else "00"
    if picture.lossy_method:
        instance.ImageType = ["DERIVED", *instance.ImageType[1:]]
        instance.LossyImageCompressionMethod = picture.lossy_method
        instance.LossyImageCompressionRatio = _decimals((max(1.0, round(values.nbytes / size_bytes, 2)),))[0]
    content = values.tobytes()
    instance.add_new("PixelData", "OB", content + bytes(len(content) % 2))


def _gray(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the one value of pixels (rows, columns, 3) that have no color; (rows, columns).

    Raises: BrokenSeries.
    """
    gray = rgb[..., 0]
    if (rgb != gray[..., None]).any():
        raise BrokenSeries("the picture has colors, and a radiograph is gray; save it as a gray picture")
    return gray


def _decimals(numbers: Sequence[float] | NDArray[np.float64] | Position) -> list[DSfloat]:
    """Return numbers as DS, in at most 16 characters (PS3.5 6.2); -0 becomes 0."""
    return [DSfloat(float(number) + 0.0, auto_format=True) for number in numbers]
