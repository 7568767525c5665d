"""What a handler needs, asked once of the handler's reader process: nobody waits for the answer."""

import threading
import time
from collections.abc import Callable
from typing import Final

from ainode.node.domain import Needs
from ainode.node.errors import HandlerError, HandlerStarting, NodeError

# A failed answer stands so long; then a study may ask again.
_FAILURE_S: Final = 60.0


class Inquiry:
    """Asks in a thread of its own, when a study first needs the answer, and remembers the answer."""

    def __init__(self, handler: str, question: Callable[[], Needs], on_known: Callable[[str], None]) -> None:
        self._handler, self._question, self._on_known = handler, question, on_known
        self._lock = threading.Lock()
        self._needs: Needs | None = None
        self._thread: threading.Thread | None = None
        self._failure = ""
        self._failed_at = 0.0

    def answer(self) -> Needs | None:
        """Return what the handler has told, None if it has told nothing; the handler is not asked."""
        with self._lock:
            return self._needs

    def ask(self) -> Needs | None:
        """Ask the handler now, and wait for the answer; None if the handler failed."""
        self._ask()
        return self.answer()

    def needs(self) -> Needs:
        """Return what the handler needs, if the handler has told.

        Raises: HandlerStarting while the handler is asked: `on_known` is called afterwards. HandlerError if the
        handler failed less than a minute ago.
        """
        with self._lock:
            if self._needs:
                return self._needs
            if self._failure and time.monotonic() - self._failed_at < _FAILURE_S:
                raise HandlerError(self._failure)
            if self._thread is None:
                self._thread = threading.Thread(target=self._ask, name=f"needs of {self._handler}", daemon=True)
                self._thread.start()
        raise HandlerStarting(
            f"handler {self._handler!r} starts, or reads another study; the study is routed when its weights are known"
        )

    def _ask(self) -> None:
        needs, failure = None, "the question could not be asked"
        try:
            needs = self._question()
        except NodeError as error:
            failure = str(error)
        finally:
            with self._lock:
                self._needs, self._failure = needs, failure
                self._failed_at, self._thread = time.monotonic(), None
            self._on_known(self._handler)
