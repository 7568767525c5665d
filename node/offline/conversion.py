"""Files that are not DICOM made into DICOM instances, so that one way reads everything.

A volume becomes a CT series in the patient's coordinates, a picture a photograph or a captured slice. The patient is
nobody, no file name gets in, and UIDs come from the bytes: the same file is the same study again.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, VLPhotographicImageStorage
from pydicom.valuerep import DSfloat

from ainode.node.disk import sha256_of
from ainode.node.domain import Position
from ainode.node.identity import made_uid
from ainode.node.offline import picture_files, volume_files
from ainode.node.offline.picture_files import Picture
from ainode.node.offline.volume_files import Grid

_INT16 = np.iinfo(np.int16)
# Steps of float values have three decimals, exact in the 16 characters of a DS; a range of 6500 HU needs 0.1.
_STEPS_PER_UNIT = 1000
_FINEST_STEP = 0.01
_HEAD = 2


class PictureKind(StrEnum):
    """What a picture file shows, and so which DICOM object it becomes."""

    PHOTOGRAPH = "photograph"
    """VL Photographic Image, Modality XC"""
    SLICE = "slice"
    """one CT slice saved as a picture: Secondary Capture Image, Modality OT"""


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of one study's files."""

    paths: tuple[Path, ...]
    """DICOM instances, in the order of Instance Number"""
    grid: Grid | None = None
    """of a volume: turns the file's voxel indices into positions"""


def is_volume(path: Path) -> bool:
    """Return whether the name is one of an NRRD or NIfTI file."""
    return path.name.lower().endswith(volume_files.NRRD_SUFFIXES + volume_files.NIFTI_SUFFIXES)


def is_picture(path: Path) -> bool:
    """Return whether the name is one of a PNG, JPEG or TIFF file."""
    return path.suffix.lower() in picture_files.SUFFIXES


def volume(path: Path, folder: Path, *, body_part: str = "") -> Converted:
    """Write an NRRD or NIfTI volume as a CT series, sliced along the axis nearest to the head.

    Units: Hounsfield units; whole numbers stay as they are, others are rounded by half of range / 65536 at most,
    below 0.05 HU for a range of 6500.
    Raises: BrokenSeries, ConfigError as `volume_files.grid`.
    Source: PS3.3 A.3 (CT Image), C.7.6.2 (Image Plane).
    """
    grid = volume_files.grid(path)
    digest = sha256_of(path)
    common = _study(digest, CTImageStorage, body_part)
    common.Modality, common.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    common.FrameOfReferenceUID, common.PositionReferenceIndicator = made_uid("converted", digest, "frame"), ""
    common.PatientPosition, common.KVP, common.AcquisitionNumber = "", None, None
    common.RescaleType = "HU"
    stored, common.RescaleSlope, common.RescaleIntercept = _stored(grid.values)
    paths = (_written(one, folder, like=path) for one in _slices(common, stored, grid))
    return Converted(tuple(paths), grid)


def pictures(paths: Sequence[Path], folder: Path, *, kind: PictureKind, body_part: str = "") -> Converted:
    """Write pictures as the instances of one series, in the order given.

    Raises: BrokenSeries as `picture_files.picture`.
    Source: PS3.3 A.32.4 (VL Photographic Image), A.8.1 (Secondary Capture Image).
    """
    digests = [sha256_of(path) for path in paths]
    sop_class = VLPhotographicImageStorage if kind is PictureKind.PHOTOGRAPH else SecondaryCaptureImageStorage
    common = _study("\\".join(digests), sop_class, body_part)
    if kind is PictureKind.PHOTOGRAPH:
        common.Modality, common.ImageType, common.AcquisitionContextSequence = "XC", ["ORIGINAL", "PRIMARY"], []
    else:
        common.Modality, common.ImageType, common.ConversionType = "OT", ["DERIVED", "SECONDARY"], "WSD"
    written = []
    for number, path in enumerate(paths, start=1):
        instance = _numbered(common, number)
        _set_picture(instance, picture_files.picture(path), path.stat().st_size)
        written.append(_written(instance, folder, like=path))
    return Converted(tuple(written))


def _study(digest: str, sop_class_uid: str, body_part: str) -> Dataset:
    """Return what all instances of a converted study share; type 2 elements are there and empty."""
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


