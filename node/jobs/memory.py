"""The memory of the C library: what the threads of the node have used once goes back to the system.

Each thread has a heap of its own in glibc, which keeps what a study's documents took: with a dozen threads, 150 MB. And
glibc puts large pieces among the small ones once a large piece was freed: what six connections of a browser download
left 18 MB of holes.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

# malloc.h of glibc
_M_ARENA_MAX: Final = -8
_M_MMAP_THRESHOLD: Final = -3
_HEAPS: Final = 2
# What glibc begins with, and raises to 32 MB unless the threshold is set (mallopt(3)).
_LARGE_BYTES: Final = 128 * 1024


def bound_heaps() -> None:
    """Let all threads that start from now on share two heaps, and large pieces lie outside of the heaps.

    A C library without these choices has its own way.
    """
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, _HEAPS)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


@contextmanager
def without_collections() -> Iterator[None]:
    """Let a start import its packages while no garbage is looked for; later looks leave out what is there by then.

    What a start imports stays, and Python looked at it again and again: a fifth of the import of `ainode.node.app`.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def give_back() -> None:
    """Give memory that is not used back to the system; takes about a millisecond."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
