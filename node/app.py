"""The wiring: every station built, started and stopped in order. Read it first, and last.

receiver process -> spool -> intake thread -> jobs (DBOS) -> reader process per handler -> courier -> archives
web, pullers     ->
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from ainode.node import logs
from ainode.node.archive import commitment, query
from ainode.node.archive.dimse import Link
from ainode.node.deciding import router
from ainode.node.deciding.intake import CountAnswered, Doors, Intake, Told
from ainode.node.domain import UID, JobState, Reading, Request
from ainode.node.errors import ArchiveError, ConfigError, NodeError
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.workflows import Jobs, Stations
from ainode.node.keeping import database
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.reading import registry
from ainode.node.reading.reader import Reader
from ainode.node.reading.weights import environment
from ainode.node.receiving.events import CommitmentReported, CommitmentRequested
from ainode.node.receiving.process import ReceiverProcess
from ainode.node.settings import Peer, Settings

if TYPE_CHECKING:
    from ainode.node.web.station import Web

log = logging.getLogger(__name__)
_BATCH = 1024
_INTAKE_NICENESS = 5
_SWEEP = timedelta(minutes=10)


def _now() -> datetime:
    return datetime.now(UTC)


def _log_failure(done: Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()):
        log.error("an errand ended by %s", logs.where(error), extra={"action": "errand_failed"})


class Node:
    """One installation: start it, wait, stop it. What it promised before a kill it keeps after the next start."""

    def __init__(self, settings: Settings) -> None:
        for route in settings.routes:
            router.refuse_broken(route)
        self._settings = settings
        settings.data.mkdir(parents=True, exist_ok=True)
        self._engine = database.connect(settings.database_url)
        database.migrate(self._engine)
        self.catalog = Catalog(self._engine)
        self.ledger = Ledger(self._engine)
        self._courier = Courier(settings, self.ledger)
        self._models = environment(settings)
        handlers = {route.handler for route in settings.routes}
        self._readers = {name: Reader(name, self._models, settings.reader) for name in handlers}
        self._jobs = Jobs(Stations(settings, self.catalog, self.ledger, self._courier, self._read, _now))
        self._spool = Spool(
            settings.data / "spool", Limits(settings.node.min_free_bytes, settings.node.max_object_bytes)
        )
        self._receiver = ReceiverProcess(settings)
        self._announcements = Announcements(self._engine)
        doors = Doors(self._jobs.open, self._ask_count, self._weights_digest, self._announcements)
        self._intake = Intake(settings, self._spool, self.catalog, doors)
        self._events: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._web = self._web_station() if settings.web.enabled else None
        self._errands = ThreadPoolExecutor(max_workers=4, thread_name_prefix="errand")
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._take_in, name="intake", daemon=True)]

    def start(self) -> None:
        """Open the door, recover what a crash left, go on."""
        self._receiver.start(self._events.put)
        self._jobs.launch()
        self._intake.recover(_now())
        for thread in self._threads:
            thread.start()
        if self._web:
            self._web.start()
        node = self._settings.node
        log.info("ready: %s on %s:%d", node.ae_title, node.bind, node.port, extra={"action": "ready"})

    def request_stop(self) -> None:
        """Ask the node to stop; safe in a signal handler."""
        self._stopping.set()

    def wait(self) -> bool:
        """Return True when a stop was asked for, False when a part of the node ended by itself."""
        while not self._stopping.wait(1.0):
            if not self._receiver.is_alive():
                log.error("the receiver process ended; stopping", extra={"action": "receiver_died"})
                return False
            if self._web and not self._web.is_alive():
                log.error("the web interface or a puller ended; stopping", extra={"action": "web_died"})
                return False
            if not all(thread.is_alive() for thread in self._threads):
                log.error("the intake ended; stopping", extra={"action": "intake_died"})
                return False
        return True

    def stop(self) -> None:
        """Close the door first, then everything behind it; running jobs go on at the next start."""
        self._stopping.set()
        if self._web:
            self._web.stop()
        self._receiver.stop()
        for thread in self._threads:
            thread.join()
        for reader in self._readers.values():
            reader.stop()
        self._jobs.stop()
        self._errands.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()

    def _web_station(self) -> "Web":
        try:
            from ainode.node.web.station import Neighbors, Web  # noqa: PLC0415 - an extra, and 20 MB resident
        except ModuleNotFoundError as error:
            message = f"[web] is enabled, but the package {error.name} is missing: pip install 'ainode[web]'"
            raise ConfigError(message) from error
        tell, is_alive = self._events.put, self._receiver.is_alive
        return Web(self._settings, Neighbors(self.catalog, self.ledger, self._announcements, tell, is_alive))

    # What the stations ask of each other

    def _read(self, handler: str, request: Request) -> Reading:
        return self._readers[handler].read(request)

    def _weights_digest(self, handler: str) -> str:
        """Return the digest of a handler's weights, '' while it is not ready: the reading will say why."""
        try:
            return self._models.weights.digest(registry.handler(handler, self._models).weights())
        except NodeError as error:
            log.warning("handler not ready: %s", error, extra={"action": "not_ready", "handler": handler})
            return ""

    def _ask_count(self, ae_title: str, study: UID) -> None:
        def ask(peer: Peer) -> None:
            self._events.put(CountAnswered(study, query.expected_count(self._link(peer), study)))

        for peer in self._peers(ae_title):
            self._run_errand(partial(ask, peer))

    def _run_errand(self, errand: Callable[[], None]) -> None:
        """Do something in a thread of its own; what it raises is logged, since nobody waits for it."""
        self._errands.submit(errand).add_done_callback(_log_failure)

    def _peers(self, ae_title: str) -> Iterator[Peer]:
        yield from [peer for peer in self._settings.peers if peer.ae_title == ae_title][:1]

    def _link(self, peer: Peer) -> Link:
        return Link(peer, self._settings.node.ae_title, self._settings.node.network_timeout_s)

    # The intake thread

    def _take_in(self) -> None:
        # What was answered is safe: indexing it must not slow down the sender of the next one.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _INTAKE_NICENESS)
        swept_at = _now()
        while not self._stopping.is_set():
            events = self._next_events()
            self._intake.handle(events, _now())
            for event in events:  # only now the catalog knows what was stored before the request
                if isinstance(event, CommitmentReported):
                    self._settle(event)
                elif isinstance(event, CommitmentRequested):
                    self._run_errand(partial(self._answer, event))
            if _now() - swept_at > _SWEEP:
                swept_at = _now()
                self._sweep(swept_at)

    def _next_events(self) -> list[Told]:
        """Return what happened, up to a batch; nothing if it is time to look at the clock."""
        patience = (self._intake.next_look(_now()) - _now()).total_seconds()
        events: list[Told] = []
        try:
            events.append(self._events.get(timeout=min(max(patience, 0.01), 1.0)))
            while len(events) < _BATCH:
                events.append(self._events.get_nowait())
        except queue.Empty:
            pass
        return events

    def _settle(self, event: CommitmentReported) -> None:
        failed = {uid: f"0x{reason:04X}" for uid, reason in event.failed}
        self.ledger.settle(event.transaction_uid, event.committed, failed, _now())

    def _answer(self, event: CommitmentRequested) -> None:
        """Tell a sender what we keep of what it asked for: what is on our disk and will be found."""
        references = [commitment.SopReference(*one) for one in event.references]
        held = self.catalog.held(one.sop_instance_uid for one in references)
        report = commitment.Commitment(
            event.transaction_uid,
            tuple(one for one in references if one.sop_instance_uid in held),
            # PS3.3 C.14.1.1: no such object instance
            tuple((one, 0x0112) for one in references if one.sop_instance_uid not in held),
        )
        for peer in self._peers(event.calling_ae_title):
            try:
                commitment.report_commitment(self._link(peer), report)
            except ArchiveError as error:
                log.warning("commitment: %s", error, extra={"action": "commitment_unreported", "peer": peer.name})

    def _sweep(self, now: datetime) -> None:
        """Give idle readers' memory back, and remove instances past their retention with no job unfinished."""
        for reader in self._readers.values():
            reader.release_if_idle()
        if not self._settings.node.retention_days:
            return
        for study in self.catalog.expired(now - timedelta(days=self._settings.node.retention_days)):
            if not any(job.state in {JobState.WAITING, JobState.READING} for job in self.ledger.jobs(study=study)):
                self._spool.remove_study(study)
                self.catalog.forget(study)
                self._announcements.forget(study)
