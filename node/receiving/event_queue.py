"""A bounded queue of events between two parts of the node: a full queue slows down whoever fills the queue.

A closed queue drops what is put, so that nobody waits for a part that has ended. Nothing is lost: what an event tells
is on disk or in the database, and the next start finds it there.
"""

import threading
import time
from collections import deque
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class EventQueue(Generic[Entry]):
    """Many parts put, one thread takes; `done` marks what was taken as finished."""

    def __init__(self, limit: int) -> None:
        """Let at most `limit` events wait."""
        self._limit = limit
        self._waiting: deque[tuple[float, Entry]] = deque()
        self._taken_since: float | None = None
        self._is_closed = self._is_woken = False
        lock = threading.Lock()
        self._arrived, self._left = threading.Condition(lock), threading.Condition(lock)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Entry) -> None:
        """Add an event, after a wait while the queue is full; do nothing once the queue is closed."""
        with self._left:
            self._left.wait_for(lambda: self._is_closed or len(self._waiting) < self._limit)
            if not self._is_closed:
                self._waiting.append((time.monotonic(), event))
                self._arrived.notify()

    def take(self, limit: int, timeout_s: float | None = None) -> list[Entry]:
        """Return up to `limit` events, oldest first; none if none arrived in time, or before `wake`."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting or self._is_woken, timeout_s)
            self._is_woken = False
            if self._waiting and self._taken_since is None:
                self._taken_since = self._waiting[0][0]
            events = [self._waiting.popleft()[1] for _ in range(min(limit, len(self._waiting)))]
            self._left.notify(len(events))
            return events

    def done(self) -> None:
        """Note that every taken event is finished."""
        with self._arrived:
            self._taken_since = None

    def age_s(self) -> float:
        """Return the age in seconds of the oldest event that waits, or was taken and is not finished; 0 without one."""
        with self._arrived:
            since = self._taken_since
            if since is None and self._waiting:
                since = self._waiting[0][0]
        return 0.0 if since is None else time.monotonic() - since

    def wake(self) -> None:
        """Let whoever waits to take, or is the next to take, go on with what there is."""
        with self._arrived:
            self._is_woken = True
            self._arrived.notify_all()

    def close(self) -> None:
        """Release whoever waits to put; from now on drop what is put."""
        with self._left:
            self._is_closed = True
            self._left.notify_all()
