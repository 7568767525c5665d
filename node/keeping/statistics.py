"""What jobs answered over a period: the numbers behind the figures of a model, and two routes side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from ainode.node.domain import JobState, Presence
from ainode.node.keeping.database import aware, count_if
from ainode.node.keeping.patient_index import made_up_studies
from ainode.node.keeping.schema import answers, jobs

MOST_ANSWERS: Final = 50_000
"""so many of the newest answers of a period are looked at"""


@dataclass(frozen=True, slots=True)
class Period:
    """From a time, included, to a time, excluded."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class HandlerCount:
    """How the readings of a handler over a period ended; answers that a later reading replaced count no more."""

    handler: str
    model: str
    """of the algorithm; '' for a handler that refused everything"""
    answers: int
    """studies that the model answered: neither refused nor failed"""
    refusals: int
    failures: int
    positives: int
    """of the answers"""
    made_up: int
    """of answers and refusals: on synthetic studies, as self-tests send them"""
    last_at: datetime

    @property
    def studies(self) -> int:
        """Return how many readings ended, however they ended."""
        return self.answers + self.refusals + self.failures


@dataclass(frozen=True, slots=True)
class AnswerCount:
    """How often a handler gave one kind of answer with one set of weights."""

    version: str
    weights_sha256: str
    presence: str
    """'' without a verdict"""
    code: str
    """of a refusal; '' where the study was read"""
    answers: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Sample:
    """The answers of a handler over a period, the oldest first; every field has an entry for each answer.

    Units: seconds; `at` whole seconds since 1970.
    """

    at: Sequence[float] = ()
    probabilities: Sequence[float | None] = ()
    seconds: Sequence[float] = ()
    presences: Sequence[str] = ()
    """'' without a verdict, and where the study was refused"""
    is_read: Sequence[bool] = ()
    """whether the study was not refused"""
    is_cut: bool = False
    """whether the period may have more answers"""

    @property
    def scores(self) -> tuple[float, ...]:
        """Return the probabilities that are there."""
        return tuple(probability for probability in self.probabilities if probability is not None)


class Statistics:
    """Counts answers."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def handlers(self, period: Period) -> tuple[HandlerCount, ...]:
        """Return every handler of which a reading ended in a period."""
        query = (
            sa.select(
                answers.c.handler,
                sa.func.max(answers.c.model).label("model"),
                count_if(answers.c.code == "").label("answers"),
                count_if(answers.c.code != "").label("refusals"),
                count_if(answers.c.presence == Presence.PRESENT).label("positives"),
                count_if(answers.c.study_instance_uid.in_(made_up_studies())).label("made_up"),
                sa.func.max(answers.c.at).label("last_at"),
            )
            .where(*_within(period), ~answers.c.is_superseded)
            .group_by(answers.c.handler)
            .order_by(answers.c.handler)
        )
        with self._engine.connect() as connection:
            rows = {row.handler: row for row in connection.execute(query)}
            failed = {row.handler: row for row in connection.execute(_failures(period))}
        return tuple(_handler_count(name, rows.get(name), failed.get(name)) for name in sorted({*rows, *failed}))

    def failures(self, handler: str, period: Period) -> int:
        """Return how many readings of a handler failed in a period."""
        with self._engine.connect() as connection:
            rows = connection.execute(_failures(period).where(jobs.c.handler == handler)).all()
        return sum(row.failures for row in rows)

    def counts(self, handler: str, period: Period) -> tuple[AnswerCount, ...]:
        """Return every kind of answer of a handler, the newest weights first."""
        kinds = [answers.c[name] for name in ("version", "weights_sha256", "presence", "code")]
        last_at = sa.func.max(answers.c.at).label("last_at")
        query = (
            sa.select(*kinds, sa.func.count().label("answers"), sa.func.min(answers.c.at).label("first_at"), last_at)
            .where(answers.c.handler == handler, *_within(period), ~answers.c.is_superseded)
            .group_by(*kinds)
            .order_by(last_at.desc())
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(AnswerCount(*row[:5], aware(row.first_at), aware(row.last_at)) for row in rows)

    def sample(self, handler: str, period: Period, weights_sha256: str = "") -> Sample:
        """Return the answers of a handler, by one set of weights if given, without what was read again later."""
        second = sa.cast(sa.extract("epoch", answers.c.at), sa.Float)
        columns = (answers.c.probability, answers.c.seconds, answers.c.presence, answers.c.code == "")
        rows = self._newest((second, *columns), handler, period, weights_sha256)
        empty: tuple[tuple[Any, ...], ...] = ((),) * 5
        times, probabilities, seconds, presences, is_read = zip(*rows[::-1], strict=True) if rows else empty
        return Sample(times, probabilities, seconds, presences, is_read, is_cut=len(rows) == MOST_ANSWERS)

    def scores(self, handler: str, period: Period, weights_sha256: str = "") -> tuple[float, ...]:
        """Return the probabilities of the answers of which `sample` returns everything."""
        rows = self._newest((answers.c.probability,), handler, period, weights_sha256)
        return tuple(probability for (probability,) in rows if probability is not None)

    def _newest(
        self, columns: tuple[sa.ColumnElement[Any], ...], handler: str, period: Period, weights_sha256: str
    ) -> Sequence[sa.Row[Any]]:
        conditions = [answers.c.handler == handler, *_within(period), ~answers.c.is_superseded]
        if weights_sha256:
            conditions.append(answers.c.weights_sha256 == weights_sha256)
        query = sa.select(*columns).where(*conditions).order_by(answers.c.at.desc()).limit(MOST_ANSWERS)
        with self._engine.connect() as connection:
            return connection.execute(query).all()


def _failures(period: Period) -> sa.Select[Any]:
    # A job that an earlier version failed has no time of its end.
    at = sa.func.coalesce(jobs.c.finished_at, jobs.c.queued_at)
    columns = (jobs.c.handler, sa.func.count().label("failures"), sa.func.max(at).label("last_at"))
    conditions = jobs.c.state == JobState.FAILED, at >= period.since, at < period.until
    return sa.select(*columns).where(*conditions).group_by(jobs.c.handler)


def _handler_count(handler: str, row: Any, failed: Any) -> HandlerCount:  # noqa: ANN401 - rows of a query, or None
    last_at = max(aware(entry.last_at) for entry in (row, failed) if entry)
    counts = {name: getattr(row, name) if row else 0 for name in ("answers", "refusals", "positives", "made_up")}
    model = row.model if row else ""
    return HandlerCount(handler, model, failures=failed.failures if failed else 0, last_at=last_at, **counts)


def _within(period: Period) -> tuple[sa.ColumnElement[bool], ...]:
    return answers.c.at >= period.since, answers.c.at < period.until
