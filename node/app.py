"""The wiring: every station built, started and stopped in order. Read it first, and last.

receiver process -> spool -> intake thread -> jobs (DBOS) -> reader process per handler -> courier -> archives
web, pullers     ->
worklists        -> pullers
"""

import dataclasses
import logging
import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Final

from ainode.node.audit.recorder import Recorder
from ainode.node.deciding.events import HandlerKnown, ReceiverLost, intake_queue
from ainode.node.deciding.intake import Doors, Intake
from ainode.node.deciding.intake_thread import Duties, Errands, IntakeThread
from ainode.node.deciding.labels import label
from ainode.node.deciding.leftovers import Recovery
from ainode.node.deciding.liveness import Liveness
from ainode.node.deciding.sender_counts import SenderCounts, own_documents
from ainode.node.disk import make_folder, remove_parts
from ainode.node.domain import counted
from ainode.node.jobs.commitments import Commitments
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.stations import Stations
from ainode.node.jobs.sweeping import Sweep, Swept
from ainode.node.jobs.workflows import Jobs
from ainode.node.keeping import database
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.backlog import Backlog
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.dead_letters import DeadLetters
from ainode.node.keeping.executors import ExecutorKind, Executors
from ainode.node.keeping.folder_lock import FolderLock
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.patient_index import PatientIndex, naming
from ainode.node.keeping.permissions import Permissions
from ainode.node.keeping.readership import Readership
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.keeping.workitems import Workitems
from ainode.node.logs import RecentLines
from ainode.node.metrics.course import Course
from ainode.node.metrics.families import Metrics, Sources
from ainode.node.notifying.notifier import Notifier
from ainode.node.priors.patient_ids import PatientIds
from ainode.node.proving.nightly import Nightly
from ainode.node.reading.preparation import Preparation, prepared_handlers
from ainode.node.reading.readers import Readers
from ainode.node.reading.weights import environment
from ainode.node.receiving.handover import Handover
from ainode.node.receiving.receivers import Receivers
from ainode.node.receiving.receptions import Receptions
from ainode.node.receiving.transfers import Transfers
from ainode.node.settings import Settings
from ainode.node.starting.joining import Membership
from ainode.node.starting.records import log_unconfined, record_configuration
from ainode.node.web.pullers import Pullers, PullNeighbors
from ainode.node.workitems.parts import Parts as WorkitemParts
from ainode.node.workitems.station import Performers

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ainode.node.web.api import Dependencies
    from ainode.node.web.station import Web

log = logging.getLogger(__name__)
_PARTS: Final = ("*", "commitments/*", "documents/*/*", "networks/*", "priors/*/*", "weights/*")
"""where below `data` a killed process may leave what it was writing"""


def _now() -> datetime:
    return datetime.now(UTC)


class Ending(Enum):
    """Why a node ends."""

    REQUESTED = auto()
    FAILED = auto()
    """a part of the node ended by itself"""
    TAKEN_FOR_DEAD = auto()
    """others do its work: it can begin anew"""
    RECEIVER_LOST = auto()
    """one that may have stored something: the node begins anew, and finds that"""


