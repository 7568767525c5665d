"""The networks of live routes, converted after a start, so that the first patient waits no longer than the tenth."""

import logging
import threading
import time
from collections.abc import Iterable
from typing import Final

from ainode.node.errors import NodeError
from ainode.node.reading.readers import Readers

log = logging.getLogger(__name__)
# Of the thread, after its process was killed; a node that stops goes on without it.
_END_S: Final = 5.0


class Preparation:
    """A thread that has one handler after the other load its networks.

    A network that nobody has read with is converted for that, and every later process finds it on the disk.
    """

    def __init__(self, readers: Readers, handlers: Iterable[str]) -> None:
        self._readers, self._handlers = readers, sorted(set(handlers))
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
        sizes = {}
        for handler in self._handlers:
            if self._stopping.is_set():
                return
            sizes[handler] = self._readers.weights_bytes(handler)
        for handler in sorted(self._handlers, key=sizes.__getitem__):  # the least memory first
            if not self._stopping.is_set():
                self._prepare(handler)

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
