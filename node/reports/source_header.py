"""The header of a source image, cleaned so that documents can be built from the header.

highdicom refuses headers that hospitals really have (absent type 2 elements, a sex of `U`, a birth date of `0000`, an
empty first character set), and its error messages quote the patient's name. So documents are built from
`reference_dataset()`, which has no patient, and `complete_document()` then copies patient and study onto the document.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from io import BytesIO
from pathlib import Path
from typing import Any
from warnings import catch_warnings

from highdicom import ContributingEquipment
from highdicom.base import SOPClass
from pydicom import DataElement, Dataset, dcmread
from pydicom.charset import convert_encodings
from pydicom.config import RAISE, disable_value_validation
from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.tag import BaseTag
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import DA, DT, TM, validate_value

from ainode.node.domain import UID, Algorithm, Document, DocumentContext, DocumentKind, InstanceRef, Result
from ainode.node.encoding.character_sets import UTF_8, known_terms, undeclared_term, without_escapes
from ainode.node.errors import ReportError
from ainode.node.identity import MANUFACTURER, MODEL_NAME, algorithm_uid
from ainode.node.imaging.decoding import BROKEN_FILE
from ainode.node.reports.macros import valid_text
from ainode.node.reports.modules import patient_and_study
from ainode.node.reports.odd_geometry import without_odd_geometry
from ainode.node.reports.series import model_version, series_description

# Type 2 elements of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, possibly empty.
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

# What the item of the scanner repeats of an image.
_EQUIPMENT = (
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber", "StationName"),
    *("InstitutionName", "InstitutionalDepartmentName", "InstitutionAddress", "AcquisitionDateTime"),
)

_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
# An element of these VRs is left out if its value breaks the VR's rules. Names and identifiers are copied unchanged.
_CHECKED_VRS = frozenset({"AS", "CS", "DA", "DS", "DT", "IS", "TM"})

# Body parts of PS3.16 Annex L that are not paired; a paired part needs a Laterality (PS3.3 C.7.3.1).
_UNPAIRED_PARTS = frozenset({"SPINE", "CSPINE", "TSPINE", "LSPINE", "CHEST", "ABDOMEN", "PANCREAS"})
# What has a date and a time of its own in an image.
_DATED = ("Study", "Series", "Acquisition", "Content")
# From UTC-12 to UTC+14.
_MAX_ZONE_ERROR = timedelta(hours=26)
_LOSSY_SYNTAXES = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless})


def size_of(ref: InstanceRef, sources: Mapping[UID, Path]) -> Dataset:
    """Return Rows and Columns of an image, which take a tenth of the time that its header takes.

    Raises: ReportError if the instance is not among the sources, or its file cannot be read.
    """
    try:
        return dcmread(sources[ref.sop_instance_uid], stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    except BROKEN_FILE as error:
        problem = f"instance {ref.sop_instance_uid}: its size cannot be read for the report"
        raise ReportError(f"{problem} ({type(error).__name__}); resend the study") from error


def header_of(ref: InstanceRef, sources: Mapping[UID, Path]) -> Dataset:
    """Return the header of an instance: in UTF-8, with type 2 elements, without unusable values and pixels.

    Raises: ReportError if the instance is not among the sources, or its file cannot be read.
    Source: PS3.3 C.7.1.1 (enumerated values of Patient's Sex), C.12.1.1.2 (character sets).
    """
    try:
        # A warning of pydicom quotes the odd value, which may be the patient's.
        with disable_value_validation():
            header = dcmread(sources[ref.sop_instance_uid], stop_before_pixels=True)
            return _with_required_elements(without_odd_geometry(_utf8_header(header)))
    except BROKEN_FILE as error:
        problem = f"instance {ref.sop_instance_uid}: its header cannot be read for the report"
        raise ReportError(f"{problem} ({type(error).__name__}); resend the study") from error


def _utf8_header(header: Dataset) -> Dataset:
    """Return the header with every string in UTF-8, strings of nested items too.

    A new Specific Character Set alone leaves nested strings in the old encoding, so the header is written and read.
    """
    _declare(header, _character_set(header))
    for tag in tuple(header.keys()):
        if not _is_usable(header, tag):
            del header[tag]
    header.decode()
    header.walk(_remove_nested_declarations)
    header.walk(_remove_escapes)
    header.SpecificCharacterSet = UTF_8
    file = BytesIO()
    header.save_as(file)
    file.seek(0)
    utf8_header = dcmread(file)
    utf8_header.decode()
    return utf8_header


def _character_set(header: Dataset) -> list[str]:
    """Return the terms of the character set that the text of a header is in."""
    with catch_warnings(action="ignore"):
        stated = header.get("SpecificCharacterSet") or ""
    terms = known_terms(stated if isinstance(stated, MultiValue) else [str(stated)])
    return list(terms) if terms else [undeclared_term(_raw_texts(header))]


def _raw_texts(header: Dataset) -> Iterator[bytes]:
    """Yield the texts of a header as bytes, without those of its sequences."""
    for tag in header.keys():  # noqa: SIM118 - the keys alone: a loop over the elements decodes them
        element = header.get_item(tag)
        if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
            vr = element.VR if element.VR or not dictionary_has_tag(tag) else dictionary_VR(tag)
            if vr in _TEXT_VRS:
                yield element.value


def _declare(data_set: Dataset, terms: list[str]) -> None:
    """State the character set of a data set, and of items that were read before and state no known set themselves."""
    data_set.SpecificCharacterSet = terms
    # pydicom decodes an element in the set that was read, not in the set that is stated now.
    is_implicit, is_little_endian = data_set.original_encoding
    data_set.set_original_encoding(is_implicit, is_little_endian, convert_encodings(terms))
    for tag in tuple(data_set.keys()):
        element = data_set.get_item(tag)
        if isinstance(element, DataElement) and element.VR == "SQ":
            for item in element.value:
                own = item.get("SpecificCharacterSet")
                own_terms = known_terms(own if isinstance(own, MultiValue) else [str(own or "")])
                _declare(item, list(own_terms) or terms)


def _remove_nested_declarations(_: Dataset, element: DataElement) -> None:
    """Remove the character sets of items; the items are decoded, and written in the set of the whole data set."""
    if element.VR == "SQ":
        for item in element.value:
            item.pop("SpecificCharacterSet", None)


def _remove_escapes(_: Dataset, element: DataElement) -> None:
    """Remove the escape sequences that are left in a decoded text."""
    value = element.value
    if element.VR in _TEXT_VRS and "\x1b" in str(value):
        is_multiple = isinstance(value, MultiValue)
        element.value = [without_escapes(str(part)) for part in value] if is_multiple else without_escapes(str(value))


def _is_usable(header: Dataset, tag: BaseTag) -> bool:
    """Return whether an element can be read and its value keeps the rules of its VR; a date of `0000` does not.

    Two values where the standard has one say nothing.
    """
    try:
        element = header[tag]
        if element.VR == "SQ":
            for item in element.value:
                item.walk(lambda *_: None)
        elif element.VR in _CHECKED_VRS and not element.is_empty:
            if element.VM > 1 and dictionary_has_tag(tag) and dictionary_VM(tag) == "1":
                return False
            for value in element.value if isinstance(element.value, MultiValue) else (element.value,):
                validate_value(element.VR, str(value), RAISE)
    except BROKEN_FILE:
        return False
    return True


def _with_required_elements(header: Dataset) -> Dataset:
    """Return the header after adding absent type 2 elements."""
    for keyword in _PATIENT_AND_STUDY:
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = ""
    return header


def reference_dataset(ref: InstanceRef) -> Dataset:
    """Return the UIDs of an instance as the data set that highdicom expects; patient and study elements are empty."""
    dataset = Dataset()
    for keyword in _PATIENT_AND_STUDY:
        setattr(dataset, keyword, "")
    dataset.StudyInstanceUID = ref.study_instance_uid
    dataset.SeriesInstanceUID = ref.series_instance_uid
    dataset.SOPClassUID = ref.sop_class_uid
    dataset.SOPInstanceUID = ref.sop_instance_uid
    return dataset


def creation_time(header: Dataset, context: DocumentContext) -> datetime:
    """Return the time of creation on the clock of the source; without one, on the clock of the context.

    A clock whose offset nobody states may be wrong by a time zone: then no document is older than its source.
    """
    if zone := stated_zone(header, context):
        return context.created.astimezone(zone)
    source_times = (_local_time(header, kind, context.created.tzinfo) for kind in _DATED)
    later_times = (time for time in source_times if time and time - context.created <= _MAX_ZONE_ERROR)
    return max((context.created, *later_times))


def _contribution_time(header: Dataset, context: DocumentContext) -> DT:
    """Return the time of creation as a DT, with an offset only where the document states the offset."""
    created = creation_time(header, context)
    return DT(created if stated_zone(header, context) else created.replace(tzinfo=None))


def _local_time(header: Dataset, kind: str, zone: tzinfo | None) -> datetime | None:
    """Return date and time of a kind in a zone, midnight where no time is stated; None without such a date."""
    try:
        date, time = DA(header.get(f"{kind}Date")), TM(header.get(f"{kind}Time"))
        return datetime.combine(date, time or datetime.min.time(), zone) if date else None
    except (TypeError, ValueError):
        return None


def stated_zone(header: Dataset, context: DocumentContext) -> tzinfo | None:
    """Return Timezone Offset From UTC, which every time of a document is in (PS3.3 C.12.1); None where nobody knows it.

    The configured zone has the offset of the study's time, which the document repeats: summer time may begin before the
    study is read.
    """
    try:
        zone = datetime.strptime(str(header.get("TimezoneOffsetFromUTC")).strip(), "%z").tzinfo
    except ValueError:
        zone = None
    if zone is None and context.states_offset:
        study_time = _local_time(header, "Study", context.created.tzinfo) or context.created
        zone = timezone(study_time.utcoffset() or timedelta())
    return zone


def stated_study_time(header: Dataset, context: DocumentContext) -> str:
    """Return date and time of the study as ISO 8601; the date where nobody knows the offset, '' without a date."""
    day = valid_text(header, "StudyDate")
    zone = stated_zone(header, context)
    if zone and valid_text(header, "StudyTime") and (time := _local_time(header, "Study", zone)):
        return time.isoformat(timespec="seconds")
    return f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == len("YYYYMMDD") else ""


def complete_document(
    document: SOPClass, header: Dataset, context: DocumentContext, algorithm: Algorithm | None = None
) -> None:
    """Add the source's patient and study, the contributing equipment and the time of creation to a built document."""
    created = creation_time(header, context)
    document.InstanceCreationDate, document.InstanceCreationTime = DA(created.date()), TM(created.time())
    if stated_zone(header, context):
        document.TimezoneOffsetFromUTC = created.strftime("%z")[:5]
    document.StationName = context.device_name[:16]
    document.ContributingEquipmentSequence = _contributing_equipment(header, context, algorithm)
    document.update(patient_and_study(header))


def copy_body_part(document: Dataset, header: Dataset) -> None:
    """Copy Body Part Examined, and Laterality for a part that is paired or unknown; Laterality may be empty."""
    if part := valid_text(header, "BodyPartExamined"):
        document.BodyPartExamined = part
    if part not in _UNPAIRED_PARTS:
        laterality = header.get("Laterality") or header.get("ImageLaterality")
        document.Laterality = laterality if laterality in ("R", "L") else ""


def is_lossy(header: Dataset) -> bool:
    """Return whether the source was ever compressed with loss."""
    return header.get("LossyImageCompression") == "01" or header.file_meta.TransferSyntaxUID in _LOSSY_SYNTAXES


def copy_lossy_compression(image: Dataset, header: Dataset) -> None:
    """Copy whether the source was ever compressed with loss, and how (PS3.3 C.7.6.1.1.5)."""
    image.LossyImageCompression = "01" if is_lossy(header) else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if is_lossy(header) and keyword in header:
            image.add(header[keyword])


def common_arguments(result: Result, header: Dataset, context: DocumentContext) -> dict[str, Any]:
    """Return the constructor arguments that highdicom's segmentations and presentation states share, by name."""
    created = creation_time(header, context)
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": software_versions(context, result.algorithm),
        "device_serial_number": context.device_uid,
        "series_description": series_description(result.title, result.algorithm),
        "content_qualification": "RESEARCH",
        "content_description": "RESEARCH USE ONLY",
        "specific_character_set": "ISO_IR 192",
        "series_date": DA(created.date()),
        "series_time": TM(created.time()),
    }


