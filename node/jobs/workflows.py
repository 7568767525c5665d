"""The durable workflow around the story: queues, retries with back-off, recovery, dead letters (DBOS).

A workflow body only decides from what its steps returned, so a restart replays it to where it was; a step
may run twice, and is written so that the second time changes nothing. What a person asks about (states,
reasons, dead letters) stands in the ledger, not in DBOS.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID

from ainode.node.back_off import back_off_s
from ainode.node.disk import write_durably
from ainode.node.domain import (
    DeliveryState,
    Document,
    JobState,
    OutOfScope,
    Reading,
    Request,
    Result,
)
from ainode.node.errors import ConfigError, NodeError
from ainode.node.identity import wishes
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.requests import request_of, route_of
from ainode.node.jobs.withholding import addressed, released
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Job, KeptDocument, Ledger, Outcome
from ainode.node.priors.gathering import Priors
from ainode.node.priors.shelf import PriorRecord
from ainode.node.settings import Settings

log = logging.getLogger(__name__)
# Pinned: an upgraded node goes on with the workflows of the one before.
_APPLICATION_VERSION = "1"
_READ_ATTEMPTS, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 3, 1.0, 60.0
_POLLING_S = 0.1
_PRIORS_QUEUE = "priors"
_SEARCHES_AT_ONCE = 4
_BROKEN = frozenset({"ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})
_ENDED = "SUCCESS"
_DELIVERIES_AT_ONCE = 8


def system_database_url(settings: Settings) -> str:
    """Return where DBOS keeps its workflows: beside the catalog on SQLite, in the same PostgreSQL otherwise."""
    return settings.database.url or f"sqlite:///{settings.data / 'workflows.sqlite'}"


def read_queue(handler: str) -> str:
    """Return the queue of one handler: one study at a time, by priority."""
    return f"read.{handler}"


def delivery_queue(destination: str) -> str:
    """Return the queue of one destination, so that a dead archive holds back only its own."""
    return f"deliver.{destination}"


@dataclass(frozen=True, slots=True)
class Stations:
    """What the steps of a job work with."""

    settings: Settings
    catalog: Catalog
    ledger: Ledger
    courier: Courier
    read: Callable[[str, Request], Reading]
    """handler name and request to reading; in a node this is the reader process"""
    now: Callable[[], datetime]


@DBOS.dbos_class("jobs")
class Jobs(DBOSConfiguredInstance):
    """Every job of this node, from `open` to its last confirmed document."""

    def __init__(self, stations: Stations) -> None:
        self._stations = stations
        self._priors = Priors(stations.settings)
        super().__init__(config_name="node")

    def launch(self) -> None:
        """Start the queues, recover what a dead process left, enqueue what was committed and not enqueued."""
        settings = self._stations.settings
        config: DBOSConfig = {
            "name": "ainode",
            "system_database_url": system_database_url(settings),
            "application_version": _APPLICATION_VERSION,
            "executor_id": settings.node.name,
            "log_level": "WARNING",
            "use_listen_notify": False,
        }
        DBOS(config=config)
        DBOS.launch()
        for handler in {route.handler for route in settings.routes}:
            DBOS.register_queue(read_queue(handler), worker_concurrency=1, polling_interval_sec=_POLLING_S)
        DBOS.register_queue(_PRIORS_QUEUE, worker_concurrency=_SEARCHES_AT_ONCE, polling_interval_sec=_POLLING_S)
        for peer in settings.peers:
            DBOS.register_queue(
                delivery_queue(peer.name), worker_concurrency=_DELIVERIES_AT_ONCE, polling_interval_sec=_POLLING_S
            )
        for job in self._stations.ledger.jobs(states=(JobState.WAITING, JobState.READING)):
            self._enqueue_again(job)
        courier = self._stations.courier
        for left in self._stations.ledger.unsettled(courier.unconfirmed):
            self._deliver_again(*left)

    def stop(self) -> None:
        """Stop the queues; running workflows are recovered at the next start."""
        DBOS.destroy(workflow_completion_timeout_sec=0)

    def open(self, job: Job) -> None:
        """Commit a job and enqueue it; the same job again does nothing."""
        opened = self._stations.ledger.open(job)
        if opened:
            log.info("job opened", extra={"action": "job_opened", "job": job.id, "route": job.route})
            if job.withheld:
                about = {"action": "withheld", "job": job.id, "route": job.route}
                log.warning("documents withheld: %s", job.withheld, extra=about)
            self._start(opened)

    def _start(self, job: Job) -> None:
        """Enqueue the search for priors where the route wants them: a queue of its own, for archives are slow."""
        if self._searches_priors(job):
            with SetWorkflowID(f"{job.id}:priors"):
                DBOS.enqueue_workflow(_PRIORS_QUEUE, self.gather, job.id)
        else:
            self._enqueue(job)

    def _searches_priors(self, job: Job) -> bool:
        return any(route.name == job.route and route.priors for route in self._stations.settings.routes)

    def _enqueue(self, job: Job) -> None:
        with SetWorkflowID(f"{job.id}:read"), SetEnqueueOptions(priority=job.priority):
            DBOS.enqueue_workflow(read_queue(job.handler), self.read, job.id)

    def _enqueue_again(self, job: Job) -> None:
        """Enqueue a job that a dead process left; one whose workflow broke becomes a dead letter."""
        known = _statuses(f"{job.id}:read")
        if not known:
            search = DBOS.get_workflow_status(f"{job.id}:priors")
            # a broken search would be enqueued again in vain
            (self._enqueue if search and search.status in _BROKEN else self._start)(job)
        elif known[-1] in _BROKEN:
            self._stations.ledger.move(job.id, JobState.FAILED, reason=_broken(job.id, known[-1]))
        else:
            self._enqueue(job)

    # Priors

    @DBOS.workflow()
    def gather(self, job: str) -> None:
        """Look for the earlier studies of one job, then let it be read, with them or without."""
        try:
            self.gather_once(job)
        finally:
            self._enqueue(self._stations.ledger.job(job))

    @DBOS.step()
    def gather_once(self, job_id: str) -> None:
        """Fetch what the job's route wants beside its study; the second time does nothing."""
        stations = self._stations
        job = stations.ledger.job(job_id)
        stored = stations.catalog.instances(job.study_instance_uid)
        current = next((one.path for one in stored if one.ref.sop_instance_uid in job.content), None)
        if current and self._searches_priors(job):
            try:
                self._priors.gather(job_id, route_of(job, stations.settings), current, stations.now())
            except OSError as error:
                log.warning("priors: %s", error, extra={"action": "priors_failed", "job": job_id})

    # Reading

    @DBOS.workflow()
    def read(self, job: str) -> None:
        """Read one study, then start one delivery per destination."""
        for attempt in range(_READ_ATTEMPTS):
            again = self.read_once(job, last=attempt == _READ_ATTEMPTS - 1)
            if not again:
                break
            DBOS.sleep(back_off_s(attempt, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S))
        for destination in self.destinations(job):
            self._enqueue_delivery(job, destination, f"{job}:{destination}")

    @DBOS.step()
    def read_once(self, job_id: str, *, last: bool) -> bool:
        """Run the reader once and commit what it made; return whether to try again."""
        ledger = self._stations.ledger
        if not ledger.move(job_id, JobState.READING):
            return False
        job = ledger.job(job_id)  # after the move: from then on `ainode retry` releases nothing
        try:
            reading = self._stations.read(job.handler, self._request(job))
            kept = tuple(self._keep(job, document) for document in reading.documents)
        except (NodeError, OSError) as error:
            again = not last and (isinstance(error, OSError) or error.retry)
            ledger.move(job_id, JobState.WAITING if again else JobState.FAILED, reason=str(error))
            log.warning("reading failed: %s", error, extra={"action": "read_failed", "job": job_id})
            return again
        route = route_of(job, self._stations.settings)
        job = addressed(job, reading, route, ledger)
        asked = wishes(self._stations.settings, job.destinations)
        ledger.report(job, kept, _outcome(reading, self._priors.record(job_id)), wishes=asked)
        return False

    def _request(self, job: Job) -> Request:
        settings = self._stations.settings
        return request_of(job, route_of(job, settings), settings, self._stations.catalog)

    def _keep(self, job: Job, document: Document) -> KeptDocument:
        """Write an encoded document where a restart finds it; the first bytes of a UID are kept for good."""
        path = self._stations.settings.data / "documents" / job.id / f"{document.ref.sop_instance_uid}.dcm"
        if not path.exists():
            write_durably(path, document.content)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return KeptDocument(job.id, document.ref, document.kind, path, digest)

    @DBOS.step()
    def destinations(self, job: str) -> tuple[str, ...]:
        """Return where the documents of a job go: nowhere if there are none."""
        ledger = self._stations.ledger
        return ledger.job(job).destinations if ledger.documents(job) else ()

    # Delivery

    def _enqueue_delivery(self, job: str, destination: str, workflow: str) -> None:
        with SetWorkflowID(workflow):
            DBOS.enqueue_workflow(delivery_queue(destination), self.deliver, job, destination)

    def _deliver_again(self, job: str, destination: str, state: DeliveryState) -> None:
        """Enqueue a delivery that nothing works at; one whose workflow broke becomes a dead letter."""
        name = f"{job}:{destination}"
        known = _statuses(name)
        if not known:
            self._enqueue_delivery(job, destination, name)
        elif known[-1] in _BROKEN:
            self._stations.courier.give_up(job, destination, why=_broken(job, known[-1]))
        elif known[-1] == _ENDED and state is DeliveryState.WAITING:  # a retry that was not enqueued any more
            self._enqueue_delivery(job, destination, f"{name}:{len(known)}")

    @DBOS.workflow()
    def deliver(self, job: str, destination: str) -> None:
        """Send a job's documents to one destination until each is confirmed, refused or given up."""
        for wait_s in self.waits():
            if self.deliver_once(job, destination):
                return
            DBOS.sleep(wait_s)
        self.give_up(job, destination)

    def waits(self) -> Iterator[float]:
        """Yield the pause after each attempt: doubled from the first to the longest."""
        table = self._stations.settings.delivery
        for attempt in range(table.attempts):
            yield back_off_s(attempt, first_s=table.first_wait_s, longest_s=table.longest_wait_s)

    @DBOS.step()
    def deliver_once(self, job: str, destination: str) -> bool:
        """Send what waits and confirm what was sent; return whether nothing is left to do."""
        try:
            return self._stations.courier.deliver(job, destination, self._stations.now())
        except ConfigError as error:
            self._stations.courier.give_up(job, destination, why=str(error))
            return True

    @DBOS.step()
    def give_up(self, job: str, destination: str) -> None:
        """Make a dead letter of what is still waiting: visible in `ainode jobs`, revived by `ainode retry`."""
        self._stations.courier.give_up(job, destination, why="")


