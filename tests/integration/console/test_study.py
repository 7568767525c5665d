"""The page of a study over a real ledger: its course, its documents as they were made, and who took them."""

import hashlib
import html
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conformance.made import CONTEXT, EVERYTHING, source, sources_of
from conformance.test_verdicts import VERDICTS, judged
from integration.console.conftest import Browser, is_open, visit_of
from pydicom import dcmread
from pypdf import PdfReader
from support import browser, instance_ref
from support.answers import refusal_json
from support.web_bench import Bench

from ainode.node import reports
from ainode.node.audit.messages import Message
from ainode.node.console.entry.access import Role
from ainode.node.domain import UID, Document, InstanceRef, JobState, TimePoint
from ainode.node.keeping.catalog import Completion, StoredInstance
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.routes import Route
from ainode.node.settings import ConsoleTable

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
HOSTILE = "Mustermann^<script>alert(1)</script>"
JOB = "a" * 32


@dataclass
class ReadStudy:
    """A study that was received, complete, read and sent."""

    study: UID
    path: Path
    documents: tuple[Document, ...]
    text: str
    pdf: bytes

    @property
    def address(self) -> str:
        return f"/console/studies/{self.study}"

    @property
    def files(self) -> str:
        return f"{self.address}/jobs/{JOB}"