def _numbered(common: Dataset, number: int) -> Dataset:
    instance = Dataset()
    instance.update(common)
    instance.file_meta = common.file_meta
    instance.InstanceNumber = number
    instance.SOPInstanceUID = made_uid("converted", str(common.SeriesInstanceUID), str(number))
    return instance


def _written(instance: Dataset, folder: Path, *, like: Path) -> Path:
    """Write an instance with the age of the file it came from, which dates the documents made of it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{instance.InstanceNumber:04d}.dcm"
    meta = FileMetaDataset()
    meta.update(instance.file_meta)
    instance.file_meta = meta
    instance.save_as(path, enforce_file_format=True)
    modified = like.stat().st_mtime_ns
    os.utime(path, ns=(modified, modified))
    return path


def _stored(values: NDArray[Any]) -> tuple[NDArray[np.int16], float, float]:
    """Return the values as 16 bits, with the slope and intercept that give them back."""
    low, high = float(values.min()), float(values.max())
    whole = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    if whole and high - low <= _INT16.max - _INT16.min:
        fits = _INT16.min <= low and high <= _INT16.max
        slope, intercept = 1.0, 0.0 if fits else low - _INT16.min
    else:
        least = (high - low) / (_INT16.max - _INT16.min - 1)
        slope = max(_FINEST_STEP, float(np.ceil(least * _STEPS_PER_UNIT) / _STEPS_PER_UNIT))
        intercept = round((np.floor(low / slope) - _INT16.min) * slope, 3)
    stored = np.empty(values.shape, np.int16)
    for plane, source in zip(stored, values, strict=True):
        plane[...] = np.rint((source.astype(np.float64) - intercept) / slope)
    return stored, slope, float(intercept)


def _slices(common: Dataset, stored: NDArray[np.int16], grid: Grid) -> Iterator[Dataset]:
    """Yield a CT image per slice, with its own place."""
    steps = np.asarray(grid.steps_mm)
    spacings = np.linalg.norm(steps, axis=1)
    along = int(np.argmax(np.abs(steps[:, _HEAD]) / spacings))
    down, right = (axis for axis in range(3) if axis != along)
    common.ImageOrientationPatient = _decimals((*steps[right] / spacings[right], *steps[down] / spacings[down]))
    common.PixelSpacing = _decimals((spacings[down], spacings[right]))
    common.SliceThickness = _decimals((spacings[along],))[0]
    for number, pixels in enumerate(np.moveaxis(stored, along, 0)):
        instance = _numbered(common, number + 1)
        instance.ImagePositionPatient = _decimals(np.asarray(grid.origin_mm) + number * steps[along])
        instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
        instance.Rows, instance.Columns = pixels.shape
        instance.BitsAllocated, instance.BitsStored, instance.HighBit, instance.PixelRepresentation = 16, 16, 15, 1
        instance.add_new("PixelData", "OW", np.ascontiguousarray(pixels, "<i2").tobytes())
        yield instance


def _set_picture(instance: Dataset, shown: Picture, size_bytes: int) -> None:
    """Give an instance its pixels, and say whether JPEG had lost some of them (PS3.3 C.7.6.1.1.5)."""
    instance.SamplesPerPixel, instance.PhotometricInterpretation, instance.PlanarConfiguration = 3, "RGB", 0
    instance.Rows, instance.Columns, _ = shown.rgb.shape
    instance.BitsAllocated, instance.BitsStored, instance.HighBit, instance.PixelRepresentation = 8, 8, 7, 0
    instance.LossyImageCompression = "01" if shown.lossy else "00"
    if shown.lossy:
        instance.ImageType = ["DERIVED", *instance.ImageType[1:]]
        instance.LossyImageCompressionMethod = "ISO_10918_1"
        instance.LossyImageCompressionRatio = _decimals((max(1.0, round(shown.rgb.nbytes / size_bytes, 2)),))[0]
    pixels = shown.rgb.tobytes()
    instance.add_new("PixelData", "OB", pixels + bytes(len(pixels) % 2))


def _decimals(numbers: Sequence[float] | NDArray[np.float64] | Position) -> list[DSfloat]:
    """Return numbers as DS, in the 16 characters there are (PS3.5 6.2); -0 is 0."""
    return [DSfloat(float(number) + 0.0, auto_format=True) for number in numbers]
