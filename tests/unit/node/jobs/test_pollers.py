"""What takes from the queues of the engine: woken by an enqueue and by each end, never beyond its number."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos import DBOS, DBOSConfiguredInstance, SetWorkflowID
from dbos._sys_db import WorkflowStatusInternal
from support.waiting import until

from ainode.node.jobs import pollers as pollers_module
from ainode.node.jobs.engine import end_idle_threads, filled_queues
from ainode.node.jobs.pollers import Pollers
from ainode.node.jobs.workflow_file import prepare

AT_ONCE = 2


@DBOS.dbos_class("gated work")
class Work(DBOSConfiguredInstance):
    """Work that lasts until the test lets it end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        super().__init__(config_name="gated")

    @DBOS.workflow()
    def run(self, name: str) -> None:
        self.begun.append(name)
        assert self.gates.setdefault(name, threading.Event()).wait(300)

    def end(self, name: str) -> None:
        self.gates.setdefault(name, threading.Event()).set()


@pytest.fixture(scope="module")
def work() -> Work:
    return Work()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DBOS]:
    """Return an engine on a database of its own, as a node launches it."""
    url = f"sqlite:///{tmp_path / 'workflows.sqlite'}"
    engine = DBOS(
        config={
            "name": "ainode",
            "system_database_url": url,
            "db_engine_kwargs": {"pool_events": [(prepare, "connect")]},
            "application_version": "test",
            "log_level": "ERROR",
            "use_listen_notify": False,
        }
    )
    DBOS.listen_queues([])
    DBOS.launch()
    end_idle_threads(engine)
    yield engine
    DBOS.destroy(workflow_completion_timeout_sec=0)


@pytest.fixture
def pollers(engine: DBOS, tmp_path: Path, work: Work) -> Iterator[Pollers]:
    """Return the thread of one queue."""
    work.begun.clear()
    work.gates.clear()
    pollers = Pollers(engine, [("gated", AT_ONCE)], f"sqlite:///{tmp_path / 'workflows.sqlite'}")
    pollers.start()
    yield pollers
    for name in list(work.gates):
        work.end(name)
    pollers.stop()


def enqueue(work: Work, pollers: Pollers, *names: str) -> None:
    for name in names:
        with SetWorkflowID(name):
            DBOS.enqueue_workflow("gated", work.run, name)
    pollers.ring("gated")


def test_what_is_queued_begins_in_order_as_others_end_and_never_more_than_the_number_of_the_queue(
    work: Work, pollers: Pollers
) -> None:
    enqueue(work, pollers, "first", "second", "third", "fourth")
    until(lambda: len(work.begun) == AT_ONCE)
    pollers.ring("gated")
    assert work.begun == ["first", "second"]
    work.end("second")
    until(lambda: len(work.begun) == AT_ONCE + 1)
    assert work.begun[-1] == "third"
    work.end("first")
    until(lambda: "fourth" in work.begun)


def test_what_makes_way_lets_the_next_begin_beside_it_and_no_more_make_way_than_the_number_of_the_queue(
    work: Work, pollers: Pollers
) -> None:
    names = ["first", "second", "third", "fourth", "fifth", "sixth"]
    enqueue(work, pollers, *names)
    until(lambda: len(work.begun) == AT_ONCE)
    for _ in range(2):
        pollers.make_way("gated", "first")
    until(lambda: len(work.begun) == AT_ONCE + 1)
    for name in ("nothing of the queue", "second", "third"):
        pollers.make_way("gated", name)
    until(lambda: len(work.begun) == 2 * AT_ONCE)
    pollers.ring("gated")
    assert work.begun == names[: 2 * AT_ONCE]
    work.end("third")  # which had no room to make way
    until(lambda: work.begun == names[: 2 * AT_ONCE + 1])
    work.end("first")
    until(lambda: pollers.make_way("gated", "fifth") or work.begun == names)  # once the first has ended


def test_what_cannot_begin_for_want_of_memory_takes_no_place_of_the_queue(
    work: Work, pollers: Pollers, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, failures = pollers_module.execute_dequeued_workflow, [MemoryError(), OSError("no room")]

    def fail_first(engine: DBOS, status: WorkflowStatusInternal, owner: str) -> object:
        if failures:
            raise failures.pop()
        return begin(engine, status, owner)

    monkeypatch.setattr(pollers_module, "execute_dequeued_workflow", fail_first)
    enqueue(work, pollers, "lost", "lost too", "third", "fourth")
    until(lambda: sorted(work.begun) == ["fourth", "third"])


def test_what_nobody_rang_for_is_found_by_the_clock(work: Work, pollers: Pollers) -> None:
    """As what the engine queues anew at a start, and what another process queues."""
    with SetWorkflowID("silent"):
        DBOS.enqueue_workflow("gated", work.run, "silent")
    until(lambda: work.begun == ["silent"])
    del pollers


def test_the_clock_sees_which_queues_hold_something_and_reads_no_finished_workflow(
    work: Work, engine: DBOS, tmp_path: Path
) -> None:
    for name in ("empty", "gated"):
        DBOS.register_queue(name)
    assert filled_queues(engine) == ()
    for name in ("one", "two"):
        with SetWorkflowID(name):
            DBOS.enqueue_workflow("gated", work.run, name)
    statements: list[str] = []
    sa.event.listen(engine._sys_db.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    assert filled_queues(engine) == ("gated",)
    database = sa.create_engine(f"sqlite:///{tmp_path / 'workflows.sqlite'}")
    with database.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statements[-1]}").all()
    database.dispose()
    assert ["COVERING INDEX idx_workflow_status_in_flight" in step.detail for step in plan] == [True], plan


def test_no_thread_of_the_engine_stays_that_only_looks(engine: DBOS) -> None:
    """They would look each second for schedules, delays, deadlines and notifications, and into a queue of their own."""
    assert engine._background_threads
    until(lambda: not any(thread.is_alive() for thread in engine._background_threads))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("queue-worker")]


def test_a_queue_whose_table_cannot_be_read_is_looked_at_again(
    work: Work, pollers: Pollers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = sa.create_engine(f"sqlite:///{tmp_path / 'workflows.sqlite'}")
    with database.begin() as connection:
        connection.execute(sa.text("ALTER TABLE workflow_status RENAME TO away"))
    caplog.set_level(logging.DEBUG, "ainode.node.jobs.pollers")
    pollers.ring("gated")
    until(lambda: "queue gated: " in caplog.text)
    with database.begin() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO workflow_status"))
    database.dispose()
    enqueue(work, pollers, "after")
    until(lambda: work.begun == ["after"])


def test_commits_of_the_workflow_file_wait_for_no_disk(pollers: Pollers, tmp_path: Path) -> None:
    """The ledger, which is synced, has what is due: a power cut may take back workflows."""
    del pollers
    kwargs = {"pool_events": [(prepare, "connect")]}
    database = sa.create_engine(f"sqlite:///{tmp_path / 'workflows.sqlite'}", **kwargs)
    with database.connect() as connection:
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 1
    database.dispose()
