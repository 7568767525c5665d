"""What a site's program may take, and the watch over one that runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ainode.node.errors import HandlerError
from ainode.node.reading.workplace import Workplace

_PATIENCE_S: Final = 0.1
_DISK_PATIENCE_S: Final = 0.5
_HINT: Final = (
    "`ainode read` and `ainode model test` show on the terminal what it printed last; where the node is root the "
    "program runs as nobody, who must be able to read its interpreter and packages"
)


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """The limits of one run; the memory is that of the program and all that it starts."""

    time_s: float = 300.0
    memory_bytes: int = 4 << 30
    disk_bytes: int = 2 << 30
    processes: int = 64
    """threads included"""
    cores: int = 0
    """0: all"""


def watch(
    has_ended: Callable[[], bool],
    place: Workplace,
    limits: ProgramLimits,
    memory_bytes: Callable[[], int],
    removed_bytes: Callable[[], int] = lambda: 0,
) -> None:
    """Return once a program that runs has ended; files that it removed and holds are written, too.

    Raises: HandlerError at a limit; the caller ends the program.
    """
    began = measured_at = time.monotonic()
    given_bytes = place.input_bytes()
    while not has_ended():
        now = time.monotonic()
        if now - began > limits.time_s:
            raise HandlerError(f"the program was ended after {limits.time_s:g} s ([program] time_limit_s)")
        if memory_bytes() > limits.memory_bytes:
            raise HandlerError(f"the program was ended above {limits.memory_bytes} bytes ([program] memory_bytes)")
        if now - measured_at > _DISK_PATIENCE_S:
            _refuse_full(place, given_bytes, limits, removed_bytes())
            measured_at = time.monotonic()
        time.sleep(_PATIENCE_S)
    _refuse_full(place, given_bytes, limits, 0)


def refuse_failure(code: int) -> None:
    """Return if a program ended well.

    Raises: HandlerError that says how the program ended.
    """
    if code < 0:
        raise HandlerError(f"the program was ended by signal {-code}; {_HINT}")
    if code:
        raise HandlerError(f"the program ended with code {code}; {_HINT}")


def _refuse_full(place: Workplace, given_bytes: int, limits: ProgramLimits, removed_bytes: int) -> None:
    if place.used_bytes() + removed_bytes + max(0, place.input_bytes() - given_bytes) > limits.disk_bytes:
        raise HandlerError(
            f"the program was ended: it wrote more than {limits.disk_bytes} bytes ([program] disk_bytes)"
        )
