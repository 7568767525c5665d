"""A request that takes long ends with the visit: a live page, an upload, a download."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from anyio import CancelScope

from ainode.node.console.entry.access import Visit
from ainode.node.errors import DatabaseUnavailable

IsOpen = Callable[[Visit], Awaitable[bool]]
LOOK_S: Final = 2.0


class Presence:
    """Looks again and again whether the visits of the requests that run are open; lives in the loop of the server."""

    def __init__(self, look_s: float) -> None:
        """Look every `look_s`, as long as a request runs."""
        self._look_s = look_s
        self._running: dict[CancelScope, tuple[Visit, float]] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def request(self, visit: Visit, is_open: IsOpen) -> Iterator[CancelScope]:
        """Yield the scope of a request, which is cancelled once the visit is over."""
        with CancelScope() as scope:
            self._running[scope] = visit, time.monotonic()
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._look_on(is_open))
            try:
                yield scope
            finally:
                del self._running[scope]

    async def _look_on(self, is_open: IsOpen) -> None:
        while self._running:
            await asyncio.sleep(self._look_s)
            for visit in self._long_visits():
                if await self._is_over(visit, is_open):
                    self._end(visit)

    def _long_visits(self) -> frozenset[Visit]:
        """Return the visits of requests that take long; a page is answered before anybody looks."""
        begun_s = time.monotonic() - self._look_s
        return frozenset(visit for visit, at_s in self._running.values() if at_s <= begun_s)

    @staticmethod
    async def _is_over(visit: Visit, is_open: IsOpen) -> bool:
        try:
            return not await is_open(visit)
        except DatabaseUnavailable:
            return False

    def _end(self, visit: Visit) -> None:
        for scope, (owner, _) in self._running.items():
            if owner == visit:
                scope.cancel()
