"""How `ainode demo` ends: a signal ends it in order, and its temporary folder goes with it."""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# A reading that runs may write into the folder while it is removed.
_REMOVALS: Final = 20


class EndedBySignal(KeyboardInterrupt):
    """SIGTERM or SIGINT asked for the end; the boundary of a handler's code lets a KeyboardInterrupt pass."""

    def __init__(self, number: int) -> None:
        """Take the number of the signal."""
        super().__init__(number)
        self.number = number

    @property
    def exit_status(self) -> int:
        """Return the status of a process that a signal ended, as a shell gives it."""
        return 128 + self.number


class Ending:
    """Raises EndedBySignal in the main thread at the first signal: at once, or after what must not be cut in two."""

    def __init__(self) -> None:
        """Listen for no signal yet."""
        self._number = 0
        self._is_held = False

    @contextlib.contextmanager
    def by_signal(self) -> Iterator[None]:
        """Listen for the signals."""
        earlier = {number: signal.signal(number, self._end) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def hold(self) -> None:
        """Let a signal wait until `release`."""
        self._is_held = True

    def release(self) -> None:
        """Raise EndedBySignal if a signal waits; let the next signal raise it at once."""
        self._is_held = False
        if self._number:
            raise EndedBySignal(self._number)

    def _end(self, number: int, _: FrameType | None) -> None:
        """Raise for the first signal alone: a second signal must not cut the tidying up short."""
        is_first, self._number = not self._number, self._number or number
        if is_first and not self._is_held:
            raise EndedBySignal(number)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder, and remove it in the end."""
    folder = Path(tempfile.mkdtemp(prefix="ainode-demo-"))
    try:
        yield folder
    finally:
        for _ in range(_REMOVALS):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
