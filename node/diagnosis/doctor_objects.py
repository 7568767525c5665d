"""A synthetic study with one small object of each SOP class that the node sends or fetches; its patient is nobody."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import highdicom as hd
from pydicom import Dataset, dcmread

from ainode.node import __version__, testing
from ainode.node.domain import (
    UID,
    Algorithm,
    Capture,
    Code,
    Document,
    DocumentContext,
    DocumentKind,
    Finding,
    InstanceRef,
    Measurement,
    MessageAddress,
    Region,
    Result,
    Saliency,
    ServerAddress,
    SyntheticImage,
    Value,
    WeightsStatus,
)
from ainode.node.reports import compose

PATIENT = "AINODE^DOCTOR"
_SIDE = 64
_PIXELS = bytes(2 * _SIDE * _SIDE)
_CT = "1.2.840.10008.5.1.4.1.1.2"
_NAMES = {
    DocumentKind.SECONDARY_CAPTURE: "Secondary Capture Image",
    DocumentKind.PRESENTATION_STATE: "Grayscale Softcopy Presentation State",
    DocumentKind.SEGMENTATION_FRACTIONAL: "Segmentation",
    DocumentKind.SEGMENTATION_LABELMAP: "Label Map Segmentation",
    DocumentKind.PDF: "Encapsulated PDF",
}


@dataclass(frozen=True, slots=True)
class Specimen:
    """One synthetic object as a Part 10 file."""

    name: str
    """of its SOP class, for a person"""
    ref: InstanceRef
    content: bytes = field(repr=False)


def synthetic_study(token: str, now: datetime) -> tuple[Specimen, ...]:
    """Return a radiograph, a CT image, and each kind of document about the image; another `token` is another study."""
    image = _ct(token, now)
    datasets = {
        "Digital X-Ray Image": _radiograph(token, now),
        "CT Image": image,
        **_documents(image, now),
    }
    return tuple(Specimen(name, _ref(dataset), _encoded(dataset)) for name, dataset in datasets.items())


def _patient_and_study(now: datetime) -> dict[str, Value]:
    return {
        "PatientName": PATIENT,
        "PatientID": "AINODE-DOCTOR",
        "PatientBirthDate": "19000101",
        "StudyDate": f"{now:%Y%m%d}",
        "StudyTime": f"{now:%H%M%S}",
        "StudyDescription": "ainode doctor: may be deleted",
    }


def _radiograph(token: str, now: datetime) -> Dataset:
    header = _patient_and_study(now) | {"BodyPartExamined": "TSPINE"}
    image = testing.dataset(SyntheticImage(_SIDE, _SIDE, _PIXELS, header), study=token)
    image.PresentationIntentType, image.DetectorType = "FOR PRESENTATION", ""
    image.WindowCenter, image.WindowWidth = 2048, 4096
    image.PixelIntensityRelationship, image.PixelIntensityRelationshipSign = "LIN", 1
    image.LossyImageCompression, image.AcquisitionContextSequence = "00", []
    image.AnatomicRegionSequence = [hd.sr.CodedConcept("122495006", "SCT", "Thoracic spine")]
    return image


def _ct(token: str, now: datetime) -> Dataset:
    header: dict[str, Value] = {
        **_patient_and_study(now),
        "SOPClassUID": _CT,
        "Modality": "CT",
        "BodyPartExamined": "CHEST",
        "FrameOfReferenceUID": testing.uid(token, "frame"),
        "PositionReferenceIndicator": "",
        "PatientPosition": "HFS",
        "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "ImagePositionPatient": (0.0, 0.0, 0.0),
        "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "SliceThickness": 1.0,
        "AcquisitionNumber": 1,
        "KVP": "",
        "RescaleType": "HU",
        "SeriesNumber": 2,
    }
    return testing.dataset(SyntheticImage(_SIDE, _SIDE, _PIXELS, header), study=token, number=2)


def trial_message(address: MessageAddress, token: str, now: datetime) -> Document:
    """Return an HL7 message about a CT image of nobody; another `token` is another message."""
    return _for_listener(dataclasses.replace(_context(now), messages=(address,)), token, now)


def trial_transaction(address: ServerAddress, token: str, now: datetime) -> Document:
    """Return a FHIR transaction about a CT image of nobody; another `token` makes other resources."""
    return _for_listener(dataclasses.replace(_context(now), servers=(address,)), token, now)


def _for_listener(context: DocumentContext, token: str, now: datetime) -> Document:
    image = _ct(token, now)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "source.dcm"
        path.write_bytes(_encoded(image))
        ref = _ref(image)
        *_, message = compose.documents(_result(ref), {ref.sop_instance_uid: path}, context)
    return message


def _context(now: datetime) -> DocumentContext:
    return DocumentContext(
        created=now,
        device_uid=UID(testing.uid("doctor")),
        device_name="doctor",
        software_versions=(f"ainode {__version__}",),
        configuration_hash="0" * 16,
    )


def _documents(image: Dataset, now: datetime) -> Mapping[str, Dataset]:
    """Return the documents that the node makes about an image, one of each kind, by the name of the SOP class."""
    datasets = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "source.dcm"
        path.write_bytes(_encoded(image))
        ref = _ref(image)
        for report, comprehensive_3d in (("Comprehensive SR", False), ("Comprehensive 3D SR", True)):
            optional = tuple(kind for kind in DocumentKind if kind.is_optional)
            context = dataclasses.replace(_context(now), comprehensive_3d=comprehensive_3d, optional=optional)
            for document in compose.documents(_result(ref), {ref.sop_instance_uid: path}, context):
                datasets[_NAMES.get(document.kind, report)] = dcmread(BytesIO(document.content))
    return datasets


def _result(image: InstanceRef) -> Result:
    certainty = Measurement(Code("122157", "DCM", "Probability"), 50.0, Code("%", "UCUM", "Percent"), (image,))
    finding = Finding(
        "whole image",
        Code("263654008", "SCT", "Abnormal"),
        Code("421060004", "SCT", "Spine"),
        (certainty,),
        (image,),
        Region.box(image, left=16, top=16, right=48, bottom=48),
        label="test",
    )
    return Result(
        study_instance_uid=image.study_instance_uid,
        algorithm=Algorithm("doctor", __version__, "0" * 64, WeightsStatus.DEMONSTRATION),
        title="Test of the archive",
        procedure=Code("363679005", "SCT", "Imaging procedure"),
        findings=(finding,),
        captures=(Capture(image, "Test of the archive", ("synthetic",), Saliency(1, 2, bytes((0, 255)))),),
        evidence=(image,),
        key_images=(image,),
    )


def _ref(dataset: Dataset) -> InstanceRef:
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
    return InstanceRef(*(UID(str(dataset[keyword].value)) for keyword in keywords))


def _encoded(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
