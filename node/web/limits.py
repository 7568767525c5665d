"""The limits of what a caller may send: requests within a minute, and the length and duration of a body."""

import logging
import time
from typing import Final

import anyio
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from ainode.node.receiving.places import network_of
from ainode.node.web.texts import NUL_REFUSED, NulSearch

_log = logging.getLogger(__name__)
_MINUTE_S: Final = 60.0
_MAX_NAMES: Final = 1_024
_LOGGED_COUNTS: Final = frozenset(10**exponent for exponent in range(12))
ADMITTED: Final = "admitted"
"""where the state of a request has the function that says to its connection that the caller is known"""
# A tenth of a line of ISDN: who sends more slowly holds a place and sends nothing.
_LOWEST_BYTES_PER_S: Final = 1_024


class Tally:
    """Counts by name within a minute; all names beyond the limit of memory are counted together."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._end_s = 0.0

    def count(self, name: str) -> int:
        """Count one more of a name and return the count of the current minute."""
        self._begin_minute()
        self._counts[self._place(name)] = count = self.current(name) + 1
        return count

    def current(self, name: str) -> int:
        """Return the count of a name in the current minute."""
        self._begin_minute()
        return self._counts.get(self._place(name), 0)

    def _begin_minute(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._end_s:
            self._counts.clear()
            self._end_s = now_s + _MINUTE_S

    def _place(self, name: str) -> str:
        return name if name in self._counts or len(self._counts) < _MAX_NAMES else ""

    @property
    def remaining_s(self) -> int:
        """Return the seconds until the counts begin again, at least 1."""
        return max(1, round(self._end_s - time.monotonic()))


class Complaints:
    """The log of what strangers do wrong: a line at the first, tenth, hundredth, … time within a minute."""

    def __init__(self) -> None:
        self._tally = Tally()

    def note(self, action: str, sentence: str, address: str) -> int:
        """Count one more complaint about an address and return the count of the current minute."""
        count = self._tally.count(f"{action} {network_of(address)}")
        if count in _LOGGED_COUNTS:
            extra = {"action": action, "address": address}
            _log.warning("%s (number %d within a minute)", sentence, count, extra=extra)
        return count

    @property
    def remaining_s(self) -> int:
        """Return the seconds until the counts begin again, at least 1."""
        return self._tally.remaining_s


def admit(scope: Scope) -> None:
    """Let a request keep its connection while its body arrives; a stranger's body has the time of a head."""
    admitted = scope.get("state", {}).get(ADMITTED)
    if admitted:
        admitted()


class Body:
    """The body of a request: `receive` ends a body that is too long, pauses too long, or is too slow as a whole."""

    def __init__(
        self, receive: Receive, *, timeout_s: float, max_bytes: float, search: NulSearch | None = None
    ) -> None:
        """`timeout_s` limits a pause, and is the advance that a body has on the lowest rate; `search` is for text."""
        self._receive, self._timeout_s, self._max_bytes = receive, timeout_s, max_bytes
        self._received_bytes, self._waiting_s, self._is_whole = 0, 0.0, False
        self._search = search

    async def receive(self) -> Message:
        """Return the next message of the request.

        Raises: HTTPException 408 or 413 if the body exceeds a limit, 400 if a text has a NUL.
        """
        if self._is_whole:
            return await self._receive()
        advance_s = self._received_bytes / _LOWEST_BYTES_PER_S - self._waiting_s
        begin_s = anyio.current_time()
        try:
            with anyio.fail_after(self._timeout_s + min(0.0, advance_s)):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the body ended early, paused too long, or is too slow") from None
        self._waiting_s += anyio.current_time() - begin_s
        self._received_bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._received_bytes > self._max_bytes:
            raise HTTPException(413, f"the body is longer than {self._max_bytes} bytes")
        if self._search and self._search.has_nul(message.get("body", b"")):
            raise HTTPException(400, NUL_REFUSED)
        return message
