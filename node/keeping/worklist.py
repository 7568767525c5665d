"""The worklist: a row for each job, and a row for each study without a job; ordered and cut into pages by the database.

Each part of the list is read along an index in the order of the list, so that a page costs the same however long the
list is.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.keeping.announcements import Fetching
from ainode.node.keeping.database import aware
from ainode.node.keeping.patient_index import matches
from ainode.node.keeping.schema import announcements, deliveries, documents, jobs, mismatches, patient_index, studies

ORDINARY_PRIORITY: Final = 100
"""of a route that names none; less is urgent"""
_UNFINISHED: Final = (JobState.WAITING, JobState.READING)
_OPEN: Final = (DeliveryState.WAITING, DeliveryState.SENT, DeliveryState.CHECKING)
_UID_PART: Final = "[0-9.]{1,64}"
Condition: TypeAlias = sa.ColumnElement[bool]


class Kind(StrEnum):
    """What a row is about."""

    JOB = "job"
    RECEIVED = "received"
    """a study that waits for more images or for its routing"""
    UNMATCHED = "unmatched"
    """a study that no route took"""
    ANNOUNCED = "announced"
    """a study of which nothing came"""


class EntryState(StrEnum):
    """The state of a row: that of a job, or of a study without one."""

    WAITING = JobState.WAITING.value
    READING = JobState.READING.value
    REPORTED = JobState.REPORTED.value
    OUT_OF_SCOPE = JobState.OUT_OF_SCOPE.value
    FAILED = JobState.FAILED.value
    """a job, an announcement or the routing failed"""
    CANCELLED = JobState.CANCELLED.value
    SUPERSEDED = JobState.SUPERSEDED.value
    """shown only where the state is asked for"""
    WITHDRAWN = "withdrawn"
    """a job whose images are rejected, or whose result does not hold any more"""
    RECEIVING = "receiving"
    ANNOUNCED = "announced"
    NO_ROUTE = "no_route"
    SET_ASIDE = "set_aside"
    REJECTED = "rejected"


class DocumentsState(StrEnum):
    """What became of the documents of a job, as a filter."""

    FAILED = "failed"
    """a destination did not take a document"""
    OPEN = "open"
    """a document is not confirmed yet, and not given up"""


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which rows a question is about; '' and None leave nothing out."""

    state: EntryState | None = None
    documents: DocumentsState | None = None
    route: str = ""
    destination: str = ""
    study: str = ""
    """the beginning of a Study Instance UID"""
    text: str = ""
    """words of `patient_index`, or a part of a Study Instance UID, as pages show its end after '…'"""
    since: datetime | None = None
    before: datetime | None = None

    @property
    def is_about_jobs(self) -> bool:
        """Return whether only jobs can fit."""
        return bool(self.route or self.destination or self.documents)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row as the order of the list needs it."""

    kind: Kind
    key: str
    """the job, else the Study Instance UID"""
    study_instance_uid: UID
    state: EntryState
    at: datetime
    """when the job was queued, the last image came, or the study was announced"""
    route: str
    is_urgent: bool


class Worklist:
    """Answers questions about the list."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def page(self, criteria: Criteria, *, count: int, offset: int = 0) -> tuple[Entry, ...]:
        """Return some of the rows: studies with an urgent job that is not read yet, then the newest first.

        The rows of a study follow each other, at the place of the newest of them.
        """
        most = offset + count
        parts = [sa.select(part.order_by(*_order(sa.column)).limit(most).subquery()) for part in _parts(criteria)]
        rows = sa.union_all(*parts).subquery("worklist")
        query = sa.select(rows).order_by(rows.c.rank.desc(), *_order(rows.c.__getitem__))
        with self._engine.connect() as connection:
            return tuple(_entry(row) for row in connection.execute(query.limit(count).offset(offset)))

    def count(self, criteria: Criteria) -> int:
        """Return how many rows there are."""
        counts = [
            sa.select(sa.func.count()).select_from(part.subquery()).scalar_subquery() for part in _parts(criteria)
        ]
        with self._engine.connect() as connection:
            return sum(connection.execute(sa.select(*counts)).one())


