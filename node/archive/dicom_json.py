"""Data sets in DICOM JSON (PS3.18 annex F), and in the XML of the Native DICOM Model (PS3.19 annex A)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias
from xml.etree import ElementTree as ET

from ainode.node.archive.multipart import boundary_of, parts

JsonDataset: TypeAlias = Mapping[str, Any]
"""a data set in DICOM JSON: tag to an object with `vr` and `Value`"""
# PS3.6: the tag of each keyword; DICOM JSON names an element by its tag (PS3.18 F.2).
_TAGS: Final = {
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "SOPInstanceUID": "00080018",
    "Modality": "00080060",
    "ModalitiesInStudy": "00080061",
    "StudyDescription": "00081030",
    "SeriesDescription": "0008103E",
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "IssuerOfPatientIDQualifiersSequence": "00100024",
    "UniversalEntityID": "00400032",
    "PatientBirthDate": "00100030",
    "BodyPartExamined": "00180015",
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "NumberOfSeriesRelatedInstances": "00201209",
    "WarningReason": "00081196",
    "FailureReason": "00081197",
    "FailedSOPSequence": "00081198",
    "ReferencedSOPSequence": "00081199",
    "ReferencedSOPInstanceUID": "00081155",
    "RetrieveURL": "00081190",
    "RetrieveAETitle": "00080054",
    "CodeValue": "00080100",
    "CodingSchemeDesignator": "00080102",
    "CodeMeaning": "00080104",
    "ProcedureStepState": "00741000",
    "ScheduledProcedureStepPriority": "00741200",
    "WorklistLabel": "00741202",
    "InputReadinessState": "00404041",
    "ScheduledProcedureStepStartDateTime": "00404005",
    "ScheduledWorkitemCodeSequence": "00404018",
    "ScheduledStationNameCodeSequence": "00404025",
    "InputInformationSequence": "00404021",
    "DICOMRetrievalSequence": "0040E021",
    "WADORSRetrievalSequence": "0040E025",
    "AffectedSOPInstanceUID": "00001000",
    "EventTypeID": "00001002",
}
# PS3.19 A.1.6: the namespace of the Native DICOM Model.
_NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
# Of one document: an object of JSON takes two bytes in the document and a hundred in memory. The instances of the
# largest study have a million and a half objects and lists.
_MAX_CONTAINERS: Final = 2_000_000
_MAX_MARKS: Final = 4_000_000
_MAX_DIGITS: Final = 10
_MODEL, _ATTRIBUTE, _ITEM, _VALUE = "NativeDicomModel", "DicomAttribute", "Item", "Value"


def items(dataset: JsonDataset, keyword: str) -> tuple[JsonDataset, ...]:
    """Return the items of a sequence, () if the sequence is absent."""
    return tuple(item for item in _values(dataset, keyword) if isinstance(item, dict))


def texts(dataset: JsonDataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an element as texts, () if the element is absent."""
    return tuple(str(value).strip(" \0") for value in _values(dataset, keyword) if value is not None)


def text(dataset: JsonDataset, keyword: str) -> str:
    """Return the first value of an element as a text, '' if the element is absent."""
    return next(iter(texts(dataset, keyword)), "")


def number(dataset: JsonDataset, keyword: str) -> int | None:
    """Return the first value of an element as a number, None if the element is absent or no number of 32 bits."""
    value = text(dataset, keyword)
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS else None


def _values(dataset: JsonDataset, keyword: str) -> Sequence[object]:
    """Return the values of an element, [] if the element is absent or malformed: an archive may answer anything."""
    element = dataset.get(_TAGS[keyword]) if isinstance(dataset, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def datasets_of(content: bytes, content_type: str) -> list[JsonDataset]:
    """Return the data sets of an answer in DICOM JSON or XML, alone or as parts of a multipart answer.

    Raises: ValueError if the answer, or a part, is neither, or is nested deeper than Python's stack.
    """
    boundary = boundary_of(content_type)
    contents = [b"".join(part) for part in parts([content], boundary)] if boundary else [content]
    try:
        return [dataset for part in contents if part.strip() for dataset in _datasets_of_part(part)]
    except RecursionError as error:
        raise ValueError("the data set is nested too deeply") from error


def _datasets_of_part(content: bytes) -> list[JsonDataset]:
    """Return the data sets of one document: a list in JSON, or one data set in JSON or XML.

    A character that is no UTF-8 costs its text alone: no UID has one.
    """
    refuse_large(content)
    document = content.decode("utf-8-sig", "replace")
    try:
        answer = json.loads(document)
    except ValueError:
        return [_dataset_of_xml(document)]
    if isinstance(answer, dict):  # some servers answer a single match without a list
        return [answer]
    if not isinstance(answer, list):
        raise ValueError("no data set")  # noqa: TRY004 - the session translates ValueError
    return [dataset for dataset in answer if isinstance(dataset, dict)]


def refuse_large(content: bytes) -> None:
    """Refuse a document in JSON or XML that would take more memory than the answer about a whole study.

    Raises: ValueError if the document has too many elements.
    """
    if content.count(b"{") + content.count(b"[") > _MAX_CONTAINERS or content.count(b"<") > _MAX_MARKS:
        raise ValueError("too many elements")


def _dataset_of_xml(document: str) -> JsonDataset:
    """Return the data set of a Native DICOM Model; without a document type declaration no entity expands.

    Raises: ValueError if the document is none.
    """
    try:
        root = None if "<!DOCTYPE" in document else ET.fromstring(document)  # noqa: S314 - no entities, see above
    except ET.ParseError as error:
        raise ValueError("neither JSON nor XML") from error
    if root is None or _local(root) != _MODEL:
        raise ValueError("no data set")
    return _elements_of(root)


def _elements_of(node: ET.Element) -> JsonDataset:
    return {
        attribute.get("tag", "").upper(): {"vr": attribute.get("vr", ""), "Value": _values_of(attribute)}
        for attribute in node
        if _local(attribute) == _ATTRIBUTE
    }


def _values_of(attribute: ET.Element) -> list[object]:
    children = [child for child in attribute if _local(child) in {_ITEM, _VALUE}]
    return [_elements_of(child) if _local(child) == _ITEM else child.text or "" for child in children]


def _local(node: ET.Element) -> str:
    """Return the name of an XML element without its namespace: some archives declare none."""
    return node.tag.rpartition("}")[2]


def xml_of(dataset: JsonDataset) -> bytes:
    """Return a data set in DICOM JSON as XML of the Native DICOM Model; it may hold sequences and plain values."""
    root = ET.Element(_MODEL, {"xmlns": _NAMESPACE, "xml:space": "preserve"})
    _add_elements(root, dataset)
    return bytes(ET.tostring(root, encoding="UTF-8", xml_declaration=True))


def _add_elements(parent: ET.Element, dataset: JsonDataset) -> None:
    for tag, element in sorted(dataset.items()):
        attribute = ET.SubElement(parent, _ATTRIBUTE, {"tag": tag, "vr": element["vr"]})
        for number, value in enumerate(element.get("Value", ()), start=1):
            is_item = isinstance(value, dict)
            child = ET.SubElement(attribute, _ITEM if is_item else _VALUE, {"number": str(number)})
            if is_item:
                _add_elements(child, value)
            else:
                child.text = str(value)
