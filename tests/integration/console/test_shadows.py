"""A shadow's answer stands apart from that of the live route on every page that shows both."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from integration.console.conftest import Browser, is_open, visit_of
from support import a_file, instance_ref
from support.web_bench import Bench

from ainode.node.domain import SELF_TEST_PEER, UID, DocumentKind, JobState
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.routes import Route, RouteMode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STUDY = UID("1.5.7")
ADDRESS = f"/console/studies/{STUDY}"
ROUTES = (
    Route("spine", "spine_radiograph", destinations=("pacs",)),
    Route("spine next", "spine_radiograph", mode=RouteMode.SHADOW),
)
WITHHELD = UID("1.5.8")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A console of a node that read a study by a live route and by a shadow, with other answers."""
    bench = Bench(tmp_path_factory.mktemp("console"), routes=ROUTES)
    bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
    for number, (route, presence) in enumerate(zip(ROUTES, ("absent", "present"), strict=True)):
        sent = route.live_destinations
        job = Job(f"{number}" * 32, STUDY, route.name, route.handler, {}, NOW, NOW, sent, mode=route.mode)
        assert bench.ledger.open(job)
        bench.ledger.move(job.id, JobState.READING, at=NOW)
        ref = replace(instance_ref(a_file()), sop_instance_uid=UID(f"1.9.{number}"))
        kept = [KeptDocument(job.id, ref, DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")]
        result = f'{{"verdict": {{"presence": "{presence}", "headline": "fracture: {presence}"}}}}'
        assert bench.ledger.report(bench.ledger.job(job.id), kept, Outcome(JobState.REPORTED, result, "", 4.2, {}, NOW))
    job = Job("2" * 32, WITHHELD, "spine", "spine_radiograph", {}, NOW, NOW, ())
    assert bench.ledger.open(job)
    bench.ledger.move(job.id, JobState.READING, at=NOW)
    job = bench.ledger.address(job.id, (), RouteMode.LIVE, withheld="not ready for patients: demonstration weights")
    ref = replace(instance_ref(a_file()), sop_instance_uid=UID("1.9.2"))
    kept = [KeptDocument(job.id, ref, DocumentKind.STRUCTURED_REPORT, Path("b.dcm"), "ff")]
    assert bench.ledger.report(job, kept, Outcome(JobState.REPORTED, "{}", "", 4.2, {}, NOW))
    yield bench
    bench.web.stop()
    bench.parts.stop()
    bench.engine.dispose()


def answers_of(page: str) -> list[str]:
    return page[: page.index('id="timeline"')].split('<section class="panel answer"')[1:]


def test_the_answer_of_the_live_route_comes_first_and_that_of_the_shadow_says_what_it_is(operator: Browser) -> None:
    live, shadow = answers_of(operator.get(ADDRESS).text)
    assert "fracture: absent" in live
    assert "shadow" not in live
    assert '<span class="badge warn">shadow</span></h2>' in shadow
    assert "not to be acted on. Nothing of it leaves the node." in shadow
    assert "DICOM documents (1), which stay in the node" in shadow


def test_only_what_was_meant_for_a_destination_can_be_delivered_again(operator: Browser) -> None:
    live, shadow = answers_of(operator.get(ADDRESS).text)
    assert ("Deliver again" in live, "Deliver again" in shadow) == (True, False)


def test_what_was_withheld_can_be_delivered_from_the_page_once_its_route_allows_it(operator: Browser) -> None:
    (answer,) = answers_of(operator.get(f"/console/studies/{WITHHELD}").text)
    assert "Deliver again" in answer


def test_the_worklist_marks_the_row_of_the_shadow_alone(viewer: Browser) -> None:
    rows = re.findall(r'<tr role="row".*?</tr>', viewer.get("/console/").text, re.DOTALL)
    marked = {
        "spine next" in row: (">shadow</span>" in row, "stay in the node: of a shadow" in row)
        for row in rows
        if STUDY in row
    }
    assert marked == {True: (True, True), False: (False, False)}


def test_a_comparison_says_which_route_is_live(viewer: Browser) -> None:
    page = viewer.get("/console/compare?since=2026-02-01&until=2026-04-01").text
    assert '<option value="spine" selected>spine (live)</option>' in page
    assert '<option value="spine next" selected>spine next (shadow)</option>' in page
    assert "spine (live) in rows, spine next (shadow) in columns" in page


def test_a_comparison_names_the_command_that_exchanges_routes_where_the_second_is_the_shadow_alone(
    viewer: Browser,
) -> None:
    period = "since=2026-02-01&until=2026-04-01"
    pages = [
        viewer.get(f"/console/compare?{period}&first={first}&second={second}").text
        for first, second in (("spine", "spine next"), ("spine next", "spine"))
    ]
    assert ["Before a change of the live route" in page for page in pages] == [True, True]
    assert ["ainode route live" in page for page in pages] == [True, False]


def test_the_row_and_the_page_of_a_self_test_mark_the_shadow_alone(bench: Bench, operator: Browser) -> None:
    for number, route in enumerate(ROUTES):
        job = Job(
            f"{number}f" * 16, UID("1.5.6"), route.name, route.handler, {}, NOW, NOW, (SELF_TEST_PEER,), mode=route.mode
        )
        assert bench.ledger.open(job)
        bench.ledger.move(job.id, JobState.READING, at=NOW)
        assert bench.ledger.report(job, [], Outcome(JobState.REPORTED, "{}", "", 4.2, {}, NOW))
    live, shadow = answers_of(operator.get("/console/studies/1.5.6").text)
    mark = '<span class="badge warn">shadow</span>'
    assert (mark in live, mark in shadow) == (False, True)
    rows = re.findall(r'<tr role="row".*?</tr>', operator.get("/console/?study=1.5.6").text, re.DOTALL)
    assert [mark in row for row in rows if 'data-label="Route">spine' in row] == [False, True]
