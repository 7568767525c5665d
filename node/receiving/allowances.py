"""What one caller may send a minute: beyond that the receiver reads more slowly, so that nothing is refused or lost."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_MINUTE_S: Final = 60.0
# Beyond so many callers, those that have sent nothing for a minute are forgotten.
_MAX_CALLERS: Final = 1000


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """The limits of each caller; a rate of 0 is no limit."""

    max_associations: int
    max_instances_per_minute: int = 0
    max_bytes_per_minute: int = 0


class _Bucket:
    """A minute's amount, which refills steadily; who has spent it all waits for what the next amount needs."""

    def __init__(self, per_minute: int) -> None:
        """Begin with a full bucket; 0 per minute is no limit."""
        self._per_minute = per_minute
        self._left = float(per_minute)
        self._time_s = time.monotonic()

    def spend(self, amount: int, now_s: float) -> float:
        """Take an amount out, and return how many seconds to wait before more is spent."""
        if not self._per_minute:
            return 0.0
        refill = (now_s - self._time_s) * self._per_minute / _MINUTE_S
        self._left, self._time_s = min(self._left + refill, self._per_minute) - amount, now_s
        return max(-self._left * _MINUTE_S / self._per_minute, 0.0)


class Allowance:
    """The allowance of one caller, which all associations of the caller share."""

    def __init__(self, limits: CallerLimits, wait: Callable[[float], object]) -> None:
        """Begin with a whole minute's allowance; `wait` waits for some seconds."""
        self._wait, self._lock = wait, threading.Lock()
        self._instances = _Bucket(limits.max_instances_per_minute)
        self._bytes = _Bucket(limits.max_bytes_per_minute)
        self.spent_s = time.monotonic()
        """when the caller last sent something"""

    def paced(self, fragments: Iterator[memoryview]) -> Iterator[memoryview]:
        """Yield the fragments of an instance, each after the wait for the instance and for the fragments before."""
        self._spend(self._instances, 1)
        for fragment in fragments:
            yield fragment
            self._spend(self._bytes, len(fragment))

    def _spend(self, bucket: _Bucket, amount: int) -> None:
        with self._lock:
            self.spent_s = time.monotonic()
            pause_s = bucket.spend(amount, self.spent_s)
        if pause_s:
            self._wait(pause_s)


class Allowances:
    """The allowances of all callers; several threads call."""

    def __init__(self, wait: Callable[[float], object]) -> None:
        """Begin without a caller."""
        self._wait, self._lock = wait, threading.Lock()
        self._allowances: dict[str, Allowance] = {}

    def of_caller(self, caller: str, limits: CallerLimits) -> Allowance | None:
        """Return the allowance of a caller, None for a caller who may send as fast as the caller can."""
        if not (limits.max_instances_per_minute or limits.max_bytes_per_minute):
            return None
        with self._lock:
            if caller not in self._allowances:
                self._forget_idle()
                self._allowances[caller] = Allowance(limits, self._wait)
            return self._allowances[caller]

    def _forget_idle(self) -> None:
        if len(self._allowances) >= _MAX_CALLERS:
            earliest_s = time.monotonic() - _MINUTE_S
            self._allowances = {
                caller: allowance for caller, allowance in self._allowances.items() if allowance.spent_s > earliest_s
            }
