"""The pulse of the receiver: memory that its accepting thread writes and the node reads.

The pulse does not go through the pipe of the events, because the pipe is full while the intake is behind.
"""

import mmap
import os
import struct
import time
from typing import Final, Self

_BEAT: Final = struct.Struct("=di")
# A child that starts on a busy machine gets so long until its first beat.
_START_S: Final = 30.0


class Pulse:
    """The time of the last beat, and the errno of what the accepting thread lacks."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory that `create` made, maybe in another process."""
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _BEAT.size)

    @classmethod
    def create(cls) -> Self:
        """Return a pulse whose age grows once the receiver had time to start."""
        descriptor = os.memfd_create("pulse")
        os.ftruncate(descriptor, _BEAT.size)
        pulse = cls(descriptor)
        _BEAT.pack_into(pulse._memory, 0, time.monotonic() + _START_S, 0)
        return pulse

    def beat(self, shortage: int) -> None:
        """Note that the thread runs, and the errno of what the thread lacks, or 0."""
        _BEAT.pack_into(self._memory, 0, time.monotonic(), shortage)

    def age_s(self) -> float:
        """Return the seconds since the last beat; the clock is the same in both processes."""
        return max(time.monotonic() - float(_BEAT.unpack_from(self._memory)[0]), 0.0)

    def shortage(self) -> int:
        """Return the errno of what the thread lacked at the last beat, or 0."""
        return int(_BEAT.unpack_from(self._memory)[1])

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.descriptor)
