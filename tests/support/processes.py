"""Functions that run in processes of their own, which may be killed."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable

import pytest

# The modules with the functions, and what a function imports only when it runs: once for all processes.
_PRELOADED = [
    *("support.engine_tables", "support.killed", "support.migrations"),
    *("alembic.autogenerate", "dbos", "pydantic_settings", "pydicom", "sqlalchemy.dialects.sqlite"),
]


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