@dataclass(frozen=True, slots=True)
class _Scope:
    """What all parts of a query share."""

    criteria: Criteria
    named: sa.CTE | None
    """the studies that a text names, looked up once"""


def _scope(criteria: Criteria) -> _Scope:
    if not criteria.text:
        return _Scope(criteria, None)
    query = sa.select(patient_index.c.study_instance_uid).where(matches(criteria.text))
    return _Scope(criteria, query.cte("named").prefix_with("MATERIALIZED"))


def _parts(criteria: Criteria) -> Iterator[sa.Select[Any]]:
    """Yield the query of each part of the list that can have a row."""
    scope = _scope(criteria)
    is_urgent = jobs.c.state.in_(_UNFINISHED) & (jobs.c.priority < ORDINARY_PRIORITY)
    urgent_studies = sa.select(jobs.c.study_instance_uid).where(is_urgent)
    yield _jobs(scope, jobs.c.study_instance_uid.in_(urgent_studies), is_urgent, rank=1)
    yield _jobs(scope, jobs.c.study_instance_uid.not_in(urgent_studies), sa.false(), rank=0)
    if criteria.is_about_jobs:
        return
    if criteria.state in {None, EntryState.RECEIVING, EntryState.FAILED}:
        yield _received(scope)
    if criteria.state in {None, EntryState.NO_ROUTE, EntryState.SET_ASIDE, EntryState.REJECTED}:
        yield _unmatched(scope)
    if criteria.state in {None, EntryState.ANNOUNCED, EntryState.FAILED}:
        yield _announced(scope)


def _order(column: Callable[[str], sa.ColumnElement[Any]]) -> tuple[sa.ColumnElement[Any], ...]:
    """Return the order of rows of the same rank."""
    return column("listed_at").desc(), column("study_instance_uid").desc(), column("route"), column("key")


def _jobs(scope: _Scope, condition: Condition, is_urgent: Condition, *, rank: int) -> sa.Select[Any]:
    criteria = scope.criteria
    is_withdrawn = jobs.c.withdrawn_at.is_not(None) & (jobs.c.state != JobState.SUPERSEDED)
    state = sa.case((is_withdrawn, EntryState.WITHDRAWN.value), else_=jobs.c.state)
    columns = _columns(Kind.JOB, jobs.c.id, jobs.c.study_instance_uid, jobs.c.queued_at, state)
    conditions = [condition, *_common(scope, jobs.c.study_instance_uid, jobs.c.queued_at)]
    if criteria.state is None:
        conditions.append(jobs.c.state != JobState.SUPERSEDED)
    elif criteria.state is EntryState.WITHDRAWN:
        conditions.append(is_withdrawn)
    else:
        conditions += [jobs.c.state == criteria.state.value, ~is_withdrawn]
    if criteria.route:
        conditions.append(jobs.c.route == criteria.route)
    conditions += _of_documents(criteria)
    columns += [jobs.c.listed_at.label("listed_at"), jobs.c.route.label("route")]
    return sa.select(*columns, is_urgent.label("is_urgent"), sa.literal(rank).label("rank")).where(*conditions)


def _of_documents(criteria: Criteria) -> Iterator[Condition]:
    conditions = [deliveries.c.destination == criteria.destination] if criteria.destination else []
    of_job = sa.select(documents.c.job).select_from(deliveries.join(documents))
    if criteria.documents:
        # Few deliveries are open or failed: the search begins with them.
        states = (DeliveryState.FAILED,) if criteria.documents is DocumentsState.FAILED else _OPEN
        yield jobs.c.id.in_(of_job.where(deliveries.c.state.in_(states), ~deliveries.c.settled, *conditions))
    elif conditions:
        yield sa.exists(of_job.where(documents.c.job == jobs.c.id, *conditions).correlate(jobs))


