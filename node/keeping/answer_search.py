"""The search among earlier answers: conditions, pages, and every answer in batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from ainode.node.domain import UID
from ainode.node.keeping.database import aware
from ainode.node.keeping.schema import answers

REFUSED: Final = "refused"
"""stands for a presence, where the study was not read"""
UNDECIDED: Final = "none"
"""stands for a presence, where the study was read without a verdict"""
_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a job answered; the fields are columns of `answers`."""

    job: str
    study_instance_uid: UID
    route: str
    handler: str
    model: str
    version: str
    weights_sha256: str
    weights_status: str
    presence: str
    probability: float | None
    threshold: float | None
    headline: str
    code: str
    seconds: float
    at: datetime
    is_superseded: bool

    @property
    def words(self) -> str:
        """Return the answer in words."""
        return self.headline or (f"declined: {self.code}" if self.code else "no verdict")


@dataclass(frozen=True, slots=True)
class AnswerFilter:
    """What an answer must be like; what is empty or None is no condition. `until` itself is excluded."""

    study: str = ""
    """a Study Instance UID, or how one begins"""
    route: str = ""
    handler: str = ""
    weights_sha256: str = ""
    """or how it begins"""
    presence: str = ""
    """a presence, `refused` or `none`"""
    code: str = ""
    low: float | None = None
    high: float | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> tuple[sa.ColumnElement[bool], ...]:
        """Return the conditions on the columns of `answers`."""
        columns = answers.c
        equal = {columns.route: self.route, columns.handler: self.handler, columns.code: self.code}
        bounds = (
            *((columns.probability >= self.low,) if self.low is not None else ()),
            *((columns.probability <= self.high,) if self.high is not None else ()),
            *((columns.at >= self.since,) if self.since else ()),
            *((columns.at < self.until,) if self.until else ()),
        )
        prefixes = {columns.study_instance_uid: self.study, columns.weights_sha256: self.weights_sha256}
        return (
            *(column == value for column, value in equal.items() if value),
            *(column.startswith(value, autoescape=True) for column, value in prefixes.items() if value),
            *_presence_conditions(self.presence),
            *bounds,
        )


def _presence_conditions(presence: str) -> tuple[sa.ColumnElement[bool], ...]:
    if presence == REFUSED:
        return (answers.c.code != "",)
    if presence == UNDECIDED:
        return answers.c.presence == "", answers.c.code == ""
    return (answers.c.presence == presence,) if presence else ()


class AnswerSearch:
    """Finds answers, the newest first."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def page(self, answer_filter: AnswerFilter, *, offset: int, limit: int) -> tuple[tuple[Answer, ...], int]:
        """Return a page of the answers that a filter lets through, and the number of all of them."""
        conditions = answer_filter.conditions()
        query = _ordered().where(*conditions).offset(offset).limit(limit)
        count = sa.select(sa.func.count()).select_from(answers).where(*conditions)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
            return tuple(map(_answer_of, rows)), connection.execute(count).scalar_one()

    def every(self, answer_filter: AnswerFilter) -> Iterator[Answer]:
        """Yield every answer that a filter lets through; no connection stays open for a slow caller."""
        query = _ordered().where(*answer_filter.conditions()).limit(_BATCH)
        last: Answer | None = None
        while True:
            after = (_is_after(last),) if last else ()
            with self._engine.connect() as connection:
                batch = [_answer_of(row) for row in connection.execute(query.where(*after))]
            yield from batch
            if len(batch) < _BATCH:
                return
            last = batch[-1]

    def values(self, column: str) -> tuple[str, ...]:
        """Return the values of a column, such as `route`, for a list to choose from."""
        query = sa.select(answers.c[column]).where(answers.c[column] != "").distinct().order_by(answers.c[column])
        with self._engine.connect() as connection:
            return tuple(connection.execute(query).scalars())


def _ordered() -> sa.Select[Any]:
    return sa.select(answers).order_by(answers.c.at.desc(), answers.c.job.desc())


def _is_after(answer: Answer) -> sa.ColumnElement[bool]:
    """Return the condition that a row comes after an answer in the order of a search."""
    is_older = answers.c.at < answer.at
    return is_older | ((answers.c.at == answer.at) & (answers.c.job < answer.job))


def _answer_of(row: Any) -> Answer:  # noqa: ANN401
    return Answer(**{**row._mapping, "at": aware(row.at), "study_instance_uid": UID(row.study_instance_uid)})  # noqa: SLF001 - public
