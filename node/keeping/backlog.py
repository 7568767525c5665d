"""What waits and since when, what failed, and what passed between the node and each peer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from ainode.node.domain import DeliveryState, JobState, counted
from ainode.node.keeping.announcements import Fetching
from ainode.node.keeping.database import aware, chunks, count_if
from ainode.node.keeping.job_events import JobEventKind, of_addendum
from ainode.node.keeping.records import REPLACED
from ainode.node.keeping.schema import (
    announcements,
    answers,
    deliveries,
    documents,
    instances,
    job_events,
    jobs,
    studies,
)

_WAITING_DELIVERIES: Final = (DeliveryState.WAITING, DeliveryState.SENT, DeliveryState.CHECKING)


@dataclass(frozen=True, slots=True)
class Queue:
    """Entries of one kind that wait."""

    name: str
    count: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Length:
    """The jobs of a route, or the deliveries to a destination, in one state."""

    owner: str
    """the route or the destination"""
    state: str
    count: int
    oldest: datetime
    """when the job of the oldest was queued"""


@dataclass(frozen=True, slots=True)
class Failures:
    """The readings that failed in a period and were not repeated with success."""

    count: int
    first_queued_at: datetime | None
    """None where no reading failed"""
    last_reason: str
    """of the reading that failed last"""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The documents that one destination did not take, or did not prove, at the last attempt; the node tries again."""

    destination: str
    count: int
    """without the addenda"""
    addendum_count: int
    oldest: datetime
    """when the oldest of the readings was queued"""
    last_error: str

    @property
    def words(self) -> str:
        """Return what is wrong, without the error."""
        documents = counted(self.count, "document") if self.count else ""
        addenda = counted(self.addendum_count, "addendum", "addenda") if self.addendum_count else ""
        verb = "has" if self.count + self.addendum_count == 1 else "have"
        what = " and ".join(filter(None, (documents, addenda)))
        return f"{what} {verb} not reached {self.destination}: the last attempt failed, the node tries again"


@dataclass(frozen=True, slots=True)
class Traffic:
    """The documents that one destination got or misses."""

    destination: str
    waiting: int
    sent: int
    confirmed: int
    """since the beginning of the period"""
    failed: int
    last_confirmed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Source:
    """What one AE title sent."""

    ae_title: str
    study_count: int
    instance_count: int
    size_bytes: int
    last_received_at: datetime


