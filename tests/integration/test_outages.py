"""The whole node while its database is restarted, is away, or is locked by another program."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import Orthanc, orthanc
from support.node import RunningNode, configured, running
from support.postgresql import PostgreSQL, postgresql_server
from support.studies import WrittenStudy, stored, written

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.keeping import schema

DELIVERY = "[delivery]\nfirst_wait_s = 0.5\nlongest_wait_s = 2.0\nattempts = 60"
JOBS = 20
LONG = 8
"""The study that is read until the database is away; the studies before are read first."""
SUCCESS = 0x0000


@contextmanager
def stopped(server: PostgreSQL) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def locked(*paths: Path) -> Iterator[None]:
    """Hold the lock of a writer, as a backup or an open shell of SQLite does."""
    with ExitStack() as stack:
        for path in paths:
            connection = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None, timeout=60)))
            connection.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def suspended(archive: Orthanc) -> Iterator[None]:
    os.kill(archive.process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(archive.process_id, signal.SIGCONT)


def studies(folder: Path, name: str, count: int) -> list[WrittenStudy]:
    return [written(folder, f"{name} {number}", order="told" if number == LONG else "read") for number in range(count)]


def bring_to_the_middle(node: RunningNode, first: Sequence[WrittenStudy]) -> None:
    """Send studies until documents are on their way to the archive, a study is read, and the others wait."""
    in_flight = sa.select(sa.func.count()).where(
        schema.deliveries.c.tried_at.is_not(None), schema.deliveries.c.state == DeliveryState.WAITING
    )

    def counted() -> int:
        with node.engine.connect() as connection:
            return int(connection.execute(in_flight).scalar_one())

    def jobs(state: JobState) -> list[str]:
        return [job.study_instance_uid for job in node.ledger.jobs(states=[state])]

    before, read, after = first[:LONG], first[LONG], first[LONG + 1 :]
    assert set(stored(node, *before)) == {SUCCESS}
    node.until(lambda: counted() > 0, within_s=120)
    assert set(stored(node, read)) == {SUCCESS}
    node.until(lambda: jobs(JobState.READING) == [read.uid], within_s=120)
    assert set(stored(node, *after)) == {SUCCESS}
    node.until(lambda: len(jobs(JobState.WAITING)) == len(after), within_s=120)


def break_in_the_middle(
    node: RunningNode, archive: Orthanc, folder: Path, fault: AbstractContextManager[None], *, away_s: float
) -> None:
    """Let the fault last `away_s` in the middle of the jobs, while the archive answers and more studies arrive."""
    first = studies(folder, "first", JOBS)
    later = studies(folder, "later", 4)
    with ExitStack() as stack:
        with suspended(archive):
            bring_to_the_middle(node, first)
            stack.enter_context(fault)
            (node.folder / "told").touch()
        over_at = time.monotonic() + away_s
        # Several processes may share a PostgreSQL: nothing leaves while it cannot say whether the node still counts.
        if node.database:
            node.until(lambda: "action=database_away" in node.log.read_text(), within_s=120)
            assert not any(archive.instances_of(study.uid) for study in first)
        else:
            node.until(lambda: any(archive.instances_of(study.uid) for study in first[:LONG]), within_s=120)
        assert set(stored(node, *later)) == {SUCCESS}
        node.until(lambda: time.monotonic() >= over_at, within_s=away_s + 60)
    assert_read_and_delivered_once(node, archive, [*first, *later])


def assert_read_and_delivered_once(node: RunningNode, archive: Orthanc, sent: Sequence[WrittenStudy]) -> None:
    for study in sent:
        job, deliveries = node.read(study.uid)
        assert job.state is JobState.REPORTED, job
        assert {delivery.state for delivery in deliveries} == {DeliveryState.CONFIRMED}
        assert len(node.ledger.jobs(study=UID(study.uid))) == 1
        document_uids = sorted(str(delivery.document.ref.sop_instance_uid) for delivery in deliveries)
        assert sorted(archive.instances_of(study.uid)) == document_uids
    assert not node.ledger.jobs(states=[JobState.READING, JobState.WAITING, JobState.FAILED])
    assert node.log.read_text().count("ready:") == 1


def lose_postgresql(folder: Path) -> None:
    with postgresql_server() as server, orthanc(folder / "archive") as archive:
        url = server.create("away")
        node = configured(folder / "node", peers=[archive.peer], more=f'{DELIVERY}\n[database]\nurl = "{url}"')
        node.database = url
        with running(node):
            break_in_the_middle(node, archive, folder / "studies", stopped(server), away_s=20)


def lock_sqlite(folder: Path, *names: str, locked_s: float) -> None:
    with orthanc(folder / "archive") as archive:
        node = configured(folder / "node", peers=[archive.peer], more=DELIVERY)
        with running(node):
            fault = locked(*(node.folder / "data" / name for name in names))
            break_in_the_middle(node, archive, folder / "studies", fault, away_s=locked_s)


@pytest.fixture(scope="module")
def outages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """Begin the outages of both databases at once, each with a node and an archive of its own: both mostly wait."""
    folder = tmp_path_factory.mktemp("outages")
    names = ("catalog.sqlite", "workflows.sqlite")
    with ThreadPoolExecutor() as threads:
        yield {
            "postgresql": threads.submit(lose_postgresql, folder / "postgresql"),
            "sqlite": threads.submit(lock_sqlite, folder / "sqlite", *names, locked_s=25),
        }


def test_a_postgresql_that_is_away_in_the_middle_of_jobs_costs_no_study_and_no_restart(
    outages: dict[str, Future[None]],
) -> None:
    outages["postgresql"].result()


def test_a_database_that_another_program_locks_in_the_middle_of_jobs_costs_no_study_and_no_restart(
    outages: dict[str, Future[None]],
) -> None:
    outages["sqlite"].result()


@pytest.mark.long
@pytest.mark.parametrize("name", ["catalog.sqlite", "workflows.sqlite"])
def test_one_of_two_databases_that_another_program_locks_for_a_minute_costs_no_study_and_no_restart(
    tmp_path: Path, name: str
) -> None:
    lock_sqlite(tmp_path, name, locked_s=60)
