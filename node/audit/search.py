"""The newest records of an audit trail that name something, such as a study: a bounded look from the end."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import Final

from ainode.node.audit.messages import SUCCESS
from ainode.node.audit.trail import files

_MOST_BYTES: Final = 64 * 1024**2
_BLOCK_BYTES: Final = 1024**2
_TIME: Final = re.compile(r"^<8[45]>1 (\S+) ")
_EVENT: Final = re.compile(r'<EventID [^>]*?originalText="([^"]*)"')
_TYPE: Final = re.compile(r'<EventTypeCode [^>]*?originalText="([^"]*)"')
_OUTCOME: Final = re.compile(r'EventOutcomeIndicator="(\d+)"')
_FAILURE: Final = re.compile(r"<EventOutcomeDescription>([^<]*)<")
_USER: Final = re.compile(r'<ActiveParticipant [^>]*?UserID="([^"]*)"')
_OBJECT: Final = re.compile(r'ParticipantObjectID="([^"]*)"')


@dataclass(frozen=True, slots=True)
class AuditedEvent:
    """A record of the trail in words."""

    at: datetime
    event: str
    users: tuple[str, ...]
    objects: tuple[str, ...]
    is_success: bool
    failure: str


def newest(folder: Path, text: str = "", *, count: int, most_bytes: int = _MOST_BYTES) -> tuple[AuditedEvent, ...]:
    """Return the newest records that name an object or user `text`, '' for all; what is older stays unread.

    Raises: OSError.
    """
    events: list[AuditedEvent] = []
    wish = text.encode()
    for line in _lines_from_the_end(folder, most_bytes):
        if wish in line and (event := _event(line.decode("utf-8", "replace"))) and _names(event, text):
            events.append(event)
            if len(events) == count:
                break
    return tuple(events)


def _names(event: AuditedEvent, text: str) -> bool:
    return not text or text in event.objects or text in event.users


def _lines_from_the_end(folder: Path, most_bytes: int) -> Iterator[bytes]:
    """Yield the lines of the newest files, the newest line first, by blocks: a whole file is too much memory."""
    for path in reversed(files(folder)):
        with path.open("rb") as file:
            end, rest = file.seek(0, os.SEEK_END), b""
            while end and most_bytes > 0:
                begin = max(0, end - _BLOCK_BYTES)
                file.seek(begin)
                first, *lines = (file.read(end - begin) + rest).split(b"\n")
                yield from (line for line in reversed(lines) if line)
                most_bytes, end, rest = most_bytes - (end - begin), begin, first
            if rest and not end:
                yield rest


def _event(line: str) -> AuditedEvent | None:
    time = _TIME.match(line)
    if time is None:
        return None
    kinds = [match[1] for pattern in (_EVENT, _TYPE) if (match := pattern.search(line))]
    outcome, failure = _OUTCOME.search(line), _FAILURE.search(line)
    return AuditedEvent(
        datetime.fromisoformat(time[1]),
        ", ".join(map(unescape, kinds)),
        tuple(map(unescape, _USER.findall(line))),
        tuple(map(unescape, _OBJECT.findall(line))),
        is_success=outcome is not None and outcome[1] == SUCCESS,
        failure=unescape(failure[1]) if failure else "",
    )
