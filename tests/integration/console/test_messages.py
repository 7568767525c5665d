"""A message for a listener on the pages: among the documents of its study, as a file, and as a dead letter."""

import hashlib
import html
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conformance.made import CONTEXT, a_result, source, sources_of
from integration.console.conftest import Browser, is_open, visit_of
from support import instance_ref
from support.waiting import until
from support.web_bench import Bench

from ainode.node import reports
from ainode.node.console.entry.access import Role
from ainode.node.domain import Document, DocumentKind, JobState
from ainode.node.encoding.hl7 import control_id_of
from ainode.node.identity import message_address, server_address, wishes
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.settings import ConsoleTable, Peer

NOW = datetime(2026, 3, 4, 14, 2, tzinfo=UTC)
JOB = "b" * 32
HIS = Peer(name="his", host="127.0.0.1", port=1, deliver="hl7")
EHR = Peer(name="ehr", deliver="fhir", fhir="http://127.0.0.1:9/fhir")
PACS = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    console = ConsoleTable(addendum="assessment")
    made = Bench(tmp_path_factory.mktemp("messages"), peers=(PACS, HIS, EHR), console=console)
    made.pages.state.visit_of, made.pages.state.is_open = visit_of, is_open
    yield made
    made.web.stop()
    made.parts.stop()
    made.engine.dispose()


