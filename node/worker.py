"""The wiring of a worker: it reads and delivers what a node on another machine received, and receives nothing.

Data folder and PostgreSQL are those of the node; the node begins all work, and finds in the database what was done.
"""

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ainode.node.app import Ending
from ainode.node.audit.recorder import Recorder
from ainode.node.disk import make_folder
from ainode.node.domain import counted
from ainode.node.errors import ConfigError
from ainode.node.identity import digest
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.stations import Stations
from ainode.node.jobs.workflows import Jobs
from ainode.node.keeping import database
from ainode.node.keeping.backlog import Backlog
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.executors import ExecutorKind
from ainode.node.keeping.folder_lock import FolderLock
from ainode.node.keeping.ledger import Ledger
from ainode.node.priors.patient_ids import PatientIds
from ainode.node.reading.preparation import Preparation, prepared_handlers
from ainode.node.reading.readers import Readers
from ainode.node.reading.weights import environment
from ainode.node.settings import Settings
from ainode.node.starting.joining import Membership
from ainode.node.starting.records import log_unconfined

log = logging.getLogger(__name__)
_UNUSED_LOOK_S: Final = 60.0
_DIGITS: Final = 16


def _now() -> datetime:
    return datetime.now(UTC)


def _cache() -> Path:
    """Return the folder of what a worker keeps on its own machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ainode"


def _with_own_networks(settings: Settings) -> Settings:
    """Return the settings with converted networks on this machine's own disk: another processor has others."""
    if settings.reader.networks:
        return settings
    reader = settings.reader.model_copy(update={"networks": _cache() / "networks"})
    return settings.model_copy(update={"reader": reader})


def _locked(settings: Settings, name: str) -> FolderLock:
    """Return the right to be the worker of that name on this machine.

    Raises: ConfigError if another process has it.
    """
    folder = _cache() / "workers" / digest([name, settings.database_url])[:_DIGITS]
    make_folder(folder)
    try:
        return FolderLock(folder)
    except ConfigError as error:
        raise ConfigError(f"another worker runs here as {name!r}; give this one another --name ({folder})") from error


class Worker:
    """One process that works at the jobs of a node: start it, wait, stop it."""

    def __init__(self, settings: Settings, handlers: Iterable[str], name: str) -> None:
        """Build every station; `handlers` are those it reads with, `name` is how people know the worker.

        Raises: ConfigError, DatabaseUnavailable, WeightsError.
        """
        handlers = tuple(sorted(set(handlers)))
        self._lock = _locked(settings, name)
        self._settings = settings = _with_own_networks(settings.with_self_test())
        self._handlers, self._name = handlers, name
        self._engine = database.connect(settings.database_url)
        self._membership = Membership.of(settings, self._engine, ExecutorKind.WORKER, handlers, name)
        lease = self._membership.lease
        catalog, ledger = Catalog(self._engine), Ledger(self._engine)
        self._stopping = threading.Event()
        self._audit = Recorder.of(settings, PatientIds(catalog, self._stopping).of_study, worker=name)
        models = dataclasses.replace(environment(settings), data=settings.data)
        self._readers = Readers(handlers, models, settings.reader, lambda _: None, process=name)
        self._readers.kill_leftovers()
        prepared = prepared_handlers(settings) & set(handlers)
        self._preparation = Preparation(self._readers, prepared, Backlog(self._engine).handlers)
        stations = Stations(
            settings,
            catalog,
            ledger,
            Courier(settings, ledger, self._audit.record, lease.refuse_lost),
            self._readers.read,
            _now,
            self._audit.record,
            lease=lease,
        )
        self._jobs = Jobs(stations, self._membership.share(handlers))

    def start(self) -> None:
        """Enter among the others, and take work."""
        self._audit.start()
        log_unconfined(self._settings)
        self._membership.enter()
        self._jobs.launch()
        self._membership.begin(self._jobs.end_abandoned)
        self._preparation.start()
        log.info("ready: worker %s reads with %s", self._name, ", ".join(self._handlers), extra={"action": "ready"})

    def request_stop(self) -> None:
        """Ask the worker to stop; safe in a signal handler."""
        self._stopping.set()

    def wait(self) -> Ending:
        """Return why the wait is over."""
        swept_s = time.monotonic()
        while not self._stopping.wait(1.0):
            if self._membership.is_lost():
                return Ending.TAKEN_FOR_DEAD
            if not (self._membership.is_alive() and self._audit.is_alive() and self._jobs.is_alive()):
                log.error("a thread of the worker ended; stopping", extra={"action": "worker_died"})
                return Ending.FAILED
            if time.monotonic() - swept_s > _UNUSED_LOOK_S:
                swept_s = time.monotonic()
                self._readers.kill_unused()
        return Ending.REQUESTED

    def stop(self, within_s: float) -> None:
        """Take no more work; deliveries under way go on for `within_s`, and a study that is read others read again."""
        count = self._readers.reading_count()
        repeats = f"; {counted(count, 'reading')} under way, done again by others" if count else ""
        log.info("stopping%s", repeats, extra={"action": "stopping"})
        self._preparation.stop()
        self._readers.kill_idle()
        self._preparation.join()
        self._membership.retire()
        self._jobs.stop(within_s)
        self._membership.end()
        self._audit.stop()
        self._engine.dispose()
        self._lock.release()
        log.info("stopped", extra={"action": "stopped"})