@pytest.fixture(scope="module")
def read(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> ReadStudy:
    folder = tmp_path_factory.mktemp("read")
    path = source(folder, PatientName=HOSTILE, PatientID="P-17", StudyDate="20260203")
    ref = instance_ref(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    bench.catalog.index(
        [StoredInstance(ref, UID("1.2.840.10008.1.2.1"), sha256, path.stat().st_size, path, "MODALITY", NOW)]
    )
    completion = Completion(
        NOW + timedelta(seconds=10), "10.0 s without a further image, as for a sender whose pauses are not known yet"
    )
    content = bench.catalog.content(ref.study_instance_uid)
    bench.catalog.mark_routed(ref.study_instance_uid, content=content, explanation=[], completion=completion)
    answer = judged(path, next(iter(VERDICTS.values())), boxes=1)
    result = replace(
        answer,
        algorithm=replace(answer.algorithm, known_limits=("Dark skin was rare in training.", "Metal")),
        scores={"probability": 0.9, "network a probability": 0.25},
        course=tuple(
            TimePoint("nodule 1", UID(f"1.2.{days}"), days, {"attention": 0.5, "diameter in mm": 9 - days / 100})
            for days in (180.0, 0.0)
        ),
    )
    documents = reports.documents(result, sources_of(path), EVERYTHING)
    job = Job(
        id=JOB,
        study_instance_uid=ref.study_instance_uid,
        route="spine",
        handler="spine_radiograph",
        content=content,
        created_at=NOW,
        queued_at=NOW + timedelta(seconds=10),
        destinations=("pacs",),
    )
    assert bench.ledger.open(job)
    bench.ledger.move(JOB, JobState.READING, at=NOW + timedelta(seconds=13))
    kept = []
    for document in documents:
        kept_path = bench.folder / "documents" / JOB / f"{document.ref.sop_instance_uid}.dcm"
        kept_path.parent.mkdir(parents=True, exist_ok=True)
        kept_path.write_bytes(document.content)
        digest = hashlib.sha256(document.content).hexdigest()
        kept.append(KeptDocument(JOB, document.ref, document.kind, kept_path, digest))
    summary = reports.result_json(result, CONTEXT)
    outcome = Outcome(JobState.REPORTED, summary, "", 4.0, {"compose": 1.0}, NOW + timedelta(seconds=17))
    assert bench.ledger.report(job, kept, outcome)
    for delivery in bench.ledger.deliveries(JOB):
        bench.ledger.outbox.claim(JOB, "pacs", NOW + timedelta(seconds=18))
        bench.ledger.outbox.sent(delivery, status=0xB000, comment="coerced <b>", at=NOW + timedelta(seconds=20))
    return ReadStudy(
        ref.study_instance_uid, path, documents, reports.report_text(result), reports.report_pdf(result, documents)
    )


def test_a_reader_meets_the_answer_first_and_finds_each_part_in_the_list_at_the_top(
    viewer: Browser, read: ReadStudy
) -> None:
    page = viewer.get(read.address).text
    order = ['class="verdict', 'class="captures"', "All scores", 'id="timeline"', 'id="series"', 'id="why"']
    places = [page.index(words) for words in (*order, 'id="earlier"')]
    assert places == sorted(places)
    jumps = re.findall(r'href="#([^"]+)"', page[: places[0]])
    assert jumps[1:] == [f"answer-{JOB}", "images", "timeline", "series", "why", "earlier"]
    assert all(f'id="{name}"' in page for name in jumps)
    folded = re.findall(r'<details class="part">.*?<section id="(\w+)"', page, re.DOTALL)
    assert folded == ["why", "earlier"]


def test_the_first_limit_of_the_model_stands_open_beside_the_answer(viewer: Browser, read: ReadStudy) -> None:
    page = viewer.get(read.address).text
    beside = page[page.index('class="verdict') : page.index("What the model is not for")]
    assert "Known limit: Dark skin was rare in training." in beside
    assert "Metal" not in beside


def test_the_timeline_says_when_and_why_each_step_happened_and_how_long_it_took(
    viewer: Browser, read: ReadStudy
) -> None:
    page = viewer.get(read.address).text
    order = [
        "First image or object received",
        "10.0 s without a further image",
        "Matched by route spine",
        "Reading began",
        "Documents made",
        "Sent to pacs",
        "Sent, not confirmed by pacs",
    ]
    places = [page.index(words) for words in order]
    assert places == sorted(places)
    assert "accepted them with a warning: it changed what the document says of itself" in page
    assert "(0xB000)" in page
    assert "coerced" not in page  # an archive may quote a Patient ID, and [console] patient = "hidden"
    assert "words that may name the patient" in page
    assert "badge good" not in page


def test_the_head_tells_each_route_with_its_own_state_and_a_declined_reading_offers_no_picture_of_a_report(
    reader: Browser, bench: Bench
) -> None:
    study, at = UID("1.2.3.4.99"), datetime(2026, 1, 2, 3, tzinfo=UTC)
    identifiers = {"first": "1" * 32, "second": "2" * 32}
    for name, state, result in (("first", JobState.REPORTED, "{}"), ("second", JobState.OUT_OF_SCOPE, refusal_json())):
        job = Job(identifiers[name], study, name, "spine_radiograph", {}, at, at, ())
        bench.ledger.open(job)
        bench.ledger.move(job.id, JobState.READING, at=at)
        bench.ledger.report(job, [], Outcome(state, result, "10 x 10 pixels", 1.0, {"compose": 0.1}, at))
    page = reader.get(f"/console/studies/{study}").text
    head = " ".join(re.sub("<[^>]+>", " ", page.partition('class="study-head"')[2].partition("<nav")[0]).split())
    assert "first read" in head
    assert "second declined: not for the model" in head
    assert "10 x 10 pixels" not in head
    assert f"{identifiers['first']}/report.pdf" in page
    assert f"{identifiers['second']}/report.pdf" not in page
    assert f"{identifiers['second']}/report.txt" in page
    files = reader.get(f"/console/studies/{study}/jobs/{identifiers['second']}/all.zip")
    assert files.status_code == 200, files.text
    assert set(zipfile.ZipFile(io.BytesIO(files.content)).namelist()) == {"result.json", "report.txt"}
    timeline = re.findall(r'class="badge[^"]*">([^<]*)<', page.partition('id="timeline-title"')[2])
    assert "Declined" in timeline
    assert timeline.count("Documents made") == 1


@pytest.mark.parametrize("may_show_words", [False, True])
def test_a_refusal_is_headed_by_what_people_know_of_the_series_and_folds_its_uid(
    bench: Bench, named: Bench, tmp_path: Path, *, may_show_words: bool
) -> None:
    console = named if may_show_words else bench
    path = source(tmp_path, SeriesNumber="3", Modality="DX", SeriesDescription="Lumbar of Ursula")
    ref, size = instance_ref(path), path.stat().st_size
    console.catalog.index([StoredInstance(ref, UID("1.2.840.10008.1.2.1"), "ff", size, path, "MODALITY", NOW)])
    job = Job("3" * 32, ref.study_instance_uid, "spine", "spine_radiograph", {}, NOW, NOW, ())
    console.ledger.open(job)
    console.ledger.move(job.id, JobState.READING, at=NOW)
    reason = f"series {ref.series_instance_uid}: 3 of 120 slices are missing, as instance {ref.sop_instance_uid} says"
    console.ledger.report(job, [], Outcome(JobState.OUT_OF_SCOPE, refusal_json(), reason, 1.0, {}, NOW))
    viewer = Browser(console, Role.VIEWER)
    page = html.unescape(viewer.get(f"/console/studies/{ref.study_instance_uid}").text)
    series = "3 (DX, Lumbar of Ursula, 1 image)" if may_show_words else "3 (DX, 1 image)"
    assert f'<p class="verdict ">series {series}: 3 of 120 slices are missing, as instance ' in page
    folded = "".join(re.findall(r'<details class="uids">.*?</details>', page, re.DOTALL))
    assert {f"<code>{uid}</code>" in folded for uid in (ref.series_instance_uid, ref.sop_instance_uid)} == {True}
    assert ("Ursula" in page) is may_show_words
    timeline = page.partition('id="timeline"')[2].partition('id="series"')[0]
    assert f"series {series}: 3 of 120 slices are missing" in timeline
    for address in ("/console/", "/console/unread"):
        assert f"series …{ref.series_instance_uid[-8:]}: 3 of 120" in html.unescape(viewer.get(address).text)


def test_an_answer_by_demonstration_weights_says_so_once_and_shortly_and_folds_what_lets_its_documents_leave(
    viewer: Browser, bench: Bench, read: ReadStudy
) -> None:
    reason = Route("spine", "spine_radiograph").withholding_reason(["spine_radiograph/detector"])
    study = UID("1.2.3.4.77")
    result = bench.ledger.jobs(study=read.study)[0].result
    job = Job("4" * 32, study, "spine", "spine_radiograph", {}, NOW, NOW, (), withheld=reason)
    bench.ledger.open(job)
    bench.ledger.move(job.id, JobState.READING, at=NOW)
    bench.ledger.report(job, [], Outcome(JobState.REPORTED, result, "", 1.0, {"compose": 1.0}, NOW))
    page = html.unescape(viewer.get(f"/console/studies/{study}").text)
    answer = page.partition('class="verdict')[2].partition('id="timeline"')[0]
    shown = " ".join(re.sub("<[^>]+>", " ", re.sub("<details>.*?</details>", "", answer, flags=re.DOTALL)).split())
    assert "Not ready for patients: demonstration weights. The documents stay in the node." in shown
    assert "allow_demonstration" not in shown
    assert reason in answer
    assert page.count(reason) == page.count("Not ready for patients") == 1


def test_an_open_page_follows_the_study_and_is_loaded_anew_when_a_job_changes(viewer: Browser, read: ReadStudy) -> None:
    (address,) = re.findall(r'hx-get="([^"]*/progress[^"]*)"', viewer.get(read.address).text)
    same = viewer.get(address)
    assert "Sent to pacs" in same.text
    assert "HX-Refresh" not in same.headers
    assert viewer.get(address.partition("=")[0] + "=other").headers["HX-Refresh"] == "true"


def test_a_network_s_probability_is_a_bar_and_two_dates_are_plotted(viewer: Browser, read: ReadStudy) -> None:
    page = viewer.get(read.address).text
    assert '<meter min="0" max="1" value="0.25"' in page
    assert "180 days before" in page
    assert page.count("<svg") == 2


def test_the_documents_and_reports_are_downloaded_as_they_were_made(reader: Browser, read: ReadStudy) -> None:
    for document in read.documents:
        answer = reader.get(f"{read.files}/documents/{document.ref.sop_instance_uid}.dcm")
        assert answer.content == document.content
        assert dcmread(io.BytesIO(answer.content)).SOPInstanceUID == document.ref.sop_instance_uid
    assert reader.get(f"{read.files}/report.txt").text == read.text
    printed = reader.get(f"{read.files}/report.pdf").content
    assert printed == read.pdf
    (page, *_) = PdfReader(io.BytesIO(printed)).pages
    assert "P-17" in page.extract_text()


def test_everything_is_in_the_zip_under_the_names_of_the_command_line(reader: Browser, read: ReadStudy) -> None:
    answer = reader.get(f"{read.files}/all.zip")
    assert HOSTILE[:4] not in answer.headers["Content-Disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert {"result.json", "report.txt", "report.pdf", "sr-1.dcm", "sc-1.dcm"} <= set(names)
        contents = {archive.read(name) for name in names}
    assert {document.content for document in read.documents} <= contents


def test_the_report_is_a_tree_with_units_and_negatives_in_words(viewer: Browser, read: ReadStudy) -> None:
    (report,) = (document for document in read.documents if document.kind == "sr")
    page = viewer.get(f"{read.files}/documents/{report.ref.sop_instance_uid}/tree").text
    assert "Imaging Measurement Report" in page
    assert "Percent" in page
    assert ">absent<" in page or ">present<" in page


def test_a_capture_is_shown_with_the_pixels_that_were_sent(viewer: Browser, read: ReadStudy) -> None:
    import numpy as np
    from PIL import Image

    capture = next(document for document in read.documents if document.kind == "sc")
    answer = viewer.get(f"{read.files}/documents/{capture.ref.sop_instance_uid}.png")
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert (shown == dcmread(io.BytesIO(capture.content)).pixel_array).all()


def test_html_in_a_name_is_shown_as_text(viewer: Browser, bench: Bench, read: ReadStudy) -> None:
    (instance,) = bench.catalog.content(read.study)
    for path in (read.address, f"{read.address}/metadata?instance={instance}", f"{read.address}?described=1"):
        answer = viewer.get(path)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A console that names patients, and studies of two patients."""
    folder = tmp_path_factory.mktemp("named")
    bench = Bench(folder / "node", console=ConsoleTable(patient="full", ohif="https://pacs/view?study={study}"))
    bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
    index = PatientIndex(bench.engine, Naming.FULL)
    for study, name in (("1.2.1", HOSTILE), ("1.2.2", HOSTILE), ("1.2.3", "Other^Patient")):
        ref = InstanceRef(UID(study), UID(f"{study}.1"), UID("1.2.840"), UID(f"{study}.1.1"))
        bench.catalog.index([StoredInstance(ref, UID("1.2"), "ff", 1, folder / "gone", "MODALITY", NOW)])
        completion = Completion(NOW + timedelta(seconds=10), "10.0 s of silence")
        bench.catalog.mark_routed(UID(study), content={}, explanation=[], completion=completion)
        index.write(UID(study), Labels(name=name, patient_id="P-17", study_date="20260203", description="<i>Spine</i>"))
    yield bench
    bench.web.stop()
    bench.parts.rendering.stop()
    bench.engine.dispose()


def test_a_page_that_may_name_the_patient_shows_html_in_the_name_as_text_and_the_other_studies(named: Bench) -> None:
    page = Browser(named, Role.VIEWER).get("/console/studies/1.2.1").text
    assert "Mustermann, &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;i&gt;Spine&lt;/i&gt;" in page
    assert "<script>alert" not in page
    assert 'href="/console/studies/1.2.2"' in page
    assert 'href="/console/studies/1.2.3"' not in page


def test_a_study_whose_images_were_removed_says_so_and_leads_to_the_archive(named: Bench) -> None:
    assert "no longer on this node" not in Browser(named, Role.VIEWER).get("/console/studies/1.2.3").text
    named.catalog.forget(UID("1.2.3"))
    page = Browser(named, Role.VIEWER).get("/console/studies/1.2.3").text
    assert "The images are no longer on this node" in page
    assert 'href="https://pacs/view?study=1.2.3"' in page
    assert "10.0 s of silence" in page


def test_an_address_of_another_study_or_job_or_no_uid_is_refused_in_words(reader: Browser, read: ReadStudy) -> None:
    uid = read.documents[0].ref.sop_instance_uid
    assert reader.get("/console/studies/1.2.3").status_code == 404
    assert reader.get("/console/studies/1..%2f2").status_code in {404, 422}
    assert reader.get("/console/studies/a").status_code == 422
    assert reader.get(f"/console/studies/1.2.3/jobs/{JOB}/documents/{uid}.dcm").status_code == 404
    assert reader.get(f"{read.address}/jobs/{'b' * 32}/report.pdf").status_code == 404
    assert reader.get(f"{read.address}/jobs/{JOB}/documents/1.2.3.dcm").status_code == 404


def test_a_document_that_was_changed_on_the_disk_does_not_leave(reader: Browser, bench: Bench, read: ReadStudy) -> None:
    document = bench.ledger.documents(JOB)[0]
    content = document.path.read_bytes()
    document.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        for name in (f"documents/{document.ref.sop_instance_uid}.dcm", "all.zip", "report.pdf"):
            answer = reader.get(f"{read.files}/{name}")
            assert answer.status_code == 410
            assert "gone or changed" in answer.text
    finally:
        document.path.write_bytes(content)


def test_who_only_looks_gets_no_file_that_names_the_patient(viewer: Browser, read: ReadStudy) -> None:
    uid = read.documents[0].ref.sop_instance_uid
    for name in (f"documents/{uid}.dcm", "all.zip", "report.pdf"):
        assert viewer.get(f"{read.files}/{name}").status_code == 403
    for name in ("report.txt", "result.json"):
        assert "P-17" not in viewer.get(f"{read.files}/{name}").text
    assert "report.pdf" not in viewer.get(read.address).text


def test_nobody_who_is_not_logged_in_gets_a_file(nobody: Browser, read: ReadStudy) -> None:
    assert nobody.get(f"{read.files}/report.pdf").status_code == 303
    assert nobody.get(read.address).status_code == 303


def test_the_audit_trail_names_who_took_which_files_of_which_study(
    reader: Browser, messages: list[Message], read: ReadStudy
) -> None:
    messages.clear()
    reader.get(f"{read.files}/all.zip")
    (message,) = messages
    assert message.event.value == "110106"
    assert message.participants[0].user_id == "the reader"
    assert message.participants[2].address == "127.0.0.1"
    (study,) = message.subjects
    assert study.identifier == read.study
    assert sum(study.sop_classes.values()) == len(read.documents)
    assert "report.pdf" in dict(study.details)["files"]
    reader.get(read.address)
    assert [message.event.value for message in messages] == ["110106", "110103"]


def test_a_look_at_a_part_of_a_study_without_its_page_is_in_the_trail_once(
    viewer: Browser, read: ReadStudy, messages: list[Message]
) -> None:
    ref = instance_ref(read.path)
    series = f"/series/{ref.series_instance_uid}"
    thumbnail = f"{series}/thumbnails/{ref.sop_instance_uid}/0"
    for path in ("/metadata", "/series", "/progress", "/explanation", f"{series}/series.json", thumbnail):
        messages.clear()
        for _ in range(2):
            assert viewer.get(f"{read.address}{path}", headers={"X-Person": f"who sees {path}"}).status_code == 200
        (look,) = messages
        assert look.event.value == "110103"
        assert look.participants[1].user_id == f"who sees {path}"
        assert look.subjects[0].identifier == read.study
    messages.clear()
    assert viewer.get(f"{read.address}{series}/thumbnails/1.2/0", headers={"X-Person": "x"}).status_code == 404
    assert not messages


def test_report_and_header_open_on_the_page_without_a_word_in_the_browser_s_console(
    bench: Bench, read: ReadStudy
) -> None:
    complaints: list[str] = []
    with browser.page() as page:
        page.set_extra_http_headers({"X-Role": "READER"})
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"http://127.0.0.1:{bench.settings.web.port}{read.address}")
        page.get_by_text("Structured report, item by item").click()
        page.get_by_text("Imaging Measurement Report").wait_for()
        page.get_by_role("cell", name="TSPINE").wait_for()
        page.get_by_role("link", name="Show", exact=True).click()
        page.get_by_role("cell", name="(0008,0060)").wait_for()
        assert "P-17" not in page.content()
        page.locator(".viewer [data-part=message]").wait_for(state="hidden")
    assert complaints == []


def test_an_operator_has_a_study_delivered_again_from_its_page_and_is_told_what_was_done(
    viewer: Browser, operator: Browser, read: ReadStudy
) -> None:
    address = f"{read.address}/actions/deliver-again"
    assert viewer.post(address, {"job": JOB}).status_code == 403
    assert operator.post(address, {"job": "b" * 32}).status_code == 404
    assert operator.post(f"{read.address}/actions/cancel", {"job": JOB, "reason": "<b>"}).status_code == 422
    answer = operator.post(address, {"job": JOB})
    assert answer.status_code == 303
    assert 'role="status"' in operator.get(answer.headers["Location"]).text


def test_a_study_that_is_read_again_unchanged_says_that_nothing_was_read_and_since_when(
    bench: Bench, operator: Browser, read: ReadStudy
) -> None:
    answer = operator.post(f"{read.address}/actions/read-again", {"job": JOB})
    waiting = operator.get(answer.headers["Location"]).text
    assert "being checked for changes" in waiting
    assert "Study is checked now" not in waiting
    assert "Nothing was read again" not in waiting
    (address,) = re.findall(r'hx-get="([^"]*/progress[^"]*)"', waiting)
    completion = Completion(NOW + timedelta(hours=1), "somebody asked for it")
    bench.catalog.mark_routed(
        read.study, content=bench.catalog.content(read.study), explanation=[], completion=completion
    )
    announcement = bench.announcements.of(read.study)
    assert announcement
    bench.announcements.settle(announcement)
    assert operator.get(address).headers["HX-Refresh"] == "true"
    page = operator.get(read.address).text
    words = page[page.index("Nothing was read again when") :]
    assert "2026-03-04" in words[:300]
    assert "“Check by a second reading” reads the same files" in words[:600]
    assert "being checked" not in page
