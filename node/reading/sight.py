"""What this process may see and do of a program that runs as nobody, where this process is root.

Root without CAP_SYS_PTRACE, as in a container of docker or podman, sees no open files or memory of other users'
processes in /proc: it is shown what their own user is shown (ptrace(2), PTRACE_MODE_READ_FSCREDS).
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from ainode.node.errors import ConfigError
from ainode.node.reading.workplace import NOBODY

_Seen = TypeVar("_Seen")
_STATUS: Final = Path("/proc/self/status")
# linux/capability.h: to become nobody, give it folders, end its processes, count and remove its files.
_NEEDED: Final = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}


def visible(look: Callable[[], _Seen]) -> _Seen:
    """Return what a look into /proc gives; where root is refused, what nobody is shown.

    Raises: what `look` raises.
    """
    try:
        return look()
    except PermissionError:
        if os.geteuid():
            raise
    with _as_nobody():
        return look()


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Have this thread, and no other, look at files as nobody (setfsuid(2))."""
    library = ctypes.CDLL(None)
    library.setfsgid(NOBODY)
    library.setfsuid(NOBODY)
    try:
        yield
    finally:
        library.setfsuid(0)
        library.setfsgid(0)


def refuse_powerless_root() -> None:
    """Return if this process can start a program as nobody, and end it; another user runs programs as itself.

    Raises: ConfigError that names the capabilities that root lacks, and what to do.
    """
    if os.geteuid() == 0 and (lacking := lacking_capabilities(_STATUS.read_text(encoding="ascii"))):
        raise ConfigError(
            f"the node is root without {', '.join(lacking)}, and cannot run a program as nobody, count what it writes "
            "and end it; give the node these capabilities (cap_add of its container), or run it as a user of its own"
        )


def lacking_capabilities(status: str) -> tuple[str, ...]:
    """Return what is needed and not in force, by the text of /proc/self/status (proc(5), CapEff)."""
    line = next((line for line in status.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    effective = int(line.split()[1], 16)
    return tuple(name for name, number in _NEEDED.items() if not effective >> number & 1)
