"""The process that holds a model: a request starts the process, and a limit kills the process.

Everything that a hostile study could crash (decoding, the network, encoding) happens in this process.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from ainode.node import errors
from ainode.node.domain import Reading, Request
from ainode.node.errors import HandlerError, NodeError, ReaderDied, ReaderTimeout
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.settings import ReaderTable

log = logging.getLogger(__name__)
_POLL_S = 0.2
# linux/prctl.h
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error on the way through the pipe: the name of the class, so that the node raises only classes of its own."""

    kind: str
    message: str
    traceback: str


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent ends, however it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _serve(connection: Connection, name: str, environment: ModelEnvironment) -> None:
    """Run in the process of the model: answer requests until the pipe closes."""
    # The imports stand in the function, so that the node itself loads no networks and no encoders.
    from pydicom import config  # noqa: PLC0415

    from ainode.node import logs  # noqa: PLC0415
    from ainode.node.reading.loaded_handler import LoadedHandler  # noqa: PLC0415

    logs.configure()

    # pydicom's validation repeats the value in its warning; a log may hold no patient attribute.
    config.settings.reading_validation_mode = config.IGNORE
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    handler = LoadedHandler(name, environment)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            connection.send(handler.read(request))
        except NodeError as error:
            connection.send(_Failure(type(error).__name__, str(error), ""))
        except ModuleNotFoundError as error:
            text = f"{name}: package {error.name} is missing; pip install 'ainode[models,detect]', then `ainode retry`"
            connection.send(_Failure(HandlerError.__name__, text, ""))
        except Exception as error:  # noqa: BLE001 - the job boundary: whatever a study provokes ends that job only
            text = f"study {request.study_instance_uid}: {type(error).__name__} while reading; see the log"
            # The log gets no message of the error: a library may have put a value of a header into the message.
            stack = "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
            connection.send(_Failure(HandlerError.__name__, text, stack))


def _error_of(failure: _Failure) -> NodeError:
    """Return the error to raise for a failure; an unexpected failure is logged with its traceback."""
    if failure.traceback:
        log.error("%s\n%s", failure.message, failure.traceback, extra={"action": "handler_failed"})
    kind = getattr(errors, failure.kind, HandlerError)
    return kind(failure.message)


def _resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 if the process has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Reader:
    """The process of one handler; the process reads one study at a time."""

    def __init__(self, name: str, environment: ModelEnvironment, limits: ReaderTable) -> None:
        self._name = name
        self._environment = environment
        self._limits = limits
        self._lock = threading.Lock()
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._used_at = time.monotonic()

    def read(self, request: Request) -> Reading:
        """Return the handler's reading of the study; wait while the process reads another study.

        Raises: ReaderTimeout at the time limit, ReaderDied if the process ended or at the memory limit: the job is
        tried again. A NodeError of the handler; HandlerError for any other error of the handler.
        """
        with self._lock:
            pipe = self._start_unless_running()
            try:
                pipe.send(request)
                answer = self._answer(pipe, request)
            except (EOFError, OSError) as error:
                code = self._kill()
                raise ReaderDied(
                    f"study {request.study_instance_uid}: the reader of {self._name} ended with code {code}"
                ) from error
            finally:
                self._used_at = time.monotonic()
        if isinstance(answer, _Failure):
            raise _error_of(answer)
        return answer

    def _answer(self, pipe: Connection, request: Request) -> Reading | _Failure:
        """Wait for the answer to the request; kill the process at a limit.

        Raises: ReaderTimeout, ReaderDied at a limit; EOFError, OSError if the process ended.
        """
        deadline = time.monotonic() + self._limits.time_limit_s
        while not pipe.poll(_POLL_S):
            if time.monotonic() > deadline:
                self._kill()
                raise ReaderTimeout(
                    f"study {request.study_instance_uid}: {self._name} was killed after "
                    f"{self._limits.time_limit_s:g} s ([reader] time_limit_s)"
                )
            if self._process and _resident_bytes(self._process.pid or 0) > self._limits.memory_limit_bytes:
                self._kill()
                raise ReaderDied(
                    f"study {request.study_instance_uid}: {self._name} was killed above "
                    f"{self._limits.memory_limit_bytes} bytes ([reader] memory_limit_bytes)"
                )
        return pipe.recv()  # type: ignore[no-any-return]

    def _start_unless_running(self) -> Connection:
        """Start the process unless the process runs, and return the pipe to the process."""
        if self._pipe is None or self._process is None or not self._process.is_alive():
            self._kill()
            context = multiprocessing.get_context("spawn")
            self._pipe, child = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(child, self._name, self._environment), name=f"ainode-{self._name}", daemon=True
            )
            self._process.start()
            child.close()
        return self._pipe

    def _kill(self) -> int | None:
        """Kill the process and return its exit code, None if no process was started."""
        if self._process is None:
            return None
        if self._pipe:
            self._pipe.close()
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        self._process = self._pipe = None
        return code

    def kill_if_unused(self) -> None:
        """Kill the process if the process has read no study for `idle_s`; a process that reads goes on."""
        if self._lock.acquire(blocking=False):
            try:
                if self._process and time.monotonic() - self._used_at > self._limits.idle_s:
                    self._kill()
            finally:
                self._lock.release()

    def kill_unless_reading(self) -> None:
        """Kill the process unless the process reads a study: then the process ends with the node.

        The next start of the node resumes the job of the study.
        """
        if self._lock.acquire(blocking=False):
            self._kill()
            self._lock.release()
