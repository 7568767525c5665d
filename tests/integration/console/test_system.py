"""The pages about the node itself: its state, dead letters, records, configuration, peers and the self-test."""

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from integration.console.conftest import Browser, visit_of
from support import a_file, instance_ref
from support.web_bench import Bench

from ainode.node.audit.messages import Message, started
from ainode.node.audit.trail import Trail
from ainode.node.console.entry.access import Role
from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState, synthetic_uid
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.proving import golden
from ainode.node.proving.golden import RouteRecord
from ainode.node.receiving.events import AssociationOpened, AssociationRefused
from ainode.node.receiving.process import ReceiverProcess
from ainode.node.routes import Route, RouteMode
from ainode.node.settings.in_force import configuration
from ainode.node.starting import reload

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def fail(bench: Bench, name: str, study: str) -> None:
    bench.ledger.open(Job(name, UID(study), "spine", "spine_radiograph", {}, NOW, NOW, ()))
    bench.ledger.move(name, JobState.READING)
    bench.ledger.move(name, JobState.FAILED, reason="<weights> missing", at=datetime.now(UTC))


def head(viewer: Browser) -> str:
    """Return the words at the head of the page, before the badges of the parts."""
    part = viewer.get("/console/system", headers={"HX-Request": "true"}).text
    return " ".join(re.sub("<[^>]+>", " ", part.partition('class="states"')[0]).split())


def test_the_head_says_that_all_is_well_until_a_reading_fails_and_then_what_is_wrong(
    viewer: Browser, operator: Browser, bench: Bench
) -> None:
    assert "All is well" in head(viewer)
    for number in range(2):
        fail(bench, f"wrong{number}", f"1.3.{number}")
    words = head(viewer)
    assert "2 readings failed in the last 24 hours: see them in the worklist" in words
    assert "the last: &lt;weights&gt; missing" in words
    assert "2 dead letters" in words
    assert "All is well" not in words
    link = re.search(r'href="(/console/\?state=failed[^"]*)"', viewer.get("/console/system").text)
    assert link
    rows = viewer.get(link[1].replace("&amp;", "&")).text
    assert all(f"1.3.{number}" in rows for number in range(2))
    operator.post("/console/system/failures")
    assert "Readings that wait: 2, the oldest for" in head(viewer)


