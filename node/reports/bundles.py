"""An answer as a FHIR R4 transaction, for each server that gets one.

Each entry is created unless the server has a resource with its identifier, and identifiers hang on the report: a
transaction that is sent again changes nothing. `corrections.py` puts a later answer in the place of an earlier one.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ainode.node.domain import (
    NO_UID,
    UID,
    Document,
    DocumentContext,
    DocumentKind,
    InstanceRef,
    OutOfScope,
    Result,
    ServerAddress,
)
from ainode.node.encoding.fhir import Json, creation, transaction
from ainode.node.identity import made_uid, made_uuid
from ainode.node.reports.drafts import Draft, draft_of
from ainode.node.reports.findings_as_resources import finding_resources
from ainode.node.reports.resources import (
    device,
    diagnostic_report,
    imaging_study,
    node_device,
    patient,
    subject_of,
)

# FHIR R4, v3-ActReason: data of a test, which is about nobody.
_TEST: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HTEST",
    "display": "test health data",
}


def bundles(
    answer: Result | OutOfScope, report: InstanceRef, sources: Mapping[UID, Path], context: DocumentContext
) -> tuple[Document, ...]:
    """Return a transaction for each FHIR server; `report` is the Structured Report of the same answer.

    Raises: ReportError if a header that the report was made of cannot be read.
    """
    if not context.servers:
        return ()
    draft = draft_of(answer, report, sources, context)
    return tuple(_bundle(draft, address) for address in context.servers)


def _bundle(draft: Draft, address: ServerAddress) -> Document:
    systems = [text for pair in address.patient_systems for text in pair]
    names = [address.destination, address.patient, *systems, address.accession_system, address.report_status]
    names.append(address.members)
    parts = ["bundle", draft.report.sop_instance_uid, *names, "test" if address.is_test else ""]
    ref = InstanceRef(draft.report.study_instance_uid, NO_UID, NO_UID, made_uid(*parts))
    content = transaction([creation(url, _marked(resource, address)) for url, resource in _resources(draft, address)])
    return Document(DocumentKind.BUNDLE, ref, content, address.destination)


def _resources(draft: Draft, address: ServerAddress) -> Iterator[tuple[str, Json]]:
    """Yield the address of each resource in the transaction, and the resource; the report comes last."""
    subject = subject_of(draft.patient, address)
    if subject.is_created:
        yield subject.full_url, patient(draft.patient, subject)
    yield _url(draft, "study"), imaging_study(draft, address, subject)
    yield _url(draft, "device"), device(draft.algorithm) if draft.algorithm else node_device(draft.context)
    results: list[str] = []
    if isinstance(draft.answer, Result):
        for number, finding in enumerate(draft.answer.findings):
            group, *others = finding_resources(draft, address, subject, finding, number)
            results.append(group.full_url)
            for part in (*others, group):
                yield part.full_url, part.resource
    yield _url(draft, "report"), diagnostic_report(draft, address, subject, results)


def _url(draft: Draft, *parts: str) -> str:
    return made_uuid("resource", draft.report.sop_instance_uid, *parts).urn


def _marked(resource: Json, address: ServerAddress) -> Json:
    return {**resource, "meta": {"security": [_TEST]}} if address.is_test else resource
