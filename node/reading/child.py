"""A child process at the other end of a channel, as the node sees the child: started, measured and killed.

Linux ends the child with the node, however the node ends; `child_process.py` is the child's side.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from ainode.node.reading.channel import Channel
from ainode.node.reading.family import MARK, Family, has_ended
from ainode.node.reading.workplace import remove_left_workplaces

# The memory is measured no more often: a long answer comes in a thousand blocks.
_MEASURE_S: Final = 0.1
# A process that ignores SIGKILL waits for a disk or a device; the node goes on without it.
_DEATH_S: Final = 10.0
_START: Final = "import sys; sys.path[:] = sys.argv[2:]; from {} import serve; serve(int(sys.argv[1]))"


class Child:
    """A process of our own, which runs `serve` of a module; one thread at a time may use it, another may end it."""

    def __init__(self, module: str, name: str, *, mark: str = "") -> None:
        """Start no process yet; the mark of the process and of its children begins with `mark`."""
        self._module, self._mark = module, f"{mark}{secrets.token_hex(8)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._family: Family | None = None
        self._channel: Channel | None = None
        self._measured_at = time.monotonic()
        self._ending = threading.Lock()
        # Linux ends the process with the thread that started the process, so this thread lives as long as the child.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix=f"start {name}")

    @property
    def channel(self) -> Channel | None:
        """Return the channel to the process, None if no process runs."""
        return None if self._process is None or has_ended(self._process.pid) else self._channel

    @property
    def is_started(self) -> bool:
        """Return whether there is a process, be it that the process has ended by itself."""
        return self._process is not None

    def start(self) -> Channel:
        """Start the process anew, and return the channel to the process.

        Raises: OSError.
        """
        self.kill()
        end, process_end = socket.socketpair()
        self._channel = Channel(end)
        with process_end:
            self._process = self._starter.submit(_started, self._module, process_end, self._mark).result()
        self._family = Family(self._process.pid, self._mark)
        return self._channel

    def exceeds(self, limit_bytes: int) -> bool:
        """Return whether the process and its descendants take more memory; measured ten times a second at most."""
        if self._family is None or time.monotonic() - self._measured_at < _MEASURE_S:
            return False
        self._measured_at = time.monotonic()
        return self._family.memory_bytes(limit_bytes) > limit_bytes

    def memory_bytes(self, limit_bytes: int) -> int:
        """Return the memory of the process and its descendants, counted up to a limit; 0 without a process."""
        family = self._family
        return family.memory_bytes(limit_bytes) if family else 0

    def end(self) -> None:
        """End the process from another thread; the thread that uses the child finds that the process has ended."""
        with self._ending:  # until its code is collected, the number of the process belongs to nobody else
            if family := self._family:
                family.kill()

    def kill(self) -> int | None:
        """Kill the process and its descendants; return its exit code, None if no process was started."""
        if self._channel:
            self._channel.close()
        with self._ending:
            process, family = self._process, self._family
            self._process = self._family = self._channel = None
            if process is None or family is None:
                return None
            family.kill()
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(_DEATH_S)
        remove_left_workplaces()  # a reader that is killed removes none itself
        return code


def _started(module: str, end: socket.socket, mark: str) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own; whatever the process starts inherits the mark."""
    start = _START.format(module)
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-P", "-c", start, str(end.fileno()), *(path or str(Path.cwd()) for path in sys.path)],
        pass_fds=(end.fileno(),),
        stdin=subprocess.DEVNULL,
        env=os.environ | {MARK: mark},
        start_new_session=True,
    )