def software_versions(context: DocumentContext, algorithm: Algorithm | None) -> list[str]:
    """Return the versions of node, model and weights, each cut to the 64 characters of an LO."""
    model = [model_version(algorithm), f"weights {algorithm.weights_sha256[:16]}"] if algorithm else []
    return [version[:64] for version in (*context.software_versions, *model)]


def encoded_document(kind: DocumentKind, document: SOPClass) -> Document:
    """Return a complete document as the bytes of a DICOM file, with its UIDs."""
    file = BytesIO()
    document.save_as(file, enforce_file_format=True)
    ref = InstanceRef(
        UID(document.StudyInstanceUID),
        UID(document.SeriesInstanceUID),
        UID(document.SOPClassUID),
        UID(document.SOPInstanceUID),
    )
    return Document(kind, ref, file.getvalue())


def node_equipment(header: Dataset, context: DocumentContext, description: str | None = None) -> ContributingEquipment:
    """Return this node as equipment that contributed to an object; the description says what of it (PS3.3 C.12.1.5)."""
    return ContributingEquipment(
        MANUFACTURER,
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=MODEL_NAME,
        software_versions=software_versions(context, None),
        station_name=context.device_name[:16],
        contribution_datetime=_contribution_time(header, context),
        contribution_description=description,
    )


