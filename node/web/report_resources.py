"""A Structured Report of the node as a DiagnosticReport of FHIR R4, with its findings in it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydicom import Dataset

from ainode.node.domain import RESEARCH_USE_ONLY
from ainode.node.encoding.fhir import (
    FINDING,
    INTERPRETATIONS,
    MEASUREMENT_REPORT,
    RADIOLOGY,
    UNKNOWN_PATIENT,
    Json,
    coding,
    concept,
    date,
    instant,
    quantity,
    uid_identifier,
    without_empty,
)
from ainode.node.keeping.report_search import KeptReport
from ainode.node.reports.resources import identifier_of, orders_of

_MEASUREMENTS, _GROUP = "126010", "125007"
_FINDING, _SITE, _TRACKING = "121071", "363698007", "112039"
_TRACKING_UID: Final = "112040"
_PRESENT: Final = "52101004"
_PRESENCES: Final = {_PRESENT: "POS", "272519000": "NEG", "82334004": "IND"}
_WORDS: Final = {"POS": "present", "NEG": "absent", "IND": "indeterminate"}


def report_resource(report: KeptReport, dataset: Dataset, result: Mapping[str, Any]) -> Json:
    """Return the report as a resource; `dataset` is the Structured Report, `result` its result.json.

    Nobody has verified it, so it is partial; of a refusal it is cancelled, and entered in error once it is withdrawn.
    """
    refusal = result.get("out_of_scope") or {}
    patient, issued = subject(dataset), instant(report.issued_at)
    observations = [] if refusal or report.withdrawal else list(_observations(dataset, patient, issued))
    study = {"type": "ImagingStudy", "identifier": uid_identifier(dataset.StudyInstanceUID)}
    old = [uid_identifier(ref.sop_instance_uid, use="old") for ref in report.replaced]
    title = "Study not analyzed" if refusal else f"{result.get('title', '')}: AI result"
    return without_empty(
        {
            "resourceType": "DiagnosticReport",
            "id": report.job,
            "contained": observations,
            "identifier": [uid_identifier(dataset.SOPInstanceUID), *old],
            "basedOn": list(orders_of(dataset.get("ReferencedRequestSequence") or (), "")),
            "status": _status(report, refusal),
            "category": [RADIOLOGY],
            "code": concept(MEASUREMENT_REPORT, text=title),
            "subject": patient,
            "effectiveDateTime": date(str(dataset.get("StudyDate") or "")),
            "issued": issued,
            "result": [{"reference": f"#{observation['id']}"} for observation in observations],
            "imagingStudy": [study],
            "conclusion": "\n".join([*_withdrawal(report), RESEARCH_USE_ONLY, title, *_lines(result)]),
        }
    )


def _status(report: KeptReport, refusal: Mapping[str, Any]) -> str:
    if report.withdrawal:
        return "entered-in-error"
    return "cancelled" if refusal else "partial"


def _withdrawal(report: KeptReport) -> Iterator[str]:
    if report.withdrawal:
        yield f"{report.withdrawal[:1].upper()}{report.withdrawal[1:]}"


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield reason or verdicts, then model and weights."""
    if refusal := result.get("out_of_scope"):
        yield str(refusal["reason"])
        return
    yield from (result.get("verdict") or {}).get("statements", ())
    if algorithm := result.get("algorithm"):
        weights = f"{algorithm['weights_status']} weights (sha256 {algorithm['weights_sha256']})"
        yield f"Model: {algorithm['name']} {algorithm['version']}; {weights}"
        yield from (f"Not for: {text}" for text in algorithm.get("not_for", ()))
        yield from (f"Known limit: {text}" for text in algorithm.get("known_limits", ()))


def subject(dataset: Dataset) -> Json:
    """Return a reference to the patient, by the identifier that the report has."""
    identifier = identifier_of(dataset, {})
    return {"type": "Patient", "identifier": identifier} if identifier else UNKNOWN_PATIENT


