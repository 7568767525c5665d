"""Retention: studies leave the spool, and jobs their documents, when they are old and nothing needs them any more."""

import logging
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ainode.node.domain import JobState
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.spool import Spool

log = logging.getLogger(__name__)
_ABANDONED: Final = timedelta(hours=1)


class StudyRetention:
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
                try:
                    self._spool.remove_study(study)
                except OSError as error:
                    _log_rest(error, {"study_instance_uid": study})
                    continue
                self._catalog.forget(study)
                self._announcements.forget(study)


def remove_abandoned(spool: Path, now: datetime) -> None:
    """Remove from the folders of writers what nobody has written to for an hour.

    The writer ended without its last step, as on a disk that failed. A writer that lives is refused long before.
    """
    for path in spool.glob("tmp*/*"):
        try:
            if path.lstat().st_mtime < (now - _ABANDONED).timestamp():
                path.unlink()
        except OSError as error:
            _log_rest(error, {})


class JobRetention:
    """Removes the documents and deliveries of old jobs; what the jobs answered stays as their history.

    When a study was complete, and why no route took a study, goes with them.
    """

    def __init__(
        self,
        days: int,
        *,
        documents: Path,
        ledger: Ledger,
        catalog: Catalog,
        remove_workflows: Callable[[datetime], object],
    ) -> None:
        """Keep jobs for `days` after the last delivery was confirmed; 0 keeps them for good."""
        self._days, self._documents, self._ledger, self._catalog = days, documents, ledger, catalog
        self._remove_workflows = remove_workflows

    def sweep(self, now: datetime) -> None:
        """Remove the expired jobs; a sweep that a kill cut off is completed by the next one."""
        if not self._days:
            return
        before = now - timedelta(days=self._days)
        for job in self._ledger.expired(before):
            self._ledger.archive(job, before, now)
        self._catalog.forget_past(before)
        self._remove_documents(before)
        self._remove_workflows(before)

    def _remove_documents(self, before: datetime) -> None:
        """Remove the old folders of jobs that are no longer here: the rows went first, whenever a sweep was cut off."""
        for folder in self._documents.glob("*"):
            try:
                if folder.lstat().st_mtime < before.timestamp() and not self._ledger.is_known(folder.name):
                    shutil.rmtree(folder)
            except OSError as error:
                _log_rest(error, {"job": folder.name})


def _log_rest(error: OSError, about: dict[str, str]) -> None:
    """Log that files stay until the next sweep; they keep no other files."""
    message = "files that are old cannot be removed, and stay until that is possible: %s"
    log.error(message, error, extra={"action": "retention_failed", **about})
