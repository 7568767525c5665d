"""One small synthetic object of each class that a node sends or fetches, all of one study of nobody."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from ainode.node import __version__, reports, testing
from ainode.node.domain import (
    UID,
    Algorithm,
    Capture,
    Code,
    DocumentContext,
    Finding,
    InstanceRef,
    Measurement,
    Result,
    SyntheticImage,
    Value,
    WeightsStatus,
)
from ainode.node.reports.uids import MANUFACTURER, MODEL_NAME

PATIENT = "AINODE^DOCTOR"
_SIDE = 64
_PIXELS = bytes(2 * _SIDE * _SIDE)
_CT = "1.2.840.10008.5.1.4.1.1.2"
_EQUIPMENT: Mapping[str, Any] = {
    "manufacturer": MANUFACTURER,
    "manufacturer_model_name": MODEL_NAME,
    "software_versions": f"ainode {__version__}",
    "device_serial_number": "0",
}


@dataclass(frozen=True, slots=True)
class Specimen:
    """One object: how a person calls its class, and its file."""

    name: str
    ref: InstanceRef
    content: bytes = field(repr=False)


def specimens(token: str, now: datetime) -> tuple[Specimen, ...]:
    """Return a radiograph, a CT image, and each kind of document of them; another `token` makes another study."""
    radiograph, image = _radiograph(token, now), _ct(token, now)
    made = {
        "Digital X-Ray Image": radiograph,
        "CT Image": image,
        **_documents(radiograph, now),
        "Segmentation": _segmentation(image, token),
        "Grayscale Softcopy Presentation State": _presentation_state(image, token),
    }
    return tuple(Specimen(name, _ref(one), _encoded(one)) for name, one in made.items())


def _common(now: datetime) -> dict[str, Value]:
    return {
        "PatientName": PATIENT,
        "PatientID": "AINODE-DOCTOR",
        "PatientBirthDate": "19000101",
        "StudyDate": f"{now:%Y%m%d}",
        "StudyTime": f"{now:%H%M%S}",
        "StudyDescription": "ainode doctor: may be deleted",
    }


def _radiograph(token: str, now: datetime) -> Dataset:
    header = _common(now) | {"BodyPartExamined": "TSPINE"}
    made = testing.dataset(SyntheticImage(_SIDE, _SIDE, _PIXELS, header), study=token)
    made.PresentationIntentType, made.DetectorType = "FOR PRESENTATION", ""
    made.WindowCenter, made.WindowWidth = 2048, 4096
    made.PixelIntensityRelationship, made.PixelIntensityRelationshipSign = "LIN", 1
    made.LossyImageCompression, made.AcquisitionContextSequence = "00", []
    made.AnatomicRegionSequence = [hd.sr.CodedConcept("122495006", "SCT", "Thoracic spine")]
    return made


def _ct(token: str, now: datetime) -> Dataset:
    header: dict[str, Value] = {
        **_common(now),
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


def _documents(radiograph: Dataset, now: datetime) -> Mapping[str, Dataset]:
    """Return capture and reports as the node makes them."""
    made = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "source.dcm"
        path.write_bytes(_encoded(radiograph))
        ref = _ref(radiograph)
        for name, comprehensive_3d in (("Comprehensive 3D SR", True), ("Comprehensive SR", False)):
            context = DocumentContext(
                created=now,
                device_uid=UID(testing.uid("doctor")),
                device_name="doctor",
                software_versions=(f"ainode {__version__}",),
                configuration_hash="0" * 16,
                comprehensive_3d=comprehensive_3d,
            )
            documents = reports.documents(_result(ref), {ref.sop_instance_uid: path}, context)
            encoded = [dcmread(BytesIO(one.content)) for one in documents]
            made["Secondary Capture Image"], made[name] = encoded[0], encoded[-1]
    return made


def _result(image: InstanceRef) -> Result:
    certainty = Measurement(Code("122157", "DCM", "Probability"), 50.0, Code("%", "UCUM", "Percent"), (image,))
    finding = Finding(
        "whole image",
        Code("263654008", "SCT", "Abnormal"),
        Code("421060004", "SCT", "Spine"),
        (certainty,),
        (image,),
    )
    return Result(
        study_instance_uid=image.study_instance_uid,
        algorithm=Algorithm("doctor", __version__, "0" * 64, WeightsStatus.DEMONSTRATION),
        title="Test of the archive",
        procedure=Code("363679005", "SCT", "Imaging procedure"),
        findings=(finding,),
        captures=(Capture(image, "Test of the archive", ("synthetic",)),),
        evidence=(image,),
        key_images=(image,),
    )


def _segmentation(image: Dataset, token: str) -> Dataset:
    mask = np.zeros((1, _SIDE, _SIDE), dtype=np.uint8)
    mask[0, 20:40, 20:40] = 1
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="square",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Nodule,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    return hd.seg.Segmentation(
        source_images=[image],
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=testing.uid(token, "SEG series"),
        series_number=3,
        sop_instance_uid=testing.uid(token, "SEG"),
        instance_number=1,
        content_label="DOCTOR",
        **_EQUIPMENT,
    )


def _presentation_state(image: Dataset, token: str) -> Dataset:
    made = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[image],
        series_instance_uid=testing.uid(token, "PR series"),
        series_number=4,
        sop_instance_uid=testing.uid(token, "PR"),
        instance_number=1,
        content_label="DOCTOR",
        **_EQUIPMENT,
    )
    made.Laterality = ""
    return made


def _ref(dataset: Dataset) -> InstanceRef:
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
    return InstanceRef(*(UID(str(dataset[keyword].value)) for keyword in keywords))


def _encoded(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
