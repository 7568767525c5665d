"""The data types of FHIR R4 that the node writes, as JSON values: what is empty is left out (FHIR R4, 2.6.2)."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias
from urllib.parse import quote

Json: TypeAlias = dict[str, Any]
"""an object of FHIR JSON"""

MEDIA_TYPE: Final = "application/fhir+json"
UIDS: Final = "urn:dicom:uid"
"""the system of identifiers that are DICOM UIDs (FHIR R4, 10.5.3)"""
DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
UCUM: Final = "http://unitsofmeasure.org"
IDENTIFIER_TYPES: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
UNKNOWN_PATIENT: Final[Json] = {"type": "Patient", "display": "unknown: the images state no Patient ID"}
INTERPRETATIONS: Final = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
# FHIR R4, 4.3.0 (code systems), by coding scheme designator of PS3.16 table 8-1.
_SYSTEMS: Final = {
    "SCT": "http://snomed.info/sct",
    "DCM": DCM,
    "LN": "http://loinc.org",
    "UCUM": UCUM,
    "RADLEX": "http://www.radlex.org",
    "SRT": "http://snomed.info/srt",
}
_UNIVERSAL: Final = {"ISO": "urn:oid:", "UUID": "urn:uuid:", "URI": ""}


def without_empty(values: Mapping[str, Any]) -> Json:
    """Return the values that are not empty; 0 and False are values."""
    return {key: value for key, value in values.items() if value not in ("", None, [], {}, ())}


def coding(scheme: str, value: str, meaning: str) -> Json:
    """Return a code of a coding scheme of DICOM; a scheme that FHIR does not know has no system."""
    return without_empty({"system": _SYSTEMS.get(scheme, ""), "code": value.strip(), "display": meaning.strip()})


def concept(*codings: Json, text: str = "") -> Json:
    """Return a CodeableConcept; its text is that of the first coding where none is given."""
    first = next((item.get("display", "") for item in codings), "")
    return without_empty({"coding": list(codings), "text": text or first})


MEASUREMENT_REPORT: Final = coding("DCM", "126000", "Imaging Measurement Report")
FINDING: Final = concept(coding("DCM", "121071", "Finding"))
RADIOLOGY: Final = concept(
    {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology"}
)


def quantity(value: float, unit: str, code: str) -> Json:
    """Return a number with its unit of UCUM, with ten significant digits."""
    return without_empty({"value": float(f"{value:.10g}"), "unit": unit, "system": UCUM, "code": code})


def uid_identifier(uid: str, *, type_: Json | None = None, use: str = "") -> Json:
    """Return an identifier that is a DICOM UID."""
    return without_empty({"use": use, "type": type_, "system": UIDS, "value": f"urn:oid:{uid}"})


def universal_system(identifier: str, kind: str) -> str:
    """Return the system of a Universal Entity ID (PS3.3 10.14), '' where FHIR has none for its type."""
    prefix = _UNIVERSAL.get(kind)
    return "" if prefix is None or not identifier else prefix + identifier


def patient_identifier(value: str, issuer: str, system: str) -> Json:
    """Return a Patient ID of an issuer, with the system of its identifiers where that is known; {} without a value."""
    if not value:
        return {}
    type_ = concept({"system": IDENTIFIER_TYPES, "code": "MR", "display": "Medical record number"})
    assigner = {"display": issuer} if issuer else {}
    return without_empty({"type": type_, "system": system, "value": value, "assigner": assigner})


def order(accession_number: str, system: str) -> Json:
    """Return the order with an Accession Number, as a reference to what the server may have."""
    type_ = concept({"system": IDENTIFIER_TYPES, "code": "ACSN", "display": "Accession ID"})
    identifier = without_empty({"type": type_, "system": system, "value": accession_number})
    return {"type": "ServiceRequest", "identifier": identifier}


def search_token(identifier: Mapping[str, str]) -> str:
    """Return an identifier as a token of a search, not yet percent-encoded (FHIR R4, 3.1.1.4.5, 3.1.1.4.10)."""
    system, value = (_escaped(identifier.get(key, "")) for key in ("system", "value"))
    return f"{system}|{value}"


def condition(identifier: Mapping[str, str]) -> str:
    """Return the search for the resource with an identifier."""
    return f"identifier={quote(search_token(identifier), safe='')}"


def creation(full_url: str, resource: Json) -> Json:
    """Return the entry of a resource that is created unless there is one with its first identifier."""
    if_none = condition(resource["identifier"][0])
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": if_none}
    return {"fullUrl": full_url, "resource": resource, "request": request}


def update(full_url: str, resource: Json, identifier: Mapping[str, str]) -> Json:
    """Return the entry of a resource that takes the place of the one with an identifier, or is created."""
    request = {"method": "PUT", "url": f"{resource['resourceType']}?{condition(identifier)}"}
    return {"fullUrl": full_url, "resource": resource, "request": request}


def transaction(entries: Sequence[Json]) -> bytes:
    """Return a transaction as it is sent."""
    content = {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def entries_of(content: bytes) -> list[Json]:
    """Return the entries of a transaction of ours."""
    entries: list[Json] = json.loads(content)["entry"]
    return entries


def _escaped(text: str) -> str:
    for special in "\\$,|":
        text = text.replace(special, f"\\{special}")
    return text


def instant(time: datetime) -> str:
    """Return an aware time with its offset, to the second."""
    return time.isoformat(timespec="seconds")


def date(text: str) -> str:
    """Return a date of DICOM, YYYYMMDD, as FHIR writes it; '' of what is none."""
    try:
        return datetime.strptime(text, "%Y%m%d").date().isoformat() if len(text) == 8 else ""  # noqa: DTZ007, PLR2004 - a day
    except ValueError:
        return ""


def human_name(name: str) -> list[Json]:
    """Return the groups of a name of DICOM (PS3.5 6.2.1.1), each as a HumanName."""
    return [person for group in name.split("=", 2) if (person := _person(group))]


def _person(group: str) -> Json:
    family, first, middle, prefix, suffix = [part.strip() for part in [*group.split("^", 4), "", "", "", ""][:5]]
    names = [*first.split(), *middle.split()]
    return without_empty({"family": family, "given": names, "prefix": prefix.split(), "suffix": suffix.split()})


def outcome_words(body: Mapping[str, Any]) -> str:
    """Return what an OperationOutcome says, '' where a body is none."""
    issues = body.get("issue")
    if body.get("resourceType") != "OperationOutcome" or not isinstance(issues, Sequence):
        return ""
    return "; ".join(filter(None, map(_issue_words, issues)))


def _issue_words(issue: object) -> str:
    if not isinstance(issue, Mapping):
        return ""
    details = issue.get("details")
    text = details.get("text", "") if isinstance(details, Mapping) else ""
    return " ".join(filter(None, (str(issue.get("code", "")), str(text), str(issue.get("diagnostics", "")))))
