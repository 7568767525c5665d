"""The header of a source image, made fit to build documents on; patient and study stay what they are.

highdicom stops at headers that hospitals really have (absent type 2 elements, a sex of `U`, a birth date of `0000`,
an empty first character set), and its checks print the patient's name. So it is given `evidence()`, which knows no
patient, and the patient and study attributes are copied onto the finished document by `complete()`.
"""

from collections.abc import Mapping
from copy import copy
from datetime import datetime, tzinfo
from io import BytesIO
from pathlib import Path
from typing import Any

from highdicom import ContributingEquipment
from highdicom.base import SOPClass
from pydicom import Dataset, dcmread
from pydicom.config import RAISE, disable_value_validation
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.tag import BaseTag
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import DA, TM, validate_value

from ainode.node.domain import UID, Algorithm, DocumentContext, InstanceRef, Result
from ainode.node.errors import ReportError
from ainode.node.identity import MANUFACTURER, MODEL_NAME
from ainode.node.imaging.pixels import BROKEN_FILE

# Type 2 of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, possibly empty.
_PATIENT_AND_STUDY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)

_REFERENCE = ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")

# Whatever does not keep to these is left out. Names and identifiers are copied as they are, too long ones as well.
_CHECKED = frozenset({"AS", "CS", "DA", "DS", "DT", "IS", "TM"})

# Defined terms of PS3.16 annex L that are not one of a pair: the others demand a Laterality (PS3.3 C.7.3.1).
_UNPAIRED = frozenset({"SPINE", "CSPINE", "TSPINE", "LSPINE", "CHEST", "ABDOMEN", "PANCREAS"})
_ALWAYS_LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless})


def header_of(ref: InstanceRef, sources: Mapping[UID, Path]) -> Dataset:
    """Return the header of an instance: in UTF-8, type 2 elements present, unusable values empty, no pixels.

    Raises: ReportError if there is no such source, or it cannot be read.
    Source: PS3.3 C.7.1.1 (enumerated values of Patient's Sex), C.12.1.1.2 (character sets).
    """
    try:
        # pydicom warns of odd values in the log and quotes them, and they may be the patient's.
        with disable_value_validation():
            return _filled(_in_utf8(dcmread(sources[ref.sop_instance_uid], stop_before_pixels=True)))
    except BROKEN_FILE as error:
        what = f"instance {ref.sop_instance_uid}: its header cannot be read for the report"
        raise ReportError(f"{what} ({type(error).__name__}); resend the study") from error


def _in_utf8(header: Dataset) -> Dataset:
    """Return `header` with every string, nested ones too, encoded in UTF-8.

    Changing Specific Character Set alone leaves nested strings in the old one; writing and reading again does not.
    """
    for tag in tuple(header.keys()):
        if not _is_usable(header, tag):
            del header[tag]
    header.decode()
    header.SpecificCharacterSet = "ISO_IR 192"
    encoded = BytesIO()
    header.save_as(encoded)
    encoded.seek(0)
    again = dcmread(encoded)
    again.decode()
    return again


def _is_usable(header: Dataset, tag: BaseTag) -> bool:
    """Whether the element can be read, and its number, date or code is one: a birth date of `0000` is none."""
    try:
        element = header[tag]
        if element.VR == "SQ":
            for item in element.value:
                item.walk(lambda *_: None)
        elif element.VR in _CHECKED and not element.is_empty:
            for one in element.value if isinstance(element.value, MultiValue) else (element.value,):
                validate_value(element.VR, str(one), RAISE)
    except BROKEN_FILE:
        return False
    return True


def _filled(header: Dataset) -> Dataset:
    for keyword in _PATIENT_AND_STUDY:
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = ""
    # Anonymizers empty its items, which a document must not have (PS3.3 C.7.2.1, 10.8).
    if not all(item.get(one) for item in header.get("ReferencedStudySequence", ()) for one in _REFERENCE):
        del header.ReferencedStudySequence
    # Neither IOD has it (PS3.3 A.8.1, A.35.13), yet highdicom copies it.
    header.pop("RequestingService", None)
    return header


