"""A log of strangers' doings, which a stranger cannot flood."""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

_WINDOW_S: Final = 10.0
# Beyond so many addresses at once, the lines of all further ones are counted together.
_MAX_KEYS: Final = 1000
_OTHERS: Final = "(other addresses)"


@dataclass(slots=True)
class _Window:
    """The lines of one kind and address since the last line that was written."""

    level: int
    begin_s: float
    left: int
    """lines that may yet be written"""
    more: int = 0


class SparseLog:
    """Writes the first lines of a kind and address, and every ten seconds how many more there were; thread-safe."""

    def __init__(self, log: logging.Logger, *, first_lines: int = 1) -> None:
        """Write so many lines of a kind and address in ten seconds."""
        self._log, self._first_lines = log, first_lines
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, str, str], _Window] = {}

    def write(self, level: int, text: str, *, action: str, address: str, reason: str = "", **fields: str) -> bool:
        """Write or count a line, and return whether it was written; `reason` is no text of the caller."""
        with self._lock:
            key = action, address, reason
            if key not in self._windows and len(self._windows) >= _MAX_KEYS:
                key = action, _OTHERS, ""
            window = self._windows.setdefault(key, _Window(level, time.monotonic(), self._first_lines))
            if not window.left:
                window.more += 1
                return False
            window.left -= 1
        self._log.log(level, "%s", text, extra={"action": action, "address": address} | fields)
        return True

    def flush(self) -> None:
        """Write the counts of the windows that are over."""
        now_s = time.monotonic()
        with self._lock:
            over = {key: window for key, window in self._windows.items() if now_s - window.begin_s >= _WINDOW_S}
            for key, window in over.items():
                del self._windows[key]
                if window.more:
                    self._windows[key] = _Window(window.level, now_s, 0)
        for (action, address, reason), window in over.items():
            if window.more:
                extra = {"action": action, "address": address}
                text = "%d more in %.0f s%s"
                self._log.log(
                    window.level, text, window.more, now_s - window.begin_s, reason and f": {reason}", extra=extra
                )
