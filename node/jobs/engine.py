"""What the durable engine (DBOS) knows of workflows: which are active, and which are so old that nobody needs them."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from dbos import DBOS

from ainode.node.jobs.queues import APPLICATION_VERSION
from ainode.node.keeping.tasks import TaskKind

_UNFINISHED: Final = ("ENQUEUED", "PENDING", "DELAYED")
_FINISHED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_BATCH: Final = 500


class Activity:
    """Which tasks a workflow of an executor works at, or a workflow in a queue waits for."""

    def __init__(self, executor: str, others: Callable[[], frozenset[str]] = frozenset) -> None:
        """Keep the arguments; `others` returns the executors whose pending workflows are worked at, or given away."""
        self._executor, self._others = executor, others
        self._working: set[str] = set()
        self._lock = threading.Lock()
        # Of each caller its own: two callers in the same moment would take for abandoned what is about to begin.
        self._idle_at_sweep, self._idle_at_beat = _Idle(), _Idle()

    @contextmanager
    def working(self, workflow: str) -> Iterator[None]:
        """Mark a workflow as worked at in this process."""
        with self._lock:
            self._working.add(workflow)
        try:
            yield
        finally:
            with self._lock:
                self._working.discard(workflow)

    def is_delivering(self) -> bool:
        """Return whether this process works at a task that is no reading."""
        with self._lock:
            return any(f":{TaskKind.READ}:" not in workflow for workflow in self._working)

    def turns(self) -> Mapping[str, int]:
        """Return the newest turn of each task that is worked at or queued, by the name of the task.

        A workflow that the engine calls pending, and that this process did not work at in two calls, is abandoned: the
        engine could not write down its end, or that it was taken from the queue. The next start ends it.
        """
        workflows, others = _unfinished(_UNFINISHED), self._others() - {self._executor}
        pending = {workflow for workflow, status, executor in workflows if self._is_pending(status, executor)}
        elsewhere = {workflow for workflow, status, executor in workflows if status != "PENDING" or executor in others}
        abandoned = self._idle_at_sweep.again(self._unworked(pending))
        turns: dict[str, int] = {}
        for workflow in elsewhere | (pending - abandoned):
            name, _, turn = workflow.rpartition(":")
            turns[name] = max(int(turn), turns.get(name, 0))
        return turns

    def end_abandoned(self) -> int:
        """End the workflows that this process has abandoned, for who begins no turn itself; return how many."""
        pending = {workflow for workflow, *owner in _unfinished(("PENDING",)) if self._is_pending(*owner)}
        abandoned = self._idle_at_beat.again(self._unworked(pending))
        for workflow in abandoned:
            DBOS.cancel_workflow(workflow)
        return len(abandoned)

    def _is_pending(self, status: str, executor: str) -> bool:
        return status == "PENDING" and executor == self._executor

    def _unworked(self, pending: set[str]) -> frozenset[str]:
        with self._lock:
            return frozenset(pending - self._working)


class _Idle:
    """The workflows that this process did not work at when one caller looked last."""

    def __init__(self) -> None:
        self._last: frozenset[str] = frozenset()

    def again(self, idle: frozenset[str]) -> frozenset[str]:
        """Note the idle workflows of now; return those that were idle at the look before, too."""
        again, self._last = idle & self._last, idle
        return again


def end_idle_threads(durable_engine: DBOS) -> None:
    """End the threads of the engine that look each second for what the node never has.

    They look for schedules, delays and deadlines, for changes of its queues, into the queue of its own, and for the
    notifications and events of its workflows. A stop of the node would wait until they have looked.
    """
    of_jobs = durable_engine._background_jobs_stop_event  # noqa: SLF001 - the engine cannot be told to do without
    for stop in (*durable_engine.background_thread_stop_events, of_jobs):
        stop.set()
    durable_engine._sys_db._run_background_processes = False  # noqa: SLF001 - nor without notifications


def give_away(living: Callable[[], frozenset[str]]) -> int:
    """Put what executors that do not live were working at back into its queues; return of how many executors.

    The engine takes each workflow from them once: to ask again, or two at a time, changes nothing.
    """
    # Before the living are asked for: who comes to life meanwhile has entered before it takes work.
    holders = {executor for *_, executor in _unfinished(("PENDING",))}
    if not holders:
        return 0
    strays = holders - living()
    if strays:
        DBOS._recover_pending_workflows(sorted(strays))  # noqa: SLF001 - the engine has no other way for several executors
    return len(strays)


def _unfinished(states: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return name, state and executor of the workflows in some states."""
    workflows = DBOS.list_workflows(
        status=list(states), app_version=APPLICATION_VERSION, load_input=False, load_output=False
    )
    return [(workflow.workflow_id, workflow.status, workflow.executor_id or "") for workflow in workflows]


def is_queued(workflow: str) -> bool:
    """Return whether a workflow waits in its queue."""
    status = DBOS.get_workflow_status(workflow)
    return status is not None and status.status == "ENQUEUED"


def filled_queues(durable_engine: DBOS) -> Sequence[str]:
    """Return the queues in which a workflow waits.

    Raises: SQLAlchemyError.
    """
    database = durable_engine._sys_db  # noqa: SLF001 - the engine lists workflows, of which a thousand may wait
    statuses = database.tables.workflow_status.c
    # Literals, and both states: the engine's partial index of the two answers alone, however many have finished.
    queued: sa.ColumnElement[str] = sa.literal_column("'ENQUEUED'")
    pending: sa.ColumnElement[str] = sa.literal_column("'PENDING'")
    names = sa.select(statuses.queue_name).where(statuses.status.in_([queued, pending]), statuses.status == queued)
    with database.engine.connect() as connection:
        return tuple(connection.scalars(names.distinct()))


def remove_finished(before: datetime) -> int:
    """Remove the rows of workflows that finished before a time; return how many."""
    return _remove(status=list(_FINISHED), completed_before=before.isoformat())


def remove_older_versions() -> int:
    """Remove what an earlier version of the node left: the dispatcher begins the work anew; return how many."""
    workflows = DBOS.list_workflows(status=list(_UNFINISHED), load_input=False, load_output=False)
    versions = {str(workflow.app_version) for workflow in workflows} - {APPLICATION_VERSION}
    return _remove(status=list(_UNFINISHED), app_version=list(versions)) if versions else 0


def _remove(**conditions: object) -> int:
    count = 0
    while workflows := DBOS.list_workflows(**conditions, limit=_BATCH, load_input=False, load_output=False):  # type: ignore[arg-type]
        DBOS.delete_workflows([workflow.workflow_id for workflow in workflows])
        count += len(workflows)
    return count
