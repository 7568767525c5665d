"""The request of a job: its own instances, its own time and its own priors, whatever happened to the study since."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.databases import migrated

from ainode.node.domain import UID, InstanceRef, Location
from ainode.node.errors import ConfigError
from ainode.node.jobs.requests import request_of, route_of
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.records import Job
from ainode.node.routes import PriorRule, Route
from ainode.node.settings import NodeTable, Peer, Settings

RECEIVED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STUDY = UID("1.2")
CLASS = UID("1.2.840.10008.5.1.4.1.1.2")
ROUTE = Route("chest", "ct_pneumonia", destinations=("archive",), report_out_of_scope=True)


def stored(number: int, *, sha256: str = "", minutes: int = 0) -> StoredInstance:
    uid = UID(f"1.2.3.{number}")
    return StoredInstance(
        InstanceRef(STUDY, UID("1.2.3"), CLASS, uid),
        UID("1.2.840.10008.1.2.1"),
        sha256 or f"{number:02d}",
        100,
        Path(f"/spool/{number}{sha256}.dcm"),
        "CT1",
        RECEIVED + timedelta(minutes=minutes),
    )


def job_over(*instances: StoredInstance, **values: object) -> Job:
    content = {instance.ref.sop_instance_uid: instance.sha256 for instance in instances}
    job = Job("job", STUDY, ROUTE.name, ROUTE.handler, content, RECEIVED, RECEIVED, ("archive",))
    return replace(job, **values)  # type: ignore[arg-type]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    archive = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=1)
    return Settings(node=NodeTable(data=tmp_path, min_free_bytes=0), peers=(archive,), routes=(ROUTE,))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    yield Catalog(engine)
    engine.dispose()


def test_an_instance_that_came_after_the_job_is_not_in_its_request(settings: Settings, catalog: Catalog) -> None:
    first, second, late = stored(1), stored(2, minutes=1), stored(3, minutes=30)
    catalog.index([first, second, late])
    request = request_of(job_over(first, second), ROUTE, settings, catalog)
    assert [(file.path, file.sha256) for file in request.files] == [(first.path, "01"), (second.path, "02")]


def test_a_repeated_request_is_the_same_request_however_much_later(settings: Settings, catalog: Catalog) -> None:
    catalog.index([stored(1)])
    job = job_over(stored(1))
    first = request_of(job, ROUTE, settings, catalog)
    catalog.index([stored(1, minutes=600), stored(2, minutes=600)])
    assert (
        request_of(replace(job, queued_at=RECEIVED + timedelta(days=1), attempts=3), ROUTE, settings, catalog) == first
    )
    assert first.context.created == RECEIVED


def test_what_was_asked_for_and_superseded_enters_the_request_and_its_digest(
    settings: Settings, catalog: Catalog
) -> None:
    catalog.index([stored(1)])
    place, older = Location((1.0, -2.0, 3.0), "request"), InstanceRef(STUDY, UID("1.9"), CLASS, UID("1.9.1"))
    plain = request_of(job_over(stored(1)), ROUTE, settings, catalog)
    asked = request_of(job_over(stored(1), locations=(place,), predecessors=(older,)), ROUTE, settings, catalog)
    assert (asked.locations, asked.context.predecessors) == ((place,), (older,))
    assert asked.context.configuration_hash != plain.context.configuration_hash
    assert asked.report_out_of_scope


def test_a_search_enters_the_request_and_its_digest_and_without_one_the_digest_stays(
    settings: Settings, catalog: Catalog
) -> None:
    catalog.index([stored(1)])
    plain, searching = (
        request_of(job_over(stored(1)), replace(ROUTE, detect=detect, most_candidates=3), settings, catalog)
        for detect in (False, True)
    )
    assert (plain.wanted_candidates, searching.wanted_candidates) == (0, 3)
    assert searching.context.configuration_hash != plain.context.configuration_hash
    assert (
        plain.context.configuration_hash
        == request_of(job_over(stored(1)), ROUTE, settings, catalog).context.configuration_hash
    )


def test_a_route_with_priors_whose_job_was_never_searched_for_says_so_in_the_report(
    settings: Settings, catalog: Catalog
) -> None:
    catalog.index([stored(1)])
    rule = replace(ROUTE, priors=PriorRule("archive", ("CT",)))
    with_rule = request_of(job_over(stored(1)), rule, settings, catalog)
    assert with_rule.priors == ()
    assert ["no record of a search" in note for note in with_rule.notes] == [True]
    assert request_of(job_over(stored(1)), ROUTE, settings, catalog).notes == ()


def test_an_instance_that_could_not_be_read_is_named_in_the_report(settings: Settings, catalog: Catalog) -> None:
    catalog.index([stored(1)])
    catalog.note_problem(STUDY, "1 of 2 instances cannot be read (1.2: gone); send the study again")
    catalog.note_fault(STUDY, "route 'other': it raised")
    (note,) = request_of(job_over(stored(1)), ROUTE, settings, catalog).notes
    assert note == "1 of 2 instances cannot be read (1.2: gone); send the study again"


def test_a_job_whose_route_is_gone_names_both_and_the_file_to_mend(settings: Settings) -> None:
    assert route_of(job_over(), settings) == ROUTE
    with pytest.raises(ConfigError, match=r"route 'spine' of job job is no longer in routes\.toml"):
        route_of(job_over(route="spine"), settings)
