"""An answer is marked by what its route was when it read the study, whatever `ainode route live` made of the route."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from integration.console.conftest import Browser, is_open, visit_of
from support import a_file, instance_ref
from support.web_bench import Bench

from ainode.node.domain import UID, DocumentKind, JobState
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.keeping.sent_by_hand import ArchivedFile, note_sent
from ainode.node.routes import Route, RouteMode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STUDY = UID("1.5.7")
FORMER = Route("chest-one", "spine_radiograph", destinations=("pacs",), mode=RouteMode.SHADOW)
LIVE = Route("chest-two", "spine_radiograph", destinations=("pacs",))
# What the ledger kept of each answer: its route, the destinations, the mode of then, and what was found.
ANSWERS = (
    (FORMER.name, ("pacs",), RouteMode.LIVE, "absent"),
    (LIVE.name, (), RouteMode.SHADOW, "present"),
    ("chest-of-before", (), None, "present"),
    ("chest-gone", ("pacs",), RouteMode.LIVE, "absent"),
    ("chest-without-peer", ("former-pacs",), RouteMode.LIVE, "absent"),
    ("chest-by-hand", (), RouteMode.SHADOW, "present"),
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A console of a node whose routes were exchanged after they read a study."""
    bench = Bench(tmp_path_factory.mktemp("console"), routes=(FORMER, LIVE))
    bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
    for number, (route, destinations, mode, presence) in enumerate(ANSWERS):
        job = Job(f"{number}" * 32, STUDY, route, "spine_radiograph", {}, NOW, NOW, destinations, mode=mode)
        assert bench.ledger.open(job)
        bench.ledger.move(job.id, JobState.READING, at=NOW)
        ref = replace(instance_ref(a_file()), sop_instance_uid=UID(f"1.9.{number}"))
        kept = [KeptDocument(job.id, ref, DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")]
        result = f'{{"verdict": {{"presence": "{presence}", "headline": "fracture: {presence}"}}}}'
        assert bench.ledger.report(bench.ledger.job(job.id), kept, Outcome(JobState.REPORTED, result, "", 4.2, {}, NOW))
        for delivery in bench.ledger.deliveries(job.id):
            bench.ledger.outbox.confirmed(delivery, proof="query", at=NOW)
    assert note_sent(bench.engine, "pacs", [ArchivedFile(ref.sop_instance_uid, "ff", 0, "")], NOW, settled=False)
    yield bench
    bench.web.stop()
    bench.parts.stop()
    bench.engine.dispose()


def test_the_worklist_marks_what_was_read_as_a_shadow_and_not_what_was_sent(viewer: Browser) -> None:
    rows = re.findall(r'<tr role="row".*?</tr>', viewer.get("/console/").text, re.DOTALL)
    marks = {name: "".join(re.findall(rf'data-label="Route">{name}(.*?)</td>', "".join(rows))) for name, *_ in ANSWERS}
    assert marks == {
        "chest-one": "",
        "chest-two": ' <span class="badge warn">shadow</span>',
        "chest-of-before": ' <span class="badge warn">not sent</span>',
        "chest-gone": "",
        "chest-without-peer": "",
        "chest-by-hand": ' <span class="badge warn">shadow</span>',
    }
    stays = {row for row in rows if "stay in the node: of a shadow" in row}
    assert len(stays) == 1
    assert "chest-two" in stays.pop()


def answers_of(page: str) -> dict[str, str]:
    """Return the part of each answer by its route, in the order of the page."""
    parts = page[: page.index('id="timeline"')].split('<section class="panel answer"')[1:]
    return {re.findall(r"<h2[^>]*>Route (\S+)", part)[0]: part for part in parts}


def test_the_page_of_a_study_has_the_answer_that_was_sent_first_and_says_which_was_not(operator: Browser) -> None:
    answers = answers_of(operator.get(f"/console/studies/{STUDY}").text)
    assert set([*answers][-3:]) == {"chest-two", "chest-of-before", "chest-by-hand"}
    sent, shadow, unknown = (answers[name] for name in ("chest-one", "chest-two", "chest-of-before"))
    assert "Nothing of it left the node by itself, and a person sent documents." in answers["chest-by-hand"]
    assert "fracture: absent" in sent
    assert "not to be acted on" not in sent
    assert "The route was live when it read this study, and sent the answer. It is a shadow now." in sent
    assert '<span class="badge warn">shadow</span></h2>' in shadow
    assert "Read for a comparison with the live route, not to be acted on. Nothing of it leaves the node." in shadow
    assert "The route went live later, for the studies that came since." in shadow
    assert "DICOM documents (1), which stay in the node" in shadow
    assert '<span class="badge warn">not sent</span></h2>' in unknown
    assert "Nothing of it leaves the node: its route was a shadow or had no destinations" in unknown


def test_the_page_of_a_study_says_of_a_route_that_is_gone_where_its_answer_stays(operator: Browser) -> None:
    answers = answers_of(operator.get(f"/console/studies/{STUDY}").text)
    words = "The route is gone from routes.toml."
    assert {name for name, part in answers.items() if words in part} == {name for name, *_ in ANSWERS[2:]}
    assert f"{words} The answer was sent to pacs, and stays there." in answers["chest-gone"]
    assert "stays there" not in answers["chest-of-before"]
    # Both routes with its model have read the study: nothing would read it again.
    assert {name for name, part in answers.items() if ">Read again<" in part} == {FORMER.name, LIVE.name}


def test_an_answer_is_delivered_again_only_where_a_destination_is_still_a_peer(operator: Browser) -> None:
    answers = answers_of(operator.get(f"/console/studies/{STUDY}").text)
    offered = {name for name, part in answers.items() if "Deliver again" in part}
    assert offered == {"chest-one", "chest-gone", "chest-by-hand"}
    assert "so that nothing can be delivered again" in answers["chest-without-peer"]


def test_a_comparison_without_a_study_says_that_answers_stand_under_a_name_that_is_gone(viewer: Browser) -> None:
    period = "since=2026-02-01&until=2026-04-01"
    page = viewer.get(f"/console/compare?{period}&first=chest-one&second=none").text
    assert "No study was answered by both routes in this period." in page
    assert "of this period: chest-by-hand 1 study, chest-gone 1 study, chest-of-before 1 study, " in page
    assert ", chest-without-peer 1 study." in page
    assert '<option value="chest-gone">chest-gone (gone)</option>' in page
    page = viewer.get(f"/console/compare?{period}&first=chest-gone&second=chest-two").text
    assert "No study was answered" not in page
    assert "under the old name" not in page
    assert "under the old name" not in viewer.get("/console/compare?since=2026-04-01&until=2026-05-01").text


def test_the_page_names_the_route_that_has_the_model_of_a_gone_one_and_would_read_the_study(
    operator: Browser, bench: Bench
) -> None:
    job = Job("f" * 32, UID("1.5.9"), "chest-gone", "spine_radiograph", {}, NOW, NOW, ("pacs",), mode=RouteMode.LIVE)
    assert bench.ledger.open(job)
    bench.ledger.move(job.id, JobState.READING, at=NOW)
    assert bench.ledger.report(job, [], Outcome(JobState.REPORTED, "{}", "", 4.2, {}, NOW))
    answer = answers_of(operator.get("/console/studies/1.5.9").text)["chest-gone"]
    assert (
        "Its model is now in the routes chest-one, chest-two; “Read again” asks whether the study is read there."
        in answer
    )
    assert ">Read again<" in answer
