"""The worklist over HTTP: rows, filters in the address, what an operator does, and what changes by itself."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from integration.console.conftest import Browser, is_open, visit_of
from support import a_file, instance_ref
from support.web_bench import Bench

from ainode.node.audit.messages import Message
from ainode.node.console.entry.access import Role
from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex
from ainode.node.keeping.records import Job, KeptDocument, Outcome

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RESULT = (
    '{"algorithm": {"weights_status": "demonstration"},'
    ' "verdict": {"presence": "present", "headline": "fracture: present", "probability": 0.912},'
    ' "findings": [{"verdict": {"presence": "present", "probability": 0.912, "threshold": 0.5}}]}'
)


def queue(bench: Bench, study: str, minute: int = 0) -> str:
    at = NOW + timedelta(minutes=minute)
    assert bench.ledger.open(Job(f"job {study}", UID(study), "spine", "spine_radiograph", {}, at, at, ("pacs",)))
    return f"job {study}"


def read(bench: Bench, job: str) -> None:
    bench.ledger.move(job, JobState.READING, at=NOW + timedelta(minutes=2))
    ref = replace(instance_ref(a_file()), sop_instance_uid=UID(f"1.9.{job.removeprefix('job ')}"))
    kept = [KeptDocument(job, ref, DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")]
    outcome = Outcome(JobState.REPORTED, RESULT, "", 4.2, {}, NOW + timedelta(minutes=3))
    assert bench.ledger.report(bench.ledger.job(job), kept, outcome)


@pytest.fixture(scope="module", autouse=True)
def studies(bench: Bench) -> None:
    """Queue 55 studies, a minute apart; the third is read, and its report is sent."""
    for number in range(55):
        queue(bench, f"1.5.{number}", number)
    read(bench, "job 1.5.3")
    (delivery,) = bench.ledger.deliveries("job 1.5.3")
    bench.ledger.outbox.sent(delivery, status=0, comment="", at=NOW + timedelta(minutes=4))


def row_of(page: str, study: str) -> str:
    rows = [
        row for row in re.findall(r"<tr role=\"row\">.*?</tr>", page, re.DOTALL) if f'/console/studies/{study}"' in row
    ]
    assert len(rows) == 1, page
    return rows[0]


def test_the_newest_are_on_the_first_page_and_the_page_after_goes_on_where_the_first_ended(viewer: Browser) -> None:
    page = viewer.get("/console/").text
    assert "1 to 50 of 55" in page
    assert page.index("studies/1.5.54") < page.index("studies/1.5.53")
    assert 'studies/1.5.4"' not in page
    older = viewer.get("/console/?page=2").text
    assert "51 to 55 of 55" in older
    assert 'href="/console/?page=1"' in older


def test_the_rows_of_a_study_stand_below_each_other_and_the_first_says_whose_they_are(
    bench: Bench, viewer: Browser
) -> None:
    at = NOW + timedelta(minutes=90)
    for name in ("late", "early"):
        job = Job(f"{name} 1.5.20", UID("1.5.20"), name, "spine_radiograph", {}, at, at, ("pacs",))
        assert bench.ledger.open(job)
    rows = re.findall(r"<tr role=\"row\".*?</tr>", viewer.get("/console/?study=1.5.2").text, re.DOTALL)[1:]
    routes = [re.findall(r'data-label="Route">(\w+)</td>', row)[0] for row in rows[:4]]
    assert routes == ["early", "late", "spine", "spine"]
    assert [bool("follows" in row) for row in rows[:4]] == [False, True, True, False]
    assert "<code>1.5.20</code>" in rows[0]
    assert 'href="/console/studies/1.5.20#answer-late 1.5.20"' in rows[1]


def test_a_report_is_green_only_once_its_destination_confirmed_it(bench: Bench, viewer: Browser) -> None:
    row = row_of(viewer.get("/console/?state=reported").text, "1.5.3")
    assert "fracture: present" in row
    assert "probability 0.91" in row
    assert "demonstration weights" in row
    assert "took 4.2 s" in row
    assert "sent to pacs 12:04, not confirmed" in row
    assert "good" not in row
    (delivery,) = bench.ledger.deliveries("job 1.5.3")
    bench.ledger.outbox.confirmed(delivery, proof="query", at=NOW + timedelta(days=1))
    row = row_of(viewer.get("/console/?state=reported").text, "1.5.3")
    assert '<span class="badge good">in pacs, confirmed 2026-03-02 12:00</span>' in row


def test_a_long_reason_has_a_link_to_the_whole_of_it(bench: Bench, viewer: Browser) -> None:
    reason = f"{'a slice is missing, ' * 20}resend the series"
    job = queue(bench, "1.5.71", -2000)
    bench.ledger.move(job, JobState.READING)
    bench.ledger.move(job, JobState.FAILED, reason=reason)
    row = row_of(viewer.get("/console/?study=1.5.71").text, "1.5.71")
    assert "resend the series" not in row
    (address,) = re.findall('<a href="([^"]*)">whole reason', row)
    assert address == f"/console/studies/1.5.71#answer-{job}"
    assert reason in viewer.get(address).text


def test_the_row_of_a_study_whose_documents_are_withheld_says_so_in_a_few_words(bench: Bench, viewer: Browser) -> None:
    reason = "the weights spine are for demonstration: its documents stay in the node"
    at = NOW - timedelta(days=3)
    job = Job("withheld", UID("1.5.72"), "spine", "spine_radiograph", {}, at, at, (), withheld=reason)
    assert bench.ledger.open(job)
    address = "/console/?study=1.5.72"
    assert "will stay in the node: demonstration weights" in row_of(viewer.get(address).text, "1.5.72")
    bench.ledger.move("withheld", JobState.READING)
    assert "will stay in the node: demonstration weights" in row_of(viewer.get(address).text, "1.5.72")
    bench.ledger.report(job, (), Outcome(JobState.REPORTED, "{}", "", 4.2, {}, NOW))
    row = row_of(viewer.get(address).text, "1.5.72")
    assert ">stay in the node: demonstration weights" in row
    assert "are for demonstration" not in row
    assert reason in viewer.get("/console/studies/1.5.72").text


def test_filters_stand_in_the_address_and_wrong_ones_are_refused_in_words(viewer: Browser) -> None:
    address = "/console/?state=waiting&route=spine&since=2026-03-01&until=2026-03-01&study=1.5.7"
    page = viewer.get(address).text
    assert "1 to 1 of 1" in page
    assert '<option value="waiting" selected>' in page
    assert viewer.get("/console/?destination=pacs").text.count("rowheader") == 1
    assert "Widen the dates" in viewer.get("/console/?route=absent").text
    for wrong, words in (("state=lost", "choose a state"), ("since=now", "no date"), ("search=x", "search again")):
        answer = viewer.get(f"/console/?{wrong}")
        assert answer.status_code in {410, 422}
        assert words in answer.text


def test_htmx_gets_the_list_without_the_rest_of_the_page(viewer: Browser) -> None:
    part = viewer.get("/console/?state=reported", headers={"HX-Request": "true"}).text
    assert "fracture" in part
    assert "<html" not in part
    assert '<select name="state">' not in part


def test_what_is_searched_for_stands_in_no_address(bench: Bench, viewer: Browser) -> None:
    PatientIndex(bench.engine, Naming.FULL).write(UID("1.5.9"), Labels("Kanari^A", "77", "ACC-9", "", "", "DX"))
    answer = viewer.post("/console/search", {"text": " acc-9", "address": "?state=waiting"})
    assert answer.status_code == 303
    address = answer.headers["location"]
    assert "acc" not in address.lower()
    assert "state=waiting" in address
    page = viewer.get(address).text
    assert "1 to 1 of 1" in page
    row = row_of(page, "1.5.9")
    assert "DX …1.5.9</a>" in row
    assert not any(word in row for word in ("ACC-9", "Kanari"))  # [console] patient = "hidden"
    uid = viewer.post("/console/search", {"text": "1.5.10"}).headers["location"]
    assert 'studies/1.5.10"' in viewer.get(uid).text
    end = viewer.post("/console/search", {"text": " …5.10 "}).headers["location"]
    assert 'studies/1.5.10"' in viewer.get(end).text


def test_a_form_leads_to_no_address_but_the_worklist(viewer: Browser) -> None:
    for address in ("https://elsewhere.test/", "//elsewhere.test", "?state=waiting\r\nX: y"):
        answer = viewer.post("/console/search", {"text": "", "address": address})
        assert answer.headers["location"].startswith("/console/?")
        assert "elsewhere" not in answer.headers["location"]


def act(browser: Browser, action: str, *jobs: str, **fields: str) -> str:
    form = [("csrf", "the token of the visit"), *(("row", f"job:{job}") for job in jobs), *fields.items()]
    answer = browser._call("POST", f"/console/worklist/{action}", data=form)
    assert answer.status_code == 303, answer.text
    page = browser.get(answer.headers["location"]).text
    return "".join(re.findall(r'role="status">(.*?)</div>', page, re.DOTALL))


def test_waiting_readings_are_cancelled_with_a_reason_by_whom_and_the_trail_says_so(
    bench: Bench, operator: Browser, messages: list[Message]
) -> None:
    bench.ledger.move(queue(bench, "1.6.3"), JobState.READING)
    jobs = [queue(bench, "1.6.1"), queue(bench, "1.6.2"), "job 1.6.3", "job absent"]
    messages.clear()
    words = act(operator, "cancel", *jobs, reason="sent by mistake")
    assert "Reading cancelled: sent by mistake, 2 rows." in words
    assert "route spine of study 1.6.3 is being read, which nobody can stop" in words
    assert "no job job absent" in words
    job = bench.ledger.job(jobs[0])
    assert (job.state, job.reason) == (JobState.CANCELLED, "cancelled by the operator: sent by mistake")
    subjects = {message.subjects[0].identifier for message in messages if message.subjects}
    assert {f"urn:ainode:job:{job}" for job in jobs[:2]} <= subjects
    assert "reading waits again" in act(operator, "read-again", jobs[0]).lower()
    assert bench.ledger.job(jobs[0]).state is JobState.WAITING


def test_a_prioritized_reading_is_the_first_row_and_the_first_of_its_queue(bench: Bench, operator: Browser) -> None:
    job = queue(bench, "1.7.1", -1000)
    assert "next in its queue" in act(operator, "prioritize", only=f"job:{job}")
    assert bench.ledger.job(job).priority == 1
    page = operator.get("/console/").text
    assert page.index('studies/1.7.1"') < page.index('studies/1.5.54"')
    assert "urgent" in row_of(page, "1.7.1")
    bench.ledger.move(job, JobState.FAILED, reason="the reader ended")


def test_a_refusal_names_the_row_and_its_state_in_the_words_of_the_list(bench: Bench, operator: Browser) -> None:
    job = queue(bench, "2.25.20221293086528", -1000)
    read(bench, job)
    named = "route spine of study …1293086528"
    for action in ("prioritize", "cancel"):
        words = act(operator, action, job, reason="sent by mistake")
        assert f"{named} does not wait any more: its state is “read”" in words
        assert job not in words
    bench.ledger.outbox.give_up(job, "pacs", DeliveryState.WAITING, at=NOW, error="refused")
    waiting = queue(bench, "2.25.30221293086528", -1000)
    for action in ("read-again", "deliver-again"):
        assert f"{named} is “waiting”" in act(operator, action, waiting)
    bench.ledger.move(waiting, JobState.FAILED, reason="the reader ended")
    assert f"{named} is “failed”: it made no documents" in act(operator, "deliver-again", waiting)


def test_a_study_that_was_read_is_routed_again_and_its_documents_are_delivered_again(
    bench: Bench, operator: Browser
) -> None:
    job = queue(bench, "1.8.1")
    read(bench, job)
    bench.ledger.outbox.give_up(job, "pacs", DeliveryState.WAITING, at=NOW, error="refused")
    assert "Deliver again" in row_of(operator.get("/console/?documents=failed").text, "1.8.1")
    assert "documents wait to be sent" in act(operator, "deliver-again", job).lower()
    assert bench.ledger.deliveries(job)[0].state is DeliveryState.WAITING
    assert "the node has no image of it" in act(operator, "read-again", job)
    ref = InstanceRef(UID("1.8.1"), UID("1.8.1.1"), UID("1.2"), UID("1.8.1.1.1"))
    bench.catalog.index([StoredInstance(ref, UID("1.2.840"), "ff", 1, Path("x"), "PACS", NOW)])
    assert "its page says whether it is read again" in act(operator, "read-again", job)
    announcement = bench.announcements.of(UID("1.8.1"))
    assert announcement
    assert announcement.read_now


def test_actions_need_an_operator_a_known_action_and_a_reason_of_the_list(viewer: Browser, operator: Browser) -> None:
    assert 'type="checkbox"' not in viewer.get("/console/").text
    assert 'type="checkbox"' in operator.get("/console/").text
    assert viewer.post("/console/worklist/cancel", {"row": "job:job 1.5.1"}).status_code == 403
    assert operator.post("/console/worklist/delete", {"row": "job:job 1.5.1"}).status_code == 404
    assert operator.post("/console/worklist/cancel", {"row": "job:job 1.5.1", "reason": "Kanari"}).status_code == 422
    assert operator.post("/console/worklist/prioritize", {"row": "x"}).status_code == 422
    assert "No row is chosen" in act(operator, "prioritize")


@contextmanager
def stream(browser: Browser, address: str) -> Iterator[Iterator[str]]:
    """Open the events of a list; the address is that of the page's own element."""
    port = browser.bench.settings.web.port
    accepted = {"Accept": "text/event-stream"}
    with browser.session.get(f"http://127.0.0.1:{port}{address}", headers=accepted, stream=True, timeout=120) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield answer.iter_lines(decode_unicode=True)


