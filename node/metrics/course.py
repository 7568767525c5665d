"""What became of studies since the node started: answers, scores, and the seconds of each part of a job's way."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from ainode.node.domain import DocumentKind, OnEarly, Reading, Request
from ainode.node.errors import ReaderDied, ReaderTimeout, ReaderTooLarge
from ainode.node.keeping.answers import answer_values
from ainode.node.keeping.records import Delivery, Job, Outcome
from ainode.node.metrics.exposition import Family, Sample, counter
from ainode.node.metrics.histogram import Histogram

_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
_SCORES: Final = tuple(number / 10 for number in range(1, 11))
_MOST_ARRIVALS: Final = 10_000
REFUSED: Final = "refused"
UNDECIDED: Final = "undecided"
_TIME_LIMIT, _MEMORY_LIMIT, _ENDED = "time_limit", "memory_limit", "ended"
_ENDS: Final = (_TIME_LIMIT, _MEMORY_LIMIT, _ENDED)
Read: TypeAlias = Callable[[str, Request, OnEarly], Reading]
Answered: TypeAlias = Callable[[Iterable[str]], Mapping[str, tuple[str, datetime]]]
"""job identifiers to the route and the time of the answer of each job that has one"""


class Course:
    """A witness of the ledger, and of the readers; several threads may call."""

    def __init__(self, handlers: Iterable[str]) -> None:
        self._handlers = tuple(sorted(set(handlers)))
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, str, str]] = Counter()
        self._ends: Counter[tuple[str, str]] = Counter()
        self._arrivals: deque[tuple[str, str, datetime]] = deque(maxlen=_MOST_ARRIVALS)
        self._scores = Histogram("ainode_score", "Probabilities that models gave.", ("handler", "model"), _SCORES)
        parts = {
            "wait": "Seconds between the queueing of a job and its last reading.",
            "read": "Seconds of a reading, without its documents.",
            "compose": "Seconds for the documents of a reading.",
        }
        self._parts = {
            part: Histogram(f"ainode_{part}_seconds", words, ("route",), _SECONDS) for part, words in parts.items()
        }
        words = "Seconds between the answer of a job and a destination's taking a document of it."
        self._deliveries = Histogram("ainode_deliver_seconds", words, ("route", "destination"), _SECONDS)

    def answered(self, job: Job, outcome: Outcome) -> None:
        """Note that a job has its answer."""
        values = answer_values(outcome.result)
        answer = str(REFUSED if values["code"] else values["presence"] or UNDECIDED)
        with self._lock:
            self._answers[job.route, str(values["model"]), answer] += 1
        probability = values["probability"]
        if isinstance(probability, int | float):
            self._scores.observe(float(probability), job.handler, str(values["model"]))
        if job.reading_at:
            self._parts["wait"].observe((job.reading_at - job.queued_at).total_seconds(), job.route)
        self._parts["read"].observe(outcome.seconds, job.route)
        if "compose" in outcome.overheads:
            self._parts["compose"].observe(outcome.overheads["compose"], job.route)

    def arrived(self, delivery: Delivery, at: datetime) -> None:
        """Note that a destination took a document; an addendum is no part of the way of a job."""
        if delivery.document.kind is not DocumentKind.ASSESSMENT:
            with self._lock:
                self._arrivals.append((delivery.document.job, delivery.destination, at))

    def watched(self, read: Read) -> Read:
        """Return the function, which counts from now on the processes that end within a reading."""

        def counted(handler: str, request: Request, on_early: OnEarly) -> Reading:
            try:
                return read(handler, request, on_early)
            except (ReaderTimeout, ReaderDied) as error:
                self._note_end(handler, error)
                raise

        return counted

    def families(self, answered: Answered) -> Iterator[Family]:
        """Yield the metrics; `answered` is asked for the jobs of the documents that arrived since the last time.

        Raises: what `answered` raises; then the next time asks for these jobs, too.
        """
        self._take_arrivals(answered)
        with self._lock:
            answers, ends = dict(self._answers), dict(self._ends)
        samples = [
            Sample(count, {"route": route, "model": model, "answer": answer})
            for (route, model, answer), count in sorted(answers.items())
        ]
        yield counter("ainode_answers_total", "Answers by route, model and verdict.", samples)
        samples = [
            Sample(ends.get((handler, reason), 0), {"handler": handler, "reason": reason})
            for handler in self._handlers
            for reason in _ENDS
        ]
        words = (
            "Reader processes that were killed at a limit or ended by themselves within a reading; each starts again."
        )
        yield counter("ainode_reader_ends_total", words, samples)
        for histogram in (*self._parts.values(), self._deliveries, self._scores):
            yield histogram.family()

    def _take_arrivals(self, answered: Answered) -> None:
        with self._lock:
            arrivals = tuple(self._arrivals)
        times = answered({job for job, _, _ in arrivals}) if arrivals else {}
        for job, destination, at in arrivals:
            if job in times:
                route, answered_at = times[job]
                self._deliveries.observe(max((at - answered_at).total_seconds(), 0.0), route, destination)
        with self._lock:
            observed = set(arrivals)
            self._arrivals = deque((entry for entry in self._arrivals if entry not in observed), maxlen=_MOST_ARRIVALS)

    def _note_end(self, handler: str, error: ReaderTimeout | ReaderDied) -> None:
        match error:
            case ReaderTimeout():
                reason = _TIME_LIMIT
            case ReaderTooLarge():
                reason = _MEMORY_LIMIT
            case _:
                reason = _ENDED
        with self._lock:
            self._ends[handler, reason] += 1