class Backlog:
    """Answers questions about queues; a question changes nothing."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def queues(self) -> tuple[Queue, ...]:
        """Return each queue, in the order of a study's way through the node."""
        queries = [
            ("readings that wait", _oldest(jobs.c.queued_at, jobs.c.state == JobState.WAITING)),
            ("readings that run", _oldest(jobs.c.queued_at, jobs.c.state == JobState.READING)),
        ]
        of_state = sa.select(sa.func.count(), sa.func.min(jobs.c.queued_at)).select_from(current_deliveries())
        words = ("documents to be sent", "documents sent, not confirmed", "documents to be checked in an archive")
        queries += [
            (name, of_state.where(deliveries.c.state == state, ~deliveries.c.settled))
            for name, state in zip(words, _WAITING_DELIVERIES, strict=True)
        ]
        return (*self.studies(), *self._queues(queries))

    def studies(self) -> tuple[Queue, Queue]:
        """Return the studies that are to be fetched, and those that came and are not routed yet."""
        announced, unrouted = self._queues(
            [
                ("studies announced, to be fetched", _oldest(announcements.c.announced_at, _is_fetched_later())),
                ("studies not complete, or not routed", _oldest(studies.c.last_received_at, ~studies.c.is_routed)),
            ]
        )
        return announced, unrouted

    def _queues(self, queries: Iterable[tuple[str, sa.Select[int, Any]]]) -> tuple[Queue, ...]:
        with self._engine.connect() as connection:
            rows = [(name, *connection.execute(query).one()) for name, query in queries]
        return tuple(Queue(name, count, aware(oldest) if oldest else None) for name, count, oldest in rows)

    def jobs(self) -> tuple[Length, ...]:
        """Return how many jobs each route has in each state."""
        keys = jobs.c.route, jobs.c.state
        query = sa.select(*keys, sa.func.count(), sa.func.min(jobs.c.queued_at)).group_by(*keys).order_by(*keys)
        return self._lengths(query)

    def handlers(self) -> frozenset[str]:
        """Return the names of the handlers that have a study to read, or read one.

        Raises: DatabaseUnavailable.
        """
        query = sa.select(jobs.c.handler).distinct().where(jobs.c.state.in_((JobState.WAITING, JobState.READING)))
        with self._engine.connect() as connection:
            return frozenset(connection.execute(query).scalars())

    def deliveries(self) -> tuple[Length, ...]:
        """Return how many documents have to reach each destination, wait for a proof of it, or failed."""
        keys = deliveries.c.destination, deliveries.c.state
        is_open = deliveries.c.state.in_((*_WAITING_DELIVERIES, DeliveryState.FAILED)) & ~deliveries.c.settled
        query = sa.select(*keys, sa.func.count(), sa.func.min(jobs.c.queued_at)).select_from(current_deliveries())
        return self._lengths(query.where(is_open).group_by(*keys).order_by(*keys))

    def _lengths(self, query: sa.Select[Any]) -> tuple[Length, ...]:
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(Length(owner, state, count, aware(oldest)) for owner, state, count, oldest in rows)

    def answered(self, job_ids: Iterable[str]) -> Mapping[str, tuple[str, datetime]]:
        """Return the route of each job that has an answer, and when it had it."""
        answers_by_job: dict[str, tuple[str, datetime]] = {}
        with self._engine.connect() as connection:
            for some in chunks(job_ids):
                query = sa.select(answers.c.job, answers.c.route, answers.c.at).where(answers.c.job.in_(some))
                answers_by_job |= {job: (route, aware(at)) for job, route, at in connection.execute(query)}
        return answers_by_job

    def waiting_since(self) -> tuple[Queue, ...]:
        """Return the readings that wait and the documents to be sent; what somebody had tried again waits since then.

        A document waits since its reading ended.
        """
        again = job_events.c.kind.in_((JobEventKind.TRIED_AGAIN, JobEventKind.CHECKED_AGAIN))
        asked_at = sa.select(sa.func.max(job_events.c.at)).where(job_events.c.job == jobs.c.id, again).scalar_subquery()
        read_at = sa.func.coalesce(asked_at, jobs.c.finished_at, jobs.c.queued_at)
        readings = sa.select(sa.func.count(), sa.func.min(sa.func.coalesce(asked_at, jobs.c.queued_at)))
        sent = sa.select(sa.func.count(), sa.func.min(read_at)).select_from(current_deliveries())
        is_waiting = deliveries.c.state == DeliveryState.WAITING, ~deliveries.c.settled
        queries = {
            "readings": readings.where(jobs.c.state == JobState.WAITING),
            "documents": sent.where(*is_waiting),
        }
        return self._queues(queries.items())

    def failures(self, since: datetime) -> Failures:
        """Return the readings that failed since a time."""
        # A job that an earlier version failed has no time of its end.
        ended_at = sa.func.coalesce(jobs.c.finished_at, jobs.c.queued_at)
        conditions = jobs.c.state == JobState.FAILED, ended_at >= since
        counts = sa.select(sa.func.count(), sa.func.min(jobs.c.queued_at)).where(*conditions)
        newest = sa.select(jobs.c.reason).where(*conditions).order_by(ended_at.desc()).limit(1)
        with self._engine.connect() as connection:
            count, first = connection.execute(counts).one()
            return Failures(count, aware(first) if first else None, connection.execute(newest).scalar() or "")

    def undelivered_count(self, since: datetime) -> int:
        """Return how many documents were given up that were tried, or whose job was queued, since a time."""
        tried_at = sa.func.coalesce(deliveries.c.tried_at, jobs.c.queued_at)
        query = sa.select(sa.func.count()).select_from(current_deliveries())
        with self._engine.connect() as connection:
            conditions = deliveries.c.state == DeliveryState.FAILED, tried_at >= since
            return int(connection.execute(query.where(*conditions)).scalar_one())

    def troubles(self) -> tuple[Trouble, ...]:
        """Return the destinations where the last attempt for a document that is still under way failed."""
        query = (
            sa.select(deliveries.c.destination, count_if(~of_addendum()), count_if(of_addendum()))
            .add_columns(sa.func.min(jobs.c.queued_at), sa.func.max(deliveries.c.error))
            .select_from(current_deliveries())
            .where(deliveries.c.state.in_(_WAITING_DELIVERIES), ~deliveries.c.settled, deliveries.c.error != "")
            .group_by(deliveries.c.destination)
            .order_by(deliveries.c.destination)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(
            Trouble(name, count, addenda, aware(oldest), error) for name, count, addenda, oldest, error in rows
        )

    def traffic(self, since: datetime) -> tuple[Traffic, ...]:
        """Return what each destination got or misses; a confirmed document counts from `since` on.

        What waits or failed of a superseded job never leaves, and is missed by nobody.
        """
        state, is_current = deliveries.c.state, jobs.c.state != JobState.SUPERSEDED
        # What a later message replaced never arrived.
        confirmed = sa.case((deliveries.c.proof != REPLACED, deliveries.c.confirmed_at))
        query = sa.select(
            deliveries.c.destination,
            count_if(state.in_((DeliveryState.WAITING, DeliveryState.CHECKING)) & is_current).label("waiting"),
            count_if(state == DeliveryState.SENT).label("sent"),
            count_if((state == DeliveryState.CONFIRMED) & (confirmed >= since)).label("confirmed"),
            count_if((state == DeliveryState.FAILED) & is_current).label("failed"),
            sa.func.max(confirmed).label("last_confirmed_at"),
        )
        query = query.select_from(deliveries.join(documents).join(jobs)).group_by(deliveries.c.destination)
        with self._engine.connect() as connection:
            return tuple(
                Traffic(
                    row.destination,
                    row.waiting,
                    row.sent,
                    row.confirmed,
                    row.failed,
                    aware(row.last_confirmed_at) if row.last_confirmed_at else None,
                )
                for row in connection.execute(query.order_by(deliveries.c.destination))
            )

    def sources(self, since: datetime) -> tuple[Source, ...]:
        """Return what each AE title sent of the studies that arrived since a time."""
        query = (
            sa.select(
                instances.c.calling_ae_title,
                sa.func.count(sa.distinct(instances.c.study_instance_uid)).label("study_count"),
                sa.func.count().label("instance_count"),
                sa.func.sum(instances.c.size_bytes).label("size_bytes"),
                sa.func.max(instances.c.received_at).label("last_received_at"),
            )
            .join(studies, studies.c.study_instance_uid == instances.c.study_instance_uid)
            .where(studies.c.last_received_at >= since, instances.c.received_at >= since)
            .group_by(instances.c.calling_ae_title)
            .order_by(instances.c.calling_ae_title)
        )
        with self._engine.connect() as connection:
            return tuple(
                Source(row[0], row.study_count, row.instance_count, int(row.size_bytes), aware(row.last_received_at))
                for row in connection.execute(query)
            )


def _oldest(time: sa.Column[Any], condition: sa.ColumnElement[bool]) -> sa.Select[int, Any]:
    return sa.select(sa.func.count(), sa.func.min(time)).where(condition)


def _is_fetched_later() -> sa.ColumnElement[bool]:
    return announcements.c.state == Fetching.WAITING


def current_deliveries() -> sa.FromClause:
    """Return the deliveries of jobs that count, with their documents and jobs."""
    own = documents.c.sop_instance_uid == deliveries.c.sop_instance_uid
    counting = (jobs.c.id == documents.c.job) & (jobs.c.state != JobState.SUPERSEDED)
    return deliveries.join(documents, own).join(jobs, counting)
