"""What persons say of answers: kept for good, a later judgement beside the earlier one that it replaces."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from ainode.node.domain import NO_UID, UID, Correction, DocumentKind, Judgement, Opinion, Presence
from ainode.node.keeping.database import aware
from ainode.node.keeping.patient_index import made_up_studies
from ainode.node.keeping.schema import addenda, answers, documents, judgements

_READ_AT_ONCE: Final = 1_000
_OF_ANSWER: Final = ("route", "handler", "model", "version")


class AddendumState(StrEnum):
    """How far the document of a judgement is."""

    DUE = "due"
    COMPOSED = "composed"
    """kept, and on its way as any document of the job"""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class KeptJudgement:
    """A judgement, the answer that it is about, and whether it still counts."""

    id: int
    judgement: Judgement
    statement: str
    """what the model said, in words"""
    presence: str
    """what the model said: present, absent or indeterminate; '' without a verdict"""
    judged_at: datetime
    study_instance_uid: UID
    """'' where the node keeps no answer of the job"""
    route: str
    handler: str
    model: str
    version: str
    is_replaced: bool
    """whether a later judgement of the same finding, or of the same whole result, counts in its place"""
    report_uid: UID = NO_UID
    """of the structured report with the answer; NO_UID once its documents are removed"""
    addendum: str = ""
    """state of the document that leaves; '' where none leaves"""
    addendum_uid: UID = NO_UID
    addendum_error: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which judgements are listed; what is empty filters nothing."""

    route: str = ""
    model: str = ""
    opinion: str = ""
    person: str = ""
    since: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class JudgedCase:
    """What figures need of a judgement that counts; a year has tens of thousands."""

    job: str
    finding: str
    presence: str
    """what the model said"""
    opinion: str
    presence_instead: str
    judged_at: datetime
    route: str
    handler: str
    model: str
    version: str
    is_synthetic: bool = False
    """whether its study was made up"""


