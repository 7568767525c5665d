"""What a request must bring before a byte of its body is read: a visit, and a page of this node that made it."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Final

from fastapi import HTTPException, Request, Response
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ainode.node.console.entry.access import SAFE_METHODS, LoginNeeded, Visit, VisitOf, page_address
from ainode.node.console.entry.looks import Looks
from ainode.node.console.entry.presence import LOOK_S, Presence
from ainode.node.errors import DatabaseUnavailable
from ainode.node.web.hosts import is_of_another_site
from ainode.node.web.limits import admit

_OPEN_PATHS: Final = frozenset({"/console/login", "/console/theme"})
_OPEN_FOLDER: Final = "/console/static/"
# Of one person, and of all: pages that are live, and other requests. The rest of the connections is for machines.
_MAX_OF_PERSON: Final = 48
_MAX_OF_ALL: Final = 128
Refuse = Callable[[Request, Exception], Response]


class Doorkeeper:
    """Middleware: everything but the login page and static files is for persons who are logged in."""

    def __init__(
        self, app: ASGIApp, *, to_login: Refuse, refused: Refuse, looks: Looks, look_s: float = LOOK_S
    ) -> None:
        self._app, self._to_login, self._refused = app, to_login, refused
        self._looks, self._running, self._presence = looks, _Running(), Presence(look_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if request.method not in SAFE_METHODS and is_of_another_site(request.headers):
            refusal = HTTPException(403, "another site made the browser send this; open the page of the node itself")
            await self._refused(request, refusal)(scope, receive, send)
            return
        if scope["path"] in _OPEN_PATHS or scope["path"].startswith(_OPEN_FOLDER):
            with suppress(ClientDisconnect):
                await self._app(scope, receive, send)
            return
        visit_of: VisitOf = scope["app"].state.visit_of
        try:
            request.state.visit = visit = await visit_of(request)
        except DatabaseUnavailable as error:
            await self._refused(request, unavailable(error))(scope, receive, send)
            return
        if visit is None:
            await self._to_login(request, LoginNeeded(page_address(request)))(scope, receive, send)
            return
        try:
            with self._running.request(visit.person, is_stream=_is_stream(request)):
                await self._answer(scope, receive, send, visit)
        except TooManyRequests as error:
            refusal = HTTPException(429, str(error), {"Retry-After": "1"})
            await self._refused(request, refusal)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> None:
        """Pass on the request of a person, whose connection nobody displaces."""
        admit(scope)
        answer = _Answer(send, partial(self._looks.note, visit, scope["method"], scope["path"]))
        with self._presence.request(visit, scope["app"].state.is_open) as work, suppress(ClientDisconnect):
            await self._app(scope, receive, answer.send)
        if work.cancelled_caught:
            if answer.has_begun:
                await answer.end()
            else:
                await self._to_login(Request(scope), LoginNeeded("/console/"))(scope, receive, send)


def _is_stream(request: Request) -> bool:
    return request.headers.get("accept", "") == "text/event-stream"


def unavailable(error: Exception) -> HTTPException:
    """Return what a page answers while the database does not."""
    return HTTPException(503, f"the node cannot ask its {error}; try again in a moment")


class TooManyRequests(Exception):
    """A request beyond the number that may run at once."""


class _Running:
    """Counts the requests that run: a person who opens five hundred pages must not close the node for the others."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @contextmanager
    def request(self, person: str, *, is_stream: bool) -> Iterator[None]:
        """Count a request while it runs.

        Raises: TooManyRequests.
        """
        kind = "live pages" if is_stream else "requests"
        limits = {f"{kind} of {person}": _MAX_OF_PERSON, kind: _MAX_OF_ALL}
        for name, limit in limits.items():
            if self._counts[name] >= limit:
                raise TooManyRequests(f"{limit} {name} run already; close pages, or wait for an answer")
        self._counts.update(limits.keys())
        try:
            yield
        finally:
            self._counts.subtract(limits.keys())
            self._counts += Counter()  # forgets the persons of whom nothing runs


class _Answer:
    """What of an answer the browser got."""

    def __init__(self, send: Send, note: Callable[[], None]) -> None:
        """`note` is called for an answer that is no refusal."""
        self._send, self._note = send, note
        self.has_begun, self._has_end = False, False

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start":
            self.has_begun, self._has_end = True, "content-length" in Headers(raw=message.get("headers", []))
            if message["status"] < HTTPStatus.BAD_REQUEST:
                self._note()
        else:
            self._has_end = self._has_end or not message.get("more_body", False)
        await self._send(message)

    async def end(self) -> None:
        """End an answer whose end was open; an answer of a certain length breaks off with the connection."""
        if not self._has_end:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
