"""The wait of a test for what it is about."""

import time
from collections.abc import Callable


def until(true: Callable[[], object], *, within_s: float = 120, shown: Callable[[], object] = str) -> None:
    """Wait until something holds; a wait in vain fails the test, with what `shown` returns."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, shown()
        time.sleep(0.02)
