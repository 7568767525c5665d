"""The side of a child process: it ends with the node, is the kernel's first victim, and lets no library print."""

import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Iterator
from io import BufferedRWPair
from pathlib import Path
from typing import Final, TextIO

from ainode.node.reading.family import adopt_orphans

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
# proc(5): the kernel without memory kills this process and its children first, and not the node.
_FIRST_VICTIM: Final = "1000"
_STDOUT: Final = 1
_STDERR: Final = 2


@contextlib.contextmanager
def channel_of(descriptor: int) -> Iterator[BufferedRWPair]:
    """Yield the channel to the node on an inherited socket."""
    library = ctypes.CDLL(None, use_errno=True)
    # Linux ends this process when the thread that started it ends, however it ends.
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    adopt_orphans()  # so that the node finds them
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_VICTIM, encoding="ascii")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as end, end.makefile("rwb") as file:
        end.set_inheritable(False)
        yield file


def log_stream() -> TextIO:
    """Return standard error for the log alone; what a handler or a library prints goes nowhere.

    A printed line may hold the value of a header. Libraries in C write to the descriptors, so these are replaced.
    """
    stream = os.fdopen(os.dup(_STDERR), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    with Path(os.devnull).open("wb") as nothing:
        for descriptor in (_STDOUT, _STDERR):
            os.dup2(nothing.fileno(), descriptor)
    return stream
