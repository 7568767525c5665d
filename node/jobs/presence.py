"""A process among those that share the jobs: it beats, buries the dead, and gives their work away."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from ainode.node import logs
from ainode.node.deciding.faults import attempt
from ainode.node.domain import counted
from ainode.node.errors import DatabaseUnavailable
from ainode.node.jobs import engine
from ainode.node.keeping.executors import Executors
from ainode.node.settings import WorkersTable
from ainode.node.threads import NodeThread

log = logging.getLogger(__name__)
_STOP_S: Final = 2.0


class Presence(NodeThread):
    """A thread that lets others know that this process lives, for as long as others believe it."""

    def __init__(
        self, executor: str, executors: Executors, limits: WorkersTable, end_abandoned: Callable[[], int]
    ) -> None:
        """Start no thread yet; `end_abandoned` ends what the engine believes this process works at, and it does not."""
        super().__init__("presence", stop_s=_STOP_S)
        self._executor, self._executors, self._limits = executor, executors, limits
        self._end_abandoned = end_abandoned
        self._steady_since_s = time.monotonic()
        self._lost, self._retired = threading.Event(), threading.Event()

    def is_alive(self) -> bool:
        """Return whether the thread runs, or has ended because others took the process for dead."""
        return super().is_alive() or self._lost.is_set()

    def is_lost(self) -> bool:
        """Return whether others took the process for dead: whatever it does is in vain."""
        return self._lost.is_set()

    def retire(self) -> None:
        """Beat on, and look after others no more: the durable engine is about to end."""
        self._retired.set()

    def stop(self) -> None:
        """Leave: others may do at once what is unfinished."""
        super().stop()
        with suppress(DatabaseUnavailable):  # then others find out by the missing beats
            self._executors.leave(self._executor)

    def _run(self) -> None:
        wait_s, looks = 0.0, 0
        while not self._stopping.wait(wait_s) and not self._lost.is_set():
            wait_s, looks = self._limits.beat_s, looks + 1
            try:
                attempt(self._beat, _log_fault)
                attempt(lambda: self._look_after(looks), _log_fault)  # noqa: B023 - called at once
            except (DatabaseUnavailable, SQLAlchemyError, OSError, MemoryError):
                # Nobody could beat meanwhile: whoever is late now has its time to beat again.
                self._steady_since_s = time.monotonic()

    def _beat(self) -> None:
        began_s = time.monotonic()
        if not self._executors.beat(self._executor):
            log.error(
                "others took this process for dead, and do its work: it was stopped or cut off from the database for "
                "more than %.0f s, or the node was reloaded with other routes, peers or weights; start it again",
                self._limits.dead_after_s,
                extra={"action": "taken_for_dead"},
            )
            self._lost.set()
        if time.monotonic() - began_s > self._limits.beat_s:
            self._steady_since_s = time.monotonic()

    def _look_after(self, looks: int) -> None:
        """Bury who is late, and give away what the dead were working at; end what this process has abandoned."""
        if self._lost.is_set() or self._retired.is_set():
            return
        is_steady = time.monotonic() - self._steady_since_s > self._limits.dead_after_s
        buried = self._executors.sweep(engine.give_away, self._limits.dead_after_s if is_steady else None)
        for name in buried:
            log.warning(
                "%s has not beaten for %.0f s and is taken for dead; others do its work",
                name,
                self._limits.dead_after_s,
                extra={"action": "executor_buried"},
            )
        looks_apart = max(1, round(self._limits.dead_after_s / 2 / self._limits.beat_s))
        if looks % looks_apart == 0 and (count := self._end_abandoned()):
            log.warning("begun again: %s", counted(count, "task"), extra={"action": "abandoned"})


def _log_fault(error: Exception) -> None:
    """Log a fault of the node's own code; the next beat comes all the same."""
    log.error("presence: %s", logs.raised_at(error), extra={"action": "presence_failed"})
