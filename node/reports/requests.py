"""The requests that images came with, in the words of reports (PS3.3 C.17.2) and of series of images (C.7.3.1)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.valuerep import validate_value

from ainode.node.domain import UID, InstanceRef, is_uid
from ainode.node.errors import ReportError
from ainode.node.reports.source_header import header_of

_STUDY, _ACCESSION = "StudyInstanceUID", "AccessionNumber"
_PROCEDURE_ID, _STEP_ID = "RequestedProcedureID", "ScheduledProcedureStepID"
_IDENTIFIERS = (_PROCEDURE_ID, _STEP_ID, _ACCESSION)
_PROCEDURE_CODES = "RequestedProcedureCodeSequence"
_ISSUER = "IssuerOfAccessionNumberSequence"
# Type 2 in a report: present, possibly empty.
_REPORT_TEXTS = (
    _ACCESSION,
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    _PROCEDURE_ID,
    "RequestedProcedureDescription",
)
# Types 1C and 3 in a series: present with a value, or absent.
_SERIES_TEXTS = (
    _ACCESSION,
    _PROCEDURE_ID,
    "RequestedProcedureDescription",
    _STEP_ID,
    "ScheduledProcedureStepDescription",
)
_REFERENCE = ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")


def requests_of(evidence: Sequence[InstanceRef], sources: Mapping[UID, Path]) -> tuple[Dataset, ...]:
    """Return the items of Referenced Request Sequence: each request of the study's series of images, once.

    Evidence of earlier studies has other requests, which this report does not fulfill. Where images state an Accession
    Number alone, the request is known by that number.
    """
    requests: dict[tuple[str, ...], Dataset] = {}
    for header in _series_headers(evidence, sources):
        items = _stated_requests(header) or ([header] if _text(header, _ACCESSION) else [])
        for item in items:
            request = _report_item(item, header, is_single=len(items) == 1)
            requests.setdefault(tuple(str(request[keyword].value) for keyword in (_STUDY, *_REPORT_TEXTS)), request)
    return tuple(requests.values())


def copy_requests(document: Dataset, header: Dataset) -> None:
    """Copy the requests of an image to a document of a series that is made of the image."""
    if items := request_attributes(header):
        document.RequestAttributesSequence = items


def request_attributes(header: Dataset) -> list[Dataset]:
    """Return the items of Request Attributes Sequence for a series made of an image; [] where the image states none."""
    return [_series_item(item) for item in _stated_requests(header)]


def complete_codes(items: Iterable[Dataset]) -> list[CodedConcept]:
    """Return the items that are whole codes: value, scheme and meaning (PS3.3 8.8)."""
    keywords = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning", "CodingSchemeVersion")
    codes = ([_text(item, keyword) for keyword in keywords] for item in items)
    return [
        CodedConcept(value, scheme, meaning, version or None)
        for value, scheme, meaning, version in codes
        if value and scheme and meaning
    ]


def _series_headers(evidence: Sequence[InstanceRef], sources: Mapping[UID, Path]) -> Iterator[Dataset]:
    """Yield the header of one image of each series of the current study, as far as the header can be read."""
    study = evidence[0].study_instance_uid
    first_by_series: dict[UID, InstanceRef] = {}
    for ref in evidence:
        if ref.study_instance_uid == study and ref.sop_instance_uid in sources:
            first_by_series.setdefault(ref.series_instance_uid, ref)
    for ref in first_by_series.values():
        try:
            header = header_of(ref, sources)
        except ReportError:
            continue
        if "Rows" in header:
            yield header


def _stated_requests(header: Dataset) -> list[Dataset]:
    """Return the items of Request Attributes Sequence that identify a request."""
    items = header.get("RequestAttributesSequence") or ()
    return [item for item in items if any(_text(item, keyword) for keyword in _IDENTIFIERS)]


def _report_item(item: Dataset, header: Dataset, *, is_single: bool) -> Dataset:
    """Return a request as a report refers to the request.

    What the item leaves out stands in the image's study, unless the image fulfills several requests.
    """
    request = Dataset()
    request.StudyInstanceUID = _study_uid(item) or header.StudyInstanceUID
    references = item.get("ReferencedStudySequence") or ()
    request.ReferencedStudySequence = [
        reference for reference in references if all(reference.get(keyword) for keyword in _REFERENCE)
    ]
    for keyword in _REPORT_TEXTS:
        setattr(request, keyword, _text(item, keyword))
    request.RequestedProcedureCodeSequence = complete_codes(item.get(_PROCEDURE_CODES) or ())
    holder = item if request.AccessionNumber or not is_single else header
    request.AccessionNumber = _text(holder, _ACCESSION)
    _copy_issuer(request, holder)
    return request


def _series_item(item: Dataset) -> Dataset:
    request = Dataset()
    if study_uid := _study_uid(item):
        request.StudyInstanceUID = study_uid
    for keyword in _SERIES_TEXTS:
        if text := _text(item, keyword):
            setattr(request, keyword, text)
    if codes := complete_codes(item.get(_PROCEDURE_CODES) or ()):
        request.RequestedProcedureCodeSequence = codes
    if "AccessionNumber" in request:
        _copy_issuer(request, item)
    return request


def _copy_issuer(request: Dataset, holder: Dataset) -> None:
    """Copy the issuer of the Accession Number if the issuer has an identifier (PS3.3 10.14)."""
    for issuer in (holder.get(_ISSUER) or ())[:1]:
        universal = (_text(issuer, "UniversalEntityID"), _text(issuer, "UniversalEntityIDType"))
        if _text(issuer, "LocalNamespaceEntityID") or all(universal):
            whole = Dataset()
            if local := _text(issuer, "LocalNamespaceEntityID"):
                whole.LocalNamespaceEntityID = local
            if all(universal):
                whole.UniversalEntityID, whole.UniversalEntityIDType = universal
            request.IssuerOfAccessionNumberSequence = [whole]


def _study_uid(item: Dataset) -> str:
    uid = _text(item, _STUDY)
    return uid if is_uid(uid) else ""


def _text(item: Dataset, keyword: str) -> str:
    """Return the text of an element; '' where the element is absent, or its value breaks the rules of its VR."""
    value = item.get(keyword)
    text = "" if value is None else str(value)
    try:
        validate_value(dictionary_VR(keyword), text, RAISE)
    except ValueError:
        return ""
    return text.strip()
