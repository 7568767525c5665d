"""Readings once more, for a comparison: one at a time, in a process of its own, of which nothing leaves the node.

What a comparison brought stays in memory alone, and the oldest is forgotten.
"""

import secrets
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ainode.node.errors import ConfigError, NodeError
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.offline.replays import Comparison, comparison, replayed_request
from ainode.node.reading.reader import Reader
from ainode.node.reading.verification import verified
from ainode.node.reading.weights import environment
from ainode.node.settings import Settings

_MOST_ENTRIES: Final = 50
_MOST_WAITING: Final = 5


@dataclass(frozen=True, slots=True)
class Rereading:
    """A reading once more of what a job read: it waits, it runs, or it has a comparison or a reason why not."""

    id: str
    job: Job
    weights: Path | None
    """a folder of other weights; None for the weights that are installed"""
    person: str
    began_s: float = 0.0
    """on the monotonic clock; 0 while it waits"""
    seconds: float = 0.0
    comparison: Comparison | None = None
    problem: str = ""

    @property
    def is_over(self) -> bool:
        """Return whether there is a comparison, or a reason why there is none."""
        return bool(self.comparison or self.problem)

    @property
    def elapsed_s(self) -> float:
        """Return how long the reading runs, or took."""
        return self.seconds or (time.monotonic() - self.began_s if self.began_s else 0.0)


class Rereadings:
    """Has studies read once more, one after the other."""

    def __init__(self, settings: Settings, ledger: Ledger, catalog: Catalog, mark: str) -> None:
        """Start no process yet; `mark` begins the marks of the node's processes."""
        self._settings, self._ledger, self._catalog, self._mark = settings, ledger, catalog, mark
        self._entries: OrderedDict[str, Rereading] = OrderedDict()
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="reread")

    def begin(self, job: Job, weights: Path | None, person: str) -> Rereading:
        """Have what a job read be read once more; return the entry, whose id tells how it goes on.

        Raises: ConfigError if too many wait already.
        """
        entry = Rereading(secrets.token_hex(8), job, weights, person)
        with self._lock:
            if sum(not other.is_over for other in self._entries.values()) >= _MOST_WAITING:
                raise ConfigError(f"{_MOST_WAITING} studies wait to be read a second time; wait until they were")
            self._entries[entry.id] = entry
            while len(self._entries) > _MOST_ENTRIES:
                self._entries.popitem(last=False)
        self._executor.submit(self._run, entry)
        return entry

    def entry(self, identifier: str) -> Rereading | None:
        """Return an entry, None if it was forgotten."""
        with self._lock:
            return self._entries.get(identifier)

    def of_study(self, study: str) -> tuple[Rereading, ...]:
        """Return the entries of a study, the newest first."""
        with self._lock:
            return tuple(item for item in reversed(self._entries.values()) if item.job.study_instance_uid == study)

    def _run(self, entry: Rereading) -> None:
        began_s = time.monotonic()
        self._put(replace(entry, began_s=began_s))
        outcome = self._outcome(entry)
        self._put(replace(outcome, began_s=began_s, seconds=time.monotonic() - began_s))

    def _put(self, entry: Rereading) -> None:
        with self._lock:
            if entry.id in self._entries:
                self._entries[entry.id] = entry

    def _outcome(self, entry: Rereading) -> Rereading:
        job, settings = entry.job, self._settings
        try:
            request = replayed_request(job, settings, self._ledger, self._catalog)
            reader = Reader(job.handler, environment(settings, entry.weights), settings.reader, mark=self._mark)
            try:
                with verified(request):
                    reading = reader.read(request)
            finally:
                reader.kill_unless_reading()
            return replace(entry, comparison=comparison(job, self._ledger.documents(job.id), reading))
        except (NodeError, LookupError, OSError) as error:
            return replace(entry, problem=str(error) or type(error).__name__)
