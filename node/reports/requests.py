"""The requests that images came with, in the words of reports (PS3.3 C.17.2) and of series of images (C.7.3.1)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue

from ainode.node.domain import UID, InstanceRef, is_uid
from ainode.node.errors import ReportError
from ainode.node.reports.macros import copied, mended_items, valid_text, whole_code, whole_issuer, whole_reference
from ainode.node.reports.source_header import header_of

_STUDY, _ACCESSION = "StudyInstanceUID", "AccessionNumber"
_IDENTIFIERS = ("RequestedProcedureID", "ScheduledProcedureStepID", _ACCESSION)
_PROCEDURE_CODES = "RequestedProcedureCodeSequence"
_ISSUER = "IssuerOfAccessionNumberSequence"
# Type 2 in a report: present, possibly empty.
_REPORT_TEXTS = (
    _ACCESSION,
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
)
# Types 1C and 3 in a series: present with a value, or absent.
_SERIES_TEXTS = (*_IDENTIFIERS, "RequestedProcedureDescription", "ScheduledProcedureStepDescription")


def requests_of(
    evidence: Sequence[InstanceRef], sources: Mapping[UID, Path], headers: Mapping[InstanceRef, Dataset]
) -> tuple[Dataset, ...]:
    """Return the items of Referenced Request Sequence: each request of the study's images, once.

    The images are those of `headers` and the first of each other series. Evidence of earlier studies has other
    requests, which this report does not fulfill. Where images state Accession Numbers alone, each is a request.
    """
    requests: dict[tuple[str, ...], Dataset] = {}
    for header in _image_headers(evidence, sources, headers):
        items = _stated_requests(header) or _numbered_requests(header)
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


def _image_headers(
    evidence: Sequence[InstanceRef], sources: Mapping[UID, Path], headers: Mapping[InstanceRef, Dataset]
) -> Iterator[Dataset]:
    """Yield headers of images of the current study, of each series at least one if the header can be read."""
    series: set[UID] = set()
    for ref in evidence:
        is_new = ref.series_instance_uid not in series and ref.sop_instance_uid in sources
        if ref.study_instance_uid != evidence[0].study_instance_uid or not (ref in headers or is_new):
            continue
        series.add(ref.series_instance_uid)
        try:
            header = headers[ref] if ref in headers else header_of(ref, sources)
        except ReportError:
            continue
        if "Rows" in header:
            yield header


def _stated_requests(header: Dataset) -> list[Dataset]:
    """Return the items of Request Attributes Sequence that identify a request."""
    stated_items = header.get("RequestAttributesSequence") or ()
    items = [item for stated_item in stated_items for item in _items_by_number(stated_item)]
    return [item for item in items if copied(item, _IDENTIFIERS)]


def _numbered_requests(header: Dataset) -> list[Dataset]:
    """Return the header as a request for each Accession Number of an image."""
    return [item for item in _items_by_number(header) if valid_text(item, _ACCESSION)]


def _items_by_number(item: Dataset) -> list[Dataset]:
    """Return an item once for each Accession Number: some systems write several numbers into the one element."""
    numbers = item.get(_ACCESSION)
    if not isinstance(numbers, MultiValue):
        return [item]
    items = []
    for number in numbers:
        items.append(numbered_item := Dataset())
        numbered_item.update(item)
        numbered_item[_ACCESSION] = DataElement(item[_ACCESSION].tag, "SH", number)
    return items


def _report_item(item: Dataset, header: Dataset, *, is_single: bool) -> Dataset:
    """Return a request as a report refers to the request.

    What the item leaves out stands in the image's study, unless the image fulfills several requests.
    """
    request = Dataset()
    request.StudyInstanceUID = _study_uid(item) or header.StudyInstanceUID
    request.ReferencedStudySequence = mended_items(item, "ReferencedStudySequence", whole_reference)
    for keyword in _REPORT_TEXTS:
        setattr(request, keyword, valid_text(item, keyword))
    request.RequestedProcedureCodeSequence = mended_items(item, _PROCEDURE_CODES, whole_code, 1)
    holder = item if request.AccessionNumber or not is_single else header
    request.AccessionNumber = valid_text(holder, _ACCESSION)
    if request.AccessionNumber and (issuers := mended_items(holder, _ISSUER, whole_issuer, 1)):
        request.IssuerOfAccessionNumberSequence = issuers
    return request


def _series_item(item: Dataset) -> Dataset:
    request = copied(item, _SERIES_TEXTS)
    if study_uid := _study_uid(item):
        request.StudyInstanceUID = study_uid
    if codes := mended_items(item, _PROCEDURE_CODES, whole_code, 1):
        request.RequestedProcedureCodeSequence = codes
    if _ACCESSION in request and (issuers := mended_items(item, _ISSUER, whole_issuer, 1)):
        request.IssuerOfAccessionNumberSequence = issuers
    return request


def _study_uid(item: Dataset) -> str:
    uid = valid_text(item, _STUDY)
    return uid if is_uid(uid) else ""
