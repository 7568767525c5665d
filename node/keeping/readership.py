"""Which handlers no process reads with, or fewer than before: workers that are away, and what waits for them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ainode.node.domain import JobState, counted
from ainode.node.keeping.executors import Departure, Executor, ExecutorKind, Executors
from ainode.node.keeping.schema import jobs, tasks


@dataclass(frozen=True, slots=True)
class Shortage:
    """A handler that lacks a process."""

    handler: str
    waiting_count: int
    """readings that wait for the handler"""
    lost: tuple[Executor, ...]
    """workers that read with it, ended without being asked to, and did not come back"""
    is_unread: bool
    """whether no process reads with the handler"""

    @property
    def summary(self) -> str:
        """Return what is wrong, in words that name no machine."""
        verb = "waits" if self.waiting_count == 1 else "wait"
        subject = "no process reads" if self.is_unread else "fewer processes read than before"
        return f"{subject} with {self.handler}, {counted(self.waiting_count, 'reading')} {verb}"

    @property
    def remedy(self) -> str:
        """Return who is lost, and what to do."""
        if not self.lost:
            return f"start `ainode worker --models {self.handler}`"
        workers = ", ".join(f"{worker.name!r} on {worker.host} ({worker.departure})" for worker in self.lost)
        return f"lost: worker {workers}; see the end of its log, and start it again"


def lost_workers(executors: Iterable[Executor]) -> tuple[Executor, ...]:
    """Return the workers that ended without being asked to, and that none of their name has followed.

    `executors` are in the order of `Executors.all`.
    """
    living, newest = set[str](), dict[str, Executor]()
    for executor in executors:
        if executor.kind is ExecutorKind.WORKER and executor.is_dead:
            newest[executor.name] = executor
        elif not executor.is_dead:
            living.add(executor.name)
    ends = {"", Departure.LEFT}
    return tuple(worker for worker in newest.values() if worker.name not in living and worker.departure not in ends)


class Readership:
    """Asks who reads with which handler; a question changes nothing."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._executors = engine, Executors(engine)

    def shortages(self, handlers: Sequence[str]) -> tuple[Shortage, ...]:
        """Return the handlers that no process reads with, and those that readings wait for since a worker is lost.

        None on SQLite, where the node reads with all, and none while no process lives at all.
        """
        executors = self._executors.all()
        living = [executor for executor in executors if not executor.is_dead]
        if not living:
            return ()
        counts, lost = self.waiting_counts(), lost_workers(executors)
        shortages = []
        for handler in handlers:
            readers = tuple(worker for worker in lost if handler in worker.handlers)
            is_unread = not any(handler in executor.handlers for executor in living)
            count = counts.get(handler, 0)
            if is_unread or (readers and count):
                shortages.append(Shortage(handler, count, readers, is_unread))
        return tuple(shortages)

    def waiting_counts(self) -> Mapping[str, int]:
        """Return how many readings wait for each handler; those that wait for none are left out."""
        query = sa.select(jobs.c.handler, sa.func.count()).where(jobs.c.state == JobState.WAITING)
        return self._counts(query.group_by(jobs.c.handler))

    def reading_counts(self) -> Mapping[str, int]:
        """Return how many studies each executor reads, by its identifier; those that read none are left out."""
        of_job = tasks.join(jobs, (jobs.c.id == tasks.c.job) & (jobs.c.state == JobState.READING))
        query = sa.select(tasks.c.executor, sa.func.count()).select_from(of_job).where(tasks.c.executor != "")
        return self._counts(query.group_by(tasks.c.executor))

    def _counts(self, query: sa.Select[Any]) -> Mapping[str, int]:
        with self._engine.connect() as connection:
            return {name: int(count) for name, count in connection.execute(query)}
