"""The node's side of the process that decodes untrusted files for the console.

The first question starts the process; a limit kills the process; a hostile file costs one answer, with a reason.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from ainode.node.console.rendering.questions import (
    HeaderQuestion,
    Limits,
    PictureQuestion,
    PrintQuestion,
    Question,
    RegionsQuestion,
    SeriesQuestion,
    TextQuestion,
    ThumbnailQuestion,
    TreeQuestion,
    ValuesQuestion,
)
from ainode.node.errors import Busy, CannotRender
from ainode.node.reading.channel import Channel, NotAnAnswer
from ainode.node.reading.child import Child

log = logging.getLogger(__name__)
_PROCESS: Final = "ainode.node.console.rendering.process"
# More than the largest slice and the longest header; the length of an answer is the word of the other process.
_MOST_BYTES: Final = 64 << 20
_ANSWER: Final = b"+"
_BUSY: Final = "the process that decodes pictures is busy; try again in a moment"
LONGEST_SIDE: Final = 2048
"""a larger frame comes reduced by a whole factor: no screen shows more"""
_THUMBNAIL_SIDE: Final = 160
# Each waiting question holds a thread that other pages need.
_MOST_WAITING: Final = 16


class Rendering:
    """Asks the process one question at a time; every method may raise CannotRender, with words for a page."""

    def __init__(self, limits: Limits | None = None) -> None:
        """Start no process yet."""
        self._limits = limits or Limits()
        self._child = Child(_PROCESS, "rendering")
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(_MOST_WAITING)
        self._watch: threading.Thread | None = None
        self._stopping = threading.Event()
        self._used_at = 0.0

    def header(self, path: Path, *, is_anonymous: bool) -> list[dict[str, Any]]:
        """Return the elements of a file as rows of `tag`, `name`, `vr`, `value` and `depth`, without pixels.

        `is_anonymous` leaves out every value that may say who the patient is.
        """
        rows: list[dict[str, Any]] = self._values_of(HeaderQuestion(path, is_anonymous))
        return rows

    def series(self, paths: Sequence[Path]) -> dict[str, Any]:
        """Return the slices of a series in the order of their geometry: see `slices.py`."""
        view: dict[str, Any] = self._values_of(SeriesQuestion(tuple(paths)))
        return view

    def values(self, path: Path, frame: int = 0, *, longest_side: int = LONGEST_SIDE) -> bytes:
        """Return the values of a frame, compressed by gzip: see `slice_values.py`."""
        return self._answer(ValuesQuestion(path, frame, longest_side))

    def thumbnail(self, path: Path, frame: int = 0, *, longest_side: int = _THUMBNAIL_SIDE) -> bytes:
        """Return a small picture of a frame as JPEG."""
        return self._answer(ThumbnailQuestion(path, frame, longest_side))

    def regions(self, path: Path) -> list[dict[str, Any]]:
        """Return the regions of a structured report: see `report_regions.py`."""
        regions: list[dict[str, Any]] = self._values_of(RegionsQuestion(path))
        return regions

    def tree(self, path: Path) -> dict[str, Any]:
        """Return the content of a structured report: see `report_tree.py`."""
        root: dict[str, Any] = self._values_of(TreeQuestion(path))
        return root

    def picture(self, path: Path) -> bytes:
        """Return the pixels of a capture as PNG, as they were sent."""
        return self._answer(PictureQuestion(path))

    def pdf(self, summary: str, documents: Sequence[tuple[str, Path]]) -> bytes:
        """Return the report.pdf of a result.json and of its documents, each with its kind, in the order of sending."""
        return self._answer(PrintQuestion(summary, tuple(documents)))

    def text(self, summary: str) -> bytes:
        """Return the report.txt of a result.json."""
        return self._answer(TextQuestion(summary))

    def stop(self) -> None:
        """End the process."""
        self._stopping.set()
        with self._lock:
            self._child.kill()

    def _values_of(self, question: Question) -> Any:  # noqa: ANN401 - of JSON
        try:
            return json.loads(self._answer(question))
        except ValueError as error:
            raise CannotRender("the process that decodes pictures answered with no JSON") from error

    def _answer(self, question: Question) -> bytes:
        if not self._places.acquire(blocking=False):
            raise Busy(_BUSY)
        try:
            content = self._answer_in_turn(question)
        finally:
            self._places.release()
        if content[:1] != _ANSWER:
            raise CannotRender(content[1:].decode(errors="replace"))
        return content[1:]

    def _answer_in_turn(self, question: Question) -> bytes:
        limits = self._limits
        if not self._lock.acquire(timeout=limits.time_s):
            raise Busy(_BUSY)
        try:
            return self._asked(question, partial(self._refuse_overdue, time.monotonic() + limits.time_s))
        finally:
            self._used_at = time.monotonic()
            self._watch_idle()
            self._lock.release()

    def _asked(self, question: Question, refuse_overdue: Callable[[], None]) -> bytes:
        try:
            channel = self._child.channel or self._started(refuse_overdue)
            channel.send(question, refuse_overdue)
            return channel.receive(refuse_overdue, most_bytes=_MOST_BYTES)
        except CannotRender as error:
            self._child.kill()
            log.warning("rendering was killed: %s", error, extra={"action": "render_failed"})
            raise
        except (NotAnAnswer, EOFError, OSError) as error:
            code = self._child.kill()
            log.warning("rendering ended with code %s", code, extra={"action": "render_failed"})
            raise CannotRender(
                f"the file ended the process that decodes pictures (code {code}); it is damaged, or made to do harm"
            ) from error

    def _started(self, refuse_overdue: Callable[[], None]) -> Channel:
        channel = self._child.start()
        channel.send(self._limits, refuse_overdue)
        return channel

    def _refuse_overdue(self, deadline: float) -> None:
        """Return while the process is within its limits.

        Raises: CannotRender.
        """
        limits = self._limits
        if self._stopping.is_set():
            raise CannotRender("the node stops")
        if time.monotonic() > deadline:
            raise CannotRender(f"the file cannot be shown: decoding took more than {limits.time_s:g} s")
        if self._child.exceeds(limits.memory_bytes):
            raise CannotRender(f"the file cannot be shown: decoding took more than {limits.memory_bytes >> 20} MiB")

    def _watch_idle(self) -> None:
        if self._watch is None and not self._stopping.is_set():
            self._watch = threading.Thread(target=self._kill_when_idle, name="rendering idle", daemon=True)
            self._watch.start()

    def _kill_when_idle(self) -> None:
        """Kill the process when nobody has asked for a while, and end."""
        while not self._stopping.wait(max(self._used_at + self._limits.idle_s - time.monotonic(), 0)):
            with self._lock:
                if time.monotonic() - self._used_at >= self._limits.idle_s:
                    self._child.kill()
                    self._watch = None
                    return
