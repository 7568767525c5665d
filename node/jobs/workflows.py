"""The durable workflow around the story: queues, retries with back-off, recovery, dead letters (DBOS).

A workflow decides only from what its steps returned, so a restart replays the workflow to the last finished step. A
step may run twice; the second run changes nothing. States, reasons and dead letters stand in the ledger, not in DBOS.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from dbos import DBOS, DBOSConfig, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID

from ainode.node.back_off import back_off_s
from ainode.node.disk import sha256_of, write_durably
from ainode.node.domain import (
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
from ainode.node.jobs.queues import APPLICATION_VERSION, PRIORS_QUEUE, delivery_queue, read_queue, system_database_url
from ainode.node.jobs.recovery import Enqueue, recover
from ainode.node.jobs.requests import request_of, route_of
from ainode.node.jobs.withholding import addressed
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.priors.gathering import Priors
from ainode.node.priors.shelf import PriorRecord
from ainode.node.settings import Settings

log = logging.getLogger(__name__)
_READ_ATTEMPTS, _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 3, 1.0, 60.0
_POLLING_S = 0.1
_SEARCHES_AT_ONCE = 4
_DELIVERIES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Stations:
    """The stations that the steps of a job call."""

    settings: Settings
    catalog: Catalog
    ledger: Ledger
    courier: Courier
    read: Callable[[str, Request], Reading]
    """handler name and request to reading; a node hands the request to the handler's process"""
    now: Callable[[], datetime]


