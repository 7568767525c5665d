"""What is wrong with the node at a moment, in words for the head of the page; pure functions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from ainode.node.console.pages import duration
from ainode.node.domain import counted
from ainode.node.keeping.backlog import Failures, Queue, Trouble
from ainode.node.keeping.readership import Shortage
from ainode.node.proving.golden import RouteRecord

# Readings take minutes; what has waited for longer waits behind something.
LONG_WAIT: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that is wrong, and the page that has more of it."""

    text: str
    address: str = ""
    link: str = ""
    """what the link is called"""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """What is known of the node at a moment."""

    faults: Mapping[str, str]
    """of each part; '' of a part that is ready"""
    failures: Failures
    troubles: Sequence[Trouble]
    dead_letters: int
    queues: Sequence[Queue]
    untold: int = 0
    """notifications that nobody took"""
    self_tests: Sequence[RouteRecord] = ()
    """the last self-test of each route"""
    shortages: Sequence[Shortage] = ()
    """handlers that lack a process"""
    missing_receivers: Sequence[str] = ()
    """a sentence for each receiver that others stand in for"""


def statements(condition: Condition, *, now: datetime, zone: ZoneInfo | None) -> tuple[Statement, ...]:
    """Return what is wrong, the worst first; nothing where all is well."""
    return (
        *(Statement(f"The {name} is not ready: {fault}") for name, fault in condition.faults.items() if fault),
        *map(_of_receiver, condition.missing_receivers),
        *map(_of_shortage, condition.shortages),
        *_of_self_tests(condition.self_tests),
        *_of_failures(condition.failures, zone),
        *map(_of_trouble, condition.troubles),
        *_of_dead_letters(condition.dead_letters),
        *_of_notices(condition.untold),
        *_of_queues(condition.queues, now),
    )


def _of_receiver(sentence: str) -> Statement:
    return Statement(f"{sentence[0].upper()}{sentence[1:]}")


def _of_shortage(shortage: Shortage) -> Statement:
    return Statement(f"{shortage.summary[0].upper()}{shortage.summary[1:]}", detail=shortage.remedy)


def _of_self_tests(records: Sequence[RouteRecord]) -> Iterator[Statement]:
    for record in records:
        if record.problem:
            yield Statement(f"The self-test of route {record.route} failed", detail=record.problem)


def _of_failures(failures: Failures, zone: ZoneInfo | None) -> Iterator[Statement]:
    if failures.first_queued_at:
        fields = {"state": "failed", "since": f"{failures.first_queued_at.astimezone(zone):%Y-%m-%d}"}
        yield Statement(
            f"{counted(failures.count, 'reading')} failed in the last 24 hours",
            f"/console/?{urlencode(fields)}",
            "see them in the worklist",
            f"the last: {failures.last_reason or 'no reason was kept'}",
        )


def _of_trouble(trouble: Trouble) -> Statement:
    return Statement(
        trouble.words,
        f"/console/?{urlencode({'destination': trouble.destination, 'documents': 'open'})}",
        "see them in the worklist",
        trouble.last_error,
    )


def _of_dead_letters(count: int) -> Iterator[Statement]:
    if count:
        text = "1 dead letter: a reading or documents that the node tries no more by itself"
        if count > 1:
            text = f"{count} dead letters: readings and documents that the node tries no more by itself"
        yield Statement(text, "/console/system/failures", "see why, and read or deliver again")


def _of_notices(count: int) -> Iterator[Statement]:
    if count:
        text = f"{counted(count, 'notification')} that the node tries no more by itself"
        yield Statement(text, "/console/system/failures", "see why, and send again")


def _of_queues(queues: Sequence[Queue], now: datetime) -> Iterator[Statement]:
    for queue in queues:
        if queue.oldest and now - queue.oldest > LONG_WAIT:
            wait = duration((now - queue.oldest).total_seconds())
            yield Statement(f"{queue.name.capitalize()}: {queue.count}, the oldest for {wait}")
