"""Who works at the jobs of a PostgreSQL, who is taken for dead, and what a process may do that others took for dead."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from support.databases import migrated

from ainode.node.domain import UID, JobState
from ainode.node.errors import ConfigError, DatabaseUnavailable, LeaseLost
from ainode.node.keeping.executors import Executor, ExecutorKind, Executors
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.lease import SharedLease, SoleLease
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.readership import Readership
from ainode.node.keeping.records import Job
from ainode.node.keeping.schema import executors as table
from ainode.node.keeping.tasks import Task, TaskKind

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEAD_AFTER_S = 60.0
NODE = Executor("node:1", "node", ExecutorKind.NODE, "here", ("a",), {"routes": "1"})
WORKER = Executor("worker:1", "worker", ExecutorKind.WORKER, "there", ("a",), {"routes": "1"})


@pytest.fixture
def engine(empty_postgresql: str) -> Iterator[sa.Engine]:
    made = migrated(empty_postgresql)
    yield made
    made.dispose()


@pytest.fixture
def executors(engine: sa.Engine) -> Executors:
    entered = Executors(engine)
    entered.enter(NODE, DEAD_AFTER_S)
    entered.enter(WORKER, DEAD_AFTER_S)
    return entered


def let_pass(engine: sa.Engine, executor: str, seconds: float) -> None:
    """Bring the last beat of an executor back by so long."""
    earlier = table.c.beat_at - sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id == executor).values(beat_at=earlier))


def nothing(living: Callable[[], frozenset[str]]) -> int:
    del living
    return 0


def alive(executors: Executors) -> set[str]:
    return {executor.id for executor in executors.all() if not executor.is_dead}


def test_who_is_silent_for_too_long_is_buried_and_its_next_beat_does_not_bring_it_back(
    engine: sa.Engine, executors: Executors
) -> None:
    let_pass(engine, WORKER.id, DEAD_AFTER_S - 5)
    assert executors.sweep(nothing, DEAD_AFTER_S) == ()
    let_pass(engine, WORKER.id, 10)
    assert executors.sweep(nothing, DEAD_AFTER_S) == (WORKER.id,)
    assert executors.beat(NODE.id)
    assert not executors.beat(WORKER.id)
    assert alive(executors) == {NODE.id}


def test_who_was_silent_and_beats_before_anyone_buries_it_lives_on(engine: sa.Engine, executors: Executors) -> None:
    let_pass(engine, WORKER.id, 10 * DEAD_AFTER_S)
    assert executors.sweep(nothing, None) == ()
    assert executors.beat(WORKER.id)
    assert executors.sweep(nothing, DEAD_AFTER_S) == ()


def test_work_is_given_away_once_the_burial_counts_for_all(engine: sa.Engine, executors: Executors) -> None:
    let_pass(engine, WORKER.id, 2 * DEAD_AFTER_S)
    seen: list[set[str]] = []

    def give_away(living: Callable[[], frozenset[str]]) -> int:
        assert living() == {NODE.id}
        seen.append(alive(Executors(engine)))
        return 1

    executors.sweep(give_away, DEAD_AFTER_S)
    assert seen == [{NODE.id}]


def test_one_process_sweeps_at_a_time(engine: sa.Engine, executors: Executors) -> None:
    let_pass(engine, WORKER.id, 2 * DEAD_AFTER_S)
    swept: list[tuple[str, ...]] = []

    def give_away(living: Callable[[], frozenset[str]]) -> int:
        del living
        let_pass(engine, NODE.id, 2 * DEAD_AFTER_S)
        swept.append(Executors(engine).sweep(nothing, DEAD_AFTER_S))
        return 0

    executors.sweep(give_away, DEAD_AFTER_S)
    assert swept == [()]
    assert executors.sweep(nothing, DEAD_AFTER_S) == (NODE.id,)


def test_a_second_node_is_refused_while_the_first_on_another_machine_beats(
    engine: sa.Engine, executors: Executors
) -> None:
    other = replace(NODE, id="other:1", name="other", host="elsewhere")
    with pytest.raises(ConfigError, match="the node 'node' on here works on this database"):
        executors.enter(other, DEAD_AFTER_S)
    let_pass(engine, NODE.id, 2 * DEAD_AFTER_S)
    executors.enter(other, DEAD_AFTER_S)
    assert alive(executors) == {other.id, WORKER.id}


def test_a_node_that_starts_again_ends_what_it_was_before_and_the_workers_on_other_terms(executors: Executors) -> None:
    executors.enter(replace(NODE, id="node:2"), DEAD_AFTER_S)
    assert alive(executors) == {"node:2", WORKER.id}
    executors.enter(replace(NODE, id="node:3", terms={"routes": "2"}), DEAD_AFTER_S)
    assert alive(executors) == {"node:3"}
    newest = executors.node()
    assert newest
    assert newest.terms == {"routes": "2"}


def test_a_worker_that_starts_again_on_its_machine_ends_what_it_was_before(executors: Executors) -> None:
    executors.enter(replace(WORKER, id="worker:2", host="a third"), DEAD_AFTER_S)
    assert alive(executors) == {NODE.id, WORKER.id, "worker:2"}
    executors.enter(replace(WORKER, id="worker:3"), DEAD_AFTER_S)
    assert alive(executors) == {NODE.id, "worker:2", "worker:3"}


def test_who_ended_is_forgotten_after_a_day_but_not_the_last_node(engine: sa.Engine, executors: Executors) -> None:
    executors.leave(WORKER.id)
    executors.leave(NODE.id)
    assert executors.known() == {NODE.id, WORKER.id}
    with engine.begin() as connection:
        connection.execute(sa.update(table).values(dead_at=NOW))
    executors.sweep(nothing, None)
    assert executors.known() == {NODE.id}


def test_how_an_executor_ended_is_kept_and_said(engine: sa.Engine, executors: Executors) -> None:
    executors.enter(replace(WORKER, id="asked:1", name="asked"), DEAD_AFTER_S)
    executors.leave("asked:1")
    let_pass(engine, WORKER.id, 2 * DEAD_AFTER_S)
    executors.sweep(nothing, DEAD_AFTER_S)
    executors.enter(replace(NODE, id="node:2"), DEAD_AFTER_S)
    states = {executor.id: executor.state(DEAD_AFTER_S) for executor in executors.all()}
    assert states == {
        "node:2": "alive",
        NODE.id: "lost (killed)",
        "asked:1": "ended",
        WORKER.id: "lost (silent)",
    }


def test_on_sqlite_there_are_no_executors() -> None:
    assert Executors(sa.create_engine("sqlite://")).all() == ()
    assert Executors(sa.create_engine("sqlite://")).known() == frozenset()
    SoleLease().refuse_lost()


# What is lost with an executor


def begun(ledger: Ledger, executor: str) -> tuple[int, str]:
    """Have an executor begin the reading; return how many were lost, and the last."""
    losses = ledger.tasks.take(a_task(ledger), executor)
    assert ledger.move("job", JobState.READING, at=NOW)
    return losses.count, losses.last


def test_a_reading_counts_the_executors_that_were_killed_or_fell_silent_while_they_were_at_it(
    engine: sa.Engine, executors: Executors, ledger: Ledger
) -> None:
    assert begun(ledger, WORKER.id) == (0, "")
    let_pass(engine, WORKER.id, 2 * DEAD_AFTER_S)
    executors.sweep(nothing, DEAD_AFTER_S)
    assert begun(ledger, NODE.id) == (1, "worker")
    executors.enter(replace(NODE, id="node:2"), DEAD_AFTER_S)
    assert begun(ledger, "node:2") == (2, "node")
    assert begun(ledger, "node:2") == (2, ""), "who lives is no loss"
    instruction = Instruction(NOW, "")
    assert ledger.move("job", JobState.FAILED, reason="given up", at=NOW)
    assert ledger.revive("job", instruction) == ("",)
    assert begun(ledger, "node:2") == (0, "")


def test_a_reading_counts_no_executor_that_left_was_on_other_terms_or_had_ended_its_attempt(
    executors: Executors, ledger: Ledger
) -> None:
    begun(ledger, WORKER.id)
    executors.leave(WORKER.id)
    executors.enter(replace(WORKER, id="worker:2"), DEAD_AFTER_S)
    assert begun(ledger, "worker:2") == (0, "")
    executors.enter(replace(NODE, id="node:2", terms={"routes": "2"}), DEAD_AFTER_S)
    assert begun(ledger, "node:2") == (0, "")
    ledger.tasks.postpone(Task("job", TaskKind.READ), NOW, attempts=1)
    assert ledger.move("job", JobState.WAITING, reason="tried again later")
    executors.enter(replace(NODE, id="node:3"), DEAD_AFTER_S)
    assert begun(ledger, "node:3") == (0, "")


@pytest.mark.parametrize("is_asked", [False, True])
def test_what_a_dead_executor_was_reading_waits_for_others_though_nobody_else_reads_with_its_handler(
    engine: sa.Engine, executors: Executors, ledger: Ledger, *, is_asked: bool
) -> None:
    begun(ledger, WORKER.id)
    executors.sweep(nothing, DEAD_AFTER_S)
    assert ledger.job("job").state is JobState.READING
    if is_asked:
        executors.leave(WORKER.id)
    else:
        let_pass(engine, WORKER.id, 2 * DEAD_AFTER_S)
    executors.sweep(nothing, DEAD_AFTER_S)
    job, shortages = ledger.job("job"), Readership(engine).shortages(["handler"])
    assert (job.state, job.reason) == (
        JobState.WAITING,
        "worker ended while it read the study, which is begun again",
    )
    assert [shortage.waiting_count for shortage in shortages] == [1]
    executors.enter(replace(WORKER, id="worker:2"), DEAD_AFTER_S)
    begun(ledger, "worker:2")
    executors.sweep(nothing, DEAD_AFTER_S)
    assert (ledger.job("job").state, ledger.job("job").reason) == (JobState.READING, "")


@pytest.mark.usefixtures("ledger")
def test_a_handler_that_no_process_reads_with_is_named_with_who_was_lost_until_the_worker_is_back(
    engine: sa.Engine, executors: Executors
) -> None:
    readership = Readership(engine)
    reader = replace(WORKER, id="w:1", name="w", handlers=("handler",))
    assert [shortage.summary for shortage in readership.shortages(["a", "handler"])] == [
        "no process reads with handler, 1 reading waits"
    ]
    assert readership.shortages(["handler"])[0].remedy == "start `ainode worker --models handler`"
    executors.enter(reader, DEAD_AFTER_S)
    assert readership.shortages(["a", "handler"]) == ()
    let_pass(engine, "w:1", 2 * DEAD_AFTER_S)
    executors.sweep(nothing, DEAD_AFTER_S)
    assert readership.shortages(["handler"])[0].remedy == (
        "lost: worker 'w' on there (silent); see the end of its log, and start it again"
    )
    executors.enter(replace(reader, id="w:2"), DEAD_AFTER_S)
    assert readership.shortages(["handler"]) == ()
    executors.leave("w:2")
    assert "start `ainode worker" in readership.shortages(["handler"])[0].remedy, "who left is not lost"


def test_a_lost_worker_is_a_shortage_only_while_readings_wait_for_others_that_read_with_its_handlers(
    engine: sa.Engine, executors: Executors, ledger: Ledger
) -> None:
    executors.enter(replace(NODE, id="node:2", handlers=("handler", "idle")), DEAD_AFTER_S)
    executors.enter(replace(WORKER, id="w:1", name="w", handlers=("handler", "idle")), DEAD_AFTER_S)
    let_pass(engine, "w:1", 2 * DEAD_AFTER_S)
    executors.sweep(nothing, DEAD_AFTER_S)
    (shortage,) = Readership(engine).shortages(["handler", "idle"])
    assert shortage.summary == "fewer processes read than before with handler, 1 reading waits"
    begun(ledger, "node:2")
    assert Readership(engine).shortages(["handler", "idle"]) == ()
    assert Readership(engine).reading_counts() == {"node:2": 1}


def test_on_sqlite_no_handler_lacks_a_process() -> None:
    assert Readership(sa.create_engine("sqlite://")).shortages(["handler"]) == ()


# The lease


@pytest.fixture
def ledger(engine: sa.Engine) -> Ledger:
    ledger = Ledger(engine)
    ledger.open(Job("job", UID("1.2"), "route", "handler", {UID("1.2.1"): "00"}, NOW, NOW, ()))
    return ledger


def a_task(ledger: Ledger) -> Task:
    task = Task("job", TaskKind.READ)
    return replace(task, turn=ledger.tasks.begin(task))


def test_a_process_that_was_buried_writes_nothing_for_its_task_and_may_send_nothing(
    engine: sa.Engine, executors: Executors, ledger: Ledger
) -> None:
    lease = SharedLease(engine, WORKER.id, DEAD_AFTER_S)
    with lease.holding(a_task(ledger)):
        lease.refuse_lost()
        assert ledger.move("job", JobState.READING, at=NOW)
        executors.leave(WORKER.id)
        with pytest.raises(LeaseLost, match="took this process for dead"):
            lease.refuse_lost()
        with pytest.raises(LeaseLost):
            ledger.move("job", JobState.FAILED, reason="of a dead process", at=NOW)
        with pytest.raises(LeaseLost):
            ledger.job("job")
    assert ledger.job("job").state is JobState.READING


def test_a_process_whose_task_was_begun_again_writes_nothing_for_it_and_goes_on_with_others(
    engine: sa.Engine, executors: Executors, ledger: Ledger
) -> None:
    assert executors.beat(WORKER.id)
    lease, older = SharedLease(engine, WORKER.id, DEAD_AFTER_S), a_task(ledger)
    newer = a_task(ledger)
    with lease.holding(older), pytest.raises(LeaseLost, match="another attempt was begun"):
        ledger.move("job", JobState.READING, at=NOW)
    with lease.holding(newer):
        assert ledger.move("job", JobState.READING, at=NOW)
    with lease.holding(None):
        lease.refuse_lost()


def wait_for_the_end(url: sa.URL, pid: int) -> None:
    """Return once a server has ended the session of this process."""
    others = sa.create_engine(url)
    query = sa.text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid").bindparams(pid=pid)
    deadline = time.monotonic() + 60
    with others.connect() as connection:
        while connection.execute(query).scalar_one():
            connection.rollback()  # within a transaction the activity stays as it was first seen
            assert time.monotonic() < deadline
            time.sleep(0.01)
    others.dispose()


def test_a_process_that_stands_still_in_a_transaction_loses_it_before_it_is_taken_for_dead(
    engine: sa.Engine, executors: Executors, ledger: Ledger
) -> None:
    assert executors.beat(WORKER.id)
    lease, task = SharedLease(engine, WORKER.id, dead_after_s=0.2), a_task(ledger)

    def stand_still() -> None:
        with lease.holding(task), engine.begin() as connection:
            statement = "UPDATE jobs SET reason = 'of a process that stood still' RETURNING pg_backend_pid()"
            pid = connection.execute(sa.text(statement)).scalar_one()
            wait_for_the_end(engine.url, pid)
            connection.execute(sa.text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        stand_still()
    assert ledger.job("job").reason == ""
    assert ledger.move("job", JobState.READING, at=NOW)
