"""Whether the node can take a study now: its database, intake, receiver and disk, each with the reason why not."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from ainode.node.deciding.liveness import Liveness
from ainode.node.disk import MIN_FREE_FILES, refuse_full
from ainode.node.errors import DatabaseUnavailable, OutOfResources
from ainode.node.keeping.readership import Readership
from ainode.node.keeping.schema import jobs

_LIMIT_S: Final = 2.0


class Readiness:
    """Asks each part; a part that does not answer in two seconds is not asked again before it answers."""

    def __init__(
        self, engine: sa.Engine, liveness: Liveness, data: Path, min_free_bytes: int, handlers: Sequence[str] = ()
    ) -> None:
        self._engine, self._liveness = engine, liveness
        self._data, self._min_free_bytes = data, min_free_bytes
        self._readership, self._handlers = Readership(engine), tuple(handlers)
        self._readership_probe = _Probe(self._shortages)
        self._database_probe, self._disk_probe = _Probe(self._database_fault), _Probe(self._disk_fault)

    def faults(self) -> dict[str, str]:
        """Return the fault of each part, '' for a part that is ready."""
        return {
            "database": self._database_probe.answer(),
            "intake": self._liveness.intake(),
            "receiver": self._liveness.receiver(),
            "disk": self._disk_probe.answer(),
        }

    def state(self) -> tuple[dict[str, str], str]:
        """Return the fault of each part, and what needs attention."""
        return self.faults(), self.attention()

    def attention(self) -> str:
        """Return what needs somebody, while the node takes studies: receivers that end, models that too few read."""
        return "; ".join(filter(None, (*self._liveness.missing_receivers(), self._readership_probe.answer())))

    def _shortages(self) -> str:
        try:
            return "; ".join(shortage.summary for shortage in self._readership.shortages(self._handlers))
        except (DatabaseUnavailable, sa.exc.SQLAlchemyError):
            return ""  # the part of the database says so

    def _database_fault(self) -> str:
        # A statement without a table would be answered by SQLite alone, without a look at its file.
        try:
            with self._engine.connect() as connection:
                connection.execute(sa.select(sa.literal(1)).select_from(jobs).limit(1)).scalar()
        except (DatabaseUnavailable, sa.exc.SQLAlchemyError) as error:
            return f"the database does not answer ({type(error).__name__}); see the log"
        return ""

    def _disk_fault(self) -> str:
        try:
            refuse_full(self._data, self._min_free_bytes)
            disk = os.statvfs(self._data)
        except OutOfResources as error:
            return str(error)
        except OSError as error:
            return f"the data folder cannot be used: {error.strerror}"
        # A file system without a fixed number of inodes states 0 of 0.
        if disk.f_files and disk.f_favail < MIN_FREE_FILES:
            return f"the disk has room for {disk.f_favail} more files only; make room"
        return ""


class _Probe:
    """A question that may never be answered, asked in a thread that nobody waits for at the end of the process."""

    def __init__(self, question: Callable[[], str]) -> None:
        self._question = question
        self._lock = threading.Lock()
        self._thread = threading.Thread()
        self._answer = ""

    def answer(self) -> str:
        """Return the answer, or that there is none in time."""
        with self._lock:
            if not self._thread.is_alive():
                self._thread = threading.Thread(target=self._ask, name="probe", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(_LIMIT_S)
        return f"no answer within {_LIMIT_S:.0f} s" if thread.is_alive() else self._answer

    def _ask(self) -> None:
        self._answer = self._question()
