"""Whether a process may still act for a task: asked right before each send, and in each transaction of its work.

A process that was stopped, or cut off from the database, for longer than its beat may miss is taken for dead: others do
its work. When it goes on it must send nothing and write nothing, whatever it was about to do.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.errors import LeaseLost
from ainode.node.keeping.schema import executors, tasks
from ainode.node.keeping.tasks import Task

_TIMEOUT: Final = "idle_in_transaction_session_timeout"


class Lease(Protocol):
    """The right of a process to act."""

    is_shared: bool
    """whether other processes work at jobs, too"""
    executor: str
    """the identifier of the process among those; '' where there is no other"""

    def holding(self, task: Task | None) -> AbstractContextManager[None]:
        """Act for a task, or for the process alone, within the block.

        Every transaction of this thread is refused there once the process is dead, or a newer turn of the task begun.
        """

    def refuse_lost(self) -> None:
        """Return if this thread may act now.

        Raises: LeaseLost; DatabaseUnavailable.
        """


class SoleLease:
    """The lease of the only process that works at jobs: nobody can take it."""

    is_shared, executor = False, ""

    def holding(self, task: Task | None) -> AbstractContextManager[None]:
        """Do nothing."""
        del task
        return nullcontext()

    def refuse_lost(self) -> None:
        """Do nothing."""


class SharedLease:
    """The lease of one executor of several, on PostgreSQL."""

    is_shared = True

    def __init__(self, engine: sa.Engine, executor: str, dead_after_s: float) -> None:
        """Have every transaction on the engine begin with the question, in threads that hold a task."""
        self._engine, self.executor = engine, executor
        # A process that stands still in the middle of a transaction loses it before others take it for dead: the server
        # ends the transaction then, and what was asked at its begin holds until its end.
        self._timeout_ms = str(round(dead_after_s * 1000 / 2))
        self._held: ContextVar[Task | None] = ContextVar("task")
        sa.event.listen(engine, "begin", self._refuse_lost_in)

    @contextmanager
    def holding(self, task: Task | None) -> Iterator[None]:
        """Act for a task within the block."""
        token = self._held.set(task)
        try:
            yield
        finally:
            self._held.reset(token)

    def refuse_lost(self) -> None:
        """Ask the database, whether or not this thread holds a task."""
        with self.holding(self._held.get(None)), self._engine.begin():
            pass

    def _refuse_lost_in(self, connection: Connection) -> None:
        try:
            task = self._held.get()
        except LookupError:  # of the intake, of a page: what they write is true whoever lives
            return
        alive = sa.exists().where(executors.c.id == self.executor, executors.c.dead_at.is_(None))
        is_current = sa.true() if task is None else _is_current(task)
        timeout = sa.func.set_config(_TIMEOUT, self._timeout_ms, True)  # noqa: FBT003 - of this transaction
        _, lives, holds = connection.execute(sa.select(timeout, alive, is_current)).one()
        if not lives:
            raise LeaseLost("others took this process for dead, and do its work; what it was about to do is left")
        if not holds:
            raise LeaseLost(f"job {task.job if task else ''}: another attempt was begun; this one is left")


def _is_current(task: Task) -> sa.ColumnElement[bool]:
    of_task = (tasks.c.job == task.job, tasks.c.kind == task.kind, tasks.c.destination == task.destination)
    return sa.exists().where(*of_task, tasks.c.turn == task.turn)