@pytest.fixture(scope="module")
def message(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Document:
    """Return the message of a study that was read."""
    path = source(tmp_path_factory.mktemp("read"))
    ref, context = (
        instance_ref(path),
        replace(CONTEXT, messages=(message_address(HIS),), servers=(server_address(EHR),)),
    )
    result = a_result(path)
    documents = reports.documents(result, sources_of(path), context)
    job = Job(JOB, ref.study_instance_uid, "spine", "spine_radiograph", {}, NOW, NOW, ("pacs", "his", "ehr"))
    assert bench.ledger.open(job)
    bench.ledger.move(JOB, JobState.READING, at=NOW)
    kept = [_kept(bench.folder / "documents" / JOB, document) for document in documents]
    outcome = Outcome(JobState.REPORTED, reports.result_json(result, CONTEXT), "", 1.0, {}, NOW)
    assert bench.ledger.report(job, kept, outcome, wishes=wishes(bench.settings, job.destinations))
    return documents[-2]


def _kept(folder: Path, document: Document) -> KeptDocument:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{document.ref.sop_instance_uid}{document.kind.suffix}"
    path.write_bytes(document.content)
    digest = hashlib.sha256(document.content).hexdigest()
    return KeptDocument(JOB, document.ref, document.kind, path, digest, document.destination)


def words_of(page: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", page).split())


def test_the_page_of_a_study_lists_the_message_with_its_listener_alone(bench: Bench, message: Document) -> None:
    page = Browser(bench, Role.READER).get(f"/console/studies/{message.ref.study_instance_uid}").text
    words = words_of(page)
    assert "DICOM documents and messages (4)" in words
    row = words.partition("HL7 message 1")[2]
    assert row.split()[1] == "his"
    assert "pacs" not in row.partition("his")[0]


def test_a_reader_takes_the_message_as_it_was_written_and_the_pdf_names_the_patient_all_the_same(
    bench: Bench, message: Document
) -> None:
    reader = Browser(bench, Role.READER)
    files = f"/console/studies/{message.ref.study_instance_uid}/jobs/{JOB}"
    answer = reader.get(f"{files}/documents/{message.ref.sop_instance_uid}.dcm")
    assert answer.content == message.content
    assert 'filename="message-1.hl7"' in answer.headers["Content-Disposition"]
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert reader.get(f"{files}/report.pdf").content.startswith(b"%PDF")


def test_a_transaction_is_listed_with_its_server_alone_and_taken_as_it_was_written(
    bench: Bench, message: Document
) -> None:
    reader = Browser(bench, Role.READER)
    words = words_of(reader.get(f"/console/studies/{message.ref.study_instance_uid}").text)
    assert words.partition("FHIR transaction 1")[2].split()[1] == "ehr"
    (delivery,) = bench.ledger.deliveries(JOB, "ehr")
    uid = delivery.document.ref.sop_instance_uid
    answer = reader.get(f"/console/studies/{message.ref.study_instance_uid}/jobs/{JOB}/documents/{uid}.dcm")
    assert answer.content == delivery.document.path.read_bytes()
    assert 'filename="bundle-1.json"' in answer.headers["Content-Disposition"]
    assert answer.headers["Content-Type"].startswith("application/fhir+json")


def test_a_message_that_was_given_up_is_a_dead_letter_without_the_words_of_the_listener_and_is_retried(
    bench: Bench, message: Document
) -> None:
    outbox = bench.ledger.outbox
    (delivery,) = bench.ledger.deliveries(JOB, "his")
    outbox.refused(delivery, status=None, error="his: refused message 7 with AR", comment="<no>", at=NOW)
    operator = Browser(bench, Role.OPERATOR)
    assert "HL7 message to his" in words_of(operator.get("/console/system/failures").text)
    page = operator.get(f"/console/studies/{message.ref.study_instance_uid}").text
    assert "<no>" not in page
    assert 'the listener says: "words that may name the patient' in html.unescape(page)
    operator.post("/console/system/failures", {"job": JOB})
    (delivery,) = bench.ledger.deliveries(JOB, "his")
    outbox.acknowledged(delivery, comment="", at=NOW)
    words = words_of(operator.get(f"/console/studies/{message.ref.study_instance_uid}").text)
    assert "by its acknowledgment" in words
    assert "his, confirmed" in words_of(operator.get("/console/").text)


def test_an_echo_and_the_doctor_say_that_a_listener_does_not_answer(bench: Bench) -> None:
    operator = Browser(bench, Role.OPERATOR)
    for task in ("echo", "doctor"):
        words = words_of(operator.post(f"/console/system/peers/his/{task}").text)
        assert "connection" in words
        assert "check that the listener runs" in words


def test_the_configuration_shows_how_messages_are_written_for_a_listener_that_says_so() -> None:
    from ainode.node.settings import Hl7Table, Settings
    from ainode.node.settings.in_force import configuration

    peer = HIS.model_copy(update={"hl7": Hl7Table(character_set="8859/1")})
    rows = dict(configuration(Settings(peers=(peer,))))
    assert rows["[[peer]] his hl7 character_set"] == "8859/1"
    assert not [key for key in dict(configuration(Settings(peers=(PACS,)))) if "hl7" in key]


def test_a_judgement_leaves_to_each_listener_in_its_language_and_to_the_archive_as_an_addendum(
    bench: Bench, message: Document
) -> None:
    reader = Browser(bench, Role.READER)
    study = message.ref.study_instance_uid
    answer = reader.post(f"/console/studies/{study}/jobs/{JOB}/judgements", {"opinion": "accept", "finding": ""})
    assert answer.status_code == 303
    until(lambda: len(bench.ledger.documents(JOB)) >= 7)
    kinds = {(item.destination, item.document.kind) for item in bench.ledger.deliveries(JOB)[-20:]}
    assert ("pacs", DocumentKind.ASSESSMENT) in kinds
    by_listener = {name: bench.ledger.deliveries(JOB, name) for name in ("his", "ehr")}
    assert [item.document.kind for item in by_listener["his"]] == [DocumentKind.MESSAGE] * 2
    assert [item.document.kind for item in by_listener["ehr"]] == [DocumentKind.BUNDLE] * 2
    told, judged = (item.document.path.read_bytes() for item in by_listener["his"])
    assert told == message.content
    assert control_id_of(told) in judged.decode()
    assert b"accepted by the reader" in judged
    assert b"accepted by the reader" in by_listener["ehr"][-1].document.path.read_bytes()
