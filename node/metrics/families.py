"""Every metric of the node but those of `course.py`; a scrape asks each question once, and no label is a patient's."""

import os
import platform
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ainode.node import __version__
from ainode.node.deciding.liveness import Liveness
from ainode.node.domain import DeliveryState, JobState
from ainode.node.errors import DatabaseUnavailable
from ainode.node.keeping.backlog import Backlog, Length
from ainode.node.keeping.dead_letters import DeadLetters
from ainode.node.keeping.executors import Executors
from ainode.node.keeping.readership import Readership
from ainode.node.metrics.course import Course
from ainode.node.metrics.executors import executor_families
from ainode.node.metrics.exposition import Family, Sample, counter, gauge, text_of
from ainode.node.reading.reader import ReaderState
from ainode.node.receiving.pulse import ACCEPTED, ENDED, OTHER, STATUSES
from ainode.node.receiving.receptions import Receptions
from ainode.node.settings import Settings

_BOOT: Final = re.compile(r"^btime (\d+)$", re.MULTILINE)
_RESIDENT: Final = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
_OPEN_DELIVERIES: Final = (
    DeliveryState.WAITING,
    DeliveryState.SENT,
    DeliveryState.CHECKING,
    DeliveryState.FAILED,
)
_ENDED_JOBS: Final = frozenset(set(JobState) - {JobState.WAITING, JobState.READING})


@dataclass(frozen=True, slots=True)
class Sources:
    """What the metrics are made of."""

    settings: Settings
    backlog: Backlog
    dead_letters: DeadLetters
    executors: Executors
    readership: Readership
    course: Course
    receptions: Receptions
    receiver_counts: Callable[[], Mapping[str, int]]
    """the counts of the receiver by the names of `pulse.COUNTED`"""
    readers: Callable[[], Sequence[ReaderState]]
    liveness: Liveness


