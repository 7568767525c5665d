"""The durable engine around the work on jobs (DBOS): queues, recovery, one workflow for each attempt.

A workflow is one attempt of one task and may run twice: the ledger refuses what a second run would change. States,
schedule and dead letters stand in the ledger, not in DBOS; the dispatcher starts whatever the ledger lists as due.
"""

import contextlib
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from dbos import DBOS, DBOSConfig, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID

from ainode.node import logs
from ainode.node.back_off import back_off_s
from ainode.node.domain import DeliveryState, JobState
from ainode.node.errors import ConfigError, DatabaseUnavailable, NodeError
from ainode.node.jobs import engine, memory
from ainode.node.jobs.dispatcher import Conditions, Dispatcher
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
from ainode.node.jobs.stations import Stations
from ainode.node.jobs.workflow_file import identity, set_aside_if_damaged
from ainode.node.keeping.database import connection_arguments
from ainode.node.keeping.records import Job
from ainode.node.keeping.tasks import Task, TaskKind, Waiting

log = logging.getLogger(__name__)
_POLLING_S: Final = 0.1
_SEARCHES_AT_ONCE: Final = 8
_DELIVERIES_AT_ONCE: Final = 8
# The engine takes the least number first; a route has 1 to 1,000.
_AFTER_ALL_ROUTES: Final = 1_000
_OUTAGE_PAUSE_S: Final = 2.0
_STATES: Final = {
    TaskKind.SEND: DeliveryState.WAITING,
    TaskKind.CONFIRM: DeliveryState.SENT,
    TaskKind.CHECK: DeliveryState.CHECKING,
}
"""the deliveries that a kind of task is about"""


@DBOS.dbos_class("jobs")
class Jobs(DBOSConfiguredInstance):
    """Every job of the node, from `open` to its last confirmed document."""

    def __init__(self, stations: Stations) -> None:
        self._stations = stations
        self._readings = Readings(stations)
        self._activity = engine.Activity(stations.settings.node.name)
        super().__init__(config_name="node")

    def launch(self) -> int:
        """Start the queues; take up again what a dead process left, and return how many tasks that are."""
        settings = self._stations.settings
        set_aside_if_damaged(workflow_file(settings))
        config: DBOSConfig = {
            "name": "ainode",
            "system_database_url": system_database_url(settings),
            "db_engine_kwargs": {"connect_args": connection_arguments(system_database_url(settings))},
            "application_version": APPLICATION_VERSION,
            "executor_id": settings.node.name,
            # Each queue would warn ten times a second of a database that is away; the dispatcher says it once.
            "log_level": "ERROR",
            "use_listen_notify": False,
        }
        DBOS(config=config)
        DBOS.launch()
        self._file = identity(workflow_file(settings))
        concurrency = {read_queue(route.handler): settings.reader.processes for route in settings.routes}
        concurrency |= {
            priors_queue(route.priors.source): _SEARCHES_AT_ONCE for route in settings.routes if route.priors
        }
        for peer in settings.peers:
            for kind in _STATES:
                # A listener gets its messages one after the other: many take one connection at a time.
                concurrency[delivery_queue(kind, peer.name)] = 1 if peer.is_listener else _DELIVERIES_AT_ONCE
        for queue, count in concurrency.items():
            DBOS.register_queue(queue, worker_concurrency=count, polling_interval_sec=_POLLING_S)
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
            ),
        )
        engine.remove_older_versions()
        unfinished = len(self._stations.ledger.tasks.waiting(self._stations.courier.unconfirmed))
        self._dispatcher.start()
        return unfinished

    def stop(self) -> None:
        """Stop the queues; running workflows are recovered at the next start."""
        self._dispatcher.stop()
        DBOS.destroy(workflow_completion_timeout_sec=0)

    def is_alive(self) -> bool:
        """Return whether the dispatcher runs."""
        return self._dispatcher.is_alive()

    def is_lost(self) -> bool:
        """Return whether the file of the workflows was removed or replaced: no work begins any more."""
        return identity(workflow_file(self._stations.settings)) != self._file

    def fault(self) -> str:
        """Return why no work begins, '' if work begins."""
        return self._dispatcher.fault()

    def open(self, job: Job) -> None:
        """Commit a job, which the dispatcher takes up at once; a known job changes nothing."""
        if self._stations.ledger.open(job):
            about = {"job": job.id, "route": job.route}
            log.info("job opened", extra={"action": "job_opened", **about})
            if job.withheld:
                log.warning("documents withheld: %s", job.withheld, extra={"action": "withheld", **about})
            self._dispatcher.wake()

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
        # What failed before, perhaps for its own fault, comes after all that was not tried yet.
        priority = waiting.priority + (_AFTER_ALL_ROUTES if task.attempts else 0)
        with SetWorkflowID(task.workflow), SetEnqueueOptions(priority=priority):
            DBOS.enqueue_workflow(queue, self.work, task.job, task.kind.value, task.destination, task.turn, is_search)

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
        with self._activity.working(task.workflow):
            self._work(task, is_search=is_search)

    def _work(self, task: Task, *, is_search: bool) -> None:
        try:
            if self._stations.ledger.tasks.is_current(task):
                self._attempt(task, is_search=is_search)
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
            self._stations.ledger.move(task.job, JobState.FAILED, reason=reason, at=self._stations.now())
            log.error("reading given up: %s", reason, extra={"action": "read_failed", "job": task.job})
        else:
            now = self._stations.now()
            self._stations.courier.give_up(task.job, task.destination, _STATES[task.kind], now, reason=reason)
