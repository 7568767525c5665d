"""The memory of the C library: what the threads of the node have used once goes back to the system.

Each thread has a heap of its own in glibc, which keeps what a study's documents took: with a dozen threads, 150 MB.
"""

import ctypes
from contextlib import suppress
from typing import Final

# malloc.h of glibc
_M_ARENA_MAX: Final = -8
_HEAPS: Final = 2


def share_heaps() -> None:
    """Let all threads that start from now on share two heaps; a C library without this choice has its own way."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _HEAPS)


def give_back() -> None:
    """Give memory that is not used back to the system; takes about a millisecond."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
