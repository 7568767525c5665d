"""What a row of the worklist shows beside its place in the list: answer, times, destinations, and whose study it is."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import DeliveryState
from ainode.node.keeping.database import aware
from ainode.node.keeping.job_events import of_addendum
from ainode.node.keeping.patient_index import Labels, PatientIndex, self_tests
from ainode.node.keeping.records import REPLACED, mark_of
from ainode.node.keeping.schema import (
    announcements,
    answers,
    deliveries,
    documents,
    instances,
    jobs,
    mismatches,
    studies,
)
from ainode.node.keeping.unread import UnreadReason
from ainode.node.keeping.worklist import Entry, Kind
from ainode.node.routes import RouteMode, mismatch_sentence

# What is worst is shown for all: a report is confirmed once each of its documents is.
_WORST_FIRST: Final = (
    DeliveryState.FAILED,
    DeliveryState.WAITING,
    DeliveryState.CHECKING,
    DeliveryState.SENT,
    DeliveryState.CONFIRMED,
)


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The documents that a reading made, or its addenda, at one destination."""

    destination: str
    is_addendum: bool
    state: DeliveryState
    """of the document that is farthest from being confirmed"""
    at: datetime | None
    """when the last document was confirmed, or sent"""
    count: int
    confirmed_count: int
    error: str
    """why the last attempt for a document that is not confirmed failed; '' if none failed"""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the worklist as people read it."""

    entry: Entry
    labels: Labels
    headline: str = ""
    """the answer in words"""
    presence: str = ""
    probability: float | None = None
    weights_status: str = ""
    """'' without an answer, and of an answer of an earlier version"""
    reason: str = ""
    """why there is no answer"""
    is_withheld: bool = False
    """whether the documents stay in the node because the weights are for demonstration"""
    mark: str = ""
    """`shadow` or `not sent`, by what the route was when the study was routed"""
    waited_s: float | None = None
    """from the queue to the answer, less what the reading took, or to the last attempt without an answer; None where
    the job waits, or no job is there"""
    took_s: float | None = None
    finished_at: datetime | None = None
    whereabouts: tuple[Whereabouts, ...] = ()
    instance_count: int | None = None
    """of a study without a job"""
    has_images: bool = True
    """whether the node still has files of the study"""


class WorklistRows:
    """Looks up what the rows of a page show: a few queries for all rows together."""

    def __init__(self, engine: sa.Engine, patients: PatientIndex) -> None:
        self._engine, self._patients = engine, patients

    def of(self, entries: Sequence[Entry]) -> tuple[Row, ...]:
        """Return a row for each entry, in their order."""
        uids = {entry.study_instance_uid for entry in entries}
        labels = self._patients.shown(uids)
        by_kind = {kind: [entry.key for entry in entries if entry.kind is kind] for kind in Kind}
        with self._engine.connect() as connection:
            present = _present(connection, uids)
            jobs_values = _jobs(connection, by_kind[Kind.JOB])
            values = {
                Kind.JOB: jobs_values,
                Kind.RECEIVED: _received(connection, by_kind[Kind.RECEIVED]),
                Kind.UNMATCHED: _unmatched(connection, by_kind[Kind.UNMATCHED]),
                Kind.ANNOUNCED: _announced(connection, by_kind[Kind.ANNOUNCED]),
            }
            whereabouts = _whereabouts(connection, by_kind[Kind.JOB])
        return tuple(
            Row(
                entry=entry,
                labels=labels.get(entry.study_instance_uid, Labels()),
                has_images=entry.study_instance_uid in present,
                whereabouts=whereabouts.get(entry.key, ()),
                **values[entry.kind].get(entry.key, {}),
            )
            for entry in entries
        )


Values = Mapping[str, Mapping[str, Any]]
"""key of an entry to fields of its row"""


def _present(connection: Connection, uids: Iterable[str]) -> frozenset[str]:
    query = sa.select(studies.c.study_instance_uid).where(studies.c.study_instance_uid.in_(uids))
    return frozenset(connection.execute(query).scalars())


def _jobs(connection: Connection, keys: Sequence[str]) -> Values:
    times = ("queued_at", "reading_at", "finished_at")
    names = (*times, "seconds", "reason", "withheld", "destinations", "mode")
    query = (
        sa.select(jobs.c.id, *(jobs.c[name] for name in names))
        .add_columns(answers.c.headline, answers.c.presence, answers.c.probability, answers.c.weights_status)
        .select_from(jobs.outerjoin(answers, answers.c.job == jobs.c.id))
        .where(jobs.c.id.in_(keys))
    )
    return {row.id: _job_values(row) for row in connection.execute(query)}


def _job_values(row: Any) -> dict[str, Any]:  # noqa: ANN401 - rows have the columns of their query
    reading_at, finished_at = (aware(time) if time else None for time in (row.reading_at, row.finished_at))
    took_s = row.seconds or None
    # An attempt begins before its process is free, which may convert networks for minutes.
    began_at = finished_at - timedelta(seconds=took_s) if finished_at and took_s else reading_at
    return {
        "headline": row.headline or "",
        "presence": row.presence or "",
        "probability": row.probability,
        "weights_status": row.weights_status or "",
        "reason": row.reason,
        "is_withheld": bool(row.withheld),
        "mark": mark_of(RouteMode(row.mode) if row.mode else None, json.loads(row.destinations), row.withheld),
        "waited_s": max((began_at - aware(row.queued_at)).total_seconds(), 0.0) if began_at else None,
        "took_s": took_s,
        "finished_at": finished_at,
    }


def _received(connection: Connection, uids: Sequence[str]) -> Values:
    counts = (
        sa.select(instances.c.study_instance_uid, sa.func.count().label("instance_count"))
        .where(instances.c.study_instance_uid.in_(uids))
        .group_by(instances.c.study_instance_uid)
    )
    query = sa.select(studies.c.study_instance_uid, studies.c.fault, studies.c.problem)
    rows = connection.execute(query.where(studies.c.study_instance_uid.in_(uids))).all()
    instance_counts = {row.study_instance_uid: row.instance_count for row in connection.execute(counts)}
    return {
        row.study_instance_uid: {
            "reason": row.fault or row.problem,
            "instance_count": instance_counts.get(row.study_instance_uid, 0),
        }
        for row in rows
    }


def _unmatched(connection: Connection, uids: Sequence[str]) -> Values:
    names = ("route", "attribute", "expected", "value", "reason")
    is_self_test = mismatches.c.study_instance_uid.in_(self_tests()) & (mismatches.c.reason == UnreadReason.NO_ROUTE)
    query = sa.select(mismatches.c.study_instance_uid, *(mismatches.c[name] for name in names))
    query = query.add_columns(is_self_test.label("is_self_test"))
    rows = connection.execute(query.where(mismatches.c.study_instance_uid.in_(uids)))
    return {row.study_instance_uid: {"reason": _mismatch(row)} for row in rows}


def _mismatch(row: Any) -> str:  # noqa: ANN401 - rows have the columns of their query
    if row.is_self_test:
        return "a self-test up to the routes, which is meant to match none"
    if row.reason == UnreadReason.REJECTED:
        return str(row.value)
    return mismatch_sentence(row.route, row.attribute, row.expected, row.value)


def _announced(connection: Connection, uids: Sequence[str]) -> Values:
    query = sa.select(announcements.c.study_instance_uid, announcements.c.reason)
    rows = connection.execute(query.where(announcements.c.study_instance_uid.in_(uids)))
    return {row.study_instance_uid: {"reason": row.reason} for row in rows}


def _whereabouts(connection: Connection, keys: Sequence[str]) -> Mapping[str, tuple[Whereabouts, ...]]:
    kind = of_addendum().label("is_addendum")
    query = (
        sa.select(documents.c.job, deliveries.c.destination, deliveries.c.state, sa.func.count().label("number"), kind)
        .add_columns(sa.func.max(deliveries.c.confirmed_at).label("confirmed_at"))
        .add_columns(sa.func.max(deliveries.c.sent_at).label("sent_at"), sa.func.max(deliveries.c.error).label("error"))
        .select_from(deliveries.join(documents))
        .where(documents.c.job.in_(keys), deliveries.c.proof != REPLACED)
        .group_by(documents.c.job, deliveries.c.destination, deliveries.c.state, kind)
        .order_by(documents.c.job, deliveries.c.destination, kind)
    )
    groups: dict[str, dict[tuple[str, bool], list[Any]]] = {}
    for row in connection.execute(query):
        groups.setdefault(row.job, {}).setdefault((row.destination, bool(row.is_addendum)), []).append(row)
    return {job: tuple(_together(*key, rows) for key, rows in of_job.items()) for job, of_job in groups.items()}


def _together(destination: str, is_addendum: bool, rows: Sequence[Any]) -> Whereabouts:  # noqa: FBT001 - a key
    worst = min(rows, key=lambda row: _WORST_FIRST.index(DeliveryState(row.state)))
    counts = {row.state: row.number for row in rows}
    state = DeliveryState(worst.state)
    at = worst.confirmed_at if state is DeliveryState.CONFIRMED else worst.sent_at
    return Whereabouts(
        destination=destination,
        is_addendum=is_addendum,
        state=state,
        at=aware(at) if at else None,
        count=sum(counts.values()),
        confirmed_count=counts.get(DeliveryState.CONFIRMED, 0),
        error=worst.error,
    )
