"""Retention: studies leave the spool when they are old and no job needs them any more."""

from datetime import datetime, timedelta

from ainode.node.domain import JobState
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.spool import Spool


class Retention:
    """Removes the instances of expired studies."""

    def __init__(
        self, days: int, *, spool: Spool, catalog: Catalog, ledger: Ledger, announcements: Announcements
    ) -> None:
        """Keep studies for `days` after their last instance; 0 keeps them for good."""
        self._days = days
        self._spool, self._catalog, self._ledger, self._announcements = spool, catalog, ledger, announcements

    def sweep(self, now: datetime) -> None:
        """Remove every expired study that has no unfinished job."""
        if not self._days:
            return
        for study in self._catalog.expired(now - timedelta(days=self._days)):
            if not any(job.state in {JobState.WAITING, JobState.READING} for job in self._ledger.jobs(study=study)):
                self._spool.remove_study(study)
                self._catalog.forget(study)
                self._announcements.forget(study)
