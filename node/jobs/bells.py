"""How a process lets others know at once that something is queued: LISTEN and NOTIFY of PostgreSQL.

A bell may be missed, as while the database is away: whoever takes from a queue also looks by the clock.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import sqlalchemy as sa

from ainode.node.keeping.database import connection_arguments
from ainode.node.threads import NodeThread

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)
_CHANNEL: Final = "ainode_queues"
_PAUSE_S: Final = 2.0
# So long a stop waits at most.
_LOOK_S: Final = 1.0
_STOP_S: Final = 5.0


class Bell(Protocol):
    """Rings in other processes."""

    def start(self) -> None:
        """Begin to listen."""

    def ring(self, queue: str) -> None:
        """Let others know of a queue."""

    def stop(self) -> None:
        """Listen no more."""


class NoBell:
    """In a process that has the queues for itself."""

    def start(self) -> None:
        """Do nothing."""

    def ring(self, queue: str) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class PostgresBell(NodeThread):
    """A thread that hears what other processes ring, and a connection that rings in them."""

    def __init__(self, url: str, on_ring: Callable[[str | None], None]) -> None:
        """Keep the arguments; `on_ring` gets the name of a queue, None where bells may have been missed."""
        super().__init__("queue bells", stop_s=_STOP_S)
        self._url, self._on_ring = url, on_ring
        self._sender: psycopg.Connection[tuple[object, ...]] | None = None
        self._own_backend = 0
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End the thread and the connections."""
        super().stop()
        with self._lock:
            self._forget_sender()

    def ring(self, queue: str) -> None:
        """Ring for a queue in every other process; while the database is away nobody hears it."""
        import psycopg  # noqa: PLC0415 - SQLite alone needs none

        with self._lock:
            try:
                if self._sender is None:
                    self._sender = self._connected()
                    self._own_backend = self._sender.info.backend_pid
                self._sender.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, queue))
            except psycopg.Error as error:
                log.debug("no bell: %s", type(error).__name__)
                self._forget_sender()

    def _run(self) -> None:
        import psycopg  # noqa: PLC0415 - SQLite alone needs none

        while not self._stopping.is_set():
            try:
                with self._listening() as connection:
                    self._on_ring(None)
                    while not self._stopping.is_set():
                        for notice in connection.notifies(timeout=_LOOK_S):
                            if notice.pid != self._own_backend:
                                self._on_ring(notice.payload)
            except psycopg.Error as error:
                log.debug("no bells are heard: %s", type(error).__name__)
                self._stopping.wait(_PAUSE_S)

    @contextmanager
    def _listening(self) -> "Iterator[psycopg.Connection[tuple[object, ...]]]":
        with self._connected() as connection:
            connection.execute(f"LISTEN {_CHANNEL}")
            yield connection

    def _connected(self) -> "psycopg.Connection[tuple[object, ...]]":
        import psycopg  # noqa: PLC0415 - SQLite alone needs none

        address = sa.make_url(self._url).set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(address, autocommit=True, **connection_arguments(self._url))  # type: ignore[arg-type]

    def _forget_sender(self) -> None:
        if self._sender is not None:
            self._sender.close()
            self._sender = None


def bell_of(url: str, on_ring: Callable[[str | None], None]) -> Bell:
    """Return the bell of the database that the queues are in."""
    return PostgresBell(url, on_ring) if sa.make_url(url).get_backend_name() == "postgresql" else NoBell()
