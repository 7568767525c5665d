"""A node and its workers on one PostgreSQL: whoever is killed, stopped or restarted, each study is answered once."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from acceptance.faults.campaign import header, line, undisturbed
from acceptance.faults.installation import ROUTES, Installation, Site
from acceptance.faults.judgement import Row, judged
from acceptance.faults.sender import new_studies, new_study
from support.node import RunningWorker
from support.postgresql import PostgreSQL, postgresql_server
from support.servers import Orthanc, orthanc
from support.steady import READING_S

from ainode.node.bench.servers import print_line
from ainode.node.errors import DatabaseUnavailable
from ainode.node.keeping.executors import Executors

_BEAT_S, _DEAD_AFTER_S = 0.5, 8.0
_WORKERS: Final = f"[workers]\nbeat_s = {_BEAT_S}\ndead_after_s = {_DEAD_AFTER_S}\n"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql_server() as running:
        yield running


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@contextmanager
def shared(
    folder: Path, server: PostgreSQL, archive: Orthanc, names: Sequence[str]
) -> Iterator[tuple[Installation, list[RunningWorker]]]:
    """Run a node and workers beside it."""
    routes = ROUTES.replace("ainode.node.bench.immediate", "support.steady")
    site = Site(folder, routes, _WORKERS, database=server.create(f"of_{folder.name}"))
    with undisturbed(site, archive) as installation:
        workers = [RunningWorker(installation.node, name) for name in names]
        try:
            for worker in workers:
                worker.start()
            yield installation, workers
        finally:
            for worker in workers:
                if worker.process and worker.process.poll() is None:
                    worker.end()


def disturb(installation: Installation, workers: Sequence[RunningWorker], server: PostgreSQL, pause_s: float) -> None:
    """Kill two workers, stop the third until it is taken for dead, and restart the database twice."""
    first, second, third = workers
    assert installation.wait(lambda: bool(first.count("study read")), within_s=120)
    third.send(signal.SIGSTOP)
    first.end(signal.SIGKILL)
    time.sleep(pause_s)
    server.kill()
    server.start()
    first.start()
    assert installation.wait(lambda: is_dead(installation, third), within_s=120)
    time.sleep(pause_s)
    third.send(signal.SIGCONT)
    second.end(signal.SIGKILL)
    time.sleep(pause_s)
    server.stop()
    server.start()


def is_dead(installation: Installation, worker: RunningWorker) -> bool:
    """Return whether the others have taken a worker for dead."""
    try:
        executors = Executors(installation.node.engine).all()
    except DatabaseUnavailable:
        return False
    return next(executor for executor in executors if executor.name == worker.name).is_dead


def assert_answered_once(workers: Sequence[RunningWorker], row: Row) -> None:
    """Hold what became of all studies, and that the worker that was stopped found out and ended by itself."""
    assert row.cost == 0, row
    stopped = workers[2]
    assert stopped.process
    assert stopped.process.wait(120) == 1
    assert stopped.count("taken_for_dead") == 1
    assert workers[0].count("study read") > 0


def test_studies_are_answered_once_while_workers_are_killed_and_stopped_and_the_database_restarts(
    tmp_path: Path, server: PostgreSQL, archive: Orthanc
) -> None:
    with shared(tmp_path, server, archive, ("one", "two", "three")) as (installation, workers):
        studies = new_studies(30)
        with installation.modality.sending(studies):
            disturb(installation, workers, server, 1.0)
        assert_answered_once(workers, judged(installation, Row("workers", times=1), studies))


@pytest.mark.long
def test_two_hundred_studies_are_answered_once_and_the_rates_of_one_to_three_workers_are_printed(
    tmp_path: Path, server: PostgreSQL, archive: Orthanc
) -> None:
    with shared(tmp_path, server, archive, ()) as (installation, workers):
        for name in ("one", "two", "three"):
            workers.append(RunningWorker(installation.node, name))
            workers[-1].start()
            studies_s = rate(installation, 60)
            print_line(f"node and {len(workers)} workers: {studies_s:.2f} studies/s, each read for {READING_S} s")
        studies = new_studies(200)
        with installation.modality.sending(studies, within_s=300):
            disturb(installation, workers, server, 4.0)
        row = judged(installation, Row("workers", times=1), studies, within_s=300)
        print_line(header())
        print_line(line(row))
        assert_answered_once(workers, row)


def rate(installation: Installation, count: int) -> float:
    """Return how many studies a second go the whole way, from the first instance sent to the last proof."""
    studies = [new_study() for _ in range(count)]
    began_s = time.monotonic()
    assert installation.modality.send(studies)
    row = judged(installation, Row("rate"), studies, over_at=began_s)
    assert row.cost == 0, row
    return count / row.recovery_s
