"""What every message about an answer is made of, in HL7 or FHIR: the answer, its report, the headers behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from ainode.node.domain import UID, Algorithm, DocumentContext, InstanceRef, OutOfScope, Result
from ainode.node.reports.macros import valid_text
from ainode.node.reports.modules import patient_and_study
from ainode.node.reports.requests import requests_of
from ainode.node.reports.source_header import creation_time, header_of, stated_zone


@dataclass(frozen=True, slots=True)
class Draft:
    """What every message about an answer needs."""

    answer: Result | OutOfScope
    report: InstanceRef
    header: Dataset
    patient: Dataset
    """patient, visit and study of the header, each element valid by itself"""
    requests: Sequence[Dataset]
    context: DocumentContext

    @property
    def created(self) -> str:
        """Return the time of the report, with its offset where the report states one, as DICOM and HL7 write it."""
        time = creation_time(self.header, self.context)
        return time.strftime("%Y%m%d%H%M%S%z" if stated_zone(self.header, self.context) else "%Y%m%d%H%M%S")

    @property
    def studied(self) -> str:
        """Return date and time of the study, as exact as its header is, as HL7 writes it; '' without a date."""
        day, time = valid_text(self.header, "StudyDate"), valid_text(self.header, "StudyTime")
        offset = valid_text(self.header, "TimezoneOffsetFromUTC")
        return day and (f"{day}{time.partition('.')[0]}{offset}" if time else day)

    @property
    def algorithm(self) -> Algorithm | None:
        """Return what answered, None of a refusal."""
        return self.answer.algorithm if isinstance(self.answer, Result) else None


def draft_of(
    answer: Result | OutOfScope, report: InstanceRef, sources: Mapping[UID, Path], context: DocumentContext
) -> Draft:
    """Return what the messages about an answer need; `report` is the Structured Report of the same answer.

    Patient, visit, order and study come from the headers that the report takes them from.

    Raises: ReportError if a header that the report was made of cannot be read.
    """
    headers = {ref: header_of(ref, sources) for ref in _described(answer)}
    first = next((ref for ref, header in headers.items() if "Rows" in header), answer.evidence[0])
    return Draft(
        answer,
        report,
        headers[first],
        patient_and_study(headers[first]),
        requests_of(answer.evidence, sources, headers),
        context,
    )


def _described(answer: Result | OutOfScope) -> tuple[InstanceRef, ...]:
    """Return the instances whose headers the report describes."""
    if isinstance(answer, OutOfScope):
        return answer.evidence[:1]
    regions = (finding.region.image for finding in answer.findings if finding.region)
    return (answer.evidence[0], *answer.key_images, *regions)
