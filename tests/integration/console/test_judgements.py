"""A person judges an answer on the page of a study: the judgement is kept, counted, exported and sent."""

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conformance.made import CONTEXT, source, sources_of
from conformance.test_verdicts import VERDICTS, judged
from integration.console.conftest import Browser, is_open, visit_of
from pydicom import dcmread
from support import Orthanc, instance_ref, judges
from support.waiting import until
from support.web_bench import Bench

from ainode.node import reports
from ainode.node.audit.messages import AuditSource, Message, xml
from ainode.node.console.assistant.client import Assistant
from ainode.node.console.judgements.addenda import Addenda
from ainode.node.console.judgements.judging import panel_of
from ainode.node.console.system.hops import hops_of
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState, Judgement, Opinion
from ainode.node.jobs.courier import Courier
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.keeping.judgements import AddendumState, Judgements, KeptJudgement
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.settings import ConsoleTable
from ainode.node.web.state import study_status

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
JOB = "b" * 32
HOSTILE = "=HYPERLINK(Mustermann)"


@dataclass
class ReadStudy:
    """A study that was read, and its report as it was made."""

    study: UID
    report: bytes

    @property
    def page(self) -> str:
        return f"/console/studies/{self.study}"

    @property
    def form(self) -> str:
        return f"{self.page}/jobs/{JOB}/judgements"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, messages: list[Message]) -> Iterator[Bench]:
    folder, console = tmp_path_factory.mktemp("console"), ConsoleTable(addendum="assessment")
    made = Bench(folder, record=messages.append, console=console)
    made.pages.state.visit_of, made.pages.state.is_open = visit_of, is_open
    yield made
    made.web.stop()
    made.parts.stop()
    made.engine.dispose()


@pytest.fixture(scope="module")
def read(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> ReadStudy:
    return a_read_study(bench, tmp_path_factory.mktemp("read"), JOB)


def a_read_study(bench: Bench, folder: Path, name: str, *, boxes: int = 1) -> ReadStudy:
    """Put a study, its job and its documents into the node, as a reading leaves them."""
    path = source(folder, PatientName="Mustermann^Max", PatientID="P-17")
    ref, sha256 = instance_ref(path), hashlib.sha256(path.read_bytes()).hexdigest()
    bench.catalog.index([StoredInstance(ref, UID("1.2.840.10008.1.2.1"), sha256, 1, path, "MODALITY", NOW)])
    result = judged(path, next(iter(VERDICTS.values())), boxes=boxes)
    content = bench.catalog.content(ref.study_instance_uid)
    job = Job(name, ref.study_instance_uid, "spine", "spine_radiograph", content, NOW, NOW, ("archive",))
    assert bench.ledger.open(job)
    kept_documents = []
    for document in reports.documents(result, sources_of(path), CONTEXT):
        file = folder / f"{document.ref.sop_instance_uid}.dcm"
        file.write_bytes(document.content)
        digest = hashlib.sha256(document.content).hexdigest()
        kept_documents.append(KeptDocument(name, document.ref, document.kind, file, digest))
    bench.ledger.move(name, JobState.READING)
    outcome = Outcome(JobState.REPORTED, reports.result_json(result, CONTEXT), "", 1.0, finished_at=NOW)
    assert bench.ledger.report(job, kept_documents, outcome)
    return ReadStudy(ref.study_instance_uid, kept_documents[-1].path.read_bytes())


def last(bench: Bench, job: str = JOB) -> KeptJudgement:
    return Judgements(bench.engine).of_job(job)[-1]


def test_one_click_accepts_a_result_and_the_page_shows_by_whom(reader: Browser, read: ReadStudy, bench: Bench) -> None:
    page = reader.get(read.page).text
    assert 'name="opinion" value="accept"' in page
    answer = reader.post(read.form, {"opinion": "accept", "finding": ""})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{read.page}#judgement-{JOB}")
    assert "by the reader" in reader.get(read.page).text
    entry = last(bench)
    assert (entry.judgement.opinion, entry.judgement.person, entry.presence) == ("accept", "the reader", "present")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"opinion": "reject"}, "choose a reason"),
        ({"opinion": "reject", "reason": "nonsense"}, "choose a reason of the list"),
        ({"opinion": "change", "reason": "other"}, "say what holds instead"),
        ({"opinion": "change", "reason": "other", "measurement": "Probability", "value": "many"}, "is no number"),
        ({"opinion": "change", "reason": "other", "measurement": "Length", "value": "3"}, "no such measurement"),
    ],
)
def test_a_judgement_that_says_too_little_is_not_taken_and_told_why(
    fields: dict[str, str], words: str, reader: Browser, read: ReadStudy, bench: Bench
) -> None:
    before = len(Judgements(bench.engine).of_job(JOB))
    answer = reader.post(read.form, fields)
    assert answer.status_code == 422
    assert words in answer.text
    assert len(Judgements(bench.engine).of_job(JOB)) == before