def evidence(ref: InstanceRef) -> Dataset:
    """Return what highdicom needs to refer to an instance, with an empty patient."""
    data_set = Dataset()
    for keyword in _PATIENT_AND_STUDY:
        setattr(data_set, keyword, "")
    data_set.StudyInstanceUID = ref.study_instance_uid
    data_set.SeriesInstanceUID = ref.series_instance_uid
    data_set.SOPClassUID = ref.sop_class_uid
    data_set.SOPInstanceUID = ref.sop_instance_uid
    return data_set


def created(header: Dataset, context: DocumentContext) -> datetime:
    """Return the time of creation on the clock of the source, where it names one."""
    zone = _zone(header)
    return context.created.astimezone(zone) if zone else context.created


def _zone(header: Dataset) -> tzinfo | None:
    """Return Timezone Offset From UTC, which governs every time in an object that has it (PS3.3 C.12.1)."""
    try:
        return datetime.strptime(str(header.get("TimezoneOffsetFromUTC")), "%z").tzinfo
    except ValueError:
        return None


def complete(document: SOPClass, header: Dataset, context: DocumentContext) -> None:
    """Give a built document the source's patient and study, our equipment, and times that a rerun repeats."""
    at = created(header, context)
    document.InstanceCreationDate, document.InstanceCreationTime = DA(at.date()), TM(at.time())
    if _zone(header):
        document.TimezoneOffsetFromUTC = header.TimezoneOffsetFromUTC
    document.StationName = context.device_name[:16]
    document.ContributingEquipmentSequence = _equipment(header, context)
    # highdicom asks the SOP class which modules to copy; that of the source may be one it does not know.
    patient_and_study = copy(header)
    patient_and_study.SOPClassUID = document.SOPClassUID
    document.copy_patient_and_study_information(patient_and_study)


def copy_body_part(document: SOPClass, header: Dataset) -> None:
    """Copy the body part; one of a pair, or an unknown one, needs a Laterality beside it, which may be empty."""
    if part := header.get("BodyPartExamined"):
        document.BodyPartExamined = part
    if part not in _UNPAIRED:
        side = header.get("Laterality") or header.get("ImageLaterality")
        document.Laterality = side if side in ("R", "L") else ""


def copy_lossy_compression(image: Dataset, header: Dataset) -> None:
    """Say that the source was compressed with loss: what is made of it cannot be better (PS3.3 C.7.6.1.1.5)."""
    lossy = header.get("LossyImageCompression") == "01" or header.file_meta.TransferSyntaxUID in _ALWAYS_LOSSY
    image.LossyImageCompression = "01" if lossy else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if lossy and keyword in header:
            image.add(header[keyword])


def made_by(result: Result, header: Dataset, context: DocumentContext) -> dict[str, Any]:
    """Return what highdicom wants to know of who made a document, of which result, and when."""
    at = created(header, context)
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": software_versions(context, result.algorithm),
        "device_serial_number": context.device_uid,
        "series_description": f"AI {result.title} {result.algorithm.version} (RUO)"[:64],
        "content_qualification": "RESEARCH",
        "content_description": "RESEARCH USE ONLY",
        "specific_character_set": "ISO_IR 192",
        "series_date": DA(at.date()),
        "series_time": TM(at.time()),
    }


def software_versions(context: DocumentContext, algorithm: Algorithm | None) -> list[str]:
    """Return the node, the model and its weights, each within the 64 characters of an LO."""
    model = [f"{algorithm.name} {algorithm.version}", f"weights {algorithm.weights_sha256[:16]}"] if algorithm else []
    return [one[:64] for one in (*context.software_versions, *model)]


def encoded(document: SOPClass) -> bytes:
    """Return the document as a DICOM file."""
    content = BytesIO()
    document.save_as(content, enforce_file_format=True)
    return content.getvalue()


def _equipment(header: Dataset, context: DocumentContext) -> list[ContributingEquipment]:
    """Return what took the source image, where it says so, and this node (PS3.3 C.12.1.5)."""
    ours = ContributingEquipment(
        MANUFACTURER,
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=MODEL_NAME,
        software_versions=software_versions(context, None),
        station_name=context.device_name[:16],
        contribution_datetime=created(header, context),
    )
    try:
        return [ContributingEquipment.for_image_acquisition(header), ours]
    except (AttributeError, TypeError, ValueError):
        return [ours]
