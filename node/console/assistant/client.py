"""Work for a page that the node's own process must not do: it reads strangers' files, or imports the code of a handler.

Each question has a process of its own, which ends with the answer and gives its memory back.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from ainode.node.errors import Busy, CannotRender
from ainode.node.reading.channel import NotAnAnswer
from ainode.node.reading.child import Child
from ainode.node.settings import Settings

log = logging.getLogger(__name__)
_PROCESS: Final = "ainode.node.console.assistant.process"
_AT_ONCE: Final = 2
# Each that waits holds a thread that other pages need.
_MOST_WAITING: Final = 2
_PATIENCE_S: Final = 20.0
_BUSY: Final = "the node does such work for other people just now; try again in a minute"
ANSWER: Final = b"+"
REASON: Final = b"-"


@dataclass(frozen=True, slots=True)
class Task:
    """A function of `tasks.py`, and its arguments."""

    name: str
    settings: Settings = field(repr=False)
    arguments: Mapping[str, object] = field(repr=False)


class Assistant:
    """Starts a process for each question; few at once."""

    def __init__(self, settings: Settings) -> None:
        """Start no process yet."""
        self._settings = settings
        self._entrance = threading.BoundedSemaphore(_AT_ONCE + _MOST_WAITING)
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    def ask(self, name: str, /, *, limit_s: float, **arguments: object) -> Any:  # noqa: ANN401 - what JSON holds
        """Return the answer of a task.

        Raises: CannotRender with words for a page, at a limit of time or memory too; Busy if too many wait.
        """
        with self._turn():
            return self._answered(Task(name, self._settings, arguments), limit_s)

    def reply(self, name: str, /, *, limit_s: float, **arguments: object) -> tuple[Any, str]:
        """Return the answer of a task and '', or None and why there is none, with words for a page.

        Raises: Busy if too many wait.
        """
        with self._turn():
            try:
                return self._answered(Task(name, self._settings, arguments), limit_s), ""
            except CannotRender as error:
                return None, str(error)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for a place, and give it back in the end.

        Raises: Busy.
        """
        if not self._entrance.acquire(blocking=False):
            raise Busy(_BUSY)
        try:
            if not self._places.acquire(timeout=_PATIENCE_S):
                raise Busy(_BUSY)
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._entrance.release()

    def _answered(self, task: Task, limit_s: float) -> Any:  # noqa: ANN401 - what JSON holds
        child = Child(_PROCESS, task.name)
        try:
            content = self._answer(child, task, limit_s)
        finally:
            child.kill()
        if content[:1] != ANSWER:
            raise CannotRender(content[1:].decode(errors="replace"))
        return json.loads(content[1:])

    def _answer(self, child: Child, task: Task, limit_s: float) -> bytes:
        refuse_overdue = partial(self._refuse_overdue, child, limit_s, time.monotonic() + limit_s)
        try:
            channel = child.start()
            channel.send(task, refuse_overdue)
            return channel.receive(refuse_overdue)
        except (NotAnAnswer, EOFError, OSError) as error:
            code = child.kill()
            log.warning("the task %s ended with code %s", task.name, code, extra={"action": "task_failed"})
            raise CannotRender(f"the process that does this ended with code {code}; see the log of the node") from error

    def _refuse_overdue(self, child: Child, limit_s: float, deadline: float) -> None:
        """Return while the process is within its limits.

        Raises: CannotRender.
        """
        if time.monotonic() > deadline:
            raise CannotRender(f"there was no answer within {limit_s:g} s; try it with less")
        limit_bytes = self._settings.reader.memory_limit_bytes
        if child.exceeds(limit_bytes):
            raise CannotRender(f"this took more than {limit_bytes} bytes of memory ([reader] memory_limit_bytes)")