class Node:
    """One installation: start it, wait, stop it. What it promised before a kill it keeps after the next start."""

    def __init__(self, settings: Settings, handover: Handover | None = None, *, takes_reload: bool = False) -> None:
        """Build every station; with a `handover` the receiver runs already, and goes on.

        `takes_reload` says whether whoever waits for the node replaces the program where a reload is asked for.

        Raises: ConfigError, DatabaseUnavailable.
        """
        self._settings = settings = settings.with_self_test()
        permissions = Permissions.of_group(settings.node.group)
        make_folder(settings.data)
        self._lock = FolderLock(settings.data)
        permissions.apply_to(settings.data)
        if handover is None:  # what the receiver is writing is no remainder of a killed process
            remove_parts(settings.data, _PARTS)
        self._engine = database.connect(settings.database_url)
        database.migrate(self._engine)
        handlers = settings.handlers
        self._membership = Membership.of(settings, self._engine, ExecutorKind.NODE, settings.own_handlers)
        self._course = Course(handlers)
        self.catalog = Catalog(self._engine)
        self.ledger = Ledger(self._engine, self._course)
        self._announcements, self._workitems = Announcements(self._engine), Workitems(self._engine)
        self._patients = PatientIndex(self._engine, naming(settings))
        self._patients.restrict()
        self._stopping, self._reloading, self._takes_reload = threading.Event(), threading.Event(), takes_reload
        self._audit = Recorder.of(settings, PatientIds(self.catalog, self._stopping).of_study)
        self._events = intake_queue()
        self._transfers = Transfers(self._audit.record, self._events.put)
        self._receptions, self._recent_lines = Receptions(), RecentLines()
        models = dataclasses.replace(environment(settings), data=settings.data)
        self._readers = Readers(handlers, models, settings.reader, self._on_handler_known)
        self._readers.kill_leftovers()
        prepared = prepared_handlers(settings) & set(settings.own_handlers)
        self._preparation = Preparation(self._readers, prepared, Backlog(self._engine).handlers)
        may_leave = self._membership.lease.refuse_lost
        self._notifier = Notifier(settings, self._engine, _now, self._audit.record, may_leave)
        self._jobs = Jobs(self._stations(), self._membership.share())
        self._nightly = Nightly(settings, self._engine, _now, self._notifier.wake)
        self._errands, self._receivers = Errands(), Receivers(settings, handover=handover)
        self._commitments = Commitments(settings, self.catalog, self.ledger, _now)
        self._intake = self._intake_thread()
        self._liveness = Liveness(self._receivers.fault, self._intake.fault, self._jobs.fault, self._receivers.missing)
        self._stop_pages: Callable[[], None] = lambda: None
        self._web = self._web_station() if settings.web.enabled else None
        # Without a web interface, worklists alone have studies pulled.
        self._pullers = self._own_pullers() if self._has_worklist and not self._web else None
        self._performers = self._performer_station()

    def start(self) -> None:
        """Open the door, recover what a crash left, go on."""
        self._started_at = _now()
        self._audit.start()
        record_configuration(self._settings, self._audit.record)
        if self._settings.web.enabled and self._settings.console.enabled:
            self._recent_lines.begin()
        self._receivers.start(self._receptions.watched(self._transfers.put))
        self._membership.enter()
        self._resumed = self._jobs.launch()
        self._membership.begin(self._jobs.end_abandoned)
        self._notifier.start()
        self._intake.start()
        if self._web:
            self._web.start()
            if self._settings.console.enabled:
                log.info("console: %s", self._settings.web.address, extra={"action": "console_open"})
        else:
            shutil.rmtree(self._settings.trials, ignore_errors=True)  # of a node that died, and had a web interface
        if self._pullers:
            self._pullers.start()
        self._performers.start()
        node = self._settings.node
        log.info("ready: %s on %s:%d", node.ae_title, node.bind, node.port, extra={"action": "ready"})
        log_unconfined(self._settings)
        self._preparation.start()
        self._nightly.start()

    def request_stop(self) -> None:
        """Ask the node to stop; safe in a signal handler."""
        self._stopping.set()

    def request_reload(self) -> None:
        """Ask the node to look at its configuration again; safe in a signal handler."""
        self._reloading.set()

    def wait(self) -> Ending | None:
        """Return why the wait is over, None when a reload was asked for."""
        parts = (
            ("web", "the web interface or a puller", self._web),
            ("pullers", "a puller", self._pullers),
            ("worklists", "the performer of a worklist", self._performers),
            ("audit", "the thread of the audit trail", self._audit),
            ("dispatcher", "the dispatcher of jobs", self._jobs),
            ("intake", "the intake", self._intake),
            ("notifier", "a thread of the notifications", self._notifier),
            ("self_test", "the thread of the self-tests", self._nightly),
            ("presence", "the thread of its presence", self._membership),
        )
        while not self._stopping.wait(1.0):
            if self._reloading.is_set():
                self._reloading.clear()
                return None
            if self._membership.is_lost():
                return Ending.TAKEN_FOR_DEAD
            if self._receivers.watch():
                message = "beginning anew, to find what the receiver stored that ended"
                log.error(message, extra={"action": "receiver_lost"})
                return Ending.RECEIVER_LOST
            for name, words, part in parts:
                if part and not part.is_alive():
                    log.error("%s ended; stopping", words, extra={"action": f"{name}_died"})
                    return Ending.FAILED
            if database.is_lost(self._engine) or self._jobs.is_lost():
                message = "the database file was removed or replaced under the node; stopping: what is written is lost"
                log.error(message, extra={"action": "database_lost"})
                return Ending.FAILED
            self._liveness.watch()
        return Ending.REQUESTED

    def stop(self, within_s: float = 0.0) -> None:
        """Close the door first, then everything behind it; running jobs go on at the next start.

        Associations in use and deliveries under way go on for `within_s` together.
        """
        end_s = self._begin_end("stopping", within_s)
        self._receivers.stop(max(end_s - time.monotonic(), 0.0))
        self._end(max(end_s - time.monotonic(), 0.0))
        log.info("stopped", extra={"action": "stopped"})

    def replace_lost_receivers(self) -> None:
        """Go on with the configuration that runs, where that on the disk is refused and a receiver was lost."""
        self._receivers.replace_lost(datetime.now(UTC))
        self._events.put(ReceiverLost())

    def hand_over(self, within_s: float) -> Handover:
        """Stop everything but the receiver, which goes on to answer; return it for the next program of this process.

        Its events wait in the pipe. Deliveries under way go on for `within_s`; a study that is read is read again.
        """
        end_s = self._begin_end("reloading", within_s)
        handover = self._receivers.detach()
        self._transfers.flush()
        self._end(max(end_s - time.monotonic(), 0.0))
        return handover

    def _begin_end(self, action: str, within_s: float) -> float:
        """Take no more requests; return when the end must be over, by the monotonic clock."""
        end_s = time.monotonic() + within_s
        self._stopping.set()
        count = self._readers.reading_count()
        repeats = f"; {counted(count, 'reading')} under way, done again at the next start" if count else ""
        log.info("%s%s", action, repeats, extra={"action": action})
        # The next start finds on disk what the intake does not take in time.
        self._closing = threading.Timer(within_s, self._events.close)
        self._closing.start()
        self._nightly.stop()
        for station in (self._performers, self._web, self._pullers):
            if station:
                station.stop()
        self._stop_pages()
        return end_s

    def _end(self, within_s: float) -> None:
        self._closing.cancel()
        self._events.close()
        self._intake.stop()
        self._preparation.stop()
        self._readers.kill_idle()
        self._preparation.join()
        self._membership.retire()
        self._jobs.stop(within_s)
        self._membership.end()
        self._notifier.stop()
        self._errands.stop()
        self._commitments.stop()
        self._audit.stop()
        self._recent_lines.end()
        self._engine.dispose()
        self._lock.release()

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

    def _on_handler_known(self, handler: str) -> None:
        self._events.put(HandlerKnown(handler))

    def _stations(self) -> Stations:
        settings, lease = self._settings, self._membership.lease
        return Stations(
            settings,
            self.catalog,
            self.ledger,
            Courier(settings, self.ledger, self._audit.record, lease.refuse_lost),
            self._course.watched(self._readers.read),
            _now,
            self._audit.record,
            self._notifier.wake,
            lease,
        )

    def _intake_thread(self) -> IntakeThread:
        settings = self._settings
        limits = Limits(settings.node.min_free_bytes, settings.node.max_object_bytes)
        spool = Spool(settings.data / "spool", limits)
        swept = Swept(
            self._engine, spool, self.catalog, self.ledger, self._announcements, self._workitems, self._patients
        )
        sweep_data = Sweep(settings, swept)

        def sweep(now: datetime) -> None:
            self._readers.kill_unused()
            sweep_data(now)

        counts = SenderCounts(settings, self.ledger, self._errands, self._events.put, self._audit.record)
        own = partial(own_documents, self.ledger)
        doors = Doors(
            self._jobs.open,
            counts.ask,
            self._readers.weights,
            self._announcements,
            own,
            partial(label, index=self._patients),
            self._jobs.withdraw_outlived,
            self._jobs.withdraw_rejected,
        )
        duties = Duties(self._recovered, self._commitments.take, sweep, _now)
        return IntakeThread(self._events, Intake(settings, spool, self.catalog, doors), duties)

    @property
    def _has_worklist(self) -> bool:
        return any(peer.worklist for peer in self._settings.peers)

    def _own_pullers(self) -> Pullers:
        neighbors = PullNeighbors(self.catalog, self.ledger, self._announcements, self._events.put)
        return Pullers(self._settings, neighbors)

    def _performer_station(self) -> Performers:
        pullers = self._web.pullers if self._web else self._pullers
        parts = WorkitemParts(
            self._settings,
            self._workitems,
            self._announcements,
            self.catalog,
            self.ledger,
            pullers.on_announced if pullers else lambda _: None,
            _now,
        )
        return Performers(parts)

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
            self._metrics(),
        )
        return Web(self._settings, neighbors)

    def _metrics(self) -> Callable[[], str]:
        sources = Sources(
            self._settings,
            Backlog(self._engine),
            DeadLetters(self._engine),
            Executors(self._engine),
            Readership(self._engine),
            self._course,
            self._receptions,
            self._receivers.counts,
            self._readers.states,
            self._liveness,
        )
        return Metrics(sources).text

    def _pages(self, web: "Dependencies") -> "FastAPI":
        from ainode.node.console.application import console  # noqa: PLC0415 - costs memory only where it is enabled
        from ainode.node.console.parts import Parts  # noqa: PLC0415

        parts = Parts(
            web,
            self._engine,
            self._readers,
            receptions=self._receptions,
            recent_lines=self._recent_lines,
            request_reload=self.request_reload if self._takes_reload else None,
        )
        self._stop_pages = parts.stop
        return console(parts)