@DBOS.dbos_class("jobs")
class Jobs(DBOSConfiguredInstance):
    """Every job of the node, from `open` to its last confirmed document."""

    def __init__(self, stations: Stations) -> None:
        self._stations = stations
        self._priors = Priors(stations.settings)
        super().__init__(config_name="node")

    def launch(self) -> None:
        """Start the queues; take up again what a dead process left."""
        settings = self._stations.settings
        config: DBOSConfig = {
            "name": "ainode",
            "system_database_url": system_database_url(settings),
            "application_version": APPLICATION_VERSION,
            "executor_id": settings.node.name,
            "log_level": "WARNING",
            "use_listen_notify": False,
        }
        DBOS(config=config)
        DBOS.launch()
        for handler in {route.handler for route in settings.routes}:
            DBOS.register_queue(read_queue(handler), worker_concurrency=1, polling_interval_sec=_POLLING_S)
        DBOS.register_queue(PRIORS_QUEUE, worker_concurrency=_SEARCHES_AT_ONCE, polling_interval_sec=_POLLING_S)
        for peer in settings.peers:
            DBOS.register_queue(
                delivery_queue(peer.name), worker_concurrency=_DELIVERIES_AT_ONCE, polling_interval_sec=_POLLING_S
            )
        enqueue = Enqueue(self._enqueue_search, self._enqueue_reading, self._enqueue_delivery)
        recover(self._stations.ledger, self._stations.courier, enqueue)

    def stop(self) -> None:
        """Stop the queues; running workflows are recovered at the next start."""
        DBOS.destroy(workflow_completion_timeout_sec=0)

    def open(self, job: Job) -> None:
        """Commit a job and enqueue the job; a known job changes nothing."""
        opened_job = self._stations.ledger.open(job)
        if opened_job:
            log.info("job opened", extra={"action": "job_opened", "job": job.id, "route": job.route})
            if job.withheld:
                about = {"action": "withheld", "job": job.id, "route": job.route}
                log.warning("documents withheld: %s", job.withheld, extra=about)
            self._enqueue_search(opened_job)

    def _enqueue_search(self, job: Job) -> None:
        """Enqueue the search for priors where the route has priors, else the reading."""
        if self._searches_priors(job):
            with SetWorkflowID(f"{job.id}:priors"):
                DBOS.enqueue_workflow(PRIORS_QUEUE, self.gather, job.id)
        else:
            self._enqueue_reading(job)

    def _searches_priors(self, job: Job) -> bool:
        return any(route.name == job.route and route.priors for route in self._stations.settings.routes)

    def _enqueue_reading(self, job: Job) -> None:
        with SetWorkflowID(f"{job.id}:read"), SetEnqueueOptions(priority=job.priority):
            DBOS.enqueue_workflow(read_queue(job.handler), self.read, job.id)

    # Priors

    @DBOS.workflow()
    def gather(self, job: str) -> None:
        """Search the earlier studies of a job, then enqueue the reading, with or without priors."""
        try:
            self.gather_once(job)
        finally:
            self._enqueue_reading(self._stations.ledger.job(job))

    @DBOS.step()
    def gather_once(self, job_id: str) -> None:
        """Fetch the priors that the job's route asks for; a second call fetches nothing."""
        stations = self._stations
        job = stations.ledger.job(job_id)
        stored = stations.catalog.instances(job.study_instance_uid)
        current = next((item.path for item in stored if item.ref.sop_instance_uid in job.content), None)
        if current and self._searches_priors(job):
            try:
                self._priors.gather(job_id, route_of(job, stations.settings), current, stations.now())
            except OSError as error:
                log.warning("priors: %s", error, extra={"action": "priors_failed", "job": job_id})

    # Reading

    @DBOS.workflow()
    def read(self, job: str) -> None:
        """Read a study, then start a delivery to each destination."""
        for attempt in range(_READ_ATTEMPTS):
            again = self.read_once(job, last=attempt == _READ_ATTEMPTS - 1)
            if not again:
                break
            DBOS.sleep(back_off_s(attempt, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S))
        for destination in self.destinations(job):
            self._enqueue_delivery(job, destination, f"{job}:{destination}")

    @DBOS.step()
    def read_once(self, job_id: str, *, last: bool) -> bool:
        """Run the reader once and commit its documents; return whether to try again."""
        ledger = self._stations.ledger
        if not ledger.move(job_id, JobState.READING):
            return False
        job = ledger.job(job_id)  # after the move: from then on `ainode retry` releases nothing
        try:
            reading = self._stations.read(job.handler, self._request(job))
            kept_documents = tuple(self._keep(job, document) for document in reading.documents)
        except (NodeError, OSError) as error:
            again = not last and (isinstance(error, OSError) or error.retry)
            ledger.move(job_id, JobState.WAITING if again else JobState.FAILED, reason=str(error))
            log.warning("reading failed: %s", error, extra={"action": "read_failed", "job": job_id})
            return again
        route = route_of(job, self._stations.settings)
        job = addressed(job, reading, route, ledger)
        wishes_by_destination = wishes(self._stations.settings, job.destinations)
        outcome = _outcome(reading, self._priors.record(job_id))
        ledger.report(job, kept_documents, outcome, wishes=wishes_by_destination)
        about = {"action": "read", "job": job_id, "route": job.route}
        log.info("study read in %.1f s: %s", outcome.seconds, outcome.state, extra=about)
        return False

    def _request(self, job: Job) -> Request:
        settings = self._stations.settings
        return request_of(job, route_of(job, settings), settings, self._stations.catalog)

    def _keep(self, job: Job, document: Document) -> KeptDocument:
        """Write a document where a restart finds the document; the first bytes of a UID stay for good."""
        path = self._stations.settings.data / "documents" / job.id / f"{document.ref.sop_instance_uid}.dcm"
        if not path.exists():
            write_durably(path, document.content)
        digest = sha256_of(path)
        return KeptDocument(job.id, document.ref, document.kind, path, digest)

    @DBOS.step()
    def destinations(self, job: str) -> tuple[str, ...]:
        """Return the destinations of a job's documents; none if the job has no documents."""
        ledger = self._stations.ledger
        return ledger.job(job).destinations if ledger.documents(job) else ()

    # Delivery

    def _enqueue_delivery(self, job: str, destination: str, workflow: str) -> None:
        with SetWorkflowID(workflow):
            DBOS.enqueue_workflow(delivery_queue(destination), self.deliver, job, destination)

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
        """Send waiting documents and confirm sent documents; return whether every document is settled."""
        try:
            return self._stations.courier.deliver(job, destination, self._stations.now())
        except ConfigError as error:
            self._stations.courier.give_up(job, destination, reason=str(error))
            return True

    @DBOS.step()
    def give_up(self, job: str, destination: str) -> None:
        """Make dead letters of unsettled documents: `ainode jobs` shows them, `ainode retry` revives them."""
        self._stations.courier.give_up(job, destination, reason="")


def _outcome(reading: Reading, prior_record: PriorRecord) -> Outcome:
    searched = prior_record.query_s or prior_record.retrieve_s
    overheads = {"query": prior_record.query_s, "retrieve": prior_record.retrieve_s} if searched else {}
    match reading.answer:
        case OutOfScope(reason):
            return Outcome(JobState.OUT_OF_SCOPE, reading.summary, reason, reading.seconds, overheads)
        case Result() as result:
            return Outcome(JobState.REPORTED, reading.summary, "", reading.seconds, {**overheads, **result.seconds})