def event(lines: Iterator[str]) -> str:
    """Return the HTML of the next event."""
    content: list[str] = []
    for line in lines:
        if line.startswith("data: "):
            content.append(line.removeprefix("data: "))
        elif not line and content:
            return "\n".join(content)
    raise AssertionError(content)


def events_address(page: str) -> str:
    (address,) = re.findall(r'sse-connect="([^"]+)"', page)
    return address.replace("&amp;", "&")


def test_an_open_page_gets_the_rows_when_they_change_and_nothing_before(bench: Bench, viewer: Browser) -> None:
    address = events_address(viewer.get("/console/?study=1.5.2").text)
    with stream(viewer, address) as lines:
        changed: list[str] = []
        thread = threading.Thread(target=lambda: changed.append(event(lines)))
        thread.start()
        bench.ledger.move("job 1.5.2", JobState.READING)
        thread.join(120)
    assert "being read" in row_of(changed[0], "1.5.2")
    assert "<script" not in changed[0]
    with stream(viewer, address) as lines:  # the page of before comes back after a break
        assert "being read" in event(lines)


def test_a_search_that_is_forgotten_goes_on_in_the_pages_that_show_it(bench: Bench, viewer: Browser) -> None:
    queue(bench, "1.10.1")
    address = viewer.post("/console/search", {"text": "1.10.1"}).headers["location"]
    with stream(viewer, events_address(viewer.get(address).text)) as lines:
        for number in range(500):
            viewer.post("/console/search", {"text": f"other {number}"})
        assert viewer.get(address).status_code == 410
        bench.ledger.move("job 1.10.1", JobState.READING)
        assert "being read" in event(lines)


def test_an_open_page_does_not_hold_up_the_stop_of_the_node(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
    with stream(Browser(bench, Role.VIEWER), "/console/worklist/events") as lines:
        event(lines)
        began_s = time.monotonic()
        bench.web.stop()
        assert time.monotonic() - began_s < 20
    bench.engine.dispose()


def test_events_are_for_persons_who_are_logged_in(nobody: Browser) -> None:
    assert nobody.get("/console/worklist/events").headers["location"].startswith("/console/login")


def test_a_hostile_name_is_text_on_the_page_and_in_the_events(bench: Bench, viewer: Browser) -> None:
    queue(bench, "1.9.1")
    labels = Labels(study_date="<script>x</script>", modalities='"><img src=x>')
    PatientIndex(bench.engine, Naming.FULL).write(UID("1.9.1"), labels)
    row = row_of(viewer.get("/console/?study=1.9.1").text, "1.9.1")
    assert "&lt;script&gt;" in row
    assert "<img" not in row
