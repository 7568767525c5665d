"""The newest studies that two routes both answered, for a comparison of a model with the next version of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from ainode.node.domain import UID, JobState, Presence
from ainode.node.keeping.answer_search import REFUSED, UNDECIDED
from ainode.node.keeping.database import aware
from ainode.node.keeping.patient_index import made_up_studies
from ainode.node.keeping.schema import answers, history, jobs
from ainode.node.keeping.statistics import Period

PRECISION: Final = "precision"
"""how the name of a precision among the parameters of an algorithm ends; before it may be the name of the network"""
_COLUMNS: Final = ("presence", "probability", "code", "seconds", "model", "version")
_STRONGEST_FIRST: Final = (Presence.PRESENT, Presence.INDETERMINATE, Presence.ABSENT)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a route says of one question, such as an effusion: the strongest verdict, where several lesions have one."""

    presence: str
    """'' where the route said nothing of the question"""
    probability: float | None


@dataclass(frozen=True, slots=True)
class Stated:
    """What a result.json says beside the columns of the database."""

    settings: Mapping[str, str] = field(default_factory=dict)
    """precision and thresholds by name"""
    opinions: Mapping[str, Opinion] = field(default_factory=dict)
    """by question"""


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """What a route answered on a study. Units: seconds."""

    presence: str
    """the strongest verdict of all questions"""
    probability: float | None
    code: str
    """of a refusal; '' where the study was read"""
    seconds: float
    model: str
    version: str
    stated: Stated = field(default=Stated(), hash=False)
    """nothing of a refusal, whose settings are not known"""

    @property
    def kind(self) -> str:
        """Return what was answered as one word: a presence, `refused`, or `none` where nothing was judged."""
        return REFUSED if self.code else self.presence or UNDECIDED


@dataclass(frozen=True, slots=True)
class PairedAnswer:
    """What two routes answered on one study."""

    study_instance_uid: UID
    at: datetime
    """when the first route answered"""
    first: RouteAnswer
    second: RouteAnswer

    @property
    def different_questions(self) -> tuple[str, ...]:
        """Return the questions to which the routes gave another verdict, or one of them none."""
        first, second = self.first.stated.opinions, self.second.stated.opinions
        common = sorted(first.keys() & second.keys())
        return tuple(question for question in common if first[question].presence != second[question].presence)

    @property
    def is_same(self) -> bool:
        """Return whether both routes gave the same answer, on each question."""
        return self.first.kind == self.second.kind and not self.different_questions


@dataclass(frozen=True, slots=True)
class PairedAnswers:
    """The newest studies that two routes answered, the newest first."""

    routes: tuple[str, str]
    pairs: Sequence[PairedAnswer]
    synthetic: int
    """studies that both answered and that count not: of nobody, as demonstrations and self-tests send them"""
    failures: tuple[int, int] = (0, 0)
    """readings that failed since the oldest of the pairs, by route; without pairs, ever"""
    older: int = 0
    """studies that count not: a route has another model, weights, description or precision since"""


def newest_pairs(
    engine: sa.Engine, routes: tuple[str, str], *, most: int, period: Period | None = None
) -> PairedAnswers:
    """Return so many of the newest studies that two routes both answered, of a period if given.

    An answer that a later one replaced counts no more, nor one from before the newest change of a route's model
    or precision: a refusal names neither, so that the time decides.
    """
    first, second = answers.alias("first"), answers.alias("second")
    both = first.join(second, first.c.study_instance_uid == second.c.study_instance_uid)
    conditions = (
        *(first.c.route == routes[0], second.c.route == routes[1]),
        *(~first.c.is_superseded, ~second.c.is_superseded),
        *((first.c.at >= period.since, first.c.at < period.until) if period else ()),
    )
    is_made_up = first.c.study_instance_uid.in_(made_up_studies())
    columns = [table.c[name] for table in (first, second) for name in _COLUMNS]
    query = sa.select(first.c.study_instance_uid, first.c.at, first.c.job, second.c.job, *columns).select_from(both)
    count = sa.select(sa.func.count()).select_from(both)
    with engine.connect() as connection:
        changes = [_last_change(connection, route, period) for route in routes]
        sides = zip((first, second), changes, strict=True)
        is_newest = sa.and_(sa.true(), *(table.c.at > change for table, change in sides if change))
        query = query.where(*conditions, is_newest, ~is_made_up)
        rows = connection.execute(query.order_by(first.c.at.desc(), first.c.job.desc()).limit(most)).all()
        stated = _stated(connection, [job for row in rows for job in row[2:4]])
        pairs = tuple(_of_one_setting(_pair_of(row, stated) for row in rows))
        since = pairs[-1].at if pairs else None
        failures = (_failures(connection, routes[0], since), _failures(connection, routes[1], since))
        synthetic = connection.execute(count.where(*conditions, is_newest, is_made_up)).scalar_one()
        is_older = sa.not_(is_newest)
        if 0 < len(pairs) < most:  # nothing was cut off, so what is not here was read by another setting
            is_older = sa.or_(is_older, first.c.at < pairs[-1].at)
        older = connection.execute(count.where(*conditions, is_older, ~is_made_up)).scalar_one()
        return PairedAnswers(routes, pairs, synthetic, failures, older)


