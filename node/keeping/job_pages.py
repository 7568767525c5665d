"""Some of the jobs, by state, route, study and time, in pages: the newest first."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from ainode.node.domain import UID, JobState
from ainode.node.keeping.records import Job, PastJob, job_of
from ainode.node.keeping.schema import jobs


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a question is about; '' and None leave nothing out."""

    study: str = ""
    route: str = ""
    state: JobState | None = None
    since: datetime | None = None
    """when the job was queued"""

    @property
    def is_of_all(self) -> bool:
        """Return whether no job is left out, but for its study."""
        return not (self.route or self.state or self.since)

    def takes(self, past_job: PastJob) -> bool:
        """Return whether a job whose documents were removed is among those."""
        return (
            self.study in {"", past_job.study_instance_uid}
            and self.route in {"", past_job.route}
            and self.state in {None, past_job.state}
            and (self.since is None or past_job.queued_at >= self.since)
        )


class JobPages:
    """Reads jobs; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def page(self, criteria: JobFilter, *, count: int | None = None, offset: int = 0) -> tuple[Job, ...]:
        """Return some of the jobs, the newest first; all from `offset` on without a `count`."""
        query = sa.select(jobs).where(*_conditions(criteria)).order_by(jobs.c.queued_at.desc(), jobs.c.id)
        with self._engine.connect() as connection:
            return tuple(job_of(row) for row in connection.execute(query.limit(count).offset(offset)))

    def count(self, criteria: JobFilter) -> int:
        """Return how many jobs there are."""
        query = sa.select(sa.func.count()).select_from(jobs).where(*_conditions(criteria))
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())


def _conditions(criteria: JobFilter) -> list[sa.ColumnElement[bool]]:
    values = {"study_instance_uid": UID(criteria.study), "route": criteria.route, "state": criteria.state}
    conditions = [jobs.c[name] == value for name, value in values.items() if value]
    if criteria.since:
        conditions.append(jobs.c.queued_at >= criteria.since)
    return conditions
