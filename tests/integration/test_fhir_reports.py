"""Answers for whoever asks by FHIR: found, paged, refused, and valid; fhir.resources judges what is answered."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from support import installed, instance_ref

installed("fastapi", "uvicorn", "requests", "fhir.resources")

from conformance.made import CONTEXT, a_result, source, sources_of  # noqa: E402
from fhir.resources.R4B.bundle import Bundle  # noqa: E402
from fhir.resources.R4B.capabilitystatement import CapabilityStatement  # noqa: E402
from fhir.resources.R4B.diagnosticreport import DiagnosticReport  # noqa: E402
from fhir.resources.R4B.operationoutcome import OperationOutcome  # noqa: E402
from support.fhir import medplum  # noqa: E402
from support.web_bench import Bench  # noqa: E402

from ainode.node import reports  # noqa: E402
from ainode.node.audit.messages import Message  # noqa: E402
from ainode.node.domain import JobState, OutOfScope, Result, Verdict  # noqa: E402
from ainode.node.identity import wishes  # noqa: E402
from ainode.node.keeping.records import Job, KeptDocument, Outcome  # noqa: E402

NOW = datetime(2026, 3, 4, 14, 2, tzinfo=UTC)
FIRST, SECOND, REFUSED, SHADOW, WITHHELD = (letter * 32 for letter in "abcde")
ROOT = "/fhir/DiagnosticReport"
AUDITED: list[Message] = []


@dataclass(frozen=True, slots=True)
class Served:
    """A node with reports: two patients, a refusal, and two that stay in the node."""

    bench: Bench
    token: str
    paths: Mapping[str, Path]

    def get(self, address: str, **headers: str) -> tuple[int, dict[str, Any]]:
        answer = self.bench.call("GET", address, self.token, headers=headers)
        assert answer.headers["Content-Type"] == "application/fhir+json"
        body: dict[str, Any] = answer.json()
        judges = {"Bundle": Bundle, "CapabilityStatement": CapabilityStatement, "OperationOutcome": OperationOutcome}
        judges.get(body["resourceType"], DiagnosticReport).model_validate(body)
        return answer.status_code, body

    def found(self, query: str) -> list[str]:
        status, bundle = self.get(f"{ROOT}?{query}")
        assert (status, bundle["type"]) == (200, "searchset")
        return [entry["resource"]["id"] for entry in bundle.get("entry", [])]

    def study_of(self, job: str) -> str:
        return str(instance_ref(self.paths[job]).study_instance_uid)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    bench = Bench(tmp_path_factory.mktemp("served"), fhir=True, record=AUDITED.append)
    headers = {
        FIRST: {"PatientID": "7", "IssuerOfPatientID": "HOSPITAL", "StudyDate": "20260101", "AccessionNumber": "A7"},
        SECOND: {"PatientID": "MUELLER-8", "StudyDate": "20260202"},
        REFUSED: {"PatientID": "7", "StudyDate": "20260303"},
        SHADOW: {"PatientID": "7", "StudyDate": "20260101"},
        WITHHELD: {"PatientID": "7", "StudyDate": "20260101"},
    }
    paths = {}
    for number, (job, header) in enumerate(headers.items()):
        paths[job] = source(tmp_path_factory.mktemp(f"study-{number}"), PatientName="MUELLER^JOERG", **header)
        queued_at = NOW + timedelta(days=number)
        answer = answer_of(job, paths[job])
        destinations = () if job == SHADOW else ("pacs",)
        withheld = "its weights are for demonstration" if job == WITHHELD else ""
        report(bench, job, paths[job], answer, queued_at=queued_at, destinations=destinations, withheld=withheld)
    yield Served(bench, bench.tokens.add("ehr"), paths)
    bench.web.stop()
    bench.parts.stop()
    bench.engine.dispose()


def answer_of(job: str, path: Path) -> Result | OutOfScope:
    if job == REFUSED:
        return OutOfScope("it shows a hand", "wrong-body-part", (instance_ref(path),))
    result = a_result(path, boxes=1)
    first = replace(result.findings[0], verdict=Verdict.of(0.9 if job == FIRST else 0.1, 0.4))
    return replace(result, findings=(first, *result.findings[1:]))


def report(  # noqa: PLR0913 - what a job is made of
    bench: Bench,
    name: str,
    path: Path,
    answer: Result | OutOfScope,
    *,
    queued_at: datetime,
    destinations: tuple[str, ...] = ("pacs",),
    withheld: str = "",
) -> Job:
    """Report a job; a second one of the same study supersedes the first."""
    ref = instance_ref(path)
    content = {ref.sop_instance_uid: name}
    opened = bench.ledger.open(
        Job(
            name,
            ref.study_instance_uid,
            "spine",
            "spine_radiograph",
            content,
            queued_at,
            queued_at,
            destinations,
            withheld=withheld,
        )
    )
    assert opened
    bench.ledger.move(name, JobState.READING, at=queued_at)
    context = replace(CONTEXT, predecessors=opened.predecessors)
    is_refusal = isinstance(answer, OutOfScope)
    if isinstance(answer, OutOfScope):
        made = reports.documents_out_of_scope(answer, sources_of(path), context)
    else:
        made = reports.documents(answer, sources_of(path), context)
    folder = bench.folder / "documents" / name
    folder.mkdir(parents=True)
    kept = []
    for document in made:
        place = folder / f"{document.ref.sop_instance_uid}.dcm"
        place.write_bytes(document.content)
        digest = hashlib.sha256(document.content).hexdigest()
        kept.append(KeptDocument(name, document.ref, document.kind, place, digest, ""))
    state = JobState.OUT_OF_SCOPE if is_refusal else JobState.REPORTED
    outcome = Outcome(state, reports.result_json(answer, CONTEXT), "", 1.0, {}, queued_at)
    assert bench.ledger.report(opened, kept, outcome, wishes=wishes(bench.settings, destinations))
    return opened


def test_a_report_is_read_with_its_patient_order_study_findings_and_what_it_is_not_for(served: Served) -> None:
    status, resource = served.get(f"{ROOT}/{FIRST}")
    assert (status, resource["status"], resource["id"]) == (200, "partial", FIRST)
    assert resource["subject"]["identifier"]["value"] == "7"
    assert resource["subject"]["identifier"]["assigner"] == {"display": "HOSPITAL"}
    assert resource["basedOn"][0]["identifier"]["value"] == "A7"
    assert resource["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{served.study_of(FIRST)}"
    assert resource["effectiveDateTime"] == "2026-01-01"
    assert resource["conclusion"].startswith("RESEARCH USE ONLY")
    assert "demonstration weights" in resource["conclusion"]
    whole, box = resource["contained"]
    assert whole["code"]["text"] == "whole image: present"
    assert whole["valueCodeableConcept"]["coding"][0]["code"] == "263654008"
    parts = {part["code"]["text"]: part for part in whole["component"]}
    assert parts["Probability"]["valueQuantity"]["value"] == 90.0
    assert parts["Abnormal"]["interpretation"][0]["coding"][0]["code"] == "POS"
    assert box["valueCodeableConcept"]["text"] == "Lesion"
    assert resource["result"] == [{"reference": "#finding1"}, {"reference": "#finding2"}]


def test_another_server_takes_every_report_as_fhir_r4(served: Served) -> None:
    _, bundle = served.get(ROOT)
    request = {"method": "POST", "url": "DiagnosticReport"}
    entries = [{"resource": entry["resource"], "request": request} for entry in bundle["entry"]]
    transaction = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    with medplum() as base:
        answer = requests.post(base, json=transaction, headers={"Content-Type": "application/fhir+json"}, timeout=120)
    assert answer.status_code == 200, answer.text
    assert [entry["response"]["status"] for entry in answer.json()["entry"]] == ["201"] * 3


def test_what_is_absent_is_the_value_of_no_finding(served: Served) -> None:
    _, resource = served.get(f"{ROOT}/{SECOND}")
    whole = resource["contained"][0]
    assert "valueCodeableConcept" not in whole
    assert whole["code"]["text"] == "whole image: absent"
    assert "NEG" in str(whole["component"])


def test_a_refusal_is_cancelled_and_says_why(served: Served) -> None:
    _, resource = served.get(f"{ROOT}/{REFUSED}")
    assert (resource["status"], "contained" in resource) == ("cancelled", False)
    assert "it shows a hand" in resource["conclusion"]


@pytest.mark.parametrize("job", [SHADOW, WITHHELD, "f" * 32, "no-job"])
def test_what_stays_in_the_node_and_what_is_no_report_is_not_found(served: Served, job: str) -> None:
    status, outcome = served.get(f"{ROOT}/{job}")
    assert (status, outcome["issue"][0]["code"]) == (404, "not-found")
    assert served.found(f"_id={job}") == []


@pytest.mark.parametrize(
    ("query", "jobs"),
    [
        ("", [REFUSED, SECOND, FIRST]),
        (f"_id={FIRST}", [FIRST]),
        (f"_id={FIRST},{SECOND}", [SECOND, FIRST]),
        (f"_id={FIRST}&_id={SECOND}", []),
        ("subject:identifier=7", [REFUSED, FIRST]),
        ("patient.identifier=MUELLER-8", [SECOND]),
        ("patient:identifier=|7&status=partial", [FIRST]),
        ("subject.identifier=urn:oid:1.2|7", []),
        ("subject:identifier=7,MUELLER-8&status=cancelled", [REFUSED]),
        ("status=partial", [SECOND, FIRST]),
        ("status=final", []),
        ("date=2026-01-01", [FIRST]),
        ("date=ge2026-02&date=lt2026-03-03", [SECOND]),
        ("date=2026", [REFUSED, SECOND, FIRST]),
        ("issued=2026-03-05", [SECOND]),
        ("issued=ge2026-03-05T14:02:00Z", [REFUSED, SECOND]),
        ("issued=gt2026-03-05T15:01:00%2B01:00", [REFUSED, SECOND]),
        ("issued=gt2026-03-05T15:02:00%2B01:00", [REFUSED]),
        ("issued=lt2026-03-05&issued=ge2026-03", [FIRST]),
    ],
)
def test_a_search_finds_what_is_asked_for_the_newest_first(served: Served, query: str, jobs: list[str]) -> None:
    assert served.found(query) == jobs


@pytest.mark.parametrize("form", ["{}", "urn:oid:{}", "urn:dicom:uid|urn:oid:{}"])
def test_a_report_is_found_by_its_uid_and_by_that_of_its_study(served: Served, form: str) -> None:
    _, resource = served.get(f"{ROOT}/{FIRST}")
    uid = resource["identifier"][0]["value"].removeprefix("urn:oid:")
    assert served.found(f"identifier={form.format(uid)}") == [FIRST]
    study = form.format(served.study_of(FIRST))
    assert served.found(f"imaging-study={study}") == served.found(f"study:identifier={study}") == [FIRST]
    assert served.found(f"imaging-study={form.format('1.2.3')}") == []


def test_a_search_says_how_many_there_are_and_where_the_next_page_is(served: Served) -> None:
    address, seen, totals = f"{ROOT}?_count=2&status=partial,cancelled", [], []
    while address:
        _, bundle = served.get(address)
        seen.append([entry["resource"]["id"] for entry in bundle["entry"]])
        totals.append(bundle["total"])
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        parts = urlsplit(links.get("next", ""))
        address = f"{parts.path}?{parts.query}" if parts.path else ""
    assert seen == [[REFUSED, SECOND], [FIRST]]
    assert totals == [3, 3]
    _, none = served.get(f"{ROOT}?_count=0")
    assert (none["total"], "entry" in none) == (3, False)
    _, by_patient = served.get(f"{ROOT}?subject:identifier=7&_count=1")
    assert "total" not in by_patient
    assert [link["relation"] for link in by_patient["link"]] == ["self", "next"]


@pytest.mark.parametrize(
    ("query", "prefer", "code"),
    [
        ("unknown=1", "", "not-supported"),
        ("_sort=-issued", "handling=strict", "not-supported"),
        ("patient=7", "", "not-supported"),
        ("subject=Patient/7", "", "not-supported"),
        ("subject:Patient=7", "", "not-supported"),
        ("patient:Patient.identifier=7", "", "not-supported"),
        ("identifier:not=1.2", "", "not-supported"),
        ("patient:identifier=", "", "not-supported"),
        ("study=", "", "not-supported"),
        ("_id=", "", "not-supported"),
        ("status=wrong", "", "code-invalid"),
        ("issued=yesterday", "", "invalid"),
        ("issued=2026-13-01", "", "invalid"),
        ("date=2026-02-30", "", "invalid"),
        ("_count=many", "", "invalid"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_an_outcome(
    served: Served, query: str, prefer: str, code: str
) -> None:
    status, outcome = served.get(f"{ROOT}?{query}", Prefer=prefer)
    assert (status, outcome["issue"][0]["code"]) == (400, code)


@pytest.mark.parametrize("address", [ROOT, f"{ROOT}/none", "/fhir/metadata"])
@pytest.mark.parametrize(
    ("query", "accept", "is_taken"),
    [
        ("?_format=xml", "*/*", False),
        ("?_format=xml", "application/fhir+json", False),
        ("?_format=application/fhir%2Bxml", "*/*", False),
        ("", "application/fhir+xml", False),
        ("", "application/fhir+xml, application/json;q=0", False),
        ("", "application/fhir+xml, */*;q=0.1", True),
        ("", "application/fhir+json; fhirVersion=4.0", True),
        ("?_format=json", "application/fhir+xml", True),
        ("?_format=application/fhir+json", "application/fhir+xml", True),
    ],
)
def test_who_takes_no_json_is_told_that_there_is_nothing_else(
    served: Served, address: str, query: str, accept: str, *, is_taken: bool
) -> None:
    status, outcome = served.get(f"{address}{query}", Accept=accept)
    if is_taken:
        assert status == (404 if address.endswith("none") else 200)
    else:
        assert (status, outcome["issue"][0]["code"]) == (406, "not-supported")


def test_a_condition_that_is_not_understood_is_left_out_where_the_caller_prefers_it_and_one_on_the_look_always(
    served: Served,
) -> None:
    whole = [entry["resource"]["id"] for entry in served.get(ROOT)[1]["entry"]]
    for query, prefer in (("patient=7&_sort=-issued", "return=minimal, handling=lenient"), ("_sort=-issued", "")):
        status, bundle = served.get(f"{ROOT}?{query}", Prefer=prefer)
        assert (status, [entry["resource"]["id"] for entry in bundle["entry"]]) == (200, whole)
        (address,) = (link["url"] for link in bundle["link"] if link["relation"] == "self")
        assert "patient" not in address


def test_the_statement_names_version_interactions_and_parameters(served: Served) -> None:
    _, statement = served.get("/fhir/metadata")
    assert statement["fhirVersion"] == "4.0.1"
    (resource,) = statement["rest"][0]["resource"]
    assert {"_id", "subject", "issued", "status"} <= {parameter["name"] for parameter in resource["searchParam"]}


def test_nobody_asks_without_a_token_and_nothing_is_there_unless_it_is_configured(
    served: Served, tmp_path: Path
) -> None:
    assert served.bench.call("GET", f"{ROOT}/{FIRST}").status_code == 401
    silent = Bench(tmp_path / "silent")
    try:
        assert silent.call("GET", ROOT, silent.tokens.add("ehr")).status_code == 404
    finally:
        silent.web.stop()
        silent.parts.stop()
        silent.engine.dispose()


def test_the_audit_trail_tells_who_took_which_report_and_no_log_names_a_patient(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    AUDITED.clear()
    with caplog.at_level(logging.DEBUG):
        served.found("subject:identifier=MUELLER-8")
        served.get(f"{ROOT}?date=MUELLER")
    exports = [message for message in AUDITED if message.event.meaning == "Export"]
    (message,) = exports
    assert message.participants[0].user_id == "ehr"
    assert message.subjects[0].identifier == served.study_of(SECOND)
    # The log of a node has the words of its own modules alone; the client of this test names what it asked.
    own = [record.getMessage() for record in caplog.records if record.name.startswith("ainode")]
    assert "MUELLER" not in "".join(own)


def test_a_superseded_report_is_gone_and_its_successor_is_found_by_its_identifier(
    served: Served, tmp_path: Path
) -> None:
    path = source(tmp_path, PatientID="21", StudyDate="20251231")
    old, new = "1" * 32, "2" * 32
    answer = a_result(path)
    report(served.bench, old, path, answer, queued_at=NOW - timedelta(days=9))
    _, before = served.get(f"{ROOT}/{old}")
    uid = before["identifier"][0]["value"]
    for delivery in served.bench.ledger.deliveries(old):
        served.bench.ledger.outbox.claim(old, delivery.destination, NOW)
    report(served.bench, new, path, answer, queued_at=NOW - timedelta(days=8))
    status, outcome = served.get(f"{ROOT}/{old}")
    assert (status, outcome["issue"][0]["code"]) == (410, "deleted")
    assert f"DiagnosticReport/{new}" in outcome["issue"][0]["diagnostics"]
    assert served.found(f"identifier={uid}") == [new]
    _, after = served.get(f"{ROOT}/{new}")
    assert {"use": "old", "system": "urn:dicom:uid", "value": uid} in after["identifier"]


def test_a_report_whose_file_changed_is_said_to_be_gone_and_is_not_served(served: Served, tmp_path: Path) -> None:
    path = source(tmp_path, PatientID="22", StudyDate="20251230")
    job = "3" * 32
    report(served.bench, job, path, a_result(path), queued_at=NOW - timedelta(days=20))
    (kept,) = [item for item in served.bench.ledger.documents(job) if item.kind == "sr"]
    kept.path.write_bytes(kept.path.read_bytes() + b"\0")
    status, outcome = served.get(f"{ROOT}/{job}")
    assert (status, "gone or changed" in json.dumps(outcome)) == (410, True)
    _, bundle = served.get(f"{ROOT}?_id={job}")
    (entry,) = bundle["entry"]
    assert (entry["search"]["mode"], entry["resource"]["resourceType"]) == ("outcome", "OperationOutcome")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_search_by_patient_says_which_report_it_lacks_because_nobody_can_read_whose_it_is(
    served: Served, tmp_path: Path, *, is_there: bool
) -> None:
    path = source(tmp_path, PatientID="23", StudyDate="20251229")
    job = str(4 + is_there) * 32
    report(served.bench, job, path, a_result(path), queued_at=NOW - timedelta(days=30))
    (kept,) = [item for item in served.bench.ledger.documents(job) if item.kind == "sr"]
    content = kept.path.read_bytes()
    if is_there:
        kept.path.write_bytes(b"no DICOM")
    else:
        kept.path.unlink()
    for search in ("subject:identifier=23", "date=2025-12-29"):
        status, bundle = served.get(f"{ROOT}?_id={job}&{search}")
        modes = [entry["search"]["mode"] for entry in bundle["entry"]]
        assert (status, modes, job in json.dumps(bundle["entry"])) == (200, ["outcome"], True)
    kept.path.write_bytes(content)


@pytest.mark.parametrize("address", [ROOT, f"{ROOT}/{FIRST}", "/fhir/metadata"])
def test_no_link_leads_to_a_foreign_host_that_a_caller_names(served: Served, address: str) -> None:
    answer = served.bench.call("GET", address, served.token, headers={"Host": "evil.example"})
    assert answer.status_code == 421
    assert "evil.example" not in answer.text
    assert "`hosts` of [web]" in answer.json()["detail"]
    assert served.bench.call("GET", address, served.token, headers={"Host": "localhost"}).status_code == 200