def _observations(dataset: Dataset, subject: Json, issued: str) -> Iterator[Json]:
    """Yield an Observation for each lesion; groups of the report with one Tracking UID are of one lesion."""
    lesions: dict[str, list[Dataset]] = {}
    for container in _children(dataset, _MEASUREMENTS):
        for number, group in enumerate(_children(container, _GROUP)):
            uids = [str(item.get("UID") or "") for item in _children(group, _TRACKING_UID)]
            lesions.setdefault(next(iter(uids), str(number)), []).append(group)
    for number, groups in enumerate(lesions.values(), start=1):
        yield _observation(
            f"finding{number}", [item for group in groups for item in group.ContentSequence], subject, issued
        )


def _observation(identifier: str, items: list[Dataset], subject: Json, issued: str) -> Json:
    """Return a lesion: its finding is the value where the report states it as it is or as present."""
    findings = [item for item in items if _name(item) == _FINDING]
    names = [str(item.get("TextValue") or "") for item in items if _name(item) == _TRACKING]
    sites = [_value(item) for item in items if _name(item) == _SITE]
    finding_code = findings[0].ConceptCodeSequence[0] if findings else Dataset()
    verdicts = [_code(item) for item in items if _name(item) == finding_code.get("CodeValue")]
    is_there = bool(findings) and all(verdict == _PRESENT for verdict in verdicts)
    parts: dict[str, Json] = {}
    for item in items:
        if part := _part(item):
            parts.setdefault(str(part["code"]), part)
    return without_empty(
        {
            "resourceType": "Observation",
            "id": identifier,
            "status": "preliminary",
            "code": {**FINDING, "text": _conclusion(next(iter(names), ""), finding_code, items)},
            "subject": subject,
            "issued": issued,
            "valueCodeableConcept": _concept(finding_code) if is_there else {},
            "bodySite": next(iter(sites), {}),
            "component": list(parts.values()),
        }
    )


def _conclusion(name: str, finding: Dataset, items: list[Dataset]) -> str:
    """Return name and verdict of a lesion as `Finding.conclusion` does: the last evaluation is the verdict."""
    evaluations = [(item, _WORDS[_PRESENCES[_code(item)]]) for item in items if _code(item) in _PRESENCES]
    if not evaluations or ": " in name:  # an early report has the verdict in the name
        return name
    verdict, presence = evaluations[-1]
    about = verdict.ConceptNameCodeSequence[0]
    is_of_finding = about.get("CodeValue") == finding.get("CodeValue")
    return f"{name}: {presence}" if is_of_finding else f"{name}, {about.CodeMeaning.lower()}: {presence}"


def _part(item: Dataset) -> Json:
    """Return a number, or a code other than finding and site, as a component; {} of anything else."""
    name = item.ConceptNameCodeSequence[0]
    if item.ValueType == "NUM" and item.get("MeasuredValueSequence"):
        measured = item.MeasuredValueSequence[0]
        unit = measured.MeasurementUnitsCodeSequence[0]
        meaning = "" if unit.CodeValue == "1" else str(unit.CodeMeaning)
        return {
            "code": _concept(name),
            "valueQuantity": quantity(float(measured.NumericValue), meaning, unit.CodeValue),
        }
    if item.ValueType == "CODE" and _name(item) not in {_FINDING, _SITE}:
        part: Json = {"code": _concept(name), "valueCodeableConcept": _value(item)}
        if code := _PRESENCES.get(_code(item)):
            part["interpretation"] = [concept({"system": INTERPRETATIONS, "code": code})]
        return part
    return {}


def _children(parent: Dataset, name: str) -> Iterator[Dataset]:
    return (item for item in parent.get("ContentSequence") or () if _name(item) == name)


def _name(item: Dataset) -> str:
    return next((str(code.get("CodeValue") or "") for code in item.get("ConceptNameCodeSequence") or ()), "")


def _code(item: Dataset) -> str:
    return next((str(code.get("CodeValue") or "") for code in item.get("ConceptCodeSequence") or ()), "")


def _value(item: Dataset) -> Json:
    return _concept(item.ConceptCodeSequence[0])


def _concept(code: Dataset) -> Json:
    value = next((str(code.get(key)) for key in ("CodeValue", "LongCodeValue", "URNCodeValue") if code.get(key)), "")
    return concept(coding(str(code.get("CodingSchemeDesignator") or ""), value, str(code.CodeMeaning)))