def _statuses(workflow: str) -> tuple[str, ...]:
    """Return how a workflow and its retries stand, oldest first."""
    found = DBOS.list_workflows(workflow_id_prefix=workflow, load_input=False, load_output=False)
    return tuple(one.status for one in found if f"{one.workflow_id}:".startswith(f"{workflow}:"))


def _broken(job: str, status: str) -> str:
    return f"its workflow ended as {status}; see the log, then `ainode retry {job}`"


def _outcome(reading: Reading, gathered: PriorRecord) -> Outcome:
    searched = gathered.query_s or gathered.retrieve_s
    overheads = {"query": gathered.query_s, "retrieve": gathered.retrieve_s} if searched else {}
    match reading.answer:
        case OutOfScope(reason):
            return Outcome(JobState.OUT_OF_SCOPE, reading.summary, reason, reading.seconds, overheads)
        case Result() as result:
            return Outcome(JobState.REPORTED, reading.summary, "", reading.seconds, {**overheads, **result.seconds})


def retry(settings: Settings, ledger: Ledger, job: str, *, token: str) -> tuple[str, ...]:
    """Revive a failed job, its failed deliveries or its withheld documents; return what was enqueued.

    Raises: LookupError if there is no such job, or nothing of it failed.
    """
    revived = released(settings, ledger, ledger.job(job)) or ledger.revive(job)
    if not revived:
        raise LookupError(f"job {job}: nothing of it failed; `ainode jobs` shows its state")
    client = DBOSClient(system_database_url=system_database_url(settings))
    handler = ledger.job(job).handler
    try:
        for destination in revived:
            client.enqueue(
                {
                    "workflow_name": "Jobs.deliver" if destination else "Jobs.read",
                    "class_name": "jobs",
                    "instance_name": "node",
                    "queue_name": delivery_queue(destination) if destination else read_queue(handler),
                    "workflow_id": f"{job}:{destination or 'read'}:{token}",
                    "app_version": _APPLICATION_VERSION,
                },
                *((job, destination) if destination else (job,)),
            )
    finally:
        client.destroy()
    return revived
