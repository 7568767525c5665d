"""The processes that descend from a reader, as /proc lists them: measured together, and killed together.

The reader adopts every orphan below it (prctl(2), PR_SET_CHILD_SUBREAPER), so a process that left the group and the
session of the reader is below the reader still. A mark in the environment tells the family where the reader is gone.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MARK: Final = "READER_FAMILY"
"""the environment variable that every process of a family inherits"""
_PROC: Final = Path("/proc")


class Family:
    """A reader and every process below the reader."""

    def __init__(self, reader: int, mark: str) -> None:
        """Keep the number of the reader: it belongs to the reader until somebody collects the reader's exit code."""
        self._reader, self._mark = reader, mark
        self._start_times: dict[int, bytes] = {}

    def memory_bytes(self, limit_bytes: int) -> int:
        """Return the memory of all, exact where it is near the limit: there a shared page counts once."""
        processes = self._members()
        # Of a reader that ends by itself, the members that took another environment are known from here alone.
        self._start_times = {process: _start_time(process) for process in processes[1:]}
        resident = sum(map(_resident_bytes, processes))
        if resident <= limit_bytes or len(processes) == 1:
            return resident
        return sum(map(_proportional_bytes, processes))

    def kill(self) -> None:
        """Kill all."""
        _signal(self._reader, signal.SIGSTOP)  # a reader that runs could start another process meanwhile
        killed = {self._reader}
        for process, start_time in self._start_times.items():
            if _start_time(process) == start_time:  # the number may belong to another process by now
                _signal(process, signal.SIGKILL)
        while processes := {*self._members(), *marked(self._mark)} - killed:
            for process in processes:
                _signal(process, signal.SIGKILL)
            killed |= processes
        os.killpg(self._reader, signal.SIGKILL)

    def _members(self) -> list[int]:
        processes = [self._reader]
        for process in processes:  # grows on the way
            processes += _children(process)
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
    """Return the start of a process in ticks since the boot (proc(5), field 22), b'' if the process has ended."""
    try:
        return (_PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()[19]
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
    """Return the memory of a process, of a page that several processes share its part; 0 if the process has ended."""
    try:
        lines = (_PROC / str(process) / "smaps_rollup").read_bytes().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:")), 0)


def kill_marked(mark: str) -> int:
    """Kill every process whose mark begins so, and return how many there were."""
    killed: set[int] = set()
    while processes := set(marked(mark)) - killed:
        for process in processes:
            _signal(process, signal.SIGKILL)
        killed |= processes
    return len(killed)


def marked(mark: str) -> Iterator[int]:
    """Yield every process of this user whose mark begins so."""
    entry = b"\0" + f"{MARK}={mark}".encode()
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if entry in b"\0" + (folder / "environ").read_bytes():
                    yield int(folder.name)


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)
