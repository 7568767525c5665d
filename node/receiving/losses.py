"""Receivers that ended by themselves: why, how often in a row, and when another takes the place. Pure."""

import signal
from dataclasses import dataclass
from typing import Final

from ainode.node.domain.pauses import back_off_s

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0
# The end of a receiver that served for so long has nothing to do with the one before.
_SOUND_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Loss:
    """The last end of a receiver; times are of the monotonic clock, which a program shares with the one before."""

    number: int
    """which of the receivers it was, from 0"""
    reason: str
    """how it ended, in words that follow its name"""
    at_s: float
    count: int = 1
    """how often in a row"""

    @property
    def due_s(self) -> float:
        """Return when another is started."""
        return self.at_s + back_off_s(self.count - 1, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)

    def next(self, reason: str, now_s: float) -> "Loss":
        """Return the loss of the receiver that was started after this one."""
        count = self.count + 1 if now_s - self.due_s < _SOUND_S else 1
        return Loss(self.number, reason, now_s, count)

    def sentence(self, receivers: int, now_s: float, *, is_served: bool) -> str:
        """Return what happened, and what becomes of callers, whom others serve or nobody; of so many `receivers`."""
        times = f", {self.count} times in a row" if self.count > 1 else ""
        pause_s = max(self.due_s - now_s, 0.0)
        return (
            f"receiver {self.number + 1} of {receivers} {self.reason}{times}; "
            f"another starts in {pause_s:.0f} s, {'others serve callers' if is_served else 'callers wait'} meanwhile"
        )


def ending_of(status: int) -> str:
    """Return how a process ended, in words that follow its name; a negative status is that of a signal."""
    if status >= 0:
        return f"ended with exit status {status} (its last lines in the log say why)"
    remedy = "; see whether the machine was short of memory" if -status == signal.SIGKILL else ""
    return f"was killed by signal {-status} ({signal.strsignal(-status)}{remedy})"
