"""Starts a workflow for every task that is due and that no workflow works at.

A new job, a finished reading, `ainode retry`, an outage that is over and a start after a crash are the same look at the
ledger. So nothing has to be enqueued in step with a change of the ledger, and a kill between the two loses nothing.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from ainode.node import logs
from ainode.node.deciding.faults import attempt, reason_of
from ainode.node.errors import DatabaseUnavailable
from ainode.node.keeping.database import chunks
from ainode.node.keeping.lease import Lease, SoleLease
from ainode.node.keeping.tasks import Task, Tasks, Waiting
from ainode.node.threads import WakeableThread

log = logging.getLogger(__name__)
# What another process wrote into the ledger, such as `ainode retry`, is seen after this time.
_LOOK_S: Final = 2.0
# The pause after a look, in the time that it took.
_REST: Final = 4.0
_LONGEST_REST_S: Final = 0.25
# So many workflows begin before those behind them are counted.
_GROUP: Final = 50
# An outage of the database shorter than this is in the log alone.
_LONGEST_STANDSTILL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """When a task may begin."""

    unconfirmed: tuple[str, ...]
    """the destinations that are asked for no proof"""
    longest_pause_s: float
    """no task waits longer: a later time is that of a clock that was set back"""
    has_room: Callable[[], bool]
    """whether a reading that has waited once may begin again: each attempt takes some of the room on the disk"""
    is_queued: Callable[[str], bool] = bool
    """whether a workflow is in its queue still, and nobody works at the workflow"""
    sweep_s: float = 60.0
    """so often the engine is asked what is worked at: what other processes end is known from there alone"""
    lease: Lease = field(default_factory=SoleLease)
    """says whether this process may begin work"""


class Bystander:
    """In the place of a dispatcher in a worker: it tells the node, which also finds out by itself."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Keep the argument, which lets the node look at a job."""
        self._tell = tell

    def wake(self, job: str) -> None:
        """Have the node look at a job."""
        self._tell(job)

    def ended(self, task: Task) -> None:
        """Have the node look what is next."""
        self._tell(task.job)

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def is_alive(self) -> bool:
        """Return that nothing is missing."""
        return True

    def fault(self) -> str:
        """Return that no work begins here, which is no fault."""
        return ""


