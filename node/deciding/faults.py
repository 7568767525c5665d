"""Which faults are of the machine, so that waiting mends them; the boundary around a file, an event, a route."""

import errno
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy.exc import TimeoutError as NoConnection

from ainode.node.errors import DatabaseUnavailable, NodeError, OutOfResources

T = TypeVar("T")
# No descriptors, memory or room, or a disk that was made read-only: whatever is tried next fails by the same.
_OF_THE_MACHINE: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EROFS}
)
# A disk behind a network that is away for a moment answers so, and so does a bad sector, which stays bad.
_OF_THE_DISK: Final = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENODEV}
)


def passes(error: Exception) -> bool:
    """Return whether the fault is of the machine: the same is tried again, and nothing else is tried before."""
    if isinstance(error, OSError):
        return error.errno in _OF_THE_MACHINE
    return isinstance(error, DatabaseUnavailable | OutOfResources | NoConnection | MemoryError)


def may_pass(error: Exception) -> bool:
    """Return whether a disk could not read a file, and might after a while."""
    return isinstance(error, OSError) and error.errno in _OF_THE_DISK


def reason_of(error: Exception) -> str:
    """Return why something failed, without a word of a library, which may hold the value of a header."""
    if isinstance(error, NodeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}, see the log"


def attempt(action: Callable[[], T], on_fault: Callable[[Exception], None]) -> T | None:
    """Return what the action returns; give what it raises to `on_fault` and return None: only this action is lost.

    Raises: a fault that waiting mends.
    """
    try:
        return action()
    except Exception as error:
        if passes(error):
            raise
        on_fault(error)
        return None
