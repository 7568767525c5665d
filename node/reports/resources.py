"""The resources of FHIR R4 about an answer: patient, study, device, report.

Along the guide of HL7 that maps DICOM SR to FHIR, which is written for R5: what R4 lacks stands where R4 has room.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from pydicom import Dataset

from ainode.node.domain import RESEARCH_USE_ONLY, Algorithm, DocumentContext, OutOfScope, ServerAddress
from ainode.node.encoding.fhir import (
    MEASUREMENT_REPORT,
    RADIOLOGY,
    UNKNOWN_PATIENT,
    Json,
    coding,
    concept,
    date,
    human_name,
    instant,
    order,
    patient_identifier,
    search_token,
    uid_identifier,
    universal_system,
    without_empty,
)
from ainode.node.identity import MANUFACTURER, MODEL_NAME, algorithm_uid, made_uid, made_uuid
from ainode.node.reports.drafts import Draft
from ainode.node.reports.limits import limits
from ainode.node.reports.macros import valid_text, whole_code
from ainode.node.reports.source_header import stated_study_time
from ainode.node.reports.text import title, weights_text

IDENTIFIER_ALONE, CREATE = "identifier", "create"
_STUDY_UID: Final = concept(coding("DCM", "110180", "Study Instance UID"))
_GENDERS: Final = {"M": "male", "F": "female", "O": "other"}
# FHIR R4 DiagnosticReport.status: there will be no report.
_CANCELLED: Final = "cancelled"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose the resources are: a reference by identifier, by search, or to an entry of the transaction."""

    reference: Json
    identifier: Json
    """{} where the images state no Patient ID"""
    full_url: str = ""
    is_created: bool = False


def subject_of(patient: Dataset, address: ServerAddress) -> Subject:
    """Return whose the resources are.

    Without a system a Patient ID may be that of two patients: then nobody is looked for and nobody made.
    """
    identifier = identifier_of(patient, dict(address.patient_systems))
    if not identifier:
        return Subject(UNKNOWN_PATIENT, {})
    if address.patient == IDENTIFIER_ALONE or "system" not in identifier:
        return Subject({"type": "Patient", "identifier": identifier}, identifier)
    if address.patient == CREATE:
        full_url = made_uuid("patient", search_token(identifier)).urn
        return Subject({"reference": full_url}, identifier, full_url, is_created=True)
    return Subject({"reference": f"Patient?identifier={quote(search_token(identifier), safe='')}"}, identifier)


def identifier_of(patient: Dataset, systems: Mapping[str, str]) -> Json:
    """Return the Patient ID with the system for its issuer, else that of its universal identifier; {} without one."""
    issuer = str(patient.get("IssuerOfPatientID") or "").strip()
    qualifiers = next(iter(patient.get("IssuerOfPatientIDQualifiersSequence") or ()), Dataset())
    value = str(patient.get("PatientID") or "").strip()
    return patient_identifier(value, issuer, systems.get(issuer) or _universal(qualifiers))


def _universal(issuer: Dataset) -> str:
    """Return the system of an issuer that says who it is by a universal identifier."""
    return universal_system(str(issuer.get("UniversalEntityID") or ""), str(issuer.get("UniversalEntityIDType") or ""))


def patient(header: Dataset, subject: Subject) -> Json:
    """Return the patient as the images name the patient."""
    return without_empty(
        {
            "resourceType": "Patient",
            "identifier": [subject.identifier],
            "name": human_name(str(header.get("PatientName") or "")),
            "gender": _GENDERS.get(str(header.get("PatientSex") or ""), ""),
            "birthDate": date(valid_text(header, "PatientBirthDate")),
        }
    )


def imaging_study(draft: Draft, address: ServerAddress, subject: Subject) -> Json:
    """Return the study as far as the images that were read tell of it: other series of it are not known."""
    modality = valid_text(draft.header, "Modality")
    return without_empty(
        {
            "resourceType": "ImagingStudy",
            "identifier": [uid_identifier(draft.report.study_instance_uid, type_=_STUDY_UID)],
            "status": "available",
            "modality": [coding("DCM", modality, "")] if modality else [],
            "subject": subject.reference,
            "started": stated_study_time(draft.header, draft.context),
            "basedOn": orders(draft, address),
            "description": valid_text(draft.header, "StudyDescription"),
        }
    )


