"""The wiring: every station built, started and stopped in order. Read it first, and last.

receiver process -> spool -> intake thread -> jobs (DBOS) -> reader process per handler -> courier -> archives
web, pullers     ->
"""

import logging
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from ainode.node.audit.changes import start_alert
from ainode.node.audit.recorder import Recorder
from ainode.node.deciding.events import HandlerKnown, intake_queue
from ainode.node.deciding.intake import Doors, Intake
from ainode.node.deciding.intake_thread import Duties, Errands, IntakeThread
from ainode.node.deciding.labels import label
from ainode.node.deciding.leftovers import Recovery
from ainode.node.deciding.liveness import Liveness
from ainode.node.deciding.sender_counts import SenderCounts, own_documents
from ainode.node.disk import make_folder, remove_parts
from ainode.node.domain import JobState, counted
from ainode.node.errors import WeightsError
from ainode.node.jobs import engine
from ainode.node.jobs.commitments import Commitments
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.stations import Stations
from ainode.node.jobs.workflows import Jobs
from ainode.node.keeping import database
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.folder_lock import FolderLock
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.patient_index import PatientIndex, naming
from ainode.node.keeping.permissions import Permissions
from ainode.node.keeping.retention import JobRetention, StudyRetention, remove_abandoned
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.logs import RecentLines
from ainode.node.priors.gathering import Priors
from ainode.node.priors.patient_ids import PatientIds
from ainode.node.reading.preparation import Preparation
from ainode.node.reading.readers import Readers
from ainode.node.reading.weights import environment
from ainode.node.receiving.process import ReceiverProcess
from ainode.node.receiving.receptions import Receptions
from ainode.node.receiving.transfers import Transfers
from ainode.node.routes import RouteMode
from ainode.node.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ainode.node.web.api import Dependencies
    from ainode.node.web.station import Web

log = logging.getLogger(__name__)
_PARTS: Final = ("*", "commitments/*", "documents/*/*", "networks/*", "priors/*/*", "weights/*")
"""where below `data` a killed process may leave what it was writing"""


def _now() -> datetime:
    return datetime.now(UTC)


