"""What failed and is tried no more by itself, and what of it somebody has tried again."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.keeping.backlog import current_deliveries
from ainode.node.keeping.database import aware
from ainode.node.keeping.job_events import JobEvent, JobEventKind, JobEvents, Subject, of_addendum, subject_of
from ainode.node.keeping.schema import addenda, deliveries, documents, job_events, jobs, judgements

Documents: TypeAlias = Mapping[DocumentKind, int]
"""how many documents of each kind"""
_ARRIVED: Final = frozenset({DeliveryState.SENT, DeliveryState.CONFIRMED})
_LIVE: Final = (JobState.WAITING, JobState.READING)
_ASKED: Final = (JobEventKind.TRIED_AGAIN, JobEventKind.CHECKED_AGAIN)
"""what the archive turned out to miss goes again because of who had the archive asked"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A reading, or the documents of a job on their way to one destination, that failed and is tried no more."""

    job: str
    study_instance_uid: UID
    route: str
    destination: str
    """'' of a reading"""
    documents: Documents
    """what was given up; nothing of a reading"""
    is_report_there: bool
    """whether the destination has what the reading made, so that addenda alone were given up"""
    reason: str
    given_up_at: datetime | None
    """None of what an earlier version gave up"""
    attempts: int
    """0 where that is not known"""


@dataclass(frozen=True, slots=True)
class Retry:
    """What was given up, and is under way again because somebody wanted that."""

    job: str
    study_instance_uid: UID
    route: str
    destination: str
    """'' of a reading"""
    documents: Documents
    at: datetime
    """when somebody wanted that"""
    person: str
    error: str
    """why the last attempt since then failed; '' if none failed"""


@dataclass(frozen=True, slots=True)
class _Place:
    """The documents of a job at one destination."""

    counts: Counter[tuple[DocumentKind, DeliveryState]]
    errors: Mapping[DeliveryState, tuple[str, ...]]

    def documents(self, *states: DeliveryState) -> Documents:
        """Return the documents in some states, in the order of their kinds."""
        counts = {kind: sum(self.counts[kind, state] for state in states) for kind in DocumentKind}
        return {kind: count for kind, count in counts.items() if count}

    def reason(self, *states: DeliveryState) -> str:
        """Return why documents are in some states."""
        return "; ".join(dict.fromkeys(error for state in states for error in self.errors.get(state, ())))

    @property
    def is_report_there(self) -> bool:
        """Return whether what the reading made is there."""
        return all(state in _ARRIVED for kind, state in self.counts if kind is not DocumentKind.ASSESSMENT)


