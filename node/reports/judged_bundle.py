"""A person's judgement as a transaction that amends the report in a FHIR server.

It is the transaction of before with one Observation more, and the report changed: what is there already is created no
second time, and the last transaction of a job holds what all before it said.
"""

from collections.abc import Sequence
from typing import Final

from ainode.node.domain import AssessmentRequest, Code
from ainode.node.encoding.fhir import (
    Json,
    coding,
    concept,
    creation,
    entries_of,
    instant,
    transaction,
    uid_identifier,
    update,
    without_empty,
)
from ainode.node.identity import made_uuid
from ainode.node.reports.assessment import assessment_uid, sentence
from ainode.node.reports.measurement_groups import PRESENCES

_CATEGORY: Final = concept(
    {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging", "display": "Imaging"}
)
# FHIR R4 DiagnosticReport.status: what was final and is changed.
_AMENDED: Final = {"final": "amended"}


def judged_bundle(request: AssessmentRequest, content: bytes) -> bytes:
    """Return the transaction about a judgement; `content` is the last transaction about the report."""
    *entries, report = entries_of(content)
    observation = _observation(request, report["resource"], entries)
    return transaction([*entries, observation, _amended(request, report, observation["fullUrl"])])


def _observation(request: AssessmentRequest, report: Json, entries: Sequence[Json]) -> Json:
    """Return the entry of the judgement; it is the person's, and no device's."""
    judgement, codes = request.judgement, request.codes
    groups = [entry["fullUrl"] for entry in entries if _is_of(entry["resource"], judgement.finding)]
    studies = [entry["fullUrl"] for entry in entries if entry["resource"]["resourceType"] == "ImagingStudy"]
    resource = without_empty(
        {
            "resourceType": "Observation",
            "meta": report.get("meta", {}),
            "identifier": [uid_identifier(assessment_uid(request))],
            "partOf": [{"reference": url} for url in studies],
            "status": "final",
            "category": [_CATEGORY],
            "code": _concept(codes.opinion),
            "subject": report["subject"],
            "focus": [{"reference": url} for url in groups],
            "effectiveDateTime": instant(request.context.created),
            "issued": instant(request.context.created),
            "performer": [{"display": judgement.person}],
            "valueCodeableConcept": _concept(codes.of_opinion(judgement.opinion)),
            "note": [{"text": sentence(request)}],
            "component": _components(request),
        }
    )
    return creation(made_uuid("judgement", assessment_uid(request)).urn, resource)


def _components(request: AssessmentRequest) -> list[Json]:
    """Return the reason, and what holds instead; a corrected number stands in the sentence, with its name."""
    judgement, codes = request.judgement, request.codes
    parts: list[Json] = []
    if judgement.reason:
        reason = _concept(codes.of_reason(judgement.reason))
        parts.append({"code": _concept(codes.reason), "valueCodeableConcept": reason})
    if presence := judgement.correction.presence:
        code = PRESENCES[presence]
        value = concept(coding(code.scheme_designator, code.value, code.meaning))
        parts.append({"code": _concept(codes.replaced_by), "valueCodeableConcept": value})
    if judgement.correction.value is not None:
        name = {"text": judgement.correction.measurement}
        parts.append({"code": name, "valueQuantity": {"value": judgement.correction.value}})
    if judgement.correction.label:
        parts.append({"code": _concept(codes.replaced_by), "valueString": judgement.correction.label})
    return parts


def _amended(request: AssessmentRequest, report: Json, observation: str) -> Json:
    """Return the entry of the report: the same resource with the judgement among its results and in its conclusion."""
    resource = report["resource"]
    changed = {
        **resource,
        "status": _AMENDED.get(resource["status"], resource["status"]),
        "result": [*resource.get("result", ()), {"reference": observation}],
        "conclusion": f"{resource.get('conclusion', '')}\n{sentence(request)}",
    }
    if report["request"]["method"] == "PUT":
        return {**report, "resource": changed}
    return update(report["fullUrl"], changed, resource["identifier"][0])


def _is_of(resource: Json, finding: str) -> bool:
    """Return whether a resource is the group of a finding, whose text has the verdict behind the finding's name.

    What a correction withdraws may have the name of what it says now.
    """
    is_said = resource["resourceType"] == "Observation" and resource["status"] != "entered-in-error"
    name = str(resource.get("code", {}).get("text", "")) if is_said else ""
    return (
        bool(finding) and "device" in resource and (name == finding or name.startswith((f"{finding}:", f"{finding},")))
    )


def _concept(code: Code) -> Json:
    return concept(coding(code.scheme, code.value, code.meaning))
