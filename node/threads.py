"""The threads that a node starts once and stops at its end; a subclass says in `_run` what a thread does."""

import threading
from abc import ABC, abstractmethod


class NodeThread(ABC):
    """A thread that runs until `_stopping` is set."""

    def __init__(self, name: str, *, stop_s: float | None = None) -> None:
        """Start nothing yet; a stop waits for the thread, `stop_s` at most."""
        self._stop_s = stop_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread, which goes on with what the last process left."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End after what is under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._stop_s)

    @abstractmethod
    def _run(self) -> None:
        """Do the work of the thread until a stop is wanted."""


class WakeableThread(NodeThread):
    """A thread that waits for `_woken` between its looks."""

    def __init__(self, name: str, *, stop_s: float | None = None) -> None:
        """Start nothing yet; a stop waits for the thread, `stop_s` at most."""
        super().__init__(name, stop_s=stop_s)
        self._woken = threading.Event()

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    def stop(self) -> None:
        """End after what is under way."""
        self._stopping.set()
        self._woken.set()
        super().stop()
