"""The sweep every ten minutes: what is old, or of nothing any more, leaves the data folder and the database."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from ainode.node.domain import JobState
from ainode.node.jobs import engine
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.notices import Notices
from ainode.node.keeping.patient_index import PatientIndex
from ainode.node.keeping.retention import JobRetention, StudyRetention, remove_abandoned
from ainode.node.keeping.spool import Spool
from ainode.node.keeping.workitems import Workitems
from ainode.node.priors.gathering import Priors
from ainode.node.settings import Settings


@dataclass(frozen=True, slots=True)
class Swept:
    """Where a sweep looks for what is old."""

    database: Engine
    spool: Spool
    catalog: Catalog
    ledger: Ledger
    announcements: Announcements
    workitems: Workitems
    patients: PatientIndex


class Sweep:
    """Removes by the periods of `[node]` what is kept; a period of 0 keeps all that it is for."""

    def __init__(self, settings: Settings, swept: Swept) -> None:
        self._swept, self._days = swept, settings.node.job_retention_days
        self._studies = StudyRetention(
            settings.node.retention_days,
            spool=swept.spool,
            catalog=swept.catalog,
            ledger=swept.ledger,
            announcements=swept.announcements,
        )
        self._jobs = JobRetention(
            settings.node.job_retention_days,
            documents=settings.data / "documents",
            ledger=swept.ledger,
            catalog=swept.catalog,
            remove_workflows=engine.remove_finished,
        )
        self._priors, self._notices = Priors(settings), Notices(swept.database)

    def __call__(self, now: datetime) -> None:
        """Remove what has expired by now."""
        swept = self._swept
        remove_abandoned(swept.spool.root, now)
        self._studies.sweep(now)
        self._jobs.sweep(now)
        if self._days:
            before = now - timedelta(days=self._days)
            self._notices.sweep(before)
            swept.workitems.forget_past(before)
        swept.patients.remove_orphans()
        unfinished = swept.ledger.jobs(states=(JobState.WAITING, JobState.READING))
        self._priors.sweep(now, (job.id for job in unfinished))
