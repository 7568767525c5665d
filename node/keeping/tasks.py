"""What remains to be done for jobs, and when it is tried next.

What remains follows from the states of jobs and deliveries, so a kill between two writes leaves no task behind and
invents none. A row of the table `tasks` holds only the schedule of a task.
"""

import functools
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import DeliveryState, DocumentKind, JobState
from ainode.node.keeping.database import aware, insert
from ainode.node.keeping.executors import LOSSES
from ainode.node.keeping.schema import deliveries, documents, executors, jobs, tasks

MESSAGES: Final = [kind for kind in DocumentKind if kind.is_message]
"""the kinds of documents that are no DICOM objects"""
# Half of what a column of PostgreSQL takes: the other half is left to count on.
_MOST_FIRST_TURN: Final = 1 << 30


class TaskKind(StrEnum):
    """What is to be done."""

    READ = "read"
    """search the priors of a study if its route has priors, then read the study"""
    SEND = "send"
    """send the waiting documents of a job to a destination"""
    CONFIRM = "confirm"
    """ask a destination for a proof that it has what was sent"""
    CHECK = "check"
    """ask a destination whether it still has what it had: somebody asked for the results"""


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to be done for one job."""

    job: str
    kind: TaskKind
    destination: str = ""
    turn: int = 0
    """number of the workflow that works at the task; an older workflow changes nothing"""
    attempts: int = 0
    """attempts that failed, without those that waited for room on the disk"""
    due_at: datetime | None = None
    """when to try next; None: now"""

    @property
    def name(self) -> str:
        """Return the name that all turns of the task share."""
        return f"{self.job}:{self.kind}:{self.destination}"

    @property
    def is_repeated_reading(self) -> bool:
        """Return whether the task is the reading of a study that was postponed before."""
        return self.kind is TaskKind.READ and self.due_at is not None

    @property
    def workflow(self) -> str:
        """Return the identifier of the workflow of this turn."""
        return f"{self.name}:{self.turn}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task of a job, with what decides where and when the task is worked at."""

    task: Task
    route: str
    handler: str
    priority: int
    """of the job; 1 of documents that leave before the rest of their reading"""
    searched: bool
    queued_at: datetime


@dataclass(frozen=True, slots=True)
class Losses:
    """The processes that were killed, or fell silent, while they read a study."""

    count: int
    last: str
    """name of the process that was lost since the reading was taken before; '' where none was"""


