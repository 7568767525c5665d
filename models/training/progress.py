"""What a person reads while a training or an evaluation runs: lines on standard error, and a bar on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
_LINES = 10
# A person who sees nothing for longer takes a command for hung.
_SILENCE_S = 30.0


def tell(line: str) -> None:
    """Write a line on standard error, above a bar that is drawn there."""
    tqdm.write(line, file=sys.stderr)


def counted_off(items: Collection[Item], what: str) -> Iterator[Item]:
    """Yield the items: under a bar on a terminal, elsewhere with a line for each tenth that is done."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, leave=False)
        return
    tenths = 0
    for number, item in enumerate(items, start=1):
        yield item
        if number * _LINES // len(items) > tenths:
            tenths = number * _LINES // len(items)
            tell(f"{what}: {number} of {len(items)}")


@contextmanager
def heard_from(what: str, silence_s: float = _SILENCE_S, write: Callable[[str], None] | None = None) -> Iterator[None]:
    """Tell every `silence_s` seconds that something still runs, and for how long."""
    write = write or tell
    end, start_s = Event(), time.monotonic()

    def speak() -> None:
        while not end.wait(silence_s):
            write(f"{what}: goes on, {time.monotonic() - start_s:.0f} s")

    thread = Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