class Judgements:
    """Reads and adds judgements; each method is one transaction, and none changes a judgement."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def keep(self, judgement: Judgement, at: datetime, *, statement: str, presence: str, has_addendum: bool) -> int:
        """Keep a judgement, and that its document is due if it has one; return the number of the judgement."""
        correction = judgement.correction
        row = {
            "job": judgement.job,
            "finding": judgement.finding,
            "statement": statement,
            "presence": presence,
            "opinion": judgement.opinion,
            "presence_instead": correction.presence or "",
            "measurement": correction.measurement,
            "value": correction.value,
            "label": correction.label,
            "reason": judgement.reason,
            "comment": judgement.comment,
            "person": judgement.person,
            "judged_at": at,
        }
        with self._engine.begin() as connection:
            number = int(connection.execute(sa.insert(judgements).values(row).returning(judgements.c.id)).scalar_one())
            if has_addendum:
                connection.execute(sa.insert(addenda).values(judgement=number, state=AddendumState.DUE))
        return number

    def of_job(self, job: str) -> tuple[KeptJudgement, ...]:
        """Return the judgements of a job, the oldest first."""
        return self._read(judgements.c.job == job, order=judgements.c.id.asc())

    def numbered(self, number: int) -> KeptJudgement | None:
        """Return the judgement of a number, None if there is none."""
        return next(iter(self._read(judgements.c.id == number, order=judgements.c.id.asc())), None)

    def page(self, criteria: Filter, *, count: int, offset: int) -> tuple[KeptJudgement, ...]:
        """Return some judgements, the newest first."""
        query = _rows(*_conditions(criteria)).order_by(judgements.c.id.desc()).limit(count).offset(offset)
        with self._engine.connect() as connection:
            return tuple(map(_entry_of, connection.execute(query)))

    def count(self, criteria: Filter) -> int:
        """Return how many judgements there are."""
        query = sa.select(sa.func.count()).select_from(_joined()).where(*_conditions(criteria))
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def all(self, criteria: Filter) -> Iterator[KeptJudgement]:
        """Yield every judgement, the oldest first; few are in memory at once."""
        last = 0
        while rows := self._read(
            *_conditions(criteria), judgements.c.id > last, order=judgements.c.id.asc(), most=_READ_AT_ONCE
        ):
            yield from rows
            last = rows[-1].id

    def current(self, since: datetime, handler: str = "") -> tuple[JudgedCase, ...]:
        """Return the judgements that count of every job that somebody judged since a time, of a handler if given."""
        later = judgements.alias()
        lately = sa.select(later.c.job).where(later.c.judged_at >= since)
        columns = [judgements.c[name] for name in ("job", "finding", "presence", "opinion", "presence_instead")]
        is_synthetic = answers.c.study_instance_uid.in_(made_up_studies())
        query = (
            sa.select(*columns, judgements.c.judged_at, *(answers.c[name] for name in _OF_ANSWER), is_synthetic)
            .join(answers, answers.c.job == judgements.c.job)
            .where(judgements.c.job.in_(lately), *((answers.c.handler == handler,) if handler else ()))
            .order_by(judgements.c.id)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        # The last row of a finding stays.
        return tuple(map(_case, {(row.job, row.finding): row for row in rows}.values()))

    def models(self) -> tuple[str, ...]:
        """Return every model that somebody judged."""
        judged = sa.exists().where(judgements.c.job == answers.c.job)
        query = sa.select(answers.c.model).where(judged, answers.c.model != "").distinct().order_by(answers.c.model)
        with self._engine.connect() as connection:
            return tuple(connection.execute(query).scalars())

    def persons(self) -> tuple[str, ...]:
        """Return everybody who judged."""
        query = sa.select(judgements.c.person).distinct().order_by(judgements.c.person)
        with self._engine.connect() as connection:
            return tuple(connection.execute(query).scalars())

    # Documents that leave

    def due(self) -> tuple[KeptJudgement, ...]:
        """Return the judgements whose documents are not composed yet, the oldest first."""
        return self._read(addenda.c.state == AddendumState.DUE, order=judgements.c.id.asc())

    def replaced_addendum(self, entry: KeptJudgement) -> UID:
        """Return the UID of the document that the document of a judgement replaces, NO_UID if there is none."""
        query = (
            sa.select(addenda.c.sop_instance_uid)
            .join(judgements, judgements.c.id == addenda.c.judgement)
            .where(
                judgements.c.job == entry.judgement.job,
                judgements.c.finding == entry.judgement.finding,
                judgements.c.id < entry.id,
                addenda.c.state == AddendumState.COMPOSED,
            )
            .order_by(judgements.c.id.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            return UID(connection.execute(query).scalar() or NO_UID)

    def give_up(self, number: int, error: str) -> None:
        """Note why a judgement has no document."""
        values = {"state": AddendumState.FAILED, "error": error}
        with self._engine.begin() as connection:
            due = (addenda.c.judgement == number, addenda.c.state == AddendumState.DUE)
            connection.execute(sa.update(addenda).where(*due).values(values))

    def _read(
        self, *conditions: sa.ColumnElement[bool], order: sa.ColumnElement[Any], most: int | None = None
    ) -> tuple[KeptJudgement, ...]:
        with self._engine.connect() as connection:
            return tuple(map(_entry_of, connection.execute(_rows(*conditions).order_by(order).limit(most))))


def _case(row: Any) -> JudgedCase:  # noqa: ANN401
    job, finding, presence, opinion, instead, judged_at, *of_answer = row
    return JudgedCase(job, finding, presence, opinion, instead, aware(judged_at), *of_answer)


def _joined() -> sa.FromClause:
    with_answers = judgements.outerjoin(answers, answers.c.job == judgements.c.job)
    return with_answers.outerjoin(addenda, addenda.c.judgement == judgements.c.id)


def _rows(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    names = ("study_instance_uid", "route", "handler", "model", "version")
    return (
        sa.select(
            judgements,
            *(sa.func.coalesce(answers.c[name], "").label(name) for name in names),
            _is_replaced().label("is_replaced"),
            sa.func.coalesce(_report(), "").label("report_uid"),
            sa.func.coalesce(addenda.c.state, "").label("addendum"),
            sa.func.coalesce(addenda.c.sop_instance_uid, "").label("addendum_uid"),
            sa.func.coalesce(addenda.c.error, "").label("addendum_error"),
        )
        .select_from(_joined())
        .where(*conditions)
    )


def _is_replaced() -> sa.ColumnElement[bool]:
    later = judgements.alias("later")
    is_later = later.c.id > judgements.c.id
    return sa.exists().where(later.c.job == judgements.c.job, later.c.finding == judgements.c.finding, is_later)


def _report() -> sa.ScalarSelect[Any]:
    """Return the query of the report that was judged: the last of the job, as an addendum names it."""
    of_job = (documents.c.job == judgements.c.job, documents.c.kind == DocumentKind.STRUCTURED_REPORT)
    query = sa.select(documents.c.sop_instance_uid).where(*of_job).order_by(documents.c.position.desc()).limit(1)
    return query.scalar_subquery()


def _conditions(criteria: Filter) -> Sequence[sa.ColumnElement[bool]]:
    columns = (
        (answers.c.route, criteria.route),
        (answers.c.model, criteria.model),
        (judgements.c.opinion, criteria.opinion),
        (judgements.c.person, criteria.person),
    )
    conditions = [column == value for column, value in columns if value]
    if criteria.since:
        conditions.append(judgements.c.judged_at >= criteria.since)
    if criteria.before:
        conditions.append(judgements.c.judged_at < criteria.before)
    return conditions


def _entry_of(row: Any) -> KeptJudgement:  # noqa: ANN401
    presence = Presence(row.presence_instead) if row.presence_instead else None
    correction = Correction(presence, row.measurement, row.value, row.label)
    opinion = Opinion(row.opinion)
    judgement = Judgement(row.job, row.finding, opinion, row.person, correction, row.reason, row.comment)
    return KeptJudgement(
        id=row.id,
        judgement=judgement,
        statement=row.statement,
        presence=row.presence,
        judged_at=aware(row.judged_at),
        study_instance_uid=UID(row.study_instance_uid),
        route=row.route,
        handler=row.handler,
        model=row.model,
        version=row.version,
        is_replaced=bool(row.is_replaced),
        report_uid=UID(row.report_uid),
        addendum=row.addendum,
        addendum_uid=UID(row.addendum_uid),
        addendum_error=row.addendum_error,
    )
