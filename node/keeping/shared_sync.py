"""One sync of a folder for all associations that wait for it: a disk takes as long for one name as for many."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

# With one at a time, whoever comes a moment late waits for the rest of a sync, and then for another.
_AT_ONCE: Final = 2


class SharedSync:
    """Threads that call `sync` again and again while somebody waits.

    Whoever comes while syncs run waits for the next: a sync that has begun need not hold what was renamed since.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        """Keep the argument; the first requests start a thread each."""
        self._sync = sync
        self._waiting: list[Future[None]] = []
        self._changed = threading.Condition()
        self._thread_count = 0

    def request(self) -> "Future[None]":
        """Return a future that is done once a sync that began after this moment has ended.

        Its result raises the OSError or MemoryError of the sync.

        Raises: RuntimeError if there is no room for a thread.
        """
        future: Future[None] = Future()
        with self._changed:
            if self._thread_count < _AT_ONCE:
                threading.Thread(target=self._run, name="spool names", daemon=True).start()
                self._thread_count += 1
            self._waiting.append(future)
            self._changed.notify()
        return future

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                waiting, self._waiting = self._waiting, []
            try:
                self._sync()
            except (
                OSError,
                MemoryError,
            ) as error:  # a receiver has a limit of memory; a thread that ended would hang all
                for future in waiting:
                    future.set_exception(error)
            else:
                for future in waiting:
                    future.set_result(None)
