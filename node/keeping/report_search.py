"""The kept reports of current answers that leave the node, for whoever asks for them: conditions and pages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from ainode.node.domain import SELF_TEST_PEER, UID, DocumentKind, InstanceRef, JobState
from ainode.node.keeping.database import aware, reference
from ainode.node.keeping.schema import documents, jobs
from ainode.node.keeping.succession import line_of

STATES: Final = (JobState.REPORTED, JobState.OUT_OF_SCOPE)
"""of jobs with a report"""
WITHDRAWN: Final = "withdrawn"
"""beside these states: of a report that the node took back"""
_STATE: Final = sa.case((jobs.c.withdrawn_at.is_not(None), WITHDRAWN), else_=jobs.c.state)
_ISSUED: Final = sa.func.coalesce(jobs.c.withdrawn_at, jobs.c.finished_at, jobs.c.created_at)


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A Structured Report on the disk, and what its job answered."""

    job: str
    withdrawal: str
    """why the node took the report back, '' of one that holds"""
    ref: InstanceRef
    path: Path
    sha256: str
    result: str
    """result.json"""
    issued_at: datetime
    """when the report was there for others, or was withdrawn"""
    replaced: tuple[InstanceRef, ...]
    """earlier reports that the report supersedes"""


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """What a report must be like; what is empty is no condition, several values are alternatives."""

    jobs: Sequence[str] = ()
    studies: Sequence[str] = ()
    reports: Sequence[str] = ()
    """SOP Instance UIDs; a report has those of the reports that it supersedes, too"""
    states: Sequence[str] = ()
    """of `STATES`, or `WITHDRAWN`"""
    times: Sequence[tuple[str, datetime]] = ()
    """`<` or `>=` and a time, which `issued_at` meets; all of them are met"""

    def conditions(self) -> tuple[sa.ColumnElement[bool], ...]:
        """Return the conditions on the columns of jobs and documents."""
        values = {jobs.c.id: self.jobs, jobs.c.study_instance_uid: self.studies, _STATE: self.states}
        named: list[sa.ColumnElement[bool]] = [documents.c.sop_instance_uid.in_(self.reports)]
        named += [jobs.c.predecessors.contains(f'"{uid}"', autoescape=True) for uid in self.reports]
        issued_at = _ISSUED
        return (
            *(column.in_(some) for column, some in values.items() if some),
            *((sa.or_(*named),) if self.reports else ()),
            *(issued_at < time if sign == "<" else issued_at >= time for sign, time in self.times),
        )


class ReportSearch:
    """Finds reports, the newest job first.

    A report of a shadow route, or one that is withheld, stays in the node: nobody finds it here.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def page(self, report_filter: ReportFilter, *, after: str, limit: int) -> tuple[KeptReport, ...]:
        """Return so many reports that a filter lets through, behind that of the job `after`, '' for the first page."""
        query = _reports().where(*report_filter.conditions())
        with self._engine.connect() as connection:
            if after:
                queued_at = connection.execute(sa.select(jobs.c.queued_at).where(jobs.c.id == after)).scalar()
                if queued_at is None:
                    return ()
                is_older = jobs.c.queued_at < queued_at
                query = query.where(is_older | ((jobs.c.queued_at == queued_at) & (jobs.c.id < after)))
            rows = connection.execute(query.order_by(jobs.c.queued_at.desc(), jobs.c.id.desc()).limit(limit))
            return tuple(map(_report_of, rows))

    def count(self, report_filter: ReportFilter) -> int:
        """Return how many reports a filter lets through."""
        query = sa.select(sa.func.count()).select_from(_reports().where(*report_filter.conditions()).subquery())
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def successor(self, job: str) -> str | None:
        """Return the job that took the place of a superseded one, None if the job was not superseded.

        '' of a successor whose report stays in the node, or is not there yet.
        """
        old = jobs.alias()
        of_study = old.c.study_instance_uid == jobs.c.study_instance_uid
        columns = (jobs.c.id, jobs.c.route, jobs.c.state, jobs.c.successor)
        query = sa.select(*columns).join(old, of_study).where(old.c.id == job, old.c.state == JobState.SUPERSEDED)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        others = [row for row in rows if row.state != JobState.SUPERSEDED]
        successor = next((row.id for row in others if job in line_of(rows, row.route, row.id)), None)
        return successor if successor is None or self.count(ReportFilter(jobs=[successor])) else ""


def _reports() -> sa.Select[Any]:
    columns = (jobs.c.id.label("job_id"), jobs.c.result, jobs.c.reason, jobs.c.withdrawn_at, _ISSUED.label("issued_at"))
    document_columns = [
        documents.c[name] for name in ("series_instance_uid", "sop_class_uid", "sop_instance_uid", "path", "sha256")
    ]
    return (
        sa.select(*columns, jobs.c.predecessors, documents.c.study_instance_uid, *document_columns)
        .join(documents, documents.c.job == jobs.c.id)
        .where(
            jobs.c.state.in_(STATES),
            jobs.c.withheld == "",
            jobs.c.destinations.not_in([json.dumps([]), json.dumps([SELF_TEST_PEER])]),
            documents.c.kind == DocumentKind.STRUCTURED_REPORT,
        )
    )


def _report_of(row: Any) -> KeptReport:  # noqa: ANN401 - rows have the columns of their query
    return KeptReport(
        job=row.job_id,
        withdrawal=row.reason if row.withdrawn_at else "",
        ref=reference(row),
        path=Path(row.path),
        sha256=row.sha256,
        result=row.result,
        issued_at=aware(row.issued_at),
        replaced=tuple(InstanceRef(*map(UID, uids)) for uids in json.loads(row.predecessors)),
    )
