"""The checks that a reading repeats byte for byte, and stays within the limits of [reader]."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from ainode.node.domain import DocumentKind, Reading
from ainode.node.proving.checks import Check, failed, judged, passed
from ainode.node.proving.prover import Attempt, Prover
from ainode.node.proving.studies import Case

_MB = 1e6


@dataclass(frozen=True, slots=True)
class Repetition:
    """The checks of one study that was read once, in a process that still runs."""

    case: Case
    prover: Prover
    first: Attempt

    def checks(self) -> Iterator[Check]:
        """Yield each check as soon as it is made; the process is another one afterwards."""
        again = self.prover.read(self.case.paths)
        peak_mb = self.prover.peak_bytes() / _MB
        yield self._held("repeated, twice in one process", again)
        self.prover.end()
        yield self._held("repeated, in a fresh process", self.prover.read(self.case.paths))
        yield self._within_memory(peak_mb)
        yield self._within_time(again.seconds)

    def _held(self, name: str, attempt: Attempt) -> Check:
        if attempt.reading is None or self.first.reading is None:
            return failed(name, attempt.words)
        return judged(name, repeated_differences(self.first.reading, attempt.reading), _contents(attempt.reading))

    def _within_memory(self, peak_mb: float) -> Check:
        limit_mb = self.prover.settings.reader.memory_limit_bytes / _MB
        words = f"{peak_mb:.0f} MB at the most, of {limit_mb:.0f} that [reader] memory_limit_bytes allows"
        name = "memory of the reader"
        return passed(name, words) if 0 < peak_mb <= limit_mb else failed(name, words)

    def _within_time(self, seconds: float) -> Check:
        limit_s = self.prover.settings.reader.time_limit_s
        words = f"{self.first.seconds:.1f} s with the start of the process, {seconds:.1f} s later, of {limit_s:g} s"
        name = "time of a reading"
        slowest = max(self.first.seconds, seconds)
        return passed(name, words) if slowest <= limit_s else failed(name, words)


def _contents(reading: Reading) -> str:
    return f"{len(reading.documents)} documents and result.json, byte for byte"


def repeated_differences(first: Reading, second: Reading) -> tuple[str, ...]:
    """Return where the documents of two readings of the same files are not the same bytes."""
    if len(first.documents) != len(second.documents):
        return (f"{len(first.documents)} documents were made, and then {len(second.documents)}",)
    different = [
        _difference(document.kind, document.content, other.content)
        for document, other in zip(first.documents, second.documents, strict=True)
        if document.content != other.content
    ]
    if _timeless(first.summary) != _timeless(second.summary):
        different.append("result.json has other values")
    return tuple(different)


def _difference(kind: DocumentKind, content: bytes, other: bytes) -> str:
    digests = [hashlib.sha256(item).hexdigest()[:12] for item in (content, other)]
    hint = (
        "; a program that makes new UIDs at random, or states the time, never repeats"
        if kind is DocumentKind.OBJECT
        else ""
    )
    return f"a document ({kind}) has other bytes: sha256 {digests[0]}…, then {digests[1]}…{hint}"


def _timeless(summary: str) -> object:
    """Return a result.json without the durations of the reading, which differ each time."""
    values = json.loads(summary)
    values.pop("seconds", None)
    return values
