"""What the rows of a job forget: that something was given up, and who had it tried again.

A row is written in the transaction that changes the state, and goes with its job.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import DocumentKind
from ainode.node.keeping.database import aware, chunks
from ainode.node.keeping.schema import deliveries, documents, job_events, jobs


class JobEventKind(StrEnum):
    """What happened."""

    GIVEN_UP = "given_up"
    CANCELLED = "cancelled"
    TRIED_AGAIN = "tried_again"
    """somebody had it tried again"""
    CHECKED_AGAIN = "checked_again"
    """somebody had an archive asked what it still has"""


class Subject(StrEnum):
    """What an event is about."""

    READING = "reading"
    RESULTS = "results"
    """documents that the reading made"""
    ADDENDUM = "addendum"
    """documents of judgements"""


@dataclass(frozen=True, slots=True)
class Instruction:
    """That a person has something done again."""

    at: datetime
    person: str = ""
    """'' on a terminal"""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job; the fields are columns of `job_events`."""

    job: str
    at: datetime
    kind: JobEventKind
    subject: Subject
    destination: str = ""
    """'' of a reading"""
    count: int = 1
    """documents"""
    attempts: int = 0
    """that failed until it was given up"""
    error: str = ""
    person: str = ""


class JobEvents:
    """Reads the events; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def of(self, job_ids: Iterable[str]) -> Mapping[str, tuple[JobEvent, ...]]:
        """Return the events of each job that has any, oldest first."""
        events: dict[str, tuple[JobEvent, ...]] = {}
        with self._engine.connect() as connection:
            for some in chunks(job_ids):
                query = sa.select(job_events).where(job_events.c.job.in_(some)).order_by(job_events.c.id)
                for row in connection.execute(query):
                    events[row.job] = (*events.get(row.job, ()), _event_of(row))
        return events

    def given_up(self, since: datetime) -> tuple[JobEvent, ...]:
        """Return what was given up since a time, oldest first."""
        is_meant = job_events.c.kind == JobEventKind.GIVEN_UP, job_events.c.at >= since
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(job_events).where(*is_meant).order_by(job_events.c.id))
            return tuple(map(_event_of, rows))


def subject_of(kind: DocumentKind) -> Subject:
    """Return whether a document is of the reading, or an addendum to its report."""
    return Subject.ADDENDUM if kind is DocumentKind.ASSESSMENT else Subject.RESULTS


def of_addendum() -> sa.ColumnElement[bool]:
    """Return the condition that a document is an addendum; its text is always the same, so that rows may be grouped."""
    return documents.c.kind == sa.literal(DocumentKind.ASSESSMENT.value, literal_execute=True)


def write_events(connection: Connection, events: Iterable[JobEvent]) -> None:
    """Write events in the transaction of a connection."""
    if rows := [asdict(event) for event in events]:
        connection.execute(sa.insert(job_events), rows)


def write_reading_event(connection: Connection, event: JobEvent) -> None:
    """Write an event of a reading, with the attempts that the job counts."""
    attempts = sa.select(jobs.c.attempts).where(jobs.c.id == event.job).scalar_subquery()
    connection.execute(sa.insert(job_events).values({**asdict(event), "attempts": attempts}))


def write_instruction(
    connection: Connection,
    job: str,
    kind: JobEventKind,
    instruction: Instruction,
    conditions: Sequence[sa.ColumnElement[bool]],
) -> None:
    """Write what becomes of deliveries because a person wants it; call before the deliveries change."""
    query = sa.select(deliveries.c.destination, documents.c.kind).select_from(deliveries.join(documents))
    rows = connection.execute(query.where(*conditions).order_by(deliveries.c.destination)).all()
    counts = Counter((subject_of(DocumentKind(row.kind)), row.destination) for row in rows)
    write_events(
        connection,
        (
            JobEvent(job, instruction.at, kind, subject, destination, count, person=instruction.person)
            for (subject, destination), count in counts.items()
        ),
    )


def _event_of(row: Any) -> JobEvent:  # noqa: ANN401 - rows have the columns of their query
    kind, subject = JobEventKind(row.kind), Subject(row.subject)
    of_delivery = (row.destination, row.count, row.attempts, row.error, row.person)
    return JobEvent(row.job, aware(row.at), kind, subject, *of_delivery)