class Metrics:
    """The page of the metrics; one thread at a time."""

    def __init__(self, sources: Sources) -> None:
        self._sources, self._started_at = sources, _process_start_s()

    def text(self) -> str:
        """Return every metric; those of the database are left out while the database does not answer."""
        try:
            of_database, is_there = list(self._of_database()), True
        except DatabaseUnavailable:
            of_database, is_there = [], False
        return text_of([*self._of_process(), *self._of_parts(is_there), *self._of_receiver(), *of_database])

    def _of_process(self) -> Iterator[Family]:
        labels = {"version": __version__, "python": platform.python_version()}
        yield gauge("ainode_build_info", "The version of the node; always 1.", [Sample(1, labels)])
        yield gauge("process_start_time_seconds", "When the node started, in seconds since 1970.", [self._started_at])
        yield gauge("process_resident_memory_bytes", "Memory of the node's own process.", [resident_bytes()])
        yield counter("process_cpu_seconds_total", "Processor time of the node's own process.", [_processor_s()])
        settings = self._sources.settings
        usage = shutil.disk_usage(settings.data)
        yield gauge("ainode_disk_free_bytes", "Free on the disk of the data folder.", [usage.free])
        yield gauge("ainode_disk_total_bytes", "Size of the disk of the data folder.", [usage.total])
        words = "Below this much every object is refused ([node] min_free_bytes)."
        yield gauge("ainode_disk_min_free_bytes", words, [settings.node.min_free_bytes])

    def _of_parts(self, is_database_there: bool) -> Iterator[Family]:  # noqa: FBT001
        liveness = self._sources.liveness
        parts = {"receiver": liveness.receiver, "intake": liveness.intake, "jobs": liveness.jobs}
        ups = {name: not fault() for name, fault in parts.items()} | {"database": is_database_there}
        samples = [Sample(int(is_up), {"part": name}) for name, is_up in sorted(ups.items())]
        yield gauge("ainode_part_up", "Whether a part of the node works: 1 or 0.", samples)
        processes = _numbered(self._sources.readers())
        words = "Whether a reader process reads a study: 1 or 0."
        yield gauge("ainode_reader_busy", words, [Sample(int(state.is_reading), labels) for labels, state in processes])
        words = "Memory of a reader process and of what it started; 0 where none runs."
        memory = [Sample(state.memory_bytes, labels) for labels, state in processes]
        yield gauge("ainode_reader_memory_bytes", words, memory)
        words = "What a reader process may take ([reader] memory_limit_bytes)."
        yield gauge("ainode_reader_memory_limit_bytes", words, [self._sources.settings.reader.memory_limit_bytes])

    def _of_receiver(self) -> Iterator[Family]:
        counts, received = self._sources.receiver_counts(), self._sources.receptions.received()
        missing = self._sources.liveness.missing_receivers()
        words = "Receivers of [node] receivers that ended and wait to be started, while others serve callers."
        yield gauge("ainode_receivers_missing", words, [len(missing)])
        open_count = counts[ACCEPTED] - counts[ENDED]
        yield gauge("ainode_associations_open", "Associations that are open.", [open_count])
        words = "Associations that may be open ([node] max_associations of each receiver)."
        yield gauge("ainode_associations_limit", words, [self._sources.settings.node.places])
        yield counter("ainode_associations_accepted_total", "Associations accepted.", [counts[ACCEPTED]])
        reasons = [name for name in counts if name not in {ACCEPTED, ENDED, OTHER, *STATUSES}]
        samples = [Sample(counts[reason], {"reason": reason.lower()}) for reason in reasons]
        yield counter("ainode_associations_rejected_total", "Associations rejected, by reason (PS3.8 9.3.4).", samples)
        answers = [Sample(counts[status], {"status": status}) for status in (*STATUSES, OTHER)]
        yield counter("ainode_c_store_answers_total", "Answers to C-STORE requests by status.", answers)
        words = "Instances stored by C-STORE."
        yield counter("ainode_instances_received_total", words, [received.instance_count])
        yield counter("ainode_received_bytes_total", "Bytes stored by C-STORE.", [received.size_bytes])

    def _of_database(self) -> Iterator[Family]:
        sources, now = self._sources, datetime.now(UTC)
        studies = dict(zip(("announced", "unrouted"), sources.backlog.studies(), strict=True))
        words = "Studies that are announced and to be fetched, or came and are not complete or not routed."
        yield gauge("ainode_studies", words, [Sample(queue.count, {"state": name}) for name, queue in studies.items()])
        ages = [
            Sample(_age_s(queue.oldest, now) if queue.oldest else 0.0, {"state": name})
            for name, queue in studies.items()
        ]
        yield gauge("ainode_studies_oldest_seconds", "Age of the oldest of these studies, 0 without one.", ages)
        yield from executor_families(sources.executors, sources.readership, sources.settings.handlers)
        yield from self._jobs(sources.backlog.jobs(), now)
        yield from self._deliveries(sources.backlog.deliveries(), now)
        words = "Readings and documents that are tried no more by themselves (the page Dead letters)."
        yield gauge("ainode_dead_letters", words, [sources.dead_letters.count()])
        yield from sources.course.families(sources.backlog.answered)

    def _jobs(self, lengths: Sequence[Length], now: datetime) -> Iterator[Family]:
        routes = (route.name for route in self._sources.settings.routes)
        rows = _completed(lengths, routes, tuple(JobState))
        yield gauge(
            "ainode_jobs",
            "Jobs by route and state, until job_retention_days removes them.",
            [Sample(length.count if length else 0, {"route": route, "state": state}) for route, state, length in rows],
        )
        ages = [(route, state, length) for route, state, length in rows if state not in _ENDED_JOBS]
        yield gauge(
            "ainode_jobs_oldest_seconds",
            "Seconds since the oldest job of a route and state was queued, 0 without one.",
            [
                Sample(_age_s(length.oldest, now) if length else 0.0, {"route": route, "state": state})
                for route, state, length in ages
            ],
        )

    def _deliveries(self, lengths: Sequence[Length], now: datetime) -> Iterator[Family]:
        peers = (peer.name for peer in self._sources.settings.peers)
        rows = _completed(lengths, peers, _OPEN_DELIVERIES)
        keys = ("destination", "state")
        yield gauge(
            "ainode_deliveries",
            "Documents to be sent, to be proved, to be checked, and failed.",
            [Sample(length.count if length else 0, dict(zip(keys, key, strict=True))) for *key, length in rows],
        )
        ages = [entry for entry in rows if entry[1] != DeliveryState.FAILED]
        yield gauge(
            "ainode_deliveries_oldest_seconds",
            "Seconds since the job of the oldest of these documents was queued, 0 without one.",
            [
                Sample(_age_s(length.oldest, now) if length else 0.0, {"destination": name, "state": state})
                for name, state, length in ages
            ],
        )


def resident_bytes() -> int:
    """Return the memory of the node's own process (proc(5))."""
    match = _RESIDENT.search(Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    return int(match[1]) * 1024 if match else 0


def _completed(
    lengths: Sequence[Length], owners: Iterable[str], states: Sequence[str]
) -> list[tuple[str, str, Length | None]]:
    """Return the length of each state of each owner, of those of the configuration, too: a rate needs the 0 before."""
    lengths_by_key = {(length.owner, length.state): length for length in lengths}
    names = sorted({*owners, *(length.owner for length in lengths)})
    return [(name, str(state), lengths_by_key.get((name, state))) for name in names for state in states]


def _numbered(states: Iterable[ReaderState]) -> list[tuple[dict[str, str], ReaderState]]:
    """Return the labels of each reader process: the handler, and the number of the process among its own."""
    numbers: Counter[str] = Counter()
    processes = []
    for state in states:
        processes.append(({"handler": state.handler, "process": str(numbers[state.handler])}, state))
        numbers[state.handler] += 1
    return processes


def _age_s(since: datetime, now: datetime) -> float:
    return max((now - since).total_seconds(), 0.0)


def _process_start_s() -> float:
    """Return when the kernel began this process, in seconds since 1970; a reload goes on in the same process.

    Source: proc(5), starttime and btime.
    """
    ticks = int(Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19])
    booted = _BOOT.search(Path("/proc/stat").read_text(encoding="ascii"))
    return int(booted[1]) + ticks / os.sysconf("SC_CLK_TCK") if booted else time.time()


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system
