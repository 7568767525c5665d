"""The pulse of the receiver, and what it has counted: memory that the receiver's threads write and the node reads.

Neither goes through the pipe of the events, because the pipe is full while the intake is behind.
"""

import mmap
import os
import struct
import threading
import time
from collections.abc import Mapping
from typing import Final, Self

from ainode.node.receiving.pdu import Rejection

_BEAT: Final = struct.Struct("=di")
_COUNT: Final = struct.Struct("=Q")
_COUNTS_AT: Final = 16
STATUSES: Final = ("0000", "A700", "A900", "C000")
"""the C-STORE statuses that the node answers, in hexadecimal; any other is counted as `OTHER`"""
OTHER: Final = "other"
ACCEPTED: Final = "accepted"
ENDED: Final = "ended"
COUNTED: Final = (ACCEPTED, ENDED, *(reason.name for reason in Rejection), *STATUSES, OTHER)
"""associations accepted and ended, associations rejected by reason, answers to C-STORE by status"""
_SIZE: Final = _COUNTS_AT + _COUNT.size * len(COUNTED)
# A child that starts on a busy machine gets so long until its first beat.
_START_S: Final = 30.0


class Pulse:
    """The time of the last beat, the errno of what the accepting thread lacks, and counts since the start."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory that `create` made, maybe in another process."""
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._lock = threading.Lock()

    @classmethod
    def create(cls) -> Self:
        """Return a pulse whose age grows once the receiver had time to start."""
        descriptor = os.memfd_create("pulse")
        os.ftruncate(descriptor, _SIZE)
        pulse = cls(descriptor)
        pulse.await_start()
        return pulse

    def await_start(self) -> None:
        """Let the age grow once a receiver that starts now had time to start."""
        _BEAT.pack_into(self._memory, 0, time.monotonic() + _START_S, 0)

    def beat(self, shortage: int) -> None:
        """Note that the thread runs, and the errno of what the thread lacks, or 0."""
        _BEAT.pack_into(self._memory, 0, time.monotonic(), shortage)

    def age_s(self) -> float:
        """Return the seconds since the last beat; the clock is the same in both processes."""
        return max(time.monotonic() - float(_BEAT.unpack_from(self._memory)[0]), 0.0)

    def shortage(self) -> int:
        """Return the errno of what the thread lacked at the last beat, or 0."""
        return int(_BEAT.unpack_from(self._memory)[1])

    def count(self, name: str) -> None:
        """Count one more of what `COUNTED` names; several threads of one process may call."""
        offset = _COUNTS_AT + _COUNT.size * COUNTED.index(name)
        with self._lock:
            _COUNT.pack_into(self._memory, offset, _COUNT.unpack_from(self._memory, offset)[0] + 1)

    def counts(self) -> Mapping[str, int]:
        """Return how many of each were counted since the receiver started."""
        numbers = _COUNT.iter_unpack(self._memory[_COUNTS_AT:_SIZE])
        return dict(zip(COUNTED, (number for (number,) in numbers), strict=True))

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.descriptor)
