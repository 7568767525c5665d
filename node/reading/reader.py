"""The process that holds a model: a question starts the process, and a limit kills the process.

Everything that a hostile study or a broken handler could crash happens in that process (`serving.py`).
"""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from ainode.node import errors
from ainode.node.domain import Needs, NeedsQuestion, OnEarly, PrepareQuestion, Reading, Request, nothing_early
from ainode.node.errors import ArchiveError, HandlerError, NodeError, ReaderDied, ReaderTimeout, ReaderTooLarge
from ainode.node.reading.channel import Channel, Failure, NotAnAnswer, answer_in
from ainode.node.reading.child import Child
from ainode.node.reading.confinement import bounds_of
from ainode.node.reading.rehearsal import RehearsalQuestion, rehearsed_reading
from ainode.node.reading.serving import Opening
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.settings import ReaderTable

_Answer = TypeVar("_Answer", Needs, Reading)
NEEDS_LIMIT_S: Final = 60.0
"""the time limit of a handler's import, of its build() and of its weights() together"""
_PROCESS: Final = "ainode.node.reading.serving"
_STUDY: Final = "study "
"""how the words of what a process works at begin, where that is a study"""


def error_of(failure: Failure) -> NodeError:
    """Return the error to raise for a failure."""
    kind = getattr(errors, failure.kind, HandlerError)
    return HandlerError(failure.message) if issubclass(kind, ArchiveError) else kind(failure.message)


def _ended(code: int | None) -> str:
    """Return how a process ended by itself, and what to do; a negative code is the signal that ended the process."""
    if code == -signal.SIGKILL:
        return f"ended with code {code}: the system kills so what takes the last memory; give the machine more memory"
    crash = "crashed in a library" if code is not None and code < 0 else "was ended by its own code"
    return f"ended with code {code}: it {crash}; `ainode check` tells whether it starts, `ainode retry` repeats the job"


@dataclass(frozen=True, slots=True)
class ReaderState:
    """What the process of a handler does at a moment."""

    handler: str
    subject: str
    """what the process works at; '' while it waits"""
    seconds: float
    """since the process began this work, or answered last"""
    memory_bytes: int
    """0 where no process runs"""

    @property
    def is_reading(self) -> bool:
        """Return whether the process reads a study, and does not merely tell what its handler needs."""
        return self.subject.startswith(_STUDY)