def test_the_head_says_which_destination_takes_nothing_while_the_node_tries_again(
    viewer: Browser, bench: Bench
) -> None:
    ledger = bench.ledger
    job = Job("d" * 32, UID("1.4.1"), "spine", "spine_radiograph", {}, NOW, NOW, ("pacs",))
    ledger.open(job)
    ledger.move(job.id, JobState.READING)
    ref = replace(instance_ref(a_file()), sop_instance_uid=UID("1.9.4.1"))
    kept = [KeptDocument(job.id, ref, DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")]
    ledger.report(job, kept, Outcome(JobState.REPORTED, "{}", "", 1.0, {}, NOW))
    assert "not reached pacs" not in head(viewer)
    ledger.outbox.failed_for_now(job.id, "pacs", DeliveryState.WAITING, error="<pacs> refused the connection")
    words = head(viewer)
    assert "1 document has not reached pacs: the last attempt failed, the node tries again" in words
    assert "&lt;pacs&gt; refused the connection" in words
    assert "All is well" not in words
    link = re.search(r'href="(/console/\?destination=pacs[^"]*)"', viewer.get("/console/system").text)
    assert link
    row = viewer.get(link[1].replace("&amp;", "&")).text
    assert "waits for pacs, last attempt failed" in row
    assert "&lt;pacs&gt; refused the connection" in row
    (delivery,) = ledger.deliveries(job.id)
    ledger.outbox.sent(delivery, status=0, comment="", at=NOW)
    assert "not reached pacs" not in head(viewer)


@pytest.mark.parametrize(
    ("destinations", "mode", "is_told"),
    [((), RouteMode.LIVE, True), (("pacs",), RouteMode.SHADOW, True), (("pacs",), RouteMode.LIVE, False)],
)
def test_a_node_whose_routes_send_nothing_says_so_and_where_to_change_it(
    tmp_path: Path, destinations: tuple[str, ...], mode: RouteMode, *, is_told: bool
) -> None:
    route = Route(name="spine", handler="spine_radiograph", modality=("DX",), destinations=destinations, mode=mode)
    bench = Bench(tmp_path / "node", routes=(route,))
    bench.pages.state.visit_of = visit_of
    words = head(Browser(bench, Role.VIEWER))
    bench.web.stop()
    bench.engine.dispose()
    assert ("No route sends anything" in words) == is_told
    assert ("destinations of a live route in routes.toml" in words) == is_told
    assert "All is well" in words, "nothing failed"


def test_the_overview_tells_queues_machine_receiver_and_peers(viewer: Browser, bench: Bench) -> None:
    put = bench.parts.receptions.watched(lambda _: None)
    put(AssociationOpened("1", "CT<1>", "10.0.0.1", NOW))
    put(AssociationRefused("STRANGER", "AINODE", "10.0.0.2", "not in [node] allow"))
    page = viewer.get("/console/system").text
    for words in ("readings that wait", "SQLite", "CT&lt;1&gt;@10.0.0.1", "not in [node] allow", "PACS@127.0.0.1:1"):
        assert words in page
    assert "Test connection" not in page
    part = viewer.get("/console/system", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert "readings that wait" in part


def test_dead_letters_are_tried_again_one_by_one_and_all_at_once_by_an_operator_alone(
    viewer: Browser, operator: Browser, bench: Bench
) -> None:
    for number in range(3):
        fail(bench, f"job{number}", f"1.2.{number}")
    page = viewer.get("/console/system/failures").text
    assert page.count("&lt;weights&gt; missing") == 3
    assert "Mend the cause first" in page
    assert "Read again" not in page
    assert viewer.post("/console/system/failures", {"job": "job0"}).status_code == 403
    assert operator.post("/console/system/failures", {"job": "job0"}).headers["Location"].endswith("retried=1")
    assert bench.ledger.job("job0").state is JobState.WAITING
    retries, _, letters = viewer.get("/console/system/failures").text.partition('aria-label="Dead letters"')
    assert "being read or delivered again" in retries
    assert ('/console/studies/1.2.0"' in retries, '/console/studies/1.2.0"' in letters) == (True, False)
    assert operator.post("/console/system/failures").headers["Location"].endswith("retried=2")
    page = viewer.get("/console/system/failures").text
    assert all(f'/console/studies/1.2.{number}"' in page for number in range(3))
    assert "No dead letter" not in page, "nobody knows yet what comes of it"
    for job in bench.ledger.jobs():
        bench.ledger.move(job.id, JobState.SUPERSEDED)
    assert "No dead letter" in viewer.get("/console/system/failures").text
    assert operator.post("/console/system/failures", {"job": "absent"}).headers["Location"].endswith("retried=0")


def test_a_dead_letter_names_its_documents_its_study_and_when_it_was_given_up(
    viewer: Browser, operator: Browser, bench: Bench
) -> None:
    study, ledger = UID("1.2.840.99.1.2.3.4.5.6.7.8"), bench.ledger
    job = Job("e" * 32, study, "spine", "spine_radiograph", {}, NOW, NOW, ("pacs",))
    ledger.open(job)
    ledger.move(job.id, JobState.READING)
    kinds = (DocumentKind.STRUCTURED_REPORT, DocumentKind.SECONDARY_CAPTURE, DocumentKind.SECONDARY_CAPTURE)
    kept = [
        KeptDocument(job.id, InstanceRef(study, UID("1"), UID("1"), UID(f"1.9.8.{number}")), kind, Path("a.dcm"), "ff")
        for number, kind in enumerate(kinds)
    ]
    ledger.report(job, kept, Outcome(JobState.REPORTED, "{}", "", 1.0, {}, NOW))
    labels = Labels("Mustermann^Max", "P-17", "", "", "20260102", "DX")
    PatientIndex(bench.engine, Naming.FULL).write(study, labels)
    ledger.outbox.give_up(job.id, "pacs", DeliveryState.WAITING, at=NOW + timedelta(hours=3), error="<refused>")
    page = viewer.get("/console/system/failures").text
    words = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert re.search("15:00:00 after 1 attempt .*report, 2 captures to pacs &lt;refused&gt;", words)
    assert "2026-01-02" in words
    assert "DX" in words
    assert str(study)[:-10] in words
    assert "Mustermann" not in page
    assert "P-17" not in page
    assert "Deliver again" in operator.get("/console/system/failures").text
    ledger.move(job.id, JobState.SUPERSEDED)


def test_the_log_of_a_study_is_shown_to_an_operator_and_the_trail_to_an_administrator(
    viewer: Browser, operator: Browser, administrator: Browser, bench: Bench
) -> None:
    lines = bench.parts.recent_lines
    lines.begin()
    logging.getLogger("ainode.node.deciding").warning("<b>odd", extra={"study_instance_uid": "1.2.77"})
    lines.end()
    logging.getLogger("ainode.node.deciding").warning("later", extra={"study_instance_uid": "1.2.77"})
    Trail.of(bench.settings).append([(NOW, started())])
    assert viewer.get("/console/system/records").status_code == 403
    page = operator.get("/console/system/records?about=1.2.77").text
    assert "&lt;b&gt;odd study_instance_uid=1.2.77" in page
    assert "later" not in page
    assert "Application Start" not in operator.get("/console/system/records").text
    assert "Application Start" in administrator.get("/console/system/records").text


def test_the_configuration_shows_no_secret(administrator: Browser, operator: Browser, bench: Bench) -> None:
    assert operator.get("/console/system/configuration").status_code == 403
    page = administrator.get("/console/system/configuration").text
    assert "[node] ae_title" in page
    assert "[[peer]] pacs port" in page
    url = "postgresql+psycopg://me:hidden@host/ainode?password=hidden&x=1"  # gitleaks:allow
    database = bench.settings.database.model_copy(update={"url": url})
    rows = dict(configuration(bench.settings.model_copy(update={"database": database})))
    assert rows["[database] url"] == "postgresql+psycopg://***@host/ainode?password=***&x=1"


def test_an_echo_says_which_peer_does_not_answer_and_a_stranger_is_no_peer(operator: Browser) -> None:
    part = operator.post("/console/system/peers/pacs/echo", headers={"HX-Request": "true"}).text
    assert "C-ECHO" in part
    assert ">no</span>" in part
    assert operator.post("/console/system/peers/absent/echo").status_code == 404


def test_the_doctor_shows_its_table_and_what_does_not_work(operator: Browser) -> None:
    page = operator.post("/console/system/peers/pacs/doctor").text
    assert "C-ECHO" in page
    assert "the archive did not answer" in page


def test_the_page_of_a_failed_study_says_what_to_do_and_where_the_log_has_more(
    viewer: Browser, operator: Browser, bench: Bench
) -> None:
    fail(bench, "c" * 32, "1.2.55")
    page = operator.get("/console/studies/1.2.55").text
    assert "Not read.</strong> &lt;weights&gt; missing" in page
    assert f"ainode retry {'c' * 32}" in page
    assert f'href="/console/system/records?about={"c" * 32}"' in page
    assert f"journalctl -u ainode | grep {'c' * 32}" in page
    assert "/console/system/records" not in viewer.get("/console/studies/1.2.55").text


@pytest.fixture
def receiver(bench: Bench) -> Iterator[ReceiverProcess]:
    """Run the node's receiver, whose events the intake of the bench takes."""
    process = ReceiverProcess(bench.settings)
    process.start(bench.events.append)
    yield process
    process.stop()


def cells(page: str) -> list[tuple[str, ...]]:
    """Return the words of each row of a table."""
    rows = re.findall("<tr>(.*?)</tr>", page, re.DOTALL)
    texts = [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    return [tuple(re.sub("<[^>]+>", "", text) for text in row) for row in texts]


def test_a_route_that_no_self_test_names_is_offered_none_and_sends_nothing(operator: Browser, bench: Bench) -> None:
    page = operator.get("/console/system/test").text
    assert re.findall(r'name="route" value="([^"]*)"( checked)?', page) == [("", " checked")]
    assert "The whole way of spine is tested once <code>[self_test] routes</code> of node.toml names it" in page
    answer = operator.post("/console/system/test", {"route": "spine"})
    assert (answer.status_code, "[self_test] names no route" in answer.text) == (404, True)
    assert not bench.catalog.instances(synthetic_uid(golden.study_of("spine")))


@pytest.mark.usefixtures("receiver")
def test_the_self_test_goes_through_the_receiver_and_says_of_each_hop_that_did_not_run_that_it_did_not(
    operator: Browser, bench: Bench
) -> None:
    page = operator.post("/console/system/test").text
    study = re.search(r"/console/studies/([0-9.]+)", page)
    assert study, page
    assert "the receiver answered each with success" in page
    bench.take()
    bench.take(later=timedelta(minutes=5))
    hops = operator.get(f"/console/system/test/{study[1]}", headers={"HX-Request": "true"}).text
    states = {name: state for name, state, _ in cells(hops)}
    assert states["complete and routed"] == "done"
    assert {states[what] for what in states if "read" in what or "documents" in what} == {"not run"}
    assert "no route takes this study" in hops
    assert "3 of 5 steps were not run" in hops
    assert "hx-get" not in hops
    fail(bench, "hop", study[1])
    states = {name: state for name, state, _ in cells(operator.get(f"/console/system/test/{study[1]}").text)}
    assert states["read by spine"] == "failed"
    assert {state for name, state in states.items() if name.startswith("documents of spine")} == {"not run"}


def test_a_self_test_without_a_receiver_says_so(operator: Browser) -> None:
    page = operator.post("/console/system/test").text
    assert "The receiver did not take the study" in page


def test_a_self_test_that_failed_stands_at_the_head_of_the_page_and_in_the_list(
    operator: Browser, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime(2026, 1, 2, 3, tzinfo=UTC)
    tests = (RouteRecord("spine", None, at, "probability: 0.8 before, 0.4 now", 12.0), RouteRecord("chest", None, at))
    monkeypatch.setattr(golden, "records", lambda _: tests)
    page = operator.get("/console/system").text
    assert "The self-test of route spine failed" in page
    assert page.count("probability: 0.8 before, 0.4 now") == 2
    rows = re.findall(r'<th scope="row">(spine|chest)<.*?</tr>', page, re.DOTALL)
    assert rows.count("chest") >= 1
    assert bench.settings.self_test.routes == ()


def test_an_administrator_has_the_node_take_up_its_files_and_sees_what_changed_or_why_nothing_did(
    bench: Bench, administrator: Browser, operator: Browser, messages: list[Message]
) -> None:
    assert operator.get("/console/system/reload").status_code == 403
    assert operator.post("/console/system/reload").status_code == 403
    assert not bench.reloads
    assert "Nobody has had the node take up its files yet" in administrator.get("/console/system/reload").text
    address = administrator.post("/console/system/reload").headers["location"]
    assert len(bench.reloads) == 1
    assert any("POST /console/system/reload" in repr(message) for message in messages)
    waiting = administrator.get(address, headers={"HX-Request": "true"}).text
    assert "begins anew" in waiting
    assert "hx-get" in waiting
    reload.note_refusal(bench.settings.data, ["routes.toml: is not TOML"])
    refused = administrator.get(address, headers={"HX-Request": "true"}).text
    assert "nothing was changed" in refused
    assert "routes.toml: is not TOML" in refused
    assert "hx-get" not in refused
    address = administrator.post("/console/system/reload").headers["location"]
    reload.note_beginning(bench.settings.data, ["[[route]] chest: new"])
    assert "begins anew" in administrator.get(address).text
    reload.note_end(bench.settings.data)
    assert "[[route]] chest: new" in administrator.get(address).text
    (bench.settings.data / "reload.json").unlink()
    overdue = administrator.get("/console/system/reload?since=2026-01-01T00:00:00%2B00:00").text
    assert "The node has not said what became of it" in overdue