class Node:
    """One installation: start it, wait, stop it. What it promised before a kill it keeps after the next start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        permissions = Permissions.of_group(settings.node.group)
        make_folder(settings.data)
        self._lock = FolderLock(settings.data)
        permissions.apply_to(settings.data)
        remove_parts(settings.data, _PARTS)
        self._engine = database.connect(settings.database_url)
        database.migrate(self._engine)
        self.catalog = Catalog(self._engine)
        self.ledger = Ledger(self._engine)
        self._announcements = Announcements(self._engine)
        self._patients = PatientIndex(self._engine, naming(settings))
        self._patients.restrict()
        self._stopping = threading.Event()
        self._audit = Recorder.of(settings, PatientIds(self.catalog, self._stopping).of_study)
        self._events = intake_queue()
        self._transfers = Transfers(self._audit.record, self._events.put)
        self._receptions, self._recent_lines = Receptions(), RecentLines()
        handlers = {route.handler for route in settings.routes}
        self._readers = Readers(handlers, environment(settings), settings.reader, self._on_handler_known)
        self._readers.kill_leftovers()
        live = (route.handler for route in settings.routes if route.mode is RouteMode.LIVE)
        self._preparation = Preparation(self._readers, live if settings.reader.prepare else ())
        self._jobs = Jobs(
            Stations(
                settings,
                self.catalog,
                self.ledger,
                Courier(settings, self.ledger, self._audit.record),
                self._readers.read,
                _now,
                self._audit.record,
            )
        )
        self._errands = Errands()
        self._receiver = ReceiverProcess(settings)
        self._commitments = Commitments(settings, self.catalog, self.ledger, _now)
        self._intake = self._intake_thread()
        self._liveness = Liveness(self._receiver.fault, self._intake.fault, self._jobs.fault)
        self._stop_pages: Callable[[], None] = lambda: None
        self._web = self._web_station() if settings.web.enabled else None

    def start(self) -> None:
        """Open the door, recover what a crash left, go on."""
        self._started_at = _now()
        self._audit.start()
        self._record_configuration()
        if self._settings.web.enabled and self._settings.console.enabled:
            self._recent_lines.begin()
        self._receiver.start(self._receptions.watched(self._transfers.put))
        self._resumed = self._jobs.launch()
        self._intake.start()
        if self._web:
            self._web.start()
            if self._settings.console.enabled:
                log.info("console: %s", self._settings.web.address, extra={"action": "console_open"})
        else:
            shutil.rmtree(self._settings.trials, ignore_errors=True)  # of a node that died, and had a web interface
        node = self._settings.node
        log.info("ready: %s on %s:%d", node.ae_title, node.bind, node.port, extra={"action": "ready"})
        self._preparation.start()

    def request_stop(self) -> None:
        """Ask the node to stop; safe in a signal handler."""
        self._stopping.set()

    def wait(self) -> bool:
        """Return True when a stop was asked for, False when a part of the node ended by itself."""
        parts = (
            ("receiver", "the receiver process", self._receiver),
            ("web", "the web interface or a puller", self._web),
            ("audit", "the thread of the audit trail", self._audit),
            ("dispatcher", "the dispatcher of jobs", self._jobs),
            ("intake", "the intake", self._intake),
        )
        while not self._stopping.wait(1.0):
            for name, words, part in parts:
                if part and not part.is_alive():
                    log.error("%s ended; stopping", words, extra={"action": f"{name}_died"})
                    return False
            if database.is_lost(self._engine) or self._jobs.is_lost():
                message = "the database file was removed or replaced under the node; stopping: what is written is lost"
                log.error(message, extra={"action": "database_lost"})
                return False
            self._liveness.watch()
        return True

    def stop(self) -> None:
        """Close the door first, then everything behind it; running jobs go on at the next start."""
        self._stopping.set()
        count = self._readers.reading_count()
        repeats = f"; {counted(count, 'reading')} under way, done again at the next start" if count else ""
        log.info("stopping%s", repeats, extra={"action": "stopping"})
        self._events.close()  # the next start finds on disk what the intake does not take now
        if self._web:
            self._web.stop()
        self._stop_pages()
        self._receiver.stop()
        self._intake.stop()
        self._preparation.stop()
        self._readers.kill_idle()
        self._preparation.join()
        self._jobs.stop()
        self._errands.stop()
        self._commitments.stop()
        self._audit.stop()
        self._recent_lines.end()
        self._engine.dispose()
        self._lock.release()
        log.info("stopped", extra={"action": "stopped"})

    def _recovered(self, recovery: Recovery) -> None:
        """Log what the start took up, unless there was nothing; then answer the commitments of before."""
        counts = recovery.instances, recovery.studies, self._resumed, recovery.set_aside
        if any(counts):
            sentence = "recovered: %d instances, %d studies; resumed: %d tasks of jobs; set aside: %d files"
            log.info(sentence, *counts, extra={"action": "recovered"})
        if self._audit.was_killed:
            for study in self.catalog.unrouted():
                early = (item for item in self.catalog.instances(study) if item.received_at < self._started_at)
                self._transfers.recovered((item.calling_ae_title, item.ref) for item in early)
        self._commitments.recover()

    def _record_configuration(self) -> None:
        """Record the digests of configuration and weights; what cannot be read or written costs a line of the log."""
        if not self._settings.audit.enabled:
            return
        try:
            entries = environment(self._settings).weights.entries()
            self._audit.record(start_alert(self._settings, {entry.name: entry.sha256 for entry in entries}))
        except (WeightsError, OSError) as error:
            log.warning(
                "audit: configuration and weights are not recorded: %s", error, extra={"action": "audit_failed"}
            )

    def _on_handler_known(self, handler: str) -> None:
        self._events.put(HandlerKnown(handler))

    def _intake_thread(self) -> IntakeThread:
        settings = self._settings
        limits = Limits(settings.node.min_free_bytes, settings.node.max_object_bytes)
        spool = Spool(settings.data / "spool", limits)
        study_retention = StudyRetention(
            settings.node.retention_days,
            spool=spool,
            catalog=self.catalog,
            ledger=self.ledger,
            announcements=self._announcements,
        )
        job_retention = JobRetention(
            settings.node.job_retention_days,
            documents=settings.data / "documents",
            ledger=self.ledger,
            catalog=self.catalog,
            remove_workflows=engine.remove_finished,
        )
        priors = Priors(settings)

        def sweep(now: datetime) -> None:
            self._readers.kill_unused()
            remove_abandoned(spool.root, now)
            study_retention.sweep(now)
            job_retention.sweep(now)
            self._patients.remove_orphans()
            priors.sweep(now, (job.id for job in self.ledger.jobs(states=(JobState.WAITING, JobState.READING))))

        counts = SenderCounts(settings, self.ledger, self._errands, self._events.put, self._audit.record)
        own = partial(own_documents, self.ledger)
        label_study = partial(label, index=self._patients)
        doors = Doors(self._jobs.open, counts.ask, self._readers.weights, self._announcements, own, label_study)
        duties = Duties(self._recovered, self._commitments.take, sweep, _now)
        return IntakeThread(self._events, Intake(settings, spool, self.catalog, doors), duties)

    def _web_station(self) -> "Web":
        from ainode.node.web.station import Neighbors, Web  # noqa: PLC0415 - an extra, and 20 MB resident

        neighbors = Neighbors(
            self.catalog,
            self.ledger,
            self._announcements,
            self._transfers.put,
            self._liveness,
            self._engine,
            self._audit.record,
            self._readers.mark,
            self._pages if self._settings.console.enabled else None,
        )
        return Web(self._settings, neighbors)

    def _pages(self, web: "Dependencies") -> "FastAPI":
        from ainode.node.console.application import console  # noqa: PLC0415 - costs memory only where it is enabled
        from ainode.node.console.parts import Parts  # noqa: PLC0415

        parts = Parts(web, self._engine, self._readers, receptions=self._receptions, recent_lines=self._recent_lines)
        self._stop_pages = parts.stop
        return console(parts)