class Reader:
    """The process of one handler; the process answers one question at a time."""

    def __init__(
        self,
        name: str,
        environment: ModelEnvironment,
        limits: ReaderTable,
        *,
        mark: str = "",
        suspects: set[str] | None = None,
    ) -> None:
        """Start no process yet; the mark of the process and of its children begins with `mark`.

        `suspects` holds the studies at which a process of the handler was killed, or ended by itself.
        """
        self._name, self._environment, self._limits = name, environment, limits
        self._opening: Opening | None = None
        self._lock = threading.RLock()
        self._child = Child(_PROCESS, name, mark=mark)
        self._subject = ""
        self._used_at = time.monotonic()
        self._suspects = set[str]() if suspects is None else suspects

    def read(self, request: Request, on_early: OnEarly = nothing_early) -> Reading:
        """Return the handler's reading of the study; wait while the process answers another question.

        A study at which the process died has a process to itself the next time. `on_early` gets the urgent part of the
        reading before the rest is made; an error of the node in it costs the reading nothing.

        Raises: ReaderTimeout at the time limit, ReaderDied if the process ended or at the memory limit: the job is
        tried again. A NodeError of the handler, OutOfResources if the disk is full; HandlerError for any other error.
        """
        study = request.study_instance_uid
        with self._lock:
            is_suspect = study in self._suspects
            if is_suspect:
                self._child.kill()
            try:
                limit_s = self._limits.time_limit_s
                reading = self._ask(request, Reading, f"{_STUDY}{study}", limit_s, on_early)
            except (ReaderTimeout, ReaderDied):
                self._suspects.add(study)
                raise
            finally:
                if is_suspect:
                    self._child.kill()
            self._suspects.discard(study)
            return reading

    def needs(self) -> Needs:
        """Return what the handler needs before it can read; wait while the process answers another question.

        Raises: as `read`; ConfigError if the handler's module, build() or weights() raises.
        """
        limit_s = min(NEEDS_LIMIT_S, self._limits.time_limit_s)
        return self._ask(NeedsQuestion(), Needs, "import, build() and weights()", limit_s)

    def prepare(self) -> None:
        """Have the handler load its networks, which converts them if nobody has; wait while the process is busy.

        Raises: as `read`; ConfigError if the handler's module or build() raises.
        """
        self._ask(PrepareQuestion(), Needs, "networks, before a study", self._limits.time_limit_s)

    def rehearse(self) -> None:
        """Return if the process starts, and answers with a whole reading as after a study; no handler is loaded.

        Raises: as `needs`; HandlerError if another reading arrives than was sent.
        """
        limit_s = min(NEEDS_LIMIT_S, self._limits.time_limit_s)
        if self._ask(RehearsalQuestion(), Reading, "rehearsal", limit_s) != rehearsed_reading():
            raise HandlerError("rehearsal: the reading that arrived is not the reading that the reader sent")

    def _ask(
        self,
        question: object,
        kind: type[_Answer],
        subject: str,
        limit_s: float,
        on_early: OnEarly = nothing_early,
    ) -> _Answer:
        """Return the answer of the process; sending the question, waiting and receiving stand under the limits."""
        with self._lock:
            try:
                self._subject, self._used_at = subject, time.monotonic()
                refuse_overdue = partial(self._refuse_overdue, subject, limit_s, time.monotonic() + limit_s)
                channel = self._start_unless_running(refuse_overdue)
                channel.send(question, refuse_overdue)
                answer = self._received(channel, refuse_overdue, on_early)
                if isinstance(answer, Failure) and not answer.is_built:
                    self._child.kill()
            except (ReaderTimeout, ReaderDied):
                self._child.kill()
                raise
            except NotAnAnswer as error:
                self._child.kill()
                raise HandlerError(
                    f"{subject}: the reader of {self._name} sent bytes that are no answer ({error}); the study is not "
                    "at fault: update the handler or ainode, then `ainode retry` the job"
                ) from error
            except (EOFError, OSError) as error:
                raise ReaderDied(f"{subject}: the reader of {self._name} {_ended(self._child.kill())}") from error
            finally:
                self._subject, self._used_at = "", time.monotonic()
        if isinstance(answer, Failure):
            raise error_of(answer)
        if not isinstance(answer, kind):
            raise HandlerError(
                f"{subject}: the reader of {self._name} answered with no {kind.__name__}; the study is not at fault: "
                "update the handler or ainode, then `ainode retry` the job"
            )
        return answer

    def _received(self, channel: Channel, refuse_overdue: Callable[[], None], on_early: OnEarly) -> object:
        """Return the answer of the process, after the urgent part of it, if there is one.

        Raises: EOFError, OSError, NotAnAnswer; what `refuse_overdue` raises.
        """
        answer = answer_in(channel.receive(refuse_overdue))
        while isinstance(answer, Reading) and answer.is_early:
            with ExitStack() as failed:
                failed.callback(self._child.kill)  # else the next question would get the rest as its answer
                with suppress(NodeError, OSError):
                    on_early(answer)
                failed.pop_all()
            on_early = nothing_early
            answer = answer_in(channel.receive(refuse_overdue))
        return answer

    def _refuse_overdue(self, subject: str, limit_s: float, deadline: float) -> None:
        """Return while the process is within its limits.

        Raises: ReaderTimeout, ReaderDied.
        """
        if time.monotonic() > deadline:
            source, remedy = "the limit before a study", "the handler starts too slowly: see its maker"
            if limit_s == self._limits.time_limit_s:
                source = "[reader] time_limit_s"
                remedy = "raise the limit, or keep such studies out by a condition of the route"
            raise ReaderTimeout(f"{subject}: {self._name} was killed after {limit_s:g} s ({source}); {remedy}")
        limit_bytes = self._limits.memory_limit_bytes
        if self._child.exceeds(limit_bytes):
            raise ReaderTooLarge(
                f"{subject}: {self._name} was killed above {limit_bytes} bytes ([reader] memory_limit_bytes), the "
                "processes that it started included; raise the limit where the machine has the memory"
            )

    def _start_unless_running(self, refuse_overdue: Callable[[], None]) -> Channel:
        """Start the process unless the process runs, and return the channel to the process.

        A description may have changed since: a network in the place of a program needs a process that is confined.

        Raises: OSError; what `refuse_overdue` raises.
        """
        bounds = bounds_of(self._name, self._limits, self._environment.models)
        opening = Opening(self._name, self._environment, bounds)
        if opening == self._opening and (channel := self._child.channel):
            return channel
        channel, self._opening = self._child.start(), opening
        channel.send(opening, refuse_overdue)
        return channel

    def state(self) -> ReaderState:
        """Return what the process does; nobody waits for it."""
        memory_bytes = self._child.memory_bytes(self._limits.memory_limit_bytes)
        return ReaderState(self._name, self._subject, time.monotonic() - self._used_at, memory_bytes)

    def kill_if_unused(self) -> None:
        """Kill the process if the process has answered nothing for `idle_s`; a process that reads goes on."""
        if self._lock.acquire(blocking=False):
            try:
                if self._child.is_started and time.monotonic() - self._used_at > self._limits.idle_s:
                    self._child.kill()
            finally:
                self._lock.release()

    def kill_unless_reading(self) -> None:
        """Kill the process unless the process reads a study: then the process ends with the node.

        The next start of the node resumes the job of the study.
        """
        if self._lock.acquire(blocking=False):
            self._child.kill()
            self._lock.release()
        elif self._subject and not self._subject.startswith(_STUDY):
            self._child.end()