def _contributing_equipment(
    header: Dataset, context: DocumentContext, algorithm: Algorithm | None
) -> list[ContributingEquipment]:
    """Return the scanner of the source image, if its header names it, this node, and the algorithm (PS3.3 C.12.1.5)."""
    own_equipment = [
        node_equipment(header, context),
        *([_algorithm_equipment(algorithm, header, context)] if algorithm else []),
    ]
    scanned = Dataset()
    scanned.update(header)
    for keyword in _EQUIPMENT:
        if not valid_text(header, keyword):
            scanned.pop(keyword, None)
    try:
        return [ContributingEquipment.for_image_acquisition(scanned), *own_equipment]
    except (AttributeError, TypeError, ValueError):
        return own_equipment


def _algorithm_equipment(algorithm: Algorithm, header: Dataset, context: DocumentContext) -> ContributingEquipment:
    """Return the algorithm as equipment with a Device UID of its own, as IHE AI Results names models."""
    weights = f"weights {algorithm.weights_sha256[:16]}" if algorithm.weights_sha256 else ""
    equipment = ContributingEquipment(
        MANUFACTURER,
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=algorithm.name[:64],
        software_versions=[version[:64] for version in (algorithm.version, weights) if version],
        contribution_datetime=_contribution_time(header, context),
    )
    equipment.DeviceUID = algorithm_uid(algorithm)
    return equipment
