"""The threads that take what is queued: woken by whoever enqueues and by every end, and now and then by the clock.

The engine's own threads look into each queue ten times a second, which costs an idle node a tenth of a core. These take
by the same statements of the engine. A look by the clock, at all queues at once, finds what the engine queued anew at a
start, and what another process queued; it comes later and later.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterable
from typing import Final

from dbos import DBOS
from dbos._core import WorkflowHandleFuture, execute_dequeued_workflow
from dbos._error import DBOSException
from dbos._queue import Queue
from dbos._sys_db import WorkflowStatusInternal
from dbos._utils import GlobalParams
from sqlalchemy.exc import SQLAlchemyError

from ainode.node import logs
from ainode.node.jobs.bells import bell_of
from ainode.node.jobs.engine import filled_queues

log = logging.getLogger(__name__)
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_STOP_S: Final = 10.0
# Before the name of a job in what rings; the name of no queue begins so.
_JOB: Final = "job:"
_FAULTS: Final = (DBOSException, SQLAlchemyError, OSError, MemoryError)


class Poller:
    """A thread that takes from one queue, by priority, and never works at more than a number of workflows at a time.

    A workflow that no longer needs what the number counts makes way for the next; as many as the number make way.
    """

    def __init__(self, engine: DBOS, queue: Queue, at_once: int) -> None:
        """Keep the arguments; `start` starts the thread."""
        self._engine, self._queue, self._at_once = engine, queue, at_once
        self._running, self._making_way = set[str](), set[str]()
        self._is_looked_for = True
        self._holds_more = False
        """whether the last look took as many as there was room for"""
        self._lock = threading.Lock()
        self._rung, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"queue {queue.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread.is_alive()

    def ring(self) -> None:
        """Look into the queue at once, or as soon as there is room."""
        self._is_looked_for = True
        self._rung.set()

    def make_way(self, workflow: str) -> None:
        """Let the next workflow begin beside one that runs."""
        with self._lock:
            if workflow in self._running and len(self._making_way) < self._at_once:
                self._making_way.add(workflow)
        self._rung.set()

    def stop(self) -> None:
        """Take nothing more."""
        self._stopping.set()
        self._rung.set()

    def join(self) -> None:
        """Wait for the thread, unless a database that is away holds it."""
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            is_wanted = self._is_looked_for or self._holds_more
            if is_wanted and self._room():
                self._is_looked_for = False
                self._look()
            self._rung.wait()
            self._rung.clear()

    def _room(self) -> int:
        with self._lock:
            return self._at_once - self._counted()

    def _counted(self) -> int:
        return len(self._running) - len(self._making_way)

    def _look(self) -> None:
        """Begin as many workflows as there is room for."""
        try:
            room = self._room()
            self._holds_more = self._taken() >= room
        except _FAULTS as error:
            # The dispatcher says that a database is away. What is still queued is found by the clock.
            self._is_looked_for = True
            log.debug("queue %s: %s", self._queue.name, logs.raised_at(error))

    def _taken(self) -> int:
        """Take the first workflows of the queue and begin them; return how many."""
        database, owner = self._engine._sys_db, str(uuid.uuid4())  # noqa: SLF001
        with self._lock:
            counted = self._counted()
        identifiers, _ = database.start_queued_workflows(
            self._queue,
            GlobalParams.executor_id,
            GlobalParams.app_version,
            None,
            counted,
            owner_xid=owner,
            is_latest_version=False,  # only what names this version is taken
        )
        if identifiers:
            statuses = {status["workflow_uuid"]: status for status in database.get_workflow_statuses(identifiers)}
            for identifier in filter(statuses.__contains__, identifiers):  # a row may be gone since it was taken
                self._begin(statuses[identifier], owner)
        return len(identifiers)

    def _begin(self, status: WorkflowStatusInternal, owner: str) -> None:
        """Begin a workflow; what cannot be begun is abandoned, and the dispatcher begins its next turn."""
        workflow = status["workflow_uuid"]
        with self._lock:
            self._running.add(workflow)
        try:
            handle = execute_dequeued_workflow(self._engine, status, owner)
        except _FAULTS as error:
            log.error("a workflow was not begun: %s", logs.raised_at(error), extra={"action": "not_begun"})  # noqa: TRY400
            self._ended(workflow)
            return
        if isinstance(handle, WorkflowHandleFuture):
            handle.future.add_done_callback(lambda _: self._ended(workflow))
        else:  # its row has moved on since it was taken
            self._ended(workflow)

    def _ended(self, workflow: str) -> None:
        with self._lock:
            self._running.discard(workflow)
            self._making_way.discard(workflow)
        self._rung.set()


class Pollers:
    """The threads of all queues, and one that looks by the clock which of them hold something."""

    def __init__(
        self,
        engine: DBOS,
        queues: Iterable[tuple[str, int]],
        url: str,
        on_job: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Register the queues of the database at `url`, by name and by how many workflows of each run at a time.

        `on_job` gets the job of which another process has done something.
        """
        self._engine, self._on_job = engine, on_job
        self._stopping = threading.Event()
        self._clock = threading.Thread(target=self._look_by_clock, name="queues", daemon=True)
        self._pollers = {
            name: Poller(engine, DBOS.register_queue(name, worker_concurrency=at_once), at_once)
            for name, at_once in queues
        }
        self._bell = bell_of(url, self._ring_here)

    def start(self) -> None:
        """Start the threads."""
        for poller in self._pollers.values():
            poller.start()
        self._clock.start()
        self._bell.start()

    def is_alive(self) -> bool:
        """Return whether every thread runs."""
        return self._clock.is_alive() and all(poller.is_alive() for poller in self._pollers.values())

    def ring(self, queue: str) -> None:
        """Look into a queue at once, here and in other processes that take from the database."""
        self._ring_here(queue)
        self._bell.ring(queue)

    def make_way(self, queue: str, workflow: str) -> None:
        """Let the next workflow of a queue begin beside one that runs."""
        if poller := self._pollers.get(queue):
            poller.make_way(workflow)

    def tell(self, job: str) -> None:
        """Let other processes know that something of a job was done."""
        self._bell.ring(f"{_JOB}{job}")

    def _ring_here(self, queue: str | None) -> None:
        """Look into a queue at once, or into all; or hand on which job another process tells of."""
        if queue and queue.startswith(_JOB):
            self._on_job(queue.removeprefix(_JOB))
        for name, poller in self._pollers.items():
            if queue in {name, None}:
                poller.ring()

    def _look_by_clock(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.wait(pause_s):
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                for queue in filled_queues(self._engine) if self._pollers else ():
                    self._ring_here(queue)
            except _FAULTS as error:
                log.debug("queues: %s", logs.raised_at(error))

    def stop(self) -> None:
        """Take nothing more; workflows that run go on."""
        self._stopping.set()
        self._bell.stop()
        for poller in self._pollers.values():
            poller.stop()
        for poller in self._pollers.values():
            poller.join()
        self._clock.join(_STOP_S)
