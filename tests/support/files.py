"""DICOM files for the tests: small ones made here, real ones found beside the repository."""

import importlib.util
import os
from io import BytesIO
from pathlib import Path

import pydicom.uid
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ainode.node.domain import UID, InstanceRef


def installed(*packages: str) -> None:
    """Skip, by name, where a package is missing; nothing is imported."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"package {package} is not installed", allow_module_level=True)


def shared(name: str) -> Path:
    """Return a path of the shared data beside the repository; skip, by name, where it is absent."""
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    path = Path(os.environ.get("AINODE_SHARED", beside)) / name
    if not path.exists():
        pytest.skip(f"shared/{name} is not beside the repository (AINODE_SHARED says where)")
    return path


def a_file(
    *,
    sop_class_uid: str = CTImageStorage,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    study: str = "1.2.3",
    series: str = "1.2.3.1",
    rows: int = 16,
    **header: str | int,
) -> bytes:
    """Return a small DICOM file with a group length and an undefined-length sequence, which encoding anew would change.

    Shapes: pixels rows x rows of 16 bit.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.UID(transfer_syntax_uid)
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.add_new(0x00080000, "UL", 0)
    dataset.SOPClassUID, dataset.SOPInstanceUID = UID(sop_class_uid), UID(generate_uid())
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientID, dataset.PatientName, dataset.Modality = "TEST", "TEST^SYNTHETIC", "CT"
    dataset.ReferencedStudySequence = [Dataset()]
    dataset["ReferencedStudySequence"].is_undefined_length = True
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    dataset.Rows = dataset.Columns = rows
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = bytes(2 * rows * rows)
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def instance_ref(content: bytes | Path) -> InstanceRef:
    """Return the reference of a file."""
    dataset = dcmread(BytesIO(content) if isinstance(content, bytes) else content, stop_before_pixels=True)
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
    return InstanceRef(*(UID(str(dataset[keyword].value)) for keyword in keywords))


def content_of(folder: Path) -> list[Path]:
    """Return what is below a folder; what is removed meanwhile is no error, as it is for `Path.rglob`."""
    return [Path(path) / name for path, folders, files in os.walk(folder) for name in (*folders, *files)]
