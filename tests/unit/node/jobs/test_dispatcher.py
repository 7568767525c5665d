"""When a task begins; below the watermark of the disk nothing is read, and what waits costs no room."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.databases import migrated
from support.disks import SmallDisk, fillable_disk

from ainode.node.disk import MIN_FREE_FILES, refuse_full
from ainode.node.domain import UID, JobState, OnEarly, OutOfScope, Reading, Request
from ainode.node.errors import OutOfResources
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.dispatcher import Conditions, Dispatcher
from ainode.node.jobs.readings import Readings
from ainode.node.jobs.stations import Stations
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.keeping.tasks import Task, TaskKind, Waiting
from ainode.node.routes import Route
from ainode.node.settings import NodeTable, Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
TASK = Task("job", TaskKind.READ)
MORE_THAN_ANY_DISK = 1 << 50
MIB = 1 << 20


@pytest.fixture
def stations(tmp_path: Path) -> Iterator[Stations]:
    """Return stations with a waiting job, whose disk is above its watermark."""
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    settings = Settings(node=NodeTable(data=tmp_path, min_free_bytes=1), routes=(Route("chest", "reader"),))
    ledger = Ledger(engine)
    ledger.open(Job("job", UID("1.2"), "chest", "reader", {UID("1.2.3"): "00"}, NOW, NOW, ()))
    yield Stations(settings, Catalog(engine), ledger, Courier(settings, ledger), read, lambda: NOW)
    engine.dispose()


def read(handler: str, request: Request, _: OnEarly) -> Reading:
    assert (handler, request.study_instance_uid) == ("reader", "1.2")
    return Reading(OutOfScope("no chest", "wrong-body-part"), (), "{}", 0.0)


def full(stations: Stations) -> Stations:
    """Return the stations with a watermark above every disk; the reader must not be asked."""
    node = stations.settings.node.model_copy(update={"min_free_bytes": MORE_THAN_ANY_DISK})
    return replace(stations, settings=stations.settings.model_copy(update={"node": node}), read=refuse)


def refuse(handler: str, request: Request, _: OnEarly) -> Reading:
    raise AssertionError(handler, request)


def test_no_study_is_read_below_the_watermark_and_each_is_read_when_there_is_room(stations: Stations) -> None:
    ledger = stations.ledger
    ledger.tasks.begin(TASK)
    Readings(full(stations)).read(TASK)
    job, (waiting,) = ledger.job("job"), ledger.tasks.waiting(())
    assert job.state is JobState.WAITING
    assert "disk of the node is full" in job.reason
    assert (waiting.task.attempts, waiting.task.due_at) == (0, NOW + timedelta(seconds=10))
    Readings(stations).read(TASK)
    assert ledger.job("job").state is JobState.OUT_OF_SCOPE


def begun(stations: Stations) -> list[Waiting]:
    """Return what a dispatcher begins with a look a minute later."""
    tasks: list[Waiting] = []
    conditions = Conditions((), longest_pause_s=60, has_room=Readings(stations).has_room)
    dispatcher = Dispatcher(stations.ledger.tasks, tasks.append, dict, lambda: LATER, conditions)
    dispatcher.look()
    return tasks


def test_a_job_that_waits_for_room_is_begun_again_only_when_there_is_room(stations: Stations) -> None:
    """Each attempt writes rows: a thousand waiting jobs would fill the disk."""
    stations.ledger.tasks.postpone(TASK, NOW, attempts=0)
    assert len(begun(full(stations))) == 1  # the first attempt writes the reason down
    stations.ledger.tasks.postpone(TASK, NOW, attempts=0)
    assert not begun(full(stations))
    assert len(begun(stations)) == 1


def test_a_workflow_whose_end_the_engine_has_not_written_down_yet_does_not_hold_back_the_next_attempt(
    stations: Stations,
) -> None:
    """The engine writes the end of a workflow a moment after the workflow has ended."""
    tasks: list[Waiting] = []
    times = iter([NOW, LATER + timedelta(minutes=1)])
    dispatcher = Dispatcher(
        stations.ledger.tasks,
        tasks.append,
        lambda: {waiting.task.name: waiting.task.turn for waiting in tasks},
        lambda: next(times),
        Conditions((), longest_pause_s=60, has_room=lambda: True),
    )
    dispatcher.look()
    dispatcher.ended(tasks[0].task)
    dispatcher.look()
    assert len(tasks) == 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with fillable_disk(tmp_path / "disk", names=3 * MIN_FREE_FILES) as disk:
        yield disk


def test_a_disk_without_room_for_the_files_of_a_study_is_below_its_watermark(disk: SmallDisk) -> None:
    refuse_full(disk.folder, MIB)
    disk.fill_names()
    refuse_full(disk.folder, 0)
    with pytest.raises(OutOfResources, match="room for 0 more files only"):
        refuse_full(disk.folder, MIB)


def test_the_end_of_a_task_has_the_tasks_of_its_job_looked_at_and_no_other(stations: Stations) -> None:
    """A look at all that a thousand jobs wait for takes as long as a reading."""
    ledger, tasks = stations.ledger, list[Waiting]()
    ledger.open(Job("other", UID("1.3"), "chest", "reader", {UID("1.3.3"): "00"}, NOW, NOW, ()))
    conditions = Conditions((), longest_pause_s=60, has_room=lambda: True)

    def turns() -> dict[str, int]:
        return {waiting.task.name: waiting.task.turn for waiting in tasks}

    dispatcher = Dispatcher(ledger.tasks, tasks.append, turns, lambda: LATER, conditions)
    dispatcher.look_at(["job"])
    assert [waiting.task.job for waiting in tasks] == ["job"]
    dispatcher.ended(tasks[0].task)
    dispatcher.look_at(["job"])
    assert [(waiting.task.job, waiting.task.turn - tasks[0].task.turn) for waiting in tasks] == [("job", 0), ("job", 1)]
    dispatcher.look()
    assert [waiting.task.job for waiting in tasks[2:]] == ["other"]


def test_many_tasks_that_fall_due_together_are_counted_in_few_transactions(stations: Stations) -> None:
    ledger, tasks, commits = stations.ledger, list[Waiting](), list[object]()
    for number in range(99):
        uid = UID(f"1.4.{number}")
        ledger.open(Job(f"job {number}", uid, "chest", "reader", {UID(f"{uid}.1"): "00"}, NOW, NOW, ()))
    sa.event.listen(ledger.tasks._engine, "commit", commits.append)
    Dispatcher(ledger.tasks, tasks.append, dict, lambda: LATER, Conditions((), 60, lambda: True)).look()
    assert len(tasks) == 100
    assert len(commits) == 2


def test_jobs_that_were_queued_in_the_same_moment_begin_in_the_order_in_which_they_were_opened(
    stations: Stations,
) -> None:
    ledger, tasks = stations.ledger, list[Waiting]()
    names = ["last by name", "first by name", "behind"]
    for number, name in enumerate(names):
        uid = UID(f"1.5.{number}")
        ledger.open(Job(name, uid, "chest", "reader", {UID(f"{uid}.1"): "00"}, NOW, NOW, ()))
    Dispatcher(ledger.tasks, tasks.append, dict, lambda: LATER, Conditions((), 60, lambda: True)).look_at(names)
    assert [waiting.task.job for waiting in tasks] == names
