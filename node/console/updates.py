"""Live parts of pages: a task looks for changes while somebody watches, and renders each part once for all."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Generic, TypeVar

from anyio import to_thread

from ainode.node.errors import DatabaseUnavailable
from ainode.node.keeping.pulse import Pulse

T = TypeVar("T", bound=Hashable)
_LOOK_S: Final = 1.0
# Of the time between two looks, so much at most is spent looking: a twentieth of a core, whatever is watched.
_SHARE: Final = 1 / 20
# Without a change too: days begin, and a beat may be missed.
_LONGEST_PAUSE_S: Final = 15.0
# A browser that is gone is noticed when something is sent.
_SIGN_OF_LIFE_S: Final = 10.0


def digest_of(text: str) -> str:
    """Return what tells two versions of a part apart."""
    return sha256(text.encode()).hexdigest()[:16]


@dataclass(slots=True)
class _Part:
    watcher_count: int = 0
    digest: str = ""
    event: bytes = b""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Updates(Generic[T]):
    """Tells browsers of changes (server-sent events); lives in the event loop of the server."""

    def __init__(self, pulse: Pulse, content: Callable[[T], str]) -> None:
        """Keep the arguments; `content` returns the HTML of a part."""
        self._pulse, self._content = pulse, content
        self._parts: dict[T, _Part] = {}
        self._task: asyncio.Task[None] | None = None

    async def events(self, topic: T, shown: str) -> AsyncIterator[bytes]:
        """Yield the part each time that the part is another than the browser shows; `shown` is its digest."""
        part = self._parts.setdefault(topic, _Part())
        part.watcher_count += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look_on())
        try:
            yield b"retry: 3000\n\n"
            while True:
                changed = part.changed
                if part.event and part.digest != shown:
                    shown = part.digest
                    yield part.event
                try:
                    await asyncio.wait_for(changed.wait(), _SIGN_OF_LIFE_S)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            part.watcher_count -= 1
            if not part.watcher_count:
                self._parts.pop(topic, None)

    async def _look_on(self) -> None:
        beat, looked_at_s = "", 0.0
        while self._parts:
            cost_s = 0.0
            try:
                former, (beat, cost_s) = beat, await to_thread.run_sync(self._beat)
                is_new = any(not part.event for part in self._parts.values())
                if beat != former or is_new or time.monotonic() - looked_at_s > _LONGEST_PAUSE_S:
                    looked_at_s = time.monotonic()
                    cost_s += await self._refresh()
            except DatabaseUnavailable:
                beat = ""
            await asyncio.sleep(max(_LOOK_S, cost_s / _SHARE))
            if not self._parts:
                await to_thread.run_sync(self._pulse.rest)  # whoever comes meanwhile is served by this task still

    async def _refresh(self) -> float:
        """Render each part, and wake those who watch a part that changed; return the seconds that the work took."""
        total_s = 0.0
        for topic, part in tuple(self._parts.items()):
            text, cost_s = await to_thread.run_sync(self._rendered, topic)
            total_s += cost_s
            digest = digest_of(text)
            if digest != part.digest:
                part.digest, part.event = digest, _event(text)
                former, part.changed = part.changed, asyncio.Event()
                former.set()
        return total_s

    def _beat(self) -> tuple[str, float]:
        began_s = time.thread_time()
        return self._pulse.beat(), time.thread_time() - began_s

    def _rendered(self, topic: T) -> tuple[str, float]:
        began_s = time.thread_time()
        return self._content(topic), time.thread_time() - began_s


def _event(text: str) -> bytes:
    """Return a message of HTML (html.spec.whatwg.org, 9.2.6): each line of the text is a field `data`."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: rows\n{lines}\n".encode()
