"""The processes that descend from a reader, as /proc lists them: measured together, and killed together.

The reader adopts every orphan below it (prctl(2), PR_SET_CHILD_SUBREAPER), so a process that left the group and the
session of the reader is below the reader still. A mark in the environment tells the family where the reader is gone.
"""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from ainode.node.reading.sight import visible

# linux/prctl.h
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
MARK: Final = "READER_FAMILY"
"""the environment variable that every process of a family inherits"""
_PROC: Final = Path("/proc")
# proc(5), field 3 of stat: stopped, ended, or waiting in the kernel, as one does whose new process is stopped.
_STANDING: Final = frozenset((b"T", b"t", b"Z", b"X", b"D", b""))
_STANDSTILL_S: Final = 5.0


class Family:
    """A reader and every process below the reader."""

    def __init__(self, reader: int, mark: str) -> None:
        """Keep the number of the reader: it belongs to the reader until somebody collects the reader's exit code."""
        self._reader, self._mark = reader, mark
        self._start_times: dict[int, bytes] = {}

    def memory_bytes(self, limit_bytes: int, *, is_reader_counted: bool = True) -> int:
        """Return the memory of all, exact where it is near the limit: there a shared page counts once."""
        processes = [self._reader, *descendants(self._reader)]
        # Of a reader that ends by itself, the members that took another environment are known from here alone.
        start_times = {process: _start_time(process) for process in processes[1:]}
        self._start_times = {process: self._start_times[process] for process in self._known()} | start_times
        counted = processes if is_reader_counted else processes[1:]
        resident = sum(map(_resident_bytes, counted))
        if resident <= limit_bytes or len(processes) == 1:
            return resident
        return sum(map(_proportional_bytes, counted))

    def kill(self) -> None:
        """Kill all."""
        _kill_whole(lambda: [self._reader, *self._known(), *marked(self._mark)])
        os.killpg(self._reader, signal.SIGKILL)

    def _known(self) -> list[int]:
        """Return the members that were measured and run still: a number may belong to another process by now."""
        return [process for process, start in self._start_times.items() if _start_time(process) == start]


def adopt_orphans() -> None:
    """Have every orphan below this process become its child, whatever session, environment or name the orphan took."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def adopts_orphans() -> bool:
    """Return whether orphans below this process become its children."""
    answer = ctypes.c_int()
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer))
    return bool(answer.value)


def has_ended(child: int) -> bool:
    """Return whether a child of this process has ended, and do not collect its exit code.

    Until the code is collected, the number of the child and of its group belongs to nobody else.
    """
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def descendants(process: int) -> list[int]:
    """Return every process below a process."""
    processes = _children(process)
    for descendant in processes:  # grows on the way
        processes += _children(descendant)
    return processes


def _kill_whole(roots: Callable[[], Iterable[int]]) -> set[int]:
    """Kill processes and all below them, and return their numbers.

    They are stopped first, until all stand still: one that runs could start another meanwhile, and one that ends
    leaves its children to a process that is none of them.
    """
    gives_up_at = time.monotonic() + _STANDSTILL_S
    standing: set[int] = set()
    while True:
        processes = {process for root in roots() for process in (root, *descendants(root))}
        running = {process for process in processes if _state(process) not in _STANDING}
        for process in running:
            _signal(process, signal.SIGSTOP)
        if processes <= standing or time.monotonic() > gives_up_at:
            break
        standing = set() if running else processes
    for process in processes:
        _signal(process, signal.SIGKILL)
    return processes


def _children(process: int) -> list[int]:
    """Return the children of all threads of a process, none if the process has ended."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in (_PROC / str(process) / "task").iterdir():
            with contextlib.suppress(OSError):
                children += map(int, (thread / "children").read_bytes().split())
    return children


def _start_time(process: int) -> bytes:
    """Return the start of a process in ticks since the boot, b'' if the process has ended."""
    return _stat_field(process, 22)


def _state(process: int) -> bytes:
    """Return the letter of what a process does, b'' if the process has ended."""
    return _stat_field(process, 3)


def _stat_field(process: int, number: int) -> bytes:
    """Return a field of a process's status by its number in proc(5), from 3 on; b'' if the process has ended."""
    try:
        return (_PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()[number - 3]
    except OSError:
        return b""


def _resident_bytes(process: int) -> int:
    """Return the resident memory of a process, 0 if the process has ended."""
    try:
        pages = int((_PROC / str(process) / "statm").read_bytes().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _proportional_bytes(process: int) -> int:
    """Return the memory of a process, of a page that several processes share its part; 0 if the process has ended.

    What may not be seen counts whole.
    """
    file = _PROC / str(process) / "smaps_rollup"
    try:
        lines = visible(file.read_bytes).splitlines()
    except PermissionError:
        return _resident_bytes(process)
    except OSError:
        return 0
    return _stated_bytes(lines, b"Pss:")


def peak_bytes(mark: str) -> int:
    """Return the peaks of memory (proc(5), VmHWM) of the running processes whose mark begins so, added up."""
    return sum(_bytes_in(_PROC / str(process) / "status", b"VmHWM:") for process in marked(mark))


def _bytes_in(file: Path, name: bytes) -> int:
    """Return the KiB that a file of /proc states behind a name, in bytes; 0 if the process has ended."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return 0
    return _stated_bytes(lines, name)


def _stated_bytes(lines: Iterable[bytes], name: bytes) -> int:
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def kill_marked(mark: str) -> int:
    """Kill every process whose mark begins so, and all below them; return how many there were."""
    return len(_kill_whole(lambda: marked(mark)))


def marked(mark: str) -> Iterator[int]:
    """Yield every process of this user whose mark begins so."""
    entry = b"\0" + f"{MARK}={mark}".encode()
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if entry in b"\0" + visible((folder / "environ").read_bytes):
                    yield int(folder.name)


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)
