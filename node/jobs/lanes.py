"""Files that wait for another system, a thread per system: a dead system delays no other, and nobody else."""

import heapq
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_STOP_S: Final = 2.0


@dataclass(order=True, frozen=True, slots=True)
class Errand:
    """A file whose effect is not durable yet."""

    due_s: float
    """when to try, on the monotonic clock"""
    path: Path
    failures: int = field(default=0, compare=False)
    """attempts that the other system did not take"""
    outages: int = field(default=0, compare=False)
    """attempts that failed for want of the node's own database or disk"""

    def again(self, pause_s: float, *, failures: int = 0, outages: int = 0) -> "Errand":
        """Return the errand of the next attempt, with so many more failures and outages."""
        return Errand(time.monotonic() + pause_s, self.path, self.failures + failures, self.outages + outages)


class Lane:
    """Tries the errands of one system in turn; `attempt` returns the errand of the next attempt, or None."""

    def __init__(self, name: str, attempt: Callable[[Errand], Errand | None]) -> None:
        """Start the thread."""
        self._attempt = attempt
        self._errands: list[Errand] = []
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def add(self, path: Path) -> None:
        """Try a file as soon as the errands before it were tried."""
        self._put(Errand(time.monotonic(), path))

    def stop(self) -> None:
        """Try no more; the attempt that runs ends by itself, or with the process."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(_STOP_S)

    def _put(self, errand: Errand) -> None:
        with self._changed:
            heapq.heappush(self._errands, errand)
            self._changed.notify()

    def _run(self) -> None:
        while (errand := self._next()) is not None:
            following = self._attempt(errand)
            if following is not None:
                self._put(following)

    def _next(self) -> Errand | None:
        """Return the next errand when it is due, None at the stop."""
        with self._changed:
            while not self._is_stopping:
                wait_s = self._errands[0].due_s - time.monotonic() if self._errands else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self._errands)
                self._changed.wait(wait_s)
        return None