def test_the_form_of_a_rejection_says_that_a_reason_is_required(reader: Browser, read: ReadStudy) -> None:
    page = reader.get(read.page).text
    rejection = page[page.index('value="reject"') :]
    assert rejection.index("Reason (required)") < rejection.index("Reason (may stay empty)")


def test_the_list_calls_the_document_of_a_judgement_an_addendum(reader: Browser, read: ReadStudy, bench: Bench) -> None:
    reader.post(read.form, {"opinion": "accept", "finding": ""})
    number = last(bench).id
    page = reader.get("/console/judgements").text
    assert f'href="/console/judgements/{number}.dcm">addendum {number}</a>' in page


def test_a_viewer_sees_judgements_and_may_not_judge(viewer: Browser, read: ReadStudy) -> None:
    assert 'value="accept"' not in viewer.get(read.page).text
    assert viewer.post(read.form, {"opinion": "accept"}).status_code == 403
    assert viewer.get("/console/judgements").status_code == 403
    assert viewer.get("/console/judgements.csv").status_code == 403


def test_a_form_without_the_token_of_the_visit_is_refused(reader: Browser, read: ReadStudy) -> None:
    assert reader.post(read.form, {"opinion": "accept", "csrf": "another"}).status_code == 403


def test_an_unknown_finding_job_or_study_is_not_found(reader: Browser, read: ReadStudy) -> None:
    accept = {"opinion": "accept"}
    assert reader.post(read.form, {**accept, "finding": "box 17"}).status_code == 404
    assert reader.post(read.form.replace(JOB, "c" * 32), accept).status_code == 404
    assert reader.post(read.form.replace(read.study, "1.2.3"), accept).status_code == 404


def test_the_addendum_is_kept_and_confirmed_by_an_archive_and_the_report_is_not_altered(
    reader: Browser, read: ReadStudy, bench: Bench, archive: Orthanc, tmp_path: Path
) -> None:
    finding = "box 1"
    comment = "Gefäß & <b>Artefakt</b>"
    reader.post(read.form, {"opinion": "reject", "finding": finding, "reason": "artifact", "comment": comment})
    until(lambda: last(bench).addendum == AddendumState.COMPOSED)
    entry = last(bench)
    deliveries = [item for item in bench.ledger.deliveries(JOB) if item.document.kind is DocumentKind.ASSESSMENT]
    assert {(item.destination, item.state) for item in deliveries} == {("archive", DeliveryState.WAITING)}
    peer = archive.peer.model_copy(update={"name": "archive"})
    courier = Courier(bench.settings.model_copy(update={"peers": (peer,)}), bench.ledger)
    assert courier.send(JOB, "archive", NOW)
    until(lambda: courier.confirm(JOB, "archive", datetime.now(UTC)))
    assert {item.state for item in bench.ledger.deliveries(JOB)} == {DeliveryState.CONFIRMED}
    identifiers = archive.instances_of(read.study)
    path = tmp_path / "assessment.dcm"
    path.write_bytes(archive.download(identifiers[entry.addendum_uid]))
    assessment, report = dcmread(path), dcmread(io.BytesIO(read.report))
    assert assessment.PatientName == report.PatientName == "Mustermann^Max"
    evidence = assessment.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [item.ReferencedSOPInstanceUID for item in evidence] == [report.SOPInstanceUID]
    assert judges.module_errors(path) == []
    assert dcmread(io.BytesIO(archive.download(identifiers[report.SOPInstanceUID]))) == report
    page = reader.get(read.page).text
    assert "Gefäß &amp; &lt;b&gt;Artefakt&lt;/b&gt;" in page
    assert "Addendum" in page


def test_an_answer_awaits_its_addendum_until_the_addendum_is_composed(
    reader: Browser, read: ReadStudy, bench: Bench
) -> None:
    reader.post(read.form, {"opinion": "accept", "finding": "box 1"})
    until(lambda: last(bench).addendum == AddendumState.COMPOSED)
    entry, job = last(bench), bench.ledger.job(JOB)
    for state, is_awaited in ((AddendumState.DUE, True), (AddendumState.COMPOSED, False)):
        panel = panel_of(job, [replace(entry, addendum=state)], reasons=(), has_addendum=True)
        assert panel.awaits_addendum is is_awaited


def test_a_judgement_is_downloaded_as_the_document_that_leaves(reader: Browser, read: ReadStudy, bench: Bench) -> None:
    reader.post(read.form, {"opinion": "accept", "finding": "whole image"})
    until(lambda: last(bench).addendum == AddendumState.COMPOSED)
    entry = last(bench)
    answer = reader.get(f"/console/judgements/{entry.id}.dcm")
    assert answer.headers["content-type"] == "application/dicom"
    (kept,) = [item for item in bench.ledger.documents(JOB) if item.ref.sop_instance_uid == entry.addendum_uid]
    assert answer.content == kept.path.read_bytes()
    assert reader.get("/console/judgements/4711.dcm").status_code == 404