class Tasks:
    """Lists what remains to be done, and keeps the schedule; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def waiting(self, unconfirmed: Sequence[str], of_jobs: Collection[str] | None = None) -> tuple[Waiting, ...]:
        """Return every task, or those of some jobs, oldest job first.

        Nothing is to be confirmed at an `unconfirmed` destination.
        """
        values: dict[str, object] = {"unconfirmed": tuple(unconfirmed)}
        if of_jobs is not None:
            values["of_jobs"] = tuple(of_jobs)
        queries = _queries(of_some_jobs=of_jobs is not None)
        with self._engine.connect() as connection:
            return tuple(_waiting(row) for query in queries for row in connection.execute(query, values))

    def begin(self, task: Task) -> int:
        """Count a new turn of a task and return its number: from now on older turns change nothing."""
        return self.begin_all([task])[0]

    def begin_all(self, due: Sequence[Task]) -> tuple[int, ...]:
        """Count a new turn of each task, in one transaction; return their numbers in the same order.

        The first number is random: the engine may know turns of a ledger that was lost, and runs none of them again.
        """
        with self._engine.begin() as connection:
            return tuple(self._begin(connection, task) for task in due)

    def _begin(self, connection: Connection, task: Task) -> int:
        key = {"job": task.job, "kind": task.kind, "destination": task.destination}
        statement = insert(self._engine, tasks).values(**key, turn=secrets.randbelow(_MOST_FIRST_TURN))
        count = statement.on_conflict_do_update(index_elements=list(key), set_={"turn": tasks.c.turn + 1})
        return int(connection.execute(count.returning(tasks.c.turn)).scalar_one())

    def is_current(self, task: Task) -> bool:
        """Return whether no newer turn of the task was begun."""
        query = sa.select(tasks.c.turn).where(*_is(task))
        with self._engine.connect() as connection:
            return bool(connection.execute(query).scalar() == task.turn)

    def attempts(self, task: Task) -> int:
        """Return how many attempts of the task have failed."""
        query = sa.select(tasks.c.attempts).where(*_is(task))
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def take(self, task: Task, executor: str) -> Losses:
        """Note who begins a reading; return how many processes were lost while they were at it.

        A process that left, and one on other terms than the node's, are no loss; nor is one that had ended its attempt.
        """
        query = (
            sa.select(tasks.c.executor, tasks.c.losses, executors.c.name)
            .select_from(tasks.outerjoin(executors, _is_lost_reader()))
            .where(*_is(task))
        )
        with self._engine.begin() as connection:
            row = connection.execute(query).one()
            losses = Losses(row.losses + (row.name is not None), row.name or "")
            taken = {"executor": executor, "losses": losses.count}
            connection.execute(sa.update(tasks).where(*_is(task)).values(taken))
        return losses

    def postpone(self, task: Task, due_at: datetime, *, attempts: int) -> None:
        """Try a task again at that time, and nobody is at it until then; `attempts` is how many have failed so far."""
        values = {"due_at": due_at, "attempts": attempts, "executor": ""}
        with self._engine.begin() as connection:
            connection.execute(sa.update(tasks).where(*_is(task)).values(values))


def forget_attempts(connection: Connection, job: str) -> None:
    """Let what joins the deliveries of a job have all its attempts, at each destination where nothing is under way."""
    is_open = deliveries.c.state.in_((DeliveryState.WAITING, DeliveryState.SENT, DeliveryState.CHECKING))
    under_way = (
        sa.select(deliveries.c.destination)
        .select_from(deliveries.join(documents))
        .where(documents.c.job == job, is_open, ~deliveries.c.settled)
    )
    at_rest = (tasks.c.job == job, tasks.c.destination.not_in(under_way))
    connection.execute(sa.update(tasks).where(*at_rest).values(attempts=0, due_at=None))


def _is(task: Task) -> tuple[sa.ColumnElement[bool], ...]:
    return tasks.c.job == task.job, tasks.c.kind == task.kind, tasks.c.destination == task.destination


def _is_lost_reader() -> sa.ColumnElement[bool]:
    return (executors.c.id == tasks.c.executor) & executors.c.departure.in_(LOSSES)


def _columns(
    kind: sa.ColumnElement[str], destination: sa.ColumnElement[str], priority: sa.ColumnElement[int]
) -> list[sa.ColumnElement[Any]]:
    return [
        *(jobs.c.id, jobs.c.route, jobs.c.handler, priority.label("priority"), jobs.c.searched, jobs.c.queued_at),
        *(kind.label("kind"), destination.label("destination")),
        *(tasks.c.turn, tasks.c.attempts, tasks.c.due_at),
    ]


def _schedule_of(kind: sa.ColumnElement[str], destination: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return (tasks.c.job == jobs.c.id) & (tasks.c.kind == kind) & (tasks.c.destination == destination)


@functools.cache
def _queries(*, of_some_jobs: bool) -> tuple[sa.Select[Any], ...]:
    """Return the queries of readings and of deliveries, made once: the dispatcher asks them all the time."""
    queries = _readings(), _deliveries()
    if not of_some_jobs:
        return queries
    return tuple(query.where(jobs.c.id.in_(sa.bindparam("of_jobs", expanding=True))) for query in queries)


def _readings() -> sa.Select[Any]:
    kind, destination = sa.literal(TaskKind.READ.value), sa.literal("")
    return (
        sa.select(*_columns(kind, destination, jobs.c.priority))
        .select_from(jobs.outerjoin(tasks, _schedule_of(kind, destination)))
        .where(jobs.c.state.in_((JobState.WAITING, JobState.READING)))
        .order_by(jobs.c.queued_at)
    )


def _deliveries() -> sa.Select[Any]:
    """Return the query of what is to be sent, confirmed or checked.

    Nothing of a superseded job is sent, and of a withdrawn result messages alone, the last of which withdraw it.
    """
    is_waiting, is_checked = (deliveries.c.state == state for state in (DeliveryState.WAITING, DeliveryState.CHECKING))
    kinds = ((is_waiting, TaskKind.SEND.value), (is_checked, TaskKind.CHECK.value))
    kind = sa.case(*kinds, else_=TaskKind.CONFIRM.value)
    is_valid = (jobs.c.state != JobState.SUPERSEDED) & (jobs.c.withdrawn_at.is_(None) | documents.c.kind.in_(MESSAGES))
    to_send = is_waiting & is_valid
    is_unproven = (deliveries.c.state == DeliveryState.SENT) & ~deliveries.c.settled
    to_confirm = is_unproven & deliveries.c.destination.not_in(sa.bindparam("unconfirmed", expanding=True))
    priority = sa.case((documents.c.position < 0, 1), else_=jobs.c.priority)
    documents_of_jobs = deliveries.join(documents).join(jobs, documents.c.job == jobs.c.id)
    return (
        sa.select(*_columns(kind, deliveries.c.destination, priority))
        .select_from(documents_of_jobs.outerjoin(tasks, _schedule_of(kind, deliveries.c.destination)))
        .where(to_send | is_checked | to_confirm)
        .distinct()
        .order_by(jobs.c.id)
    )


def _waiting(row: sa.Row[Any]) -> Waiting:
    due_at = aware(row.due_at) if row.due_at else None
    task = Task(row.id, TaskKind(row.kind), row.destination, row.turn or 0, row.attempts or 0, due_at)
    return Waiting(task, row.route, row.handler, row.priority, row.searched, aware(row.queued_at))
