"""The processes of one handler: each reads one study at a time, and a study goes to a process that waits."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ainode.node.domain import Needs, OnEarly, Reading, Request, nothing_early
from ainode.node.reading.reader import Reader, ReaderState
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.settings import ReaderTable


class Pool:
    """As many readers of a handler as `[reader] processes` allows; each starts when the others are busy."""

    def __init__(self, name: str, environment: ModelEnvironment, limits: ReaderTable, *, mark: str = "") -> None:
        """Start no process yet; the marks of the processes and of their children begin with `mark`."""
        suspects: set[str] = set()  # of all: another process is not to meet the study of a crash beside other studies
        self._readers = tuple(
            Reader(name, environment, limits, mark=mark, suspects=suspects) for _ in range(limits.processes)
        )
        self._free = [*reversed(self._readers)]
        self._changed = threading.Condition()
        self._waiting_count = 0
        self._has_read = False

    def read(self, request: Request, on_early: OnEarly = nothing_early) -> Reading:
        """Return the reading of one request; wait while every process is busy.

        Raises: as `Reader.read`.
        """
        with self._free_reader() as reader:
            self._has_read = True
            return reader.read(request, on_early)

    def needs(self) -> Needs:
        """Return what the handler needs before it can read; wait while every process is busy.

        Raises: as `Reader.needs`.
        """
        with self._free_reader() as reader:
            return reader.needs()

    def prepare(self, is_unwanted: Callable[[], bool]) -> None:
        """Have one process load its networks, so that they lie converted on the disk; wait while every one is busy.

        Nothing is loaded if that `is_unwanted` by then. The process ends after that, unless a study came or waits for
        it: its memory belongs to others until a study comes.

        Raises: as `Reader.prepare`.
        """
        with self._free_reader() as reader:
            if is_unwanted():
                return
            try:
                reader.prepare()
            finally:
                with self._changed:
                    is_used = self._has_read or self._waiting_count > 0
                if not is_used:
                    reader.kill_unless_reading()

    def states(self) -> tuple[ReaderState, ...]:
        """Return what each process does; nobody waits for it."""
        return tuple(reader.state() for reader in self._readers)

    def kill_if_unused(self) -> None:
        """Kill each process that has answered nothing for `idle_s`."""
        for reader in self._readers:
            reader.kill_if_unused()

    def kill_unless_reading(self) -> None:
        """Kill each process that reads no study; a process that reads a study ends with the node."""
        for reader in self._readers:
            reader.kill_unless_reading()

    @contextmanager
    def _free_reader(self) -> Iterator[Reader]:
        """Yield a reader that nobody else uses; the one used last comes first, so that the others fall idle and end."""
        with self._changed:
            self._waiting_count += 1
            try:
                self._changed.wait_for(lambda: self._free)
            finally:
                self._waiting_count -= 1
            reader = self._free.pop()
        try:
            yield reader
        finally:
            with self._changed:
                self._free.append(reader)
                self._changed.notify()