def _last_change(connection: sa.Connection, route: str, period: Period | None) -> datetime | None:
    """Return when a route last answered with another model than its newest; None if it never did.

    The digest of a described model is that of its description, too: another threshold is another model.
    """
    model = (answers.c.model, answers.c.version, answers.c.weights_sha256)
    conditions = [answers.c.route == route, answers.c.model != "", *((answers.c.at < period.until,) if period else ())]
    newest = connection.execute(sa.select(*model).where(*conditions).order_by(answers.c.at.desc()).limit(1)).first()
    if newest is None:
        return None
    is_other = sa.or_(*(column != value for column, value in zip(model, newest, strict=True)))
    change: datetime | None = connection.execute(
        sa.select(sa.func.max(answers.c.at)).where(*conditions, is_other)
    ).scalar_one()
    return change


def _pair_of(row: Any, stated: Mapping[str, Stated]) -> PairedAnswer:  # noqa: ANN401 - a row of a query
    study, at, *names = row[:4]
    columns = row[4 : 4 + len(_COLUMNS)], row[4 + len(_COLUMNS) :]
    first, second = (
        RouteAnswer(**dict(zip(_COLUMNS, values, strict=True)), stated=stated.get(job, Stated()))
        for values, job in zip(columns, names, strict=True)
    )
    return PairedAnswer(UID(study), aware(at), first, second)


def _stated(connection: sa.Connection, names: Sequence[str]) -> Mapping[str, Stated]:
    """Return what jobs state that are here or that are history, by the name of the job."""
    return {
        row.id: _stated_by(row.result)
        for table in (history, jobs)
        for row in connection.execute(sa.select(table.c.id, table.c.result).where(table.c.id.in_(names)))
    }


def _stated_by(result: str) -> Stated:
    values: Mapping[str, Any] = json.loads(result) if result else {}
    parameters: Mapping[str, str] = (values.get("algorithm") or {}).get("parameters") or {}
    settings = {name: text for name, text in parameters.items() if name.endswith(PRECISION)}
    opinions: dict[str, Opinion] = {}
    for finding in values.get("findings") or ():
        if verdict := finding.get("verdict"):
            question = _question(finding)
            settings[f"threshold of {question}"] = f"{verdict['threshold']:g}"
            opinion = Opinion(verdict["presence"], verdict["probability"])
            opinions[question] = min(opinions.get(question, opinion), opinion, key=_weakness)
    return Stated(settings, opinions)


def _question(finding: Mapping[str, Any]) -> str:
    """Return what a verdict answers: what is judged, and on which side or, of no marked place, in which part."""
    judged = finding["verdict"].get("about") or finding.get("finding")
    part = None if finding.get("region") else finding.get("site")
    return ", ".join(filter(None, (judged, part, finding.get("laterality"))))


def _weakness(opinion: Opinion) -> tuple[int, float]:
    return _STRONGEST_FIRST.index(Presence(opinion.presence)), -(opinion.probability or 0.0)


def _of_one_setting(pairs: Iterator[PairedAnswer]) -> Iterator[PairedAnswer]:
    """Yield the newest pairs, up to the first that a route read in another precision than the later ones.

    Thresholds belong to the model, which may have several: of one scan, and of scans that are compared.
    """
    newer: dict[tuple[int, str], str] = {}
    for pair in pairs:
        precisions = {
            (side, name): text
            for side, answer in enumerate((pair.first, pair.second))
            for name, text in answer.stated.settings.items()
            if name.endswith(PRECISION)
        }
        if any(newer.get(key, text) != text for key, text in precisions.items()):
            return
        newer |= precisions
        yield pair


def _failures(connection: sa.Connection, route: str, since: datetime | None) -> int:
    """Return how many readings of a route failed since a time."""
    at = sa.func.coalesce(jobs.c.finished_at, jobs.c.queued_at)
    conditions = [jobs.c.route == route, jobs.c.state == JobState.FAILED, *((at >= since,) if since else ())]
    return connection.execute(sa.select(sa.func.count()).select_from(jobs).where(*conditions)).scalar_one()
