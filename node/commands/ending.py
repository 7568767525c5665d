"""The end of `serve` and of `worker`: in time, whatever hangs, and as in a crash."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Final, NoReturn

log = logging.getLogger(__name__)
_GRACE_S: Final = 15.0
"""With the default of `[node] stop_limit_s` less than the 30 s after which systemd and the compose files kill."""


def end_process(stop: Callable[[float], None], limit_s: float, *, is_requested: bool) -> NoReturn:
    """Stop a node or worker and end the process; its status is 0 if somebody asked for the end, else 1.

    Deliveries under way have `limit_s` if somebody asked. A station that is not done a while after that, because the
    database is away or an archive answers nothing, is left behind: the next start takes up what is unfinished, as it
    does after a kill.
    """
    limit_s, status = (limit_s, 0) if is_requested else (0.0, 1)
    overdue = threading.Timer(limit_s + _GRACE_S, _end_overdue, (limit_s + _GRACE_S, status))
    overdue.daemon = True
    overdue.start()
    stop(limit_s)
    # Exit as in a crash: the next start reads an unfinished study again. The node neither waits for the reading nor
    # fails the job because the reader was stopped.
    logging.shutdown()
    os._exit(status)


def _end_overdue(after_s: float, status: int) -> NoReturn:
    log.error(
        "not stopped after %.0f s, as when the database is away: the process ends, the next start takes up the rest",
        after_s,
        extra={"action": "stop_overdue"},
    )
    logging.shutdown()
    os._exit(status)
