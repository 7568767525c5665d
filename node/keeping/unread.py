"""What was not read, and why: no route, a model that declined, a failure, images that are still awaited.

A row is a study that no route took, or a study and a route that did not read it: another route may have read the study.

What no route took stands in `mismatches`, as a start of the node or the intake decided; the rest follows from the jobs,
the studies that are not routed yet, and the announcements.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import UID, JobState
from ainode.node.keeping.database import aware, chunks, insert
from ainode.node.keeping.patient_index import self_tests
from ainode.node.keeping.schema import announcements, answers, history, jobs, mismatches, studies


class UnreadReason(StrEnum):
    """Why a study was not read."""

    NO_ROUTE = "no_route"
    """no route matched a series of the study"""
    SET_ASIDE = "set_aside"
    """its files and the index disagree, or no file can be read"""
    REJECTED = "rejected"
    """rejection notes name the images that a route would take"""
    DECLINED = "declined"
    """the model, or the node before the model, refused what the route chose"""
    FAILED = "failed"
    """the reading ended in an error"""
    CANCELLED = "cancelled"
    """a person ended the wait before the reading began"""
    AWAITED = "awaited"
    """not complete yet, or not routed yet"""
    NOT_FETCHED = "not_fetched"
    """announced, and nothing of the study came"""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The condition that kept a study from the route that was nearest to it."""

    reason: UnreadReason
    """no_route, set_aside or rejected"""
    route: str
    """'' where the study is set aside or rejected"""
    series_instance_uid: UID
    attribute: str
    expected: str
    value: str
    """as the catalog may keep it"""


@dataclass(frozen=True, slots=True)
class UnreadStudy:
    """A study that was not read, or was not read by one route; the fields are columns of the query."""

    study_instance_uid: UID
    reason: UnreadReason
    at: datetime
    """when its last image came, its job was opened, or the study was announced"""
    route: str
    attribute: str
    """of the condition that failed, or the code of a refusal"""
    expected: str
    value: str
    words: str
    """what the model, the error or the announcement says"""
    read_by: tuple[str, ...] = ()
    """routes that read the study"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which studies a question is about; '' and None leave nothing out."""

    reason: str = ""
    route: str = ""
    attribute: str = ""
    """the attribute of the condition that failed, or the code of a refusal"""
    since: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows have the same reason."""

    reason: UnreadReason
    route: str
    attribute: str
    """of the condition that failed, or the code of a refusal"""
    expected: str
    count: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows there are, and of how many studies."""

    rows: int
    studies: int
    unread_studies: int
    """of these, that no route read"""


_COLUMNS: Final = ("study_instance_uid", "reason", "at", "route", "attribute", "expected", "value", "words")
_JOB_REASONS: Final[Mapping[JobState, UnreadReason]] = {
    JobState.OUT_OF_SCOPE: UnreadReason.DECLINED,
    JobState.FAILED: UnreadReason.FAILED,
    JobState.CANCELLED: UnreadReason.CANCELLED,
}


