"""The tables of the durable engine, made by a process of its own that can be killed between two statements."""

import itertools
import os
import signal

import sqlalchemy as sa
from dbos import DBOS

from support.processes import is_killed

NEVER = 0


def made(url: str, *, killed_after: int = NEVER) -> bool:
    """Let a process make the tables; return whether the process came to its end before it was killed."""
    return not is_killed(_make, url, killed_after)


def _make(url: str, killed_after: int) -> None:
    numbers = itertools.count(1)

    def kill(*_: object) -> None:
        if next(numbers) == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "after_cursor_execute", kill)
    DBOS(
        config={"name": "ainode", "system_database_url": url, "use_listen_notify": False, "log_level": "ERROR"},
    )
    DBOS.launch()
    DBOS.destroy(workflow_completion_timeout_sec=0)
    os._exit(0)
