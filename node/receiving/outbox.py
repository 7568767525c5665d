"""What a receiver tells the node: events from a bounded queue, sent in batches."""

import logging
import threading
from multiprocessing.connection import Connection
from typing import Final

from ainode.node.receiving.event_queue import EventQueue
from ainode.node.receiving.events import AssociationOpened, Event, InstanceStored, ObjectRefused

QUEUED_EVENTS: Final = 10_000
_MAX_BATCH_EVENTS: Final = 500
# Events wait so long for a batch, so that the parent does not commit its index for each instance.
_BATCH_S: Final = 1.0
_log = logging.getLogger(__name__)


class Outbox:
    """The queue of events that the child sends to the parent."""

    def __init__(self, connection: Connection, queued_events: int = QUEUED_EVENTS) -> None:
        """Start the thread that sends; at most `queued_events` wait for it."""
        self._connection = connection
        self._queue: EventQueue[Event | None] = EventQueue(queued_events)
        self._is_urgent = threading.Event()
        self._thread = threading.Thread(target=self._send, name="events", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Queue an event; wait while the queue is full."""
        self._put(event)

    def is_alive(self) -> bool:
        """Return whether the events are still sent."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Send the remaining events, and wait until they are sent."""
        self._put(None)
        self._thread.join()

    def _put(self, event: Event | None) -> None:
        """Queue an event, and wake the thread only for one that does not wait: to be woken costs every association."""
        self._queue.put(event)
        if not _may_wait(event):
            self._is_urgent.set()

    def _send(self) -> None:
        # After a crash the parent finds on disk what it was not told.
        try:
            batch = self._next_batch()
            while batch[-1] is not None:
                self._connection.send(tuple(batch))
                batch = self._next_batch()
            self._connection.send(tuple(batch[:-1]))
        except ConnectionError:
            _log.info("nobody takes the events any more", extra={"action": "parent_gone"})
        finally:
            self._queue.close()  # no association waits for a thread that has ended

    def _next_batch(self) -> list[Event | None]:
        """Return the events of a moment, with None at the end of all; the end of an association does not wait."""
        self._is_urgent.clear()
        batch = self._queue.take(_MAX_BATCH_EVENTS)
        if len(batch) < _MAX_BATCH_EVENTS and all(map(_may_wait, batch)):
            self._is_urgent.wait(_BATCH_S)
            batch += self._queue.take(_MAX_BATCH_EVENTS - len(batch), 0)
        return batch


def _may_wait(event: Event | None) -> bool:
    return isinstance(event, InstanceStored | AssociationOpened | ObjectRefused)