class UnreadStudies:
    """Answers questions about the studies that were not read."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def page(self, criteria: Filter, *, count: int, offset: int = 0) -> tuple[UnreadStudy, ...]:
        """Return some of the rows, the newest first."""
        rows = _rows()
        query = sa.select(rows).where(*_conditions(rows, criteria))
        query = query.order_by(rows.c.at.desc(), rows.c.study_instance_uid, rows.c.route).limit(count).offset(offset)
        with self._engine.connect() as connection:
            entries = tuple(_unread(row) for row in connection.execute(query))
            readers = _readers(connection, {row.study_instance_uid for row in entries})
        return tuple(replace(row, read_by=readers.get(row.study_instance_uid, ())) for row in entries)

    def of_study(self, study: UID) -> tuple[UnreadStudy, ...]:
        """Return why one study was not read, a row for each route that opened a job; () if nothing is wrong."""
        rows = _rows()
        with self._engine.connect() as connection:
            query = sa.select(rows).where(rows.c.study_instance_uid == study).order_by(rows.c.at.desc(), rows.c.route)
            return tuple(_unread(row) for row in connection.execute(query))

    def counts(self, criteria: Filter) -> Counts:
        """Return how many rows there are, of how many studies, and how many of these no route read."""
        rows = _rows()
        columns = (rows.c.study_instance_uid, sa.func.count().label("count"))
        group = sa.select(*columns).where(*_conditions(rows, criteria)).group_by(rows.c.study_instance_uid).subquery()
        is_read = sa.or_(*(group.c.study_instance_uid.in_(_read_studies(table)) for table in (jobs, history)))
        unread = sa.func.sum(sa.case((is_read, 0), else_=1))
        query = sa.select(
            sa.func.coalesce(sa.func.sum(group.c["count"]), 0), sa.func.count(), sa.func.coalesce(unread, 0)
        )
        with self._engine.connect() as connection:
            return Counts(*map(int, connection.execute(query).one()))

    def tallies(self, criteria: Filter) -> tuple[Tally, ...]:
        """Return how many rows have which reason, the most frequent reason first."""
        rows = _rows()
        columns = (rows.c.reason, rows.c.route, rows.c.attribute, rows.c.expected)
        count = sa.func.count().label("count")
        query = sa.select(*columns, count).where(*_conditions(rows, criteria)).group_by(*columns)
        with self._engine.connect() as connection:
            result = connection.execute(query.order_by(count.desc(), *columns))
            return tuple(
                Tally(UnreadReason(row.reason), row.route, row.attribute, row.expected, row._mapping["count"])  # noqa: SLF001 - public; `count` is a method of a row
                for row in result
            )


def replace_mismatch(engine: sa.Engine, connection: Connection, study: UID, mismatch: Mismatch | None) -> None:
    """Write down why no route took a study that is indexed; None removes what stood there."""
    connection.execute(sa.delete(mismatches).where(mismatches.c.study_instance_uid == study))
    if mismatch is None:
        return
    received = sa.select(studies.c.last_received_at).where(studies.c.study_instance_uid == study)
    values = {
        "study_instance_uid": study,
        "reason": mismatch.reason,
        "received_at": received.scalar_subquery(),
        "route": mismatch.route,
        "series_instance_uid": mismatch.series_instance_uid,
        "attribute": mismatch.attribute,
        "expected": mismatch.expected,
        "value": mismatch.value,
    }
    connection.execute(insert(engine, mismatches).values(values))


def _rows() -> sa.Subquery:
    """Return the query of every row, as columns of `UnreadStudy`."""
    parts = (_unmatched(), *(_ended(table) for table in (jobs, history)), _unrouted(), _absent())
    return sa.union_all(*parts).subquery("unread")


def _columns(**columns: Any) -> list[Any]:  # noqa: ANN401 - columns and expressions of several types
    """Return the columns of a part of the query in the one order of all parts; a column that is left out is ''."""
    return [columns.get(name, sa.literal("")).label(name) for name in _COLUMNS]


def _unmatched() -> sa.Select[Any]:
    names = ("study_instance_uid", "reason", "route", "attribute", "expected", "value")
    return sa.select(*_columns(at=mismatches.c.received_at, **{name: mismatches.c[name] for name in names}))


def _ended(table: sa.Table) -> sa.Select[Any]:
    """Return the part of the jobs that have no result."""
    reason = sa.case(*((table.c.state == state, reason.value) for state, reason in _JOB_REASONS.items()), else_="")
    names = ("study_instance_uid", "route")
    columns = _columns(
        reason=reason,
        at=table.c.queued_at,
        words=table.c.reason,
        attribute=sa.func.coalesce(answers.c.code, ""),
        **{name: table.c[name] for name in names},
    )
    joined = table.outerjoin(answers, answers.c.job == table.c.id)
    return sa.select(*columns).select_from(joined).where(table.c.state.in_(_JOB_REASONS))


def _unrouted() -> sa.Select[Any]:
    """Return the part of the studies that wait for more images or for their routing."""
    columns = _columns(
        study_instance_uid=studies.c.study_instance_uid,
        reason=sa.literal(UnreadReason.AWAITED.value),
        at=studies.c.last_received_at,
        words=sa.case((studies.c.fault != "", studies.c.fault), else_=studies.c.problem),
    )
    return sa.select(*columns).where(~studies.c.is_routed)


def _absent() -> sa.Select[Any]:
    """Return the part of the announced studies of which nothing came, and nothing is known from earlier."""
    uid = announcements.c.study_instance_uid
    columns = _columns(
        study_instance_uid=uid,
        reason=sa.literal(UnreadReason.NOT_FETCHED.value),
        at=announcements.c.announced_at,
        words=announcements.c.reason,
    )
    is_here = (sa.exists().where(table.c.study_instance_uid == uid) for table in (studies, jobs, history))
    return sa.select(*columns).where(~sa.or_(*is_here))


def _read_studies(table: sa.Table) -> sa.Select[tuple[str]]:
    """Return the query of the studies that a route read."""
    return sa.select(table.c.study_instance_uid).where(table.c.state == JobState.REPORTED)


def _readers(connection: Connection, study_uids: Iterable[UID]) -> Mapping[UID, tuple[str, ...]]:
    """Return the routes that read studies, those of readings that were removed included."""
    routes_by_study: dict[UID, set[str]] = {}
    for some in chunks(study_uids):
        for table in (jobs, history):
            query = _read_studies(table).add_columns(table.c.route).where(table.c.study_instance_uid.in_(some))
            for uid, route in connection.execute(query):
                routes_by_study.setdefault(UID(uid), set()).add(route)
    return {uid: tuple(sorted(routes)) for uid, routes in routes_by_study.items()}


def _conditions(rows: sa.Subquery, criteria: Filter) -> list[sa.ColumnElement[bool]]:
    is_self_test = (rows.c.reason == UnreadReason.NO_ROUTE) & rows.c.study_instance_uid.in_(self_tests())
    conditions: list[sa.ColumnElement[bool]] = [
        ~is_self_test,
        *(rows.c[name] == value for name in ("reason", "route", "attribute") if (value := getattr(criteria, name))),
    ]
    if criteria.since:
        conditions.append(rows.c.at >= criteria.since)
    if criteria.before:
        conditions.append(rows.c.at < criteria.before)
    return conditions


def _unread(row: Any) -> UnreadStudy:  # noqa: ANN401 - rows have the columns of their query
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    uid, reason = UID(row.study_instance_uid), UnreadReason(row.reason)
    return UnreadStudy(**{**values, "study_instance_uid": uid, "reason": reason, "at": aware(row.at)})
