from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ainode.node.domain import SELF_TEST_PEER, UID, Instance, InstanceRef, JobState, Series, Study
from ainode.node.jobs.succession import former_routes, outlived
from ainode.node.keeping.records import Job
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import NodeTable, Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEW = Route("new", "chest_2", modality=("CT",), destinations=("ris",))
OLD = replace(NEW, name="old", handler="chest_1", mode=RouteMode.SHADOW)
CONTENT = {UID("1.2.3"): "00", UID("1.2.4"): "00"}
JOB = Job("a", UID("1.2"), "new", "chest_2", CONTENT, NOW, NOW, ("ris",))
OLDER = replace(JOB, id="b", route="old", content={UID("1.2.3"): "00"})


def names(*routes: Route, job: Job = JOB, older: Job = OLDER) -> frozenset[str]:
    return former_routes(job, [job, older], Settings(node=NodeTable(), routes=routes))


def test_a_live_route_is_in_the_place_of_a_shadow_with_the_same_conditions() -> None:
    assert names(NEW, OLD) == {"old"}


def test_a_live_route_is_in_the_place_of_a_route_of_its_handler_that_is_no_more_and_whose_images_it_reads() -> None:
    renamed = replace(OLDER, handler=NEW.handler)
    assert names(NEW, older=renamed) == {"old"}
    assert names(NEW, older=replace(renamed, content={UID("1.2.9"): "00"})) == frozenset()


def test_a_live_route_is_in_the_place_of_a_route_of_another_handler_that_is_no_more_if_it_was_its_shadow() -> None:
    other = replace(OLDER, handler="chest_1")
    assert names(NEW, older=other) == frozenset(), "another model answers another question"
    settings = Settings(node=NodeTable(), routes=(NEW,))
    as_shadow = replace(JOB, id="c", destinations=())
    assert former_routes(JOB, [JOB, other, as_shadow], settings) == {"old"}
    assert former_routes(JOB, [JOB, other, replace(as_shadow, withheld="not ready")], settings) == frozenset()


@pytest.mark.parametrize(
    "other", [replace(OLD, mode=RouteMode.LIVE), replace(OLD, modality=("MR",))], ids=["live", "other images"]
)
def test_a_route_that_tells_or_reads_other_images_is_no_former_route(other: Route) -> None:
    assert names(NEW, other) == frozenset()


@pytest.mark.parametrize("destinations", [(), (SELF_TEST_PEER,)])
def test_a_job_that_tells_nobody_takes_the_place_of_nothing(destinations: tuple[str, ...]) -> None:
    assert names(NEW, OLD, job=replace(JOB, destinations=destinations)) == frozenset()


@pytest.mark.parametrize(
    ("older", "routes", "is_later", "count"),
    [
        (OLDER, (NEW,), True, 1),
        (OLDER, (), True, 1),
        (OLDER, (NEW,), False, 0),
        (OLDER, (NEW, OLD), True, 0),
        (replace(OLDER, content=CONTENT), (NEW,), True, 0),
        (replace(OLDER, content={UID("1.2.9"): "00"}), (NEW,), True, 0),
        (replace(OLDER, withdrawn_at=NOW), (NEW,), True, 0),
    ],
    ids=["later", "no route", "there before", "a route that is here", "the same images", "other images", "withdrawn"],
)
def test_only_what_a_route_told_that_is_gone_is_outlived_by_a_later_image_of_a_modality_it_read(
    older: Job, routes: tuple[Route, ...], count: int, *, is_later: bool
) -> None:
    arrivals = {UID("1.2.3"): NOW, UID("1.2.4"): NOW + timedelta(hours=is_later)}
    settings = Settings(node=NodeTable(), routes=routes)
    assert len(outlived(study("CT", "CT"), [replace(older, state=JobState.REPORTED)], settings, arrivals)) == count
    assert outlived(study("CT", "SR"), [replace(older, state=JobState.REPORTED)], settings, arrivals) == ()
    assert outlived(study("CT", "CT"), [replace(older, state=JobState.SUPERSEDED)], settings, arrivals) == ()


def study(*modalities: str) -> Study:
    """Return a study of images 1.2.3, 1.2.4 and so on, each in a series of its own."""
    series = []
    for number, modality in enumerate(modalities, start=3):
        ref = InstanceRef(UID("1.2"), UID(f"1.{number}"), UID("1.9"), UID(f"1.2.{number}"))
        series.append(Series(ref.series_instance_uid, modality, (Instance(ref, UID("1.2.9"), Path(), "00", 1, {}),)))
    return Study(UID("1.2"), tuple(series))