class Dispatcher(WakeableThread):
    """A thread that looks at the ledger when a task falls due and every two seconds, and at a job when it is woken.

    A look at all of a thousand jobs takes as long as a reading of some; what ends or begins concerns one job.
    """

    def __init__(
        self,
        tasks: Tasks,
        start_workflow: Callable[[Waiting], None],
        sweep: Callable[[], Mapping[str, int]],
        now: Callable[[], datetime],
        conditions: Conditions,
    ) -> None:
        """Keep the arguments; `sweep` returns name and turn of the tasks that a workflow works at."""
        super().__init__("dispatcher")
        self._tasks, self._start_workflow, self._sweep, self._now = tasks, start_workflow, sweep, now
        self._conditions = conditions
        self._turns: dict[str, int] = {}
        self._priorities: dict[str, int] = {}
        self._ended: set[tuple[str, int]] = set()
        self._swept_at: datetime | None = None
        self._is_away = False
        self._looked_at_s = time.monotonic()
        self._changed: dict[str, None] = {}
        self._is_all_changed = True
        self._next_look_s = 0.0
        self._lock = threading.Lock()

    def fault(self) -> str:
        """Return why no work begins, '' if work begins."""
        standstill_s = time.monotonic() - self._looked_at_s
        if standstill_s < _LONGEST_STANDSTILL_S:
            return ""
        return f"the jobs stand still for {standstill_s:.0f} s; see the log"

    def wake(self, job: str = "") -> None:
        """Look at a job at once, or at all jobs."""
        with self._lock:
            if job:
                self._changed[job] = None
            else:
                self._is_all_changed = True
        super().wake()

    def ended(self, task: Task) -> None:
        """Note that the workflow of a task has ended, and look at once what is next."""
        with self._lock:
            self._ended.add((task.name, task.turn))
        self._discard(task)
        self.wake(task.job)

    def _run(self) -> None:
        with self._conditions.lease.holding(None):
            self._look_until_stopped()

    def _look_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._woken.wait(max(self._next_look_s - time.monotonic(), 0.0))
            self._woken.clear()
            changed = self._what_changed()
            if changed is None or changed:
                began_s = time.monotonic()
                self._next_look_s = min(self._next_look_s, time.monotonic() + self._looked(changed))
                # What ends meanwhile is looked at together.
                self._stopping.wait(min(_REST * (time.monotonic() - began_s), _LONGEST_REST_S))

    def _what_changed(self) -> tuple[str, ...] | None:
        """Return the jobs to look at, in the order in which they changed, None for all."""
        with self._lock:
            is_all = self._is_all_changed or time.monotonic() >= self._next_look_s
            changed, self._changed, self._is_all_changed = tuple(self._changed), {}, False
        if is_all:
            self._next_look_s = math.inf
        return None if is_all else changed

    def _looked(self, changed: Sequence[str] | None) -> float:
        """Look; return the seconds until the next look at all. Whatever fails now is looked at again."""
        wait_s = None
        try:
            wait_s = attempt(
                lambda: self.look() if changed is None else self.look_at(changed),
                lambda error: self._note_outage(f"the durable engine: {logs.raised_at(error)}"),
            )
        except (DatabaseUnavailable, SQLAlchemyError, OSError, MemoryError) as error:
            self._note_outage(reason_of(error))
        if wait_s is None:
            return _LOOK_S
        self._looked_at_s = time.monotonic()
        self._note_outage("")
        return wait_s

    def look(self) -> float:
        """Start a workflow for every task that is due; return the seconds until the next look.

        Raises: DatabaseUnavailable; SQLAlchemyError if the engine's database is away.
        """
        now = self._now()
        if self._swept_at is None or not 0 <= (now - self._swept_at).total_seconds() <= self._conditions.sweep_s:
            self._take_over(self._sweep)
            self._swept_at = now
        return self._begin_due(None, now)

    def look_at(self, changed: Sequence[str]) -> float:
        """Start a workflow for every task of some jobs that is due; return the seconds until one of them falls due.

        Jobs that were queued in the same moment, as those of one round of the intake, keep their order.
        Raises: as `look`.
        """
        now = self._now()
        return min((self._begin_due(jobs, now) for jobs in chunks(changed)), default=_LOOK_S)

    def _begin_due(self, of_jobs: Sequence[str] | None, now: datetime) -> float:
        wait_s = _LOOK_S
        # Before the list: what ends while the list is read has another time there than the workflow wrote down.
        with self._lock:
            working = set(self._turns)
        has_room = self._conditions.has_room()
        tasks: Sequence[Waiting] = self._tasks.waiting(self._conditions.unconfirmed, of_jobs)
        if of_jobs is not None:
            places = {job: place for place, job in enumerate(of_jobs)}
            tasks = sorted(tasks, key=lambda waiting: (waiting.queued_at, places[waiting.task.job]))
        former, priorities = self._priorities, {waiting.task.name: waiting.priority for waiting in tasks}
        self._priorities = priorities if of_jobs is None else former | priorities
        due: list[Waiting] = []
        for waiting in tasks:
            due_s = (waiting.task.due_at - now).total_seconds() if waiting.task.due_at else 0.0
            if 0 < due_s <= self._conditions.longest_pause_s:
                wait_s = min(wait_s, due_s)
            elif waiting.task.name not in working and (has_room or not waiting.task.is_repeated_reading):
                due.append(waiting)
            elif former.get(waiting.task.name, waiting.priority) != waiting.priority:
                self._move(waiting)
        self._begin_all(due)
        return wait_s

    def _move(self, waiting: Waiting) -> None:
        """Give a task that waits in its queue the place of its new priority, unless its turn has ended meanwhile."""
        queued_turn = self._turns.get(waiting.task.name)
        if queued_turn is None:
            return
        turn = self._tasks.begin(waiting.task)
        # Asked once the older turn has lost its effect; a turn that has begun is followed by another when it ends.
        if self._conditions.is_queued(replace(waiting.task, turn=queued_turn).workflow):
            self._start(waiting, turn)

    def _take_over(self, sweep: Callable[[], Mapping[str, int]]) -> None:
        """Believe the engine about which tasks are worked at, less what ended since the engine was asked before.

        The engine writes down the end of a workflow a moment after the workflow.
        """
        with self._lock:
            ended, self._ended = self._ended, set()
        turns = sweep()
        with self._lock:
            self._turns = dict(turns.items() - ended - self._ended)

    def _begin_all(self, due: Sequence[Waiting]) -> None:
        """Start the next turn of each task; a group of them is counted in one transaction, and so synced once."""
        for start in range(0, len(due), _GROUP):
            group = due[start : start + _GROUP]
            turns = self._tasks.begin_all([waiting.task for waiting in group])
            for waiting, turn in zip(group, turns, strict=True):
                self._start(waiting, turn)

    def _start(self, waiting: Waiting, turn: int) -> None:
        task = replace(waiting.task, turn=turn)
        with self._lock:
            self._turns[task.name] = turn
        try:
            self._start_workflow(replace(waiting, task=task))
            self._looked_at_s = time.monotonic()
        except (DatabaseUnavailable, SQLAlchemyError):
            self._discard(task)
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of a job: its fault must not hold back the next
            self._discard(task)
            about = {"action": "not_started", "job": task.job}
            log.error("a task was not started: %s", logs.raised_at(error), extra=about)  # noqa: TRY400

    def _discard(self, task: Task) -> None:
        """Forget a turn; a newer turn of the task goes on."""
        with self._lock:
            if self._turns.get(task.name) == task.turn:
                del self._turns[task.name]

    def _note_outage(self, reason: str) -> None:
        """Log the begin and the end of an outage."""
        if reason and not self._is_away:
            log.error("jobs wait: %s", reason, extra={"action": "jobs_wait"})
        elif self._is_away and not reason:
            log.info("jobs go on", extra={"action": "jobs_back"})
        self._is_away = bool(reason)
