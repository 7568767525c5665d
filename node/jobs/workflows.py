"""The durable engine around the work on jobs (DBOS): queues, recovery, one workflow for each attempt.

A workflow is one attempt of one task and may run twice: the ledger refuses what a second run would change. States,
schedule and dead letters stand in the ledger, not in DBOS; the dispatcher starts whatever the ledger lists as due.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from dbos import DBOS, DBOSConfig, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID

from ainode.node import logs
from ainode.node.domain import SELF_TEST_PEER, UID, DeliveryState, Study
from ainode.node.domain.pauses import back_off_s
from ainode.node.errors import ConfigError, DatabaseUnavailable, LeaseLost, NodeError
from ainode.node.imaging.rejections import Rejection
from ainode.node.jobs import engine, memory
from ainode.node.jobs.dispatcher import Bystander, Conditions, Dispatcher
from ainode.node.jobs.places import place, place_after_failure
from ainode.node.jobs.pollers import Pollers
from ainode.node.jobs.queues import (
    APPLICATION_VERSION,
    delivery_queue,
    priors_queue,
    read_queue,
    system_database_url,
    workflow_file,
)
from ainode.node.jobs.readings import LONGEST_PAUSE_S, Readings
from ainode.node.jobs.requests import route_for
from ainode.node.jobs.stations import Share, Stations
from ainode.node.jobs.succession import former_routes
from ainode.node.jobs.workflow_file import identity, prepare, set_aside_if_damaged
from ainode.node.keeping.database import connection_arguments
from ainode.node.keeping.records import Job
from ainode.node.keeping.tasks import Task, TaskKind, Waiting

log = logging.getLogger(__name__)
_SEARCHES_AT_ONCE: Final = 8
_DELIVERIES_AT_ONCE: Final = 8
_OUTAGE_PAUSE_S: Final = 2.0
_STOP_LOOK_S: Final = 0.05
_SWEEP_S, _SHARED_SWEEP_S = 60.0, 1.0
_STATES: Final = {
    TaskKind.SEND: DeliveryState.WAITING,
    TaskKind.CONFIRM: DeliveryState.SENT,
    TaskKind.CHECK: DeliveryState.CHECKING,
}
"""the deliveries that a kind of task is about"""


@DBOS.dbos_class("jobs")
class Jobs(DBOSConfiguredInstance):
    """Every job of the node, from `open` to its last confirmed document; of a worker, what is in its queues."""

    def __init__(self, stations: Stations, share: Share | None = None) -> None:
        self._stations = stations
        self._share = share or Share(stations.settings.node.name)
        self._readings = Readings(stations, lambda job: self._dispatcher.wake(job), self._make_way)  # noqa: PLW0108 - made by `launch`
        self._activity = engine.Activity(self._share.executor, self._share.executors)
        self._dispatcher: Dispatcher | Bystander
        self._stopping = threading.Event()
        super().__init__(config_name="node")

    def launch(self) -> int:
        """Start the queues; take up again what a dead process left, and return how many tasks that are."""
        settings = self._stations.settings
        self._stopping.clear()
        set_aside_if_damaged(workflow_file(settings))
        durable_engine = DBOS(config=self._configuration())
        DBOS.listen_queues([])  # `pollers` takes from the queues of the node
        DBOS.launch()
        engine.end_idle_threads(durable_engine)
        self._file = identity(workflow_file(settings))
        url = system_database_url(settings)
        self._pollers = Pollers(durable_engine, self._queues().items(), url, self._heard_of)
        if self._share.handlers is not None:
            self._dispatcher = Bystander(self._pollers.tell)
            self._pollers.start()
            return 0
        self._dispatcher = Dispatcher(
            self._stations.ledger.tasks,
            self._start,
            self._activity.turns,
            self._stations.now,
            Conditions(
                self._stations.courier.unconfirmed,
                max(settings.delivery.longest_wait_s, LONGEST_PAUSE_S),
                self._readings.has_room,
                engine.is_queued,
                _SHARED_SWEEP_S if self._stations.lease.is_shared else _SWEEP_S,
                self._stations.lease,
            ),
        )
        engine.remove_older_versions()
        unfinished = len(self._stations.ledger.tasks.waiting(self._stations.courier.unconfirmed))
        self._pollers.start()
        self._dispatcher.start()
        return unfinished

    def _heard_of(self, job: str) -> None:
        """Look at a job of which another process has done something; a worker leaves that to the node."""
        if self._share.handlers is None:
            self._dispatcher.wake(job)

    def _make_way(self, task: Task, handler: str) -> None:
        """Let the handler read the next study while the documents of this one are kept."""
        self._pollers.make_way(read_queue(handler), task.workflow)

    def _configuration(self) -> DBOSConfig:
        settings = self._stations.settings
        return {
            "name": "ainode",
            "system_database_url": system_database_url(settings),
            "db_engine_kwargs": {
                "connect_args": connection_arguments(system_database_url(settings)),
                "pool_events": [(prepare, "connect")],
                "pool_pre_ping": bool(settings.database.url),
            },
            "application_version": APPLICATION_VERSION,
            "executor_id": self._share.executor,
            "run_migrations": self._share.handlers is None,
            # Its threads would warn every second of a database that is away; the dispatcher says it once.
            "log_level": "ERROR",
            "use_listen_notify": False,
        }

    def _queues(self) -> dict[str, int]:
        """Return the queues to take from, with how many workflows of each run at a time in one process.

        Of a worker, those of its handlers and of archives: the node searches priors and tells listeners, and the
        destination of self-tests is in the process of the node.
        """
        settings, handlers = self._stations.settings, self._share.handlers
        if handlers is not None:
            queues = dict.fromkeys(map(read_queue, handlers), settings.reader.processes)
            archives = [peer for peer in settings.peers if not peer.is_listener and peer.name != SELF_TEST_PEER]
            names = [delivery_queue(kind, peer.name) for peer in archives for kind in _STATES]
            return queues | dict.fromkeys(names, _DELIVERIES_AT_ONCE)
        concurrency = dict.fromkeys(map(read_queue, settings.own_handlers), settings.reader.processes)
        concurrency |= {
            priors_queue(route.priors.source): _SEARCHES_AT_ONCE for route in settings.routes if route.priors
        }
        for peer in settings.peers:
            for kind in _STATES:
                # A listener gets its messages one after the other: many take one connection at a time.
                concurrency[delivery_queue(kind, peer.name)] = 1 if peer.is_listener else _DELIVERIES_AT_ONCE
        return concurrency

    def stop(self, within_s: float = 0.0) -> None:
        """Begin nothing more, let deliveries under way go on for so long; the next start recovers what still runs."""
        self._stopping.set()
        self._dispatcher.stop()
        self._pollers.stop()
        end_s = time.monotonic() + within_s
        while self._activity.is_delivering() and time.monotonic() < end_s:
            time.sleep(_STOP_LOOK_S)
        # The engine calls it an error that it cannot write down how what runs ends; the next start begins it anew.
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        DBOS.destroy(workflow_completion_timeout_sec=0)

    def end_abandoned(self) -> int:
        """End what the engine holds for this process, and what this process does not do; return how many tasks."""
        return self._activity.end_abandoned()

    def is_alive(self) -> bool:
        """Return whether the dispatcher and what takes from the queues run."""
        return self._dispatcher.is_alive() and self._pollers.is_alive()

    def is_lost(self) -> bool:
        """Return whether the file of the workflows was removed or replaced: no work begins any more."""
        return identity(workflow_file(self._stations.settings)) != self._file

    def fault(self) -> str:
        """Return why no work begins, '' if work begins."""
        return self._dispatcher.fault()

    def open(self, job: Job) -> None:
        """Commit a job, which the dispatcher takes up at once; a known job changes nothing."""
        ledger = self._stations.ledger
        study_jobs = ledger.jobs(study=job.study_instance_uid)
        if opened := ledger.open(job, former_routes(job, study_jobs, self._stations.settings)):
            about = {"job": job.id, "route": job.route}
            log.info("job opened", extra={"action": "job_opened", **about})
            if job.withheld:
                log.warning("documents withheld: %s", job.withheld, extra={"action": "withheld", **about})
            self._dispatcher.wake(opened.id)

    def withdraw_outlived(self, study: Study) -> None:
        """Withdraw what routes told of a study that are gone, and that does not hold since later images came."""
        self._readings.withdraw_outlived(study)

    def withdraw_rejected(self, study: UID, rejections: Mapping[UID, Rejection]) -> None:
        """Withdraw what was read of instances of a study that are rejected now."""
        self._readings.withdraw_rejected(study, rejections)

    # The engine

    def _start(self, waiting: Waiting) -> None:
        """Enqueue the workflow of a task; a task that nobody can work at fails with its reason."""
        task = waiting.task
        try:
            queue, is_search = self._queue(waiting)
        except ConfigError as error:
            self._refuse(task, error)
            self._dispatcher.ended(task)
            return
        with SetWorkflowID(task.workflow), SetEnqueueOptions(priority=self._place(waiting)):
            DBOS.enqueue_workflow(queue, self.work, task.job, task.kind.value, task.destination, task.turn, is_search)
        self._pollers.ring(queue)

    def _place(self, waiting: Waiting) -> int:
        """Return the place of a task in its queue: the engine takes the least first."""
        now, overtaking_s = self._stations.now(), 60 * self._stations.settings.reader.overtaking_minutes
        if waiting.task.attempts:
            return place_after_failure(now, overtaking_s=overtaking_s)
        return place(waiting.priority, waiting.queued_at, now, overtaking_s=overtaking_s)

    def _queue(self, waiting: Waiting) -> tuple[str, bool]:
        """Return the queue of a task, and whether the task begins with a search for priors.

        Raises: ConfigError if the route or the peer is no longer what the task needs.
        """
        task, settings = waiting.task, self._stations.settings
        if task.kind is not TaskKind.READ:
            return delivery_queue(task.kind, settings.peer(task.destination).name), False
        route = route_for(task.job, waiting.route, waiting.handler, settings)
        if route.priors and not waiting.searched:
            return priors_queue(route.priors.source), True
        return read_queue(route.handler), False

    @DBOS.workflow(max_recovery_attempts=None)
    def work(self, job: str, kind: str, destination: str, turn: int, is_search: bool) -> None:  # noqa: FBT001
        """Make one attempt of a task; the arguments are what the engine keeps of the task."""
        task = Task(job, TaskKind(kind), destination, turn)
        if self._stopping.is_set():
            return  # the ledger still has the task, and the next start begins its next turn
        with self._activity.working(task.workflow), self._stations.lease.holding(task):
            self._work(task, is_search=is_search)

    def _work(self, task: Task, *, is_search: bool) -> None:
        try:
            if self._stations.ledger.tasks.is_current(task):
                self._attempt(task, is_search=is_search)
        except LeaseLost as error:
            log.warning("left to others: %s", error, extra={"action": "lease_lost", "job": task.job})
        except DatabaseUnavailable as error:
            log.warning("job waits: %s", error, extra={"action": "database_away", "job": task.job})
            with contextlib.suppress(DatabaseUnavailable):  # a database that takes small rows alone must not be beset
                self._postpone(task, _OUTAGE_PAUSE_S, attempts=self._stations.ledger.tasks.attempts(task))
        except Exception as error:  # noqa: BLE001 - the boundary of a job: its fault ends this attempt and no more
            log.error("job failed: %s", logs.raised_at(error), extra={"action": "job_failed", "job": task.job})  # noqa: TRY400
            with contextlib.suppress(DatabaseUnavailable):
                self._refuse(task, NodeError(f"{type(error).__name__} in the node; see the log, then `ainode retry`"))
        finally:
            self._dispatcher.ended(task)
            if task.kind is TaskKind.READ:
                memory.give_back()

    def _attempt(self, task: Task, *, is_search: bool) -> None:
        courier = self._stations.courier
        match task.kind:
            case TaskKind.READ:
                (self._readings.search if is_search else self._readings.read)(task)
            case TaskKind.SEND:
                self._deliver(task, courier.send)
            case TaskKind.CONFIRM:
                self._deliver(task, courier.confirm)
            case TaskKind.CHECK:
                self._deliver(task, courier.check)

    def _deliver(self, task: Task, step: Callable[..., bool]) -> None:
        """Send or confirm; try again after a pause, and give up after the last attempt."""
        ledger, table = self._stations.ledger, self._stations.settings.delivery
        try:
            if step(task.job, task.destination, self._stations.now()):
                return
        except ConfigError as error:
            self._refuse(task, error)
            return
        attempts = ledger.tasks.attempts(task) + 1
        if attempts >= table.attempts:
            self._refuse(task)
            return
        pause_s = back_off_s(attempts - 1, first_s=table.first_wait_s, longest_s=table.longest_wait_s)
        self._postpone(task, pause_s, attempts=attempts)

    def _postpone(self, task: Task, pause_s: float, *, attempts: int) -> None:
        due_at = self._stations.now() + timedelta(seconds=pause_s)
        self._stations.ledger.tasks.postpone(task, due_at, attempts=attempts)

    def _refuse(self, task: Task, error: NodeError | None = None) -> None:
        """Make a dead letter of a task: `ainode jobs` shows the reason, `ainode retry` revives the task."""
        reason = str(error or "")
        if task.kind is TaskKind.READ:
            self._readings.give_up(task.job, reason)
            log.error("reading given up: %s", reason, extra={"action": "read_failed", "job": task.job})
        else:
            now = self._stations.now()
            self._stations.courier.give_up(task.job, task.destination, _STATES[task.kind], now, reason=reason)
