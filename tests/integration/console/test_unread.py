"""The pages that answer why a study was not read."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from integration.console.conftest import Browser, visit_of
from support.web_bench import Bench

from ainode.node import testing
from ainode.node.console.entry.access import Role
from ainode.node.domain import UID, InstanceRef, JobState
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.keeping.records import Job, Outcome
from ainode.node.keeping.unread import Mismatch, UnreadReason
from ainode.node.routes import Route
from ainode.node.settings import ConsoleTable

REFUSAL = '{"out_of_scope": {"reason": "shows no spine", "code": "wrong-body-part"}}'
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def studies(bench: Bench) -> None:
    """Index 61 studies: 60 that no route took, a day apart, and one that a model declined."""
    for number in range(61):
        study, at = UID(f"1.2.{number}"), NOW + timedelta(days=number)
        ref = InstanceRef(study, UID(f"{study}.1"), UID("1.2"), UID(f"{study}.1.1"))
        bench.catalog.index([StoredInstance(ref, UID("1.2.840"), "ff", 1, Path("x"), "PACS", at)])
        attribute = "Modality" if number < 50 else "BodyPartExamined"
        mismatch = Mismatch(UnreadReason.NO_ROUTE, "spine", UID("1"), attribute, "<SPINE>", "CHEST")
        content = bench.catalog.content(study)
        bench.catalog.mark_routed(study, content=content, explanation=[], mismatch=mismatch if number < 60 else None)
    job = Job("job", UID("1.2.60"), "spine", "spine_radiograph", {}, NOW, NOW, ())
    bench.ledger.open(job)
    bench.ledger.move("job", JobState.READING)
    bench.ledger.report(job, (), Outcome(JobState.OUT_OF_SCOPE, REFUSAL, "shows no spine", 1.0))


def test_the_list_names_study_reason_route_and_the_condition_that_failed(viewer: Browser) -> None:
    page = viewer.get("/console/unread").text
    assert "route spine takes BodyPartExamined &lt;SPINE&gt;, and this is CHEST" in page
    assert 'href="/console/studies/1.2.59"' in page
    assert page.index("1.2.59") < page.index("1.2.58")
    assert "1 to 50 of 61" in page
    older = viewer.get("/console/unread?page=2").text
    assert "51 to 61 of 61" in older
    assert "shows no spine" in older


def test_a_study_that_another_route_read_says_so_and_the_counts_say_what_they_count(
    viewer: Browser, bench: Bench
) -> None:
    assert '"badge sent"' not in viewer.get("/console/unread?reason=declined").text
    job = Job("other", UID("1.2.60"), "pneumonia", "spine_radiograph", {}, NOW, NOW, ())
    bench.ledger.open(job)
    bench.ledger.move("other", JobState.READING)
    bench.ledger.report(job, (), Outcome(JobState.REPORTED, "{}", "", 1.0))
    page = viewer.get("/console/unread").text
    assert "61 rows of 61 studies by reason" in page
    assert "60 studies read by no route; 1 study read by a route." in page
    assert "1 to 50 of 61 rows" in page
    declined = viewer.get("/console/unread?reason=declined").text
    assert '<span class="badge sent">read by pneumonia</span>' in declined


def test_a_count_links_to_the_studies_that_it_counts(viewer: Browser) -> None:
    page = viewer.get("/console/unread").text
    link = "/console/unread?reason=no_route&amp;route=spine&amp;attribute=BodyPartExamined"
    assert link in page
    assert "BodyPartExamined: wanted &lt;SPINE&gt;" in page
    assert "wrong body part" in page
    assert "1 to 1 of 1" in viewer.get("/console/unread?attribute=wrong-body-part").text
    assert "1 to 10 of 10" in viewer.get(link.replace("&amp;", "&")).text


def test_a_filter_by_date_counts_the_days_of_the_node_and_the_last_one_too(viewer: Browser) -> None:
    assert "1 to 2 of 2" in viewer.get("/console/unread?since=2026-03-02&until=2026-03-03&reason=no_route").text
    answer = viewer.get("/console/unread?since=yesterday")
    assert answer.status_code == 422
    assert "no date; give one such as 2026-03-31" in answer.text
    assert viewer.get("/console/unread?until=9999-12-31").status_code == 422


def test_htmx_gets_the_part_of_the_page_that_a_filter_changes(viewer: Browser) -> None:
    part = viewer.get("/console/unread?reason=declined", headers={"HX-Request": "true"}).text
    assert "shows no spine" in part
    assert "<html" not in part


def test_an_empty_list_says_what_to_do_next(viewer: Browser) -> None:
    page = viewer.get("/console/unread?route=absent").text
    assert "No study fits these filters" in page
    assert "Widen the dates" in page


def test_an_empty_list_of_a_node_to_which_nothing_came_praises_no_reading(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "node")
    bench.pages.state.visit_of = visit_of
    viewer = Browser(bench, Role.VIEWER)
    fresh = viewer.get("/console/unread").text
    bench.ledger.open(Job("job", UID("1.2"), "spine", "spine_radiograph", {}, NOW, NOW, ()))
    later = viewer.get("/console/unread").text
    bench.web.stop()
    bench.engine.dispose()
    assert ("No study has arrived yet" in fresh, "was read" in fresh) == (True, False)
    assert ("No study has arrived yet" in later, "Every study that arrived was read" in later) == (False, True)


def test_a_reason_leads_to_every_condition_of_every_route(viewer: Browser, bench: Bench) -> None:
    uid, check = UID("1.2.3"), {"attribute": "Modality", "expected": "CT", "found": "<b>", "passed": False}
    decision = {"route": "chest", "series_instance_uid": "1.2.3.4", "checks": [check]}
    bench.catalog.mark_routed(uid, content=bench.catalog.content(uid), explanation=[decision])
    page = viewer.get("/console/studies/1.2.3/explanation").text
    assert "takes Modality CT, and this is &lt;b&gt;" in page
    assert viewer.get("/console/studies/9.9/explanation").status_code == 404
    assert viewer.get("/console/studies/nothing/explanation").status_code == 422


def test_a_route_that_was_added_later_is_told_with_what_holds_the_study_against_it(
    viewer: Browser, operator: Browser, bench: Bench
) -> None:
    uid = UID("1.2.4")
    decision = {"route": "former", "series_instance_uid": "1.2.4.4", "checks": []}
    bench.catalog.mark_routed(uid, content=bench.catalog.content(uid), explanation=[decision])
    names = [route.name for route in bench.settings.routes]
    for address in ("/console/studies/1.2.4/explanation", "/console/studies/1.2.4"):
        page = operator.get(address).text
        assert f"{', '.join(names)} came later, and the study was not checked against" in page, address
        assert "“Check the study against the routes again” does that, as does <code>ainode read-again 1.2.4" in page
        assert "An operator can have that done." in viewer.get(address).text
    held = [{**decision, "route": name} for name in names]
    bench.catalog.mark_routed(uid, content=bench.catalog.content(uid), explanation=held)
    assert "came later" not in operator.get("/console/studies/1.2.4/explanation").text


@pytest.mark.parametrize(("patient", "is_told"), [("hidden", False), ("full", True)])
def test_values_that_may_be_words_are_read_from_the_files_where_the_patient_is_shown_in_full(
    tmp_path: Path, patient: Literal["hidden", "full"], *, is_told: bool
) -> None:
    route = Route("sixteen", "spine_radiograph", tags={"ManufacturerModelName": "*17"})
    bench = Bench(tmp_path / "node", console=ConsoleTable(patient=patient), routes=(route,))
    bench.pages.state.visit_of = visit_of
    content = io.BytesIO()
    image = testing.noise(8, 8, seed=1, ManufacturerModelName="Ursula 16")
    testing.dataset(image, study="study").save_as(content, enforce_file_format=True)
    bench.store(bench.tokens.add("modality"), content.getvalue())
    bench.take()
    bench.take(later=timedelta(minutes=1))
    reader = Browser(bench, Role.READER)
    page = reader.get(f"/console/studies/{testing.uid('study')}/explanation?values=1").text
    bench.web.stop()
    bench.engine.dispose()
    assert ("Ursula 16" in page, "not kept: it may be" in page) == (is_told, not is_told)
    assert "Asked of every image, and holds: an image, nothing made by this node, an image with pixels" in page


def test_an_explanation_says_nothing_of_values_where_none_of_them_decided(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "node", routes=(Route("any", "spine_radiograph"),))
    bench.pages.state.visit_of = visit_of
    content = io.BytesIO()
    image = testing.noise(8, 8, seed=1, ManufacturerModelName="Ursula 16")
    testing.dataset(image, study="study").save_as(content, enforce_file_format=True)
    bench.store(bench.tokens.add("modality"), content.getvalue())
    bench.take()
    bench.take(later=timedelta(minutes=1))
    page = Browser(bench, Role.READER).get(f"/console/studies/{testing.uid('study')}/explanation").text
    bench.web.stop()
    bench.engine.dispose()
    assert "modality DX" in page
    assert "ManufacturerModelName" not in page
    assert "may be a person" not in page