def orders(draft: Draft, address: ServerAddress) -> list[Json]:
    """Return the orders that the report fulfills, each by its Accession Number: the server's own are not known."""
    return list(orders_of(draft.requests, address.accession_system))


def orders_of(requests: Iterable[Dataset], system: str) -> Iterator[Json]:
    """Yield the orders of requests that have an Accession Number; `system` is that of a number without an issuer."""
    for request in requests:
        if number := str(request.get("AccessionNumber") or "").strip():
            issuer = next(iter(request.get("IssuerOfAccessionNumberSequence") or ()), Dataset())
            yield order(number, _universal(issuer) or system)


def device(algorithm: Algorithm) -> Json:
    """Return the algorithm, which is another device with other weights, or when the status of its weights changes."""
    identity = made_uid("algorithm resource", algorithm_uid(algorithm), algorithm.weights_status)
    versions = [("software version", algorithm.version), ("weights sha256", algorithm.weights_sha256)]
    notes = [{"text": f"{name}: {text}"} for name, text in limits(algorithm)]
    return without_empty(
        {
            "resourceType": "Device",
            "identifier": [uid_identifier(identity), uid_identifier(algorithm_uid(algorithm))],
            "status": "active",
            "manufacturer": MANUFACTURER,
            "deviceName": [{"name": algorithm.name, "type": "user-friendly-name"}],
            "type": {"text": "AI model"},
            "version": [{"type": {"text": name}, "value": value} for name, value in versions if value],
            "property": [
                {"type": {"text": "status of the weights"}, "valueCode": [{"text": algorithm.weights_status.value}]}
            ],
            "safety": [{"text": RESEARCH_USE_ONLY}],
            "note": notes,
        }
    )


def node_device(context: DocumentContext) -> Json:
    """Return the node, which answers where no algorithm did."""
    return {
        "resourceType": "Device",
        "identifier": [uid_identifier(context.device_uid)],
        "status": "active",
        "manufacturer": MANUFACTURER,
        "deviceName": [{"name": MODEL_NAME, "type": "model-name"}],
        "version": [{"value": text} for text in context.software_versions],
    }


def diagnostic_report(draft: Draft, address: ServerAddress, subject: Subject, results: Sequence[str]) -> Json:
    """Return the report; the first line of its conclusion says what it is not for."""
    study = made_uuid("resource", draft.report.sop_instance_uid, "study").urn
    return without_empty(
        {
            "resourceType": "DiagnosticReport",
            "identifier": [uid_identifier(draft.report.sop_instance_uid)],
            "basedOn": orders(draft, address),
            "status": status_of(draft, address),
            "category": [RADIOLOGY],
            "code": concept(MEASUREMENT_REPORT, *_procedures(draft), text=title(draft.answer)),
            "subject": subject.reference,
            "effectiveDateTime": stated_study_time(draft.header, draft.context),
            "issued": instant(draft.context.created),
            "result": [{"reference": url} for url in results],
            "imagingStudy": [{"reference": study}],
            "conclusion": "\n".join(_conclusion(draft)),
        }
    )


def status_of(draft: Draft, address: ServerAddress) -> str:
    """Return the status of the report: a refusal is cancelled."""
    return _CANCELLED if isinstance(draft.answer, OutOfScope) else address.report_status


def _procedures(draft: Draft) -> list[Json]:
    """Return what was done by the codes of the images."""
    codes = map(whole_code, draft.header.get("ProcedureCodeSequence") or ())
    keywords = ("CodeValue", "LongCodeValue", "URNCodeValue")
    return [
        coding(
            str(code.get("CodingSchemeDesignator") or ""),
            next(str(code[keyword].value) for keyword in keywords if keyword in code),
            str(code.CodeMeaning),
        )
        for code in codes
        if code
    ]


def _conclusion(draft: Draft) -> list[str]:
    answer = draft.answer
    lines = [RESEARCH_USE_ONLY, title(answer)]
    if isinstance(answer, OutOfScope):
        return [*lines, answer.told]
    algorithm = answer.algorithm
    limit_lines = [f"{name}: {text}" for name, text in limits(algorithm)]
    model = f"Model: {algorithm.name} {algorithm.version}; {weights_text(algorithm)}"
    return [*lines, *answer.statements, model, *limit_lines]