class DeadLetters:
    """Reads dead letters; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def page(self, *, count: int, offset: int = 0) -> tuple[DeadLetter, ...]:
        """Return what failed and is tried no more, what was given up last first."""
        given_up_at, queued_at = (sa.column(name, sa.DateTime(timezone=True)) for name in ("given_up_at", "queued_at"))
        order = (sa.func.coalesce(given_up_at, queued_at).desc(), "job", "destination")
        query = _dead_letters().order_by(*order).limit(count).offset(offset)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
            places = _places(connection, {row.job for row in rows})
        events = JobEvents(self._engine).of({row.job for row in rows})
        return tuple(_letter(row, places.get((row.job, row.destination)), events.get(row.job, ())) for row in rows)

    def count(self) -> int:
        """Return how many dead letters there are."""
        with self._engine.connect() as connection:
            count = sa.select(sa.func.count()).select_from(_dead_letters().subquery())
            return int(connection.execute(count).scalar_one())

    def retries(self, *, count: int) -> tuple[Retry, ...]:
        """Return what somebody has tried again and what is not over yet, the newest first."""
        names = (jobs.c.study_instance_uid, jobs.c.route, jobs.c.reason)
        query = (
            sa.select(job_events, *names)
            .select_from(job_events.join(jobs))
            .where(job_events.c.kind.in_(_ASKED), _is_under_way())
            .order_by(job_events.c.id.desc())
            .limit(count)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
            places = _places(connection, {row.job for row in rows})
        # The newest wish for a job and a destination stands first.
        newest = {(row.job, row.destination): row for row in reversed(rows)}
        return tuple(_retry(row, places.get(key)) for key, row in reversed(newest.items()))


def _is_under_way() -> sa.ColumnElement[bool]:
    """Return the condition that what an event is about has not ended."""
    is_read = (job_events.c.subject == Subject.READING) & jobs.c.state.in_(_LIVE)
    is_open = (deliveries.c.state == DeliveryState.WAITING) | (
        (deliveries.c.state == DeliveryState.SENT) & ~deliveries.c.settled
    )
    # An addendum to a later judgement is nobody's retry.
    was_there = (
        sa.exists()
        .where(
            addenda.c.sop_instance_uid == documents.c.sop_instance_uid,
            judgements.c.id == addenda.c.judgement,
            judgements.c.judged_at <= job_events.c.at,
        )
        .correlate(documents, job_events)
    )
    is_meant = sa.case(
        (of_addendum(), (job_events.c.subject == Subject.ADDENDUM) & was_there),
        else_=job_events.c.subject == Subject.RESULTS,
    )
    is_delivered = (
        sa.exists()
        .where(
            documents.c.job == job_events.c.job,
            deliveries.c.sop_instance_uid == documents.c.sop_instance_uid,
            deliveries.c.destination == job_events.c.destination,
            jobs.c.state != JobState.SUPERSEDED,
            is_open,
            is_meant,
        )
        .correlate(job_events, jobs)
    )
    return is_read | is_delivered


def _dead_letters() -> sa.Select[Any]:
    columns = [jobs.c[name] for name in ("study_instance_uid", "route", "queued_at")]
    readings = sa.select(
        jobs.c.id.label("job"),
        *columns,
        sa.literal("").label("destination"),
        jobs.c.reason,
        jobs.c.attempts,
        jobs.c.finished_at.label("given_up_at"),
    ).where(jobs.c.state == JobState.FAILED)
    of_whom = (job_events.c.job, job_events.c.destination, job_events.c.subject)
    given_up = (
        sa.select(*of_whom, sa.func.max(job_events.c.at).label("at"))
        .where(job_events.c.kind == JobEventKind.GIVEN_UP)
        .group_by(*of_whom)
        .subquery()
    )
    is_own = (
        (given_up.c.job == jobs.c.id)
        & (given_up.c.destination == deliveries.c.destination)
        & (of_addendum() == (given_up.c.subject == Subject.ADDENDUM))
    )
    unsent = (
        sa.select(
            jobs.c.id.label("job"),
            *columns,
            deliveries.c.destination,
            sa.literal("").label("reason"),
            sa.literal(0).label("attempts"),
            sa.func.max(given_up.c.at).label("given_up_at"),
        )
        .select_from(current_deliveries().outerjoin(given_up, is_own))
        .where(deliveries.c.state == DeliveryState.FAILED)
        .group_by(jobs.c.id, *columns, deliveries.c.destination)
    )
    return sa.select(sa.union_all(readings, unsent).subquery())


def _places(connection: Connection, job_ids: Iterable[str]) -> dict[tuple[str, str], _Place]:
    """Return the documents of jobs by job and destination."""
    names = ("destination", "state", "settled", "error")
    columns = (documents.c.job, documents.c.kind, *(deliveries.c[name] for name in names))
    query = (
        sa.select(*columns, sa.func.count().label("number"))
        .select_from(deliveries.join(documents))
        .where(documents.c.job.in_(job_ids))
        .group_by(*columns)
        .order_by(*columns)
    )
    places: dict[tuple[str, str], _Place] = {}
    errors: dict[tuple[str, str], dict[DeliveryState, tuple[str, ...]]] = {}
    for row in connection.execute(query):
        key, state = (row.job, row.destination), DeliveryState(row.state)
        if row.settled and state is DeliveryState.SENT:
            state = DeliveryState.CONFIRMED  # asked for no more: it has arrived, as far as anybody will know
        of_place = errors.setdefault(key, {})
        place = places.setdefault(key, _Place(Counter(), of_place))
        place.counts[DocumentKind(row.kind), state] += row.number
        if row.error:
            of_place[state] = (*of_place.get(state, ()), row.error)
    return places


def _letter(row: Any, place: _Place | None, events: Iterable[JobEvent]) -> DeadLetter:  # noqa: ANN401
    failed = DeliveryState.FAILED
    attempts = row.attempts
    given_up = place.documents(failed) if place else {}
    subjects = {subject_of(kind) for kind in given_up}
    for event in events:
        if (event.kind, event.destination) == (JobEventKind.GIVEN_UP, row.destination) and event.subject in subjects:
            attempts = event.attempts
    return DeadLetter(
        job=row.job,
        study_instance_uid=UID(row.study_instance_uid),
        route=row.route,
        destination=row.destination,
        documents=given_up,
        is_report_there=place is not None and place.is_report_there,
        reason=place.reason(failed) if place else row.reason,
        given_up_at=aware(row.given_up_at) if row.given_up_at else None,
        attempts=attempts,
    )


def _retry(row: Any, place: _Place | None) -> Retry:  # noqa: ANN401 - rows have the columns of their query
    states = (DeliveryState.WAITING, DeliveryState.SENT)
    return Retry(
        job=row.job,
        study_instance_uid=UID(row.study_instance_uid),
        route=row.route,
        destination=row.destination,
        documents=place.documents(*states) if place else {},
        at=aware(row.at),
        person=row.person,
        error=place.reason(*states) if place else row.reason,
    )
