"""A checked reload: the configuration is judged as at a start, and the program replaced by itself.

The receiver goes on. Nothing of a station is changed while it works: all others stop as they do at the end of a node,
and the new program takes up from the disk what they left, as after a crash. The process keeps its number, so that the
receiver stays its child, and a supervisor sees no end.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from ainode.node.disk import refuse_full, write_durably
from ainode.node.errors import ConfigError, OutOfResources
from ainode.node.receiving.handover import Handover
from ainode.node.settings import Settings, load, sources
from ainode.node.settings.in_force import changes
from ainode.node.starting import requirements

log = logging.getLogger(__name__)
SIGNAL: Final = signal.SIGUSR1
"""of `ainode reload`; SIGHUP, which supervisors send, is also that of a terminal that is closed"""
_NAME: Final = "reload.json"
# Their sockets and files are those of processes and connections that go on.
_FIXED: Final = ("node", "database", "web")
# The files beside two SQLite databases that are opened, the first record of the audit trail and the note of the reload
# take less than 1 MB.
_ROOM_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a reload."""

    at: datetime
    problems: tuple[str, ...]
    """why it was refused; nothing where it was made"""
    changes: tuple[str, ...]
    """what the node works with since, in words"""


def judged(config: Path | None, current: Settings) -> tuple[list[str], list[str]]:
    """Return why the node cannot go on with its configuration files as they are now, and what they would change."""
    try:
        changed, origin = load(config), sources(config)
        lines = [*requirements.problems(changed, origin)]
    except ConfigError as error:
        return str(error).splitlines(), []
    tables = [f"[{name}]" for name in _FIXED if getattr(changed, name) != getattr(current, name)]
    try:
        refuse_full(current.data, _ROOM_BYTES)
    except OutOfResources:
        lines.append(f"the disk of {current.data} is full, and a start writes there; make room")
    except OSError as error:
        lines.append(f"{current.data}: {error.strerror}, and a start writes there; look at the disk")
    if tables:
        lines.append(f"{origin.node}: {', '.join(tables)} changed, which a reload does not take up; restart the node")
    return lines, [*changes(current, changed)]


def note_refusal(data: Path, problems: Sequence[str]) -> None:
    """Log and write down why a reload was refused."""
    for line in problems:
        log.error("reload refused: %s", line, extra={"action": "reload_refused"})
    _write(data, {"problems": list(problems), "changes": []})


def note_beginning(data: Path, changes: Sequence[str]) -> None:
    """Log and write down what the next program will work with; the reload is over once that program says so."""
    for line in changes:
        log.info("reload: %s", line, extra={"action": "reload_change"})
    _write(data, {"problems": [], "changes": list(changes), "is_over": False})


def note_end(data: Path) -> None:
    """Write down that the reload is over that the program before this one began."""
    content = _read(data)
    _write(data, {"problems": [], "changes": content.get("changes", [])})


def noted(data: Path) -> Outcome | None:
    """Return what became of the last reload that is over; None where there was none, or nobody can tell."""
    content = _read(data)
    try:
        if not content.get("is_over", True):
            return None
        at, lines = datetime.fromisoformat(content["at"]), (content["problems"], content.get("changes", []))
        return Outcome(at, *(tuple(map(str, texts)) for texts in lines))
    except (ValueError, KeyError, TypeError):
        return None


def _write(data: Path, content: Mapping[str, object]) -> None:
    stamp = {"at": datetime.now(UTC).isoformat(), "pid": os.getpid()}
    try:
        write_durably(data / _NAME, json.dumps({**stamp, **content}).encode(), mode=0o600)
    except OSError as error:  # the node goes on, and whoever asked finds it in the log
        about = {"action": "reload_note_failed"}
        log.error("what became of the reload is not written down: %s", error.strerror, extra=about)  # noqa: TRY400


def _read(data: Path) -> dict[str, Any]:
    try:
        content = json.loads((data / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def replace_program(handover: Handover) -> NoReturn:
    """Begin this program anew in this process, with the receiver."""
    for number in (SIGNAL, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # until the next program listens to it
    handover.offer()
    logging.shutdown()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the command of this process
