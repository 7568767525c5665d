"""The process between a reader and a site's program: it adopts what the program leaves, and ends when nothing is left.

The program's process confines itself and becomes the program; the keeper stays outside, and runs nothing of a stranger.
"""

import json
import os
import resource
import select
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ainode.node.reading import landlock, system_calls
from ainode.node.reading.confinement import devices, limit_resources
from ainode.node.reading.family import adopt_orphans, descendants
from ainode.node.reading.program_words import MOST_BYTES
from ainode.node.reading.workplace import NOBODY

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2
_PATIENCE_MS: Final = 100
_NOT_STARTED: Final = 1
MOST_WORDS: Final = 200
"""bytes of why a program could not be started"""


@dataclass(frozen=True, slots=True)
class Launch:
    """What the keeper knows of the program."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    """where the program starts"""
    writable: tuple[str, ...]
    hidden: tuple[str, ...]
    """folders of which the program reads nothing but its own: the data folder, and the workplaces"""
    memory_bytes: int
    disk_bytes: int
    processes: int
    cores: int
    is_heard: bool
    """whether somebody wants to know what the program prints"""


class _Words:
    """The end of what a program prints; without somebody who hears it, the program prints to nobody."""

    def __init__(self, *, is_heard: bool) -> None:
        self.end = b""
        self.source: int | None = None
        self.target: int | None = None
        if is_heard:
            self.source, self.target = os.pipe()

    def take(self) -> bool:
        """Take what was printed since, and return whether more may come."""
        if self.source is None or not (block := os.read(self.source, 1 << 16)):
            return False
        self.end = (self.end + block)[-MOST_BYTES:]
        return True

    def take_rest(self) -> None:
        """Take what is left, once nobody prints any more."""
        if self.source is not None:
            os.set_blocking(self.source, False)
            with suppress(BlockingIOError):
                while self.take():
                    pass


def keep() -> None:
    """Run the program of the plan on standard input, a line of JSON; write its exit code to standard output.

    Behind the code stands why the program could not be started, if so; on the next lines the end of what the program
    printed, if somebody hears it.

    The program ends at the latest with standard input. When this process ends, nothing that the program started is
    left.
    """
    adopt_orphans()
    plan = Launch(**json.loads(_line()))
    fault, fault_end = os.pipe()  # which ends where the program begins
    words = _Words(is_heard=plan.is_heard)
    program = os.fork()
    if not program:
        try:
            _become(plan, words.target)
        except OSError as error:
            os.write(fault_end, (error.strerror or type(error).__name__).encode())
        finally:
            os._exit(_NOT_STARTED)
    os.close(fault_end)
    if words.target is not None:
        os.close(words.target)
    code = _code_of(program, words)
    _end_all()
    words.take_rest()
    end = b"" if code is None else f"{code} ".encode() + os.read(fault, MOST_WORDS)
    with suppress(BrokenPipeError):
        os.write(_STDOUT, end + b"\n" + words.end)


def _line() -> bytes:
    """Return the first line of standard input, and nothing of what follows."""
    line = b""
    while not line.endswith(b"\n"):
        if not (block := os.read(_STDIN, 1 << 16)):
            sys.exit(_NOT_STARTED)
        line += block
    return line


def _code_of(program: int, words: _Words) -> int | None:
    """Return the exit code of the program, minus the signal that ended it; None once standard input has ended."""
    waiting = select.poll()
    waiting.register(os.pidfd_open(program), select.POLLIN)
    waiting.register(_STDIN, select.POLLIN)  # nothing follows the plan but its end
    if words.source is not None:
        waiting.register(words.source, select.POLLIN)
    while True:
        events = [descriptor for descriptor, _ in waiting.poll(_PATIENCE_MS)]
        if words.source in events and not words.take():
            waiting.unregister(words.source)
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == program:
                return os.waitstatus_to_exitcode(ended[1])
        if _STDIN in events:
            return None


def _end_all() -> None:
    """Kill every process below this one, until the kernel knows of none."""
    with suppress(ChildProcessError):
        while True:
            for process in descendants(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _become(plan: Launch, words: int | None) -> None:
    """Confine this process, and become the program, which prints to `words`, or to nobody."""
    os.setsid()  # a signal to its own group does not reach the keeper
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, _STDIN)
    for descriptor in (_STDOUT, _STDERR):
        os.dup2(nothing if words is None else words, descriptor)
    own = Path(plan.folder)
    readable = [*landlock.outside(*map(Path, plan.hidden)), own]
    os.chdir(own)
    os.umask(0o022)
    if plan.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: plan.cores])
    limit_resources(plan.memory_bytes, plan.disk_bytes)
    _become_nobody()
    most = _thread_count(os.geteuid()) + plan.processes
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    system_calls.gain_no_privileges()
    if landlock.version():
        landlock.restrict((*map(Path, plan.writable), *devices()), readable)
    if system_calls.is_available():
        system_calls.refuse(processes=False)
    os.execve(plan.command[0], plan.command, dict(plan.environment))  # noqa: S606 - the site's own program


def _become_nobody() -> None:
    """Give up root, if this process is root; the program of another user stays that user's."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _thread_count(user: int) -> int:
    """Return how many threads a user has: the limit of processes counts them, whoever started them."""
    count = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if folder.stat().st_uid == user:
                    count += sum(1 for _ in (folder / "task").iterdir())
    return count