def _received(scope: _Scope) -> sa.Select[Any]:
    uid, at = studies.c.study_instance_uid, studies.c.last_received_at
    state = sa.case((studies.c.fault != "", EntryState.FAILED.value), else_=EntryState.RECEIVING.value)
    conditions = [~studies.c.is_routed, _has_no_job(uid), *_common(scope, uid, at)]
    return _of_study(scope.criteria, Kind.RECEIVED, uid, at, state, conditions)


def _unmatched(scope: _Scope) -> sa.Select[Any]:
    uid, at = mismatches.c.study_instance_uid, mismatches.c.received_at
    is_here = sa.exists().where(studies.c.study_instance_uid == uid, studies.c.is_routed)
    conditions = [is_here, _has_no_job(uid), *_common(scope, uid, at)]
    return _of_study(scope.criteria, Kind.UNMATCHED, uid, at, mismatches.c.reason, conditions)


def _announced(scope: _Scope) -> sa.Select[Any]:
    uid, at = announcements.c.study_instance_uid, announcements.c.announced_at
    is_failed = announcements.c.state == Fetching.FAILED
    state = sa.case((is_failed, EntryState.FAILED.value), else_=EntryState.ANNOUNCED.value)
    # What was routed as announced asks for nothing any more; the intake has settled it.
    is_owed = (
        (announcements.c.state != Fetching.HERE) | announcements.c.read_now | announcements.c.expected.is_not(None)
    )
    is_absent = ~sa.exists().where(studies.c.study_instance_uid == uid)
    conditions = [is_owed, is_absent, _has_no_job(uid), *_common(scope, uid, at)]
    return _of_study(scope.criteria, Kind.ANNOUNCED, uid, at, state, conditions)


def _of_study(
    criteria: Criteria,
    kind: Kind,
    uid: sa.ColumnElement[str],
    at: sa.ColumnElement[datetime],
    state: sa.ColumnElement[str],
    conditions: list[Condition],
) -> sa.Select[Any]:
    if criteria.state is not None:
        conditions.append(state == criteria.state.value)
    columns = [*_columns(kind, uid, uid, at, state), at.label("listed_at"), sa.literal("").label("route")]
    return sa.select(*columns, sa.false().label("is_urgent"), sa.literal(0).label("rank")).where(*conditions)


def _columns(
    kind: Kind,
    key: sa.ColumnElement[str],
    uid: sa.ColumnElement[str],
    at: sa.ColumnElement[datetime],
    state: sa.ColumnElement[str],
) -> list[sa.ColumnElement[Any]]:
    key_and_study = (key.label("key"), uid.label("study_instance_uid"))
    return [sa.literal(kind.value).label("kind"), *key_and_study, at.label("at"), state.label("state")]


def _common(scope: _Scope, uid: sa.ColumnElement[str], at: sa.ColumnElement[datetime]) -> Iterator[Condition]:
    criteria = scope.criteria
    if criteria.study:
        yield uid.startswith(criteria.study, autoescape=True)
    if scope.named is not None:
        # No bare column: SQLite would look thousands of rows up by their study, and read all of each row.
        is_named = sa.func.coalesce(uid, "").in_(sa.select(scope.named.c.study_instance_uid))
        part = _uid_part(criteria.text)  # has no character that LIKE takes for another
        yield uid.contains(part) | is_named if part else is_named
    if criteria.since:
        yield at >= criteria.since
    if criteria.before:
        yield at < criteria.before


def _uid_part(text: str) -> str:
    """Return the part of a UID that a text is, such as the end that a page shows after '…'; '' if it is none."""
    part = text.strip("… ")
    return part if re.fullmatch(_UID_PART, part) else ""


def _has_no_job(uid: sa.ColumnElement[str]) -> Condition:
    return ~sa.exists().where(jobs.c.study_instance_uid == uid)


def _entry(row: Any) -> Entry:  # noqa: ANN401 - rows have the columns of their query
    return Entry(
        kind=Kind(row.kind),
        key=row.key,
        study_instance_uid=UID(row.study_instance_uid),
        state=EntryState(row.state),
        at=aware(row.at),
        route=row.route,
        is_urgent=bool(row.is_urgent),
    )