def test_the_csv_has_every_judgement_runs_in_no_spreadsheet_and_names_no_patient(
    reader: Browser, read: ReadStudy, bench: Bench
) -> None:
    reader.post(read.form, {"opinion": "accept", "finding": "", "comment": HOSTILE})
    answer = reader.get("/console/judgements.csv?opinion=accept")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    of_reading = Judgements(bench.engine).of_job(JOB)
    assert [int(row["judgement"]) for row in rows] == [
        entry.id for entry in of_reading if entry.judgement.opinion == "accept"
    ]
    assert rows[-1]["comment"] == f"'{HOSTILE}"
    assert rows[-1]["study_instance_uid"] == read.study
    reports = [kept for kept in bench.ledger.documents(JOB) if kept.kind is DocumentKind.STRUCTURED_REPORT]
    assert {row["document_uid"] for row in rows} == {reports[-1].ref.sop_instance_uid}
    assert [row["addendum_uid"] for row in rows] == [
        entry.addendum_uid for entry in of_reading if entry.judgement.opinion == "accept"
    ]
    assert "Max" not in answer.text
    assert "P-17" not in answer.text


def test_the_page_leads_with_the_model_that_persons_agreed_with_least_this_month(
    reader: Browser, read: ReadStudy
) -> None:
    reader.post(read.form, {"opinion": "accept", "finding": ""})
    page = reader.get("/console/judgements").text
    assert f"Agreement by model, {datetime.now(UTC).astimezone():%Y-%m}" in page
    assert "spine_radiograph" in page
    assert "n = 1" in page
    assert "months=13" in page
    assert "Nothing was judged in the twelve months before." in reader.get("/console/judgements?months=13").text
    assert reader.get("/console/judgements?person=nobody").text.count("No judgement fits") == 1
    assert reader.get("/console/judgements?since=yesterday").status_code == 422
    part = reader.get("/console/judgements?opinion=accept", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert read.study in part
    live = reader.get(f"/console/models/spine_radiograph/live?since={NOW:%Y-%m-%d}").text
    assert "Agreement of persons" in live


def test_the_audit_trail_names_person_and_job_and_neither_comment_nor_patient(
    reader: Browser, read: ReadStudy, messages: list[Message], caplog: pytest.LogCaptureFixture
) -> None:
    messages.clear()
    reader.post(read.form, {"opinion": "accept", "finding": "", "comment": HOSTILE})
    about_study = [message for message in messages if any(item.identifier == read.study for item in message.subjects)]
    assert len(about_study) == 1
    (message,) = about_study
    assert ("job", JOB) in message.subjects[0].details
    assert "the reader" in {participant.user_id for participant in message.participants}
    texts = [xml(item, NOW, AuditSource("node", "AINODE", "host")) for item in messages]
    details = [value for item in messages for subject in item.subjects for _, value in subject.details]
    for text in (*texts, *details, caplog.text):
        assert "Mustermann" not in text


def test_a_reading_that_a_newer_one_replaced_is_not_judged_any_more(
    reader: Browser, bench: Bench, tmp_path: Path
) -> None:
    folder = tmp_path / "superseded"
    folder.mkdir()
    name = "d" * 32
    study = a_read_study(bench, folder, name)
    job = bench.ledger.job(name)
    assert bench.ledger.open(replace(job, id="e" * 32))
    answer = reader.post(study.form.replace(JOB, name), {"opinion": "accept"})
    assert answer.status_code == 409
    assert "A newer reading replaced this one" in answer.text


def test_a_withdrawn_answer_is_not_judged_and_no_judgement_of_it_leaves(
    reader: Browser, bench: Bench, tmp_path: Path
) -> None:
    name = "c" * 32
    study = a_read_study(bench, tmp_path, name)
    judgements = Judgements(bench.engine)
    assert bench.ledger.withdraw(name, [], "withdrawn: its images are rejected", NOW, wishes={})
    page = reader.get(study.page).text
    assert 'name="opinion"' not in page[page.index(f'id="answer-{name}"') :]
    answer = reader.post(study.form.replace(JOB, name), {"opinion": "accept"})
    assert answer.status_code == 409
    assert "the answer does not hold (withdrawn: its images are rejected)" in answer.text
    assert not judgements.of_job(name)
    # Somebody judged the answer before it was withdrawn, and its document is not composed yet.
    judgement = Judgement(name, "", Opinion.ACCEPT, "the reader")
    number = judgements.keep(judgement, NOW, statement="", presence="present", has_addendum=True)
    documents = bench.ledger.documents(name)
    addendum = replace(documents[0], ref=replace(documents[0].ref, sop_instance_uid=UID("1.2.9")))
    assert not bench.ledger.append([addendum], number)
    assert bench.ledger.documents(name) == documents


def test_what_is_due_at_the_end_of_the_node_is_composed_after_the_next_start(
    reader: Browser, read: ReadStudy, bench: Bench
) -> None:
    judgements = Judgements(bench.engine)
    reader.post(read.form, {"opinion": "accept", "finding": ""})
    until(lambda: last(bench).addendum == AddendumState.COMPOSED)
    entry = last(bench)
    number = judgements.keep(entry.judgement, NOW, statement="", presence="present", has_addendum=True)
    addenda = Addenda(bench.settings, bench.ledger, judgements, Assistant(bench.settings))
    until(lambda: last(bench).addendum == AddendumState.COMPOSED)
    assert last(bench).id == number
    addenda.stop()


def test_a_result_of_one_finding_is_judged_in_one_row_unless_somebody_judged_the_whole(
    bench: Bench, reader: Browser, tmp_path: Path
) -> None:
    job = "f" * 32
    read = a_read_study(bench, tmp_path, job, boxes=0)
    address, rows = f"{read.page}/jobs/{job}/judgements", '<li class="judged">'
    (finding,) = re.findall(r'name="finding" value="([^"]+)"', reader.get(read.page).text)[:1]
    reader.post(address, {"finding": finding, "opinion": "accept"})
    assert reader.get(read.page).text.count(rows) == 1
    assert reader.get("/console/judgements").text.count(f"#judgement-{job}") == 1
    reader.post(address, {"finding": "", "opinion": "accept"})
    assert reader.get(read.page).text.count(rows) == 2


def test_a_report_that_arrived_is_said_to_be_there_where_only_its_addendum_was_given_up(
    reader: Browser, viewer: Browser, operator: Browser, bench: Bench, tmp_path: Path
) -> None:
    name, ledger = "7" * 32, bench.ledger
    read = a_read_study(bench, tmp_path, name)
    for delivery in ledger.deliveries(name):
        ledger.outbox.sent(delivery, status=0, comment="", at=NOW)
        ledger.outbox.confirmed(delivery, proof="query", at=NOW)
    reader.post(f"{read.page}/jobs/{name}/judgements", {"opinion": "reject", "reason": "artifact"})
    until(lambda: last(bench, name).addendum == AddendumState.COMPOSED)
    ledger.outbox.give_up(name, "archive", DeliveryState.WAITING, at=datetime.now(UTC), error="<archive> is dead")
    worklist = words_of(viewer.get("/console/").text)
    assert "in archive, confirmed 05:06" in worklist
    assert "addendum not in archive, delivery failed &lt;archive&gt; is dead" in worklist
    page = words_of(viewer.get(read.page).text)
    assert "In archive confirmed 2 of 2 documents confirmed" in page
    assert "Confirmed by archive" in page
    assert "Delivery of an addendum to archive given up" in page
    assert "Judged by the reader: rejected" in page
    status = study_status(read.study, bench.catalog, ledger, bench.announcements)
    assert status
    assert status.delivered
    bench.catalog.mark_routed(read.study, content=bench.catalog.content(read.study), explanation=[])
    assert [hop.state for hop in hops_of(bench.parts, read.study) if "confirmed by" in hop.name] == ["done"]
    letters = words_of(viewer.get("/console/system/failures").text)
    assert "addendum to archive the report was delivered there" in letters
    assert "after 1 attempt" in letters
    listed = words_of(reader.get("/console/judgements").text)
    assert f"addendum {last(bench, name).id} in archive failed &lt;archive&gt; is dead" in listed
    assert viewer.get("/console/system/failures").text.count("Deliver again") == 0
    assert operator.post("/console/system/failures", {"job": name}).headers["Location"].endswith("retried=1")
    letters = words_of(viewer.get("/console/system/failures").text)
    assert "No dead letter" not in letters
    assert "1 study is being read or delivered again" in letters
    assert "addendum to archive, asked for by the operator" in letters
    assert "Delivery of an addendum to archive asked for again" in words_of(viewer.get(read.page).text)
    (addendum,) = (item for item in ledger.deliveries(name) if item.document.kind is DocumentKind.ASSESSMENT)
    ledger.outbox.sent(addendum, status=0, comment="", at=NOW)
    ledger.outbox.confirmed(addendum, proof="query", at=NOW)
    assert f"addendum {last(bench, name).id} in archive confirmed" in words_of(reader.get("/console/judgements").text)


def words_of(page: str) -> str:
    """Return the words of a page without its marks."""
    return " ".join(re.sub("<[^>]+>", " ", page).split())
