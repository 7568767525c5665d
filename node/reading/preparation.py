"""The networks of live routes, converted after a start, so that the first patient waits no longer than the tenth.

Handlers whose studies wait come first, then a site's own, then those that ship; of each of the three, the one with the
least memory.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol

from ainode.node.errors import DatabaseUnavailable, NodeError
from ainode.node.reading import registry
from ainode.node.routes import RouteMode
from ainode.node.settings import Settings

log = logging.getLogger(__name__)
# Of the thread, after its process was killed; a node that stops goes on without it.
_END_S: Final = 5.0


def prepared_handlers(settings: Settings) -> frozenset[str]:
    """Return the handlers of live routes; none where [reader] says that nothing is prepared."""
    live = (route.handler for route in settings.routes if route.mode is RouteMode.LIVE)
    return frozenset(live if settings.reader.prepare else ())


class PreparedReaders(Protocol):
    """The part of `Readers` that prepares."""

    def weights_bytes(self, handler: str) -> int:
        """Return the size of the files of a handler's weights; 0 of a handler that is not ready."""

    def prepare(self, handler: str, is_unwanted: Callable[[], bool]) -> None:
        """Have a process of a handler load its networks, unless that is unwanted once one is free.

        Raises: NodeError, OSError.
        """


class Preparation:
    """A thread that has one handler after the other load its networks.

    A network that nobody has read with is converted for that, and every later process finds it on the disk.
    """

    def __init__(
        self, readers: PreparedReaders, handlers: Iterable[str], awaited_handlers: Callable[[], Collection[str]]
    ) -> None:
        """Prepare nothing yet; `awaited_handlers` returns those whose studies wait, and raises DatabaseUnavailable."""
        self._readers, self._handlers = readers, frozenset(handlers)
        self._awaited_handlers = awaited_handlers
        self._sizes: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preparation", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Prepare no further handler. The process that prepares ends with the readers that are idle."""
        self._stopping.set()

    def join(self) -> None:
        """Wait a moment for the thread, once the readers that are idle were killed."""
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def _run(self) -> None:
        remaining = set(self._handlers)
        while remaining and not self._stopping.is_set():
            handler = self._next(remaining)
            remaining.remove(handler)
            if not self._stopping.is_set():
                self._prepare(handler)

    def _next(self, remaining: set[str]) -> str:
        """Return the handler to prepare next: studies may have come since the last one."""
        shipped = registry.names()
        groups = (remaining & self._awaited(), {name for name in remaining if name not in shipped}, remaining)
        group = next(filter(None, groups))
        for handler in sorted(group):
            if len(group) > 1 and handler not in self._sizes and not self._stopping.is_set():
                self._sizes[handler] = self._readers.weights_bytes(handler)
        return min(sorted(group), key=lambda handler: self._sizes.get(handler, 0))

    def _awaited(self) -> frozenset[str]:
        try:
            return frozenset(self._awaited_handlers())
        except DatabaseUnavailable:  # whoever reads the studies says so
            return frozenset()

    def _prepare(self, handler: str) -> None:
        """Have a handler prepare; its fault costs a line of the log, and the first study meets it again."""
        about = {"handler": handler}
        started = time.monotonic()
        try:
            self._readers.prepare(handler, self._stopping.is_set)
        except (NodeError, OSError) as error:
            if not self._stopping.is_set():
                log.warning("not prepared: %s", error, extra={"action": "not_prepared", **about})
        else:
            seconds = time.monotonic() - started
            log.info("handler %s prepared in %.1f s", handler, seconds, extra={"action": "prepared", **about})
