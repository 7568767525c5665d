"""Functions that run in processes of their own, which may be killed, and how processes are suspended."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil
import pytest

# The modules with the functions, and what a function imports only when it runs: once for all processes.
_PRELOADED = [
    *("support.engine_tables", "support.killed", "support.migrations"),
    *("alembic.autogenerate", "dbos", "pydantic_settings", "pydicom", "sqlalchemy.dialects.sqlite"),
]
# proc(5): stopped, traced, zombie, dead.
_STOPPED: Final = frozenset("tTZX")
_STOP_S: Final = 60.0


def command_line(process: psutil.Process) -> list[str]:
    """Return the command line of a process, nothing if the process has just ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def suspend(process: psutil.Process) -> None:
    """Suspend a process; return when each of its threads stands still, which may take a moment after the signal.

    Raises: psutil.NoSuchProcess if the process has ended.
    """
    process.suspend()
    deadline = time.monotonic() + _STOP_S
    while not _thread_states(process.pid) <= _STOPPED:
        assert time.monotonic() < deadline, "a process does not stand still"
        time.sleep(0.001)


def _thread_states(pid: int) -> set[str]:
    """Return the states of the threads of a process, none where it has ended."""
    states: set[str] = set()
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
                states.add((task / "stat").read_text(encoding="utf-8").rpartition(") ")[2][0])
    return states


def exit_codes(target: Callable[..., None], *arguments: object, count: int = 1) -> list[int]:
    """Run a function of a module of `support` in `count` processes at once, and return the exit code of each.

    A server without threads starts the processes: a fork of this process could wait for ever for a lock that another
    thread of this process held.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    processes = [context.Process(target=target, args=arguments) for _ in range(count)]
    with pytest.MonkeyPatch.context() as environment:
        # The server of Python 3.11 takes no notice of the folders that it is told: it would find no module of ours.
        environment.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        for process in processes:
            process.start()
    for process in processes:
        process.join()
    return [process.exitcode or 0 for process in processes]


def is_killed(target: Callable[..., None], *arguments: object) -> bool:
    """Run a function; return whether its process was killed, or came to its end."""
    (code,) = exit_codes(target, *arguments)
    assert code in {0, -signal.SIGKILL}, f"{target.__name__} ended with code {code}"
    return code != 0
