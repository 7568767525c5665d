"""Who may ask, and how often: a request is refused by its head, before the node reads a byte of its body."""

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Final

from anyio import CapacityLimiter, to_thread
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from ainode.node.receiving.places import network_of
from ainode.node.settings import Settings
from ainode.node.web.headers import prefers_html
from ainode.node.web.hosts import Hosts, is_of_another_site
from ainode.node.web.limits import Body, Complaints, Tally, admit
from ainode.node.web.logins import Logins
from ainode.node.web.metrics import PATH as METRICS
from ainode.node.web.texts import CHARSET_REFUSED, NUL_REFUSED, NulSearch, has_nul, is_utf_8
from ainode.node.web.tokens import Tokens

PUBLIC: Final = frozenset({"/", "/health", "/ready", "/docs", "/openapi.json"})
"""the paths that need no token; none reads a body"""
_PROBES: Final = frozenset({"/health", "/ready"})
# A question or a form without files is short.
_MAX_QUESTION_BYTES: Final = 65_536
# Of one caller: requests that run, and requests within a minute. Uploads of single instances are some hundred a second.
_MAX_RUNNING: Final = 64
_MAX_A_MINUTE: Final = 60_000
# Of one address: pages without a token, and refusals before the refusals say how long to wait.
_MAX_PAGES_A_MINUTE: Final = 600
# A viewer scrolls through 30 slices a second, and several persons may share the address of a proxy.
_MAX_CONSOLE_A_MINUTE: Final = 12_000
_MAX_REFUSALS_A_MINUTE: Final = 10
_LOOKUPS_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Area:
    """What the requests to some addresses may bring."""

    addresses: re.Pattern[str]
    """how an address of the area begins"""
    max_bytes: float
    """without a limit here, the spool or `uploads.py` limits each file"""
    media_types: tuple[str, ...]
    """endings of the types that a body may have"""
    is_of_persons: bool = False
    """whether a person's session decides, and not a token"""
    has_links: bool = False
    """whether answers hold links that begin with the name by which the caller addresses the node"""

    @property
    def is_text(self) -> bool:
        """Return whether a body holds text alone, no file."""
        return self.max_bytes == _MAX_QUESTION_BYTES


_FORMS: Final = ("/x-www-form-urlencoded", "/form-data", "/json")
_AREAS: Final = (
    Area(
        re.compile(r"/console/(trials/[0-9a-f]{32}|routes/(test|change))$"),
        float("inf"),
        ("/form-data",),
        is_of_persons=True,
    ),
    Area(re.compile(r"/console(/|$)"), _MAX_QUESTION_BYTES, _FORMS, is_of_persons=True),
    Area(re.compile(r"/dicom-web(/|$)|/upload$"), float("inf"), ("",)),
    Area(re.compile(r"/fhir(/|$)"), _MAX_QUESTION_BYTES, ("/json", "+json"), has_links=True),
    Area(re.compile(r"/api/read$"), float("inf"), ("/form-data",)),
    Area(re.compile(""), _MAX_QUESTION_BYTES, ("/json", "+json")),
)
"""the first that holds an address counts"""
_WORDS: Final = {
    "/x-www-form-urlencoded": "a form",
    "/form-data": "multipart/form-data",
    "/json": "application/json",
    "": "a body",
}


class Refusal(Exception):
    """A request that is answered by its head alone."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self._status, self._detail = status, detail
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def response(self, accept_header: str) -> Response:
        """Return the answer: a page for a browser that shows one, else JSON."""
        if prefers_html(accept_header):
            return HTMLResponse(_page(self._status, self._detail), self._status, self._headers)
        return JSONResponse({"detail": self._detail}, self._status, self._headers)


class Guard:
    """Middleware: passes a request with its caller's name in `state`, and with limits on its body."""

    def __init__(
        self, app: ASGIApp, *, tokens: Tokens, complaints: Complaints, logins: Logins, settings: Settings
    ) -> None:
        self._app, self._tokens, self._complaints, self._logins = app, tokens, complaints, logins
        self._timeout_s = settings.node.network_timeout_s
        self._hosts = Hosts(settings.web.bind, settings.web.hosts)
        self._open_paths = PUBLIC | ({"/upload"} if settings.web.open_upload else set())
        self._running: Counter[str] = Counter()
        self._requests = Tally()
        self._lookups = CapacityLimiter(_LOOKUPS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        area = next(area for area in _AREAS if area.addresses.match(scope["path"]))
        try:
            _refuse_framing(headers)
            _refuse_nul(scope)
            is_open_upload = scope["path"] in self._open_paths - PUBLIC
            if area.is_of_persons or area.has_links or is_open_upload:
                self._refuse_foreign_name(headers)
            if is_open_upload:
                _refuse_another_site(headers)
            caller = await self._caller(scope, headers, area)
            _refuse_content(scope, headers, area)
        except Refusal as refusal:
            # A machine is never answered with a page, whatever its library accepts.
            accept_header = headers.get("accept", "") if area.is_of_persons else ""
            await refusal.response(accept_header)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        if not area.is_of_persons:
            admit(scope)
        search = NulSearch(headers.get("content-type", "")) if area.is_text else None
        body = Body(receive, timeout_s=self._timeout_s, max_bytes=area.max_bytes, search=search)
        self._running[caller] += 1
        try:
            # There is nobody to answer when the caller leaves, and nothing to log.
            with suppress(ClientDisconnect):
                await self._app(scope, body.receive, send)
        finally:
            self._running[caller] -= 1

    def _refuse_foreign_name(self, headers: Headers) -> None:
        """Refuse a page, or an answer with links, by a name that is not the node's.

        Another site may have pointed its name here, and a link would lead a program and its token there.
        """
        if not self._hosts.is_own(headers.get("host", "")):
            remedy = "call it by its address or its own name, or add the name to `hosts` of [web] in node.toml"
            raise Refusal(421, f"the node does not have the name in this address; {remedy}")

    async def _caller(self, scope: Scope, headers: Headers, area: Area) -> str:
        """Return the name of the caller, '' where no token is needed.

        Raises: Refusal 401 if the caller has no token, 403 if its token is for less, 429 if the caller asks too much.
        """
        address = scope["client"][0] if scope["client"] else ""
        if area.is_of_persons:
            self._count(f"person at {network_of(address)}", _MAX_CONSOLE_A_MINUTE)
            return ""
        if scope["path"] in self._open_paths:
            if scope["path"] not in _PROBES:
                self._count(f"address {network_of(address)}", _MAX_PAGES_A_MINUTE)
            return ""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        owner = None
        if scheme.lower() == "bearer" and token:
            owner = await to_thread.run_sync(self._tokens.owner, token.strip(), limiter=self._lookups)
        if owner is None:
            raise await self._stranger(address)
        self._logins.accepted(owner.name, address)
        if owner.reads_metrics_alone and scope["path"] != METRICS:
            raise Refusal(403, f"the token of {owner.name} reads {METRICS} alone")
        if self._running[owner.name] >= _MAX_RUNNING:
            raise Refusal(429, f"{_MAX_RUNNING} requests of {owner.name} run; wait for an answer", Retry_After="1")
        self._count(f"caller {owner.name}", _MAX_A_MINUTE)
        return owner.name

    def _count(self, name: str, limit: int) -> None:
        """Count a request, and refuse the request with status 429 beyond the limit of a minute."""
        if self._requests.count(name) > limit:
            wait_s = str(self._requests.remaining_s)
            raise Refusal(429, f"more than {limit} requests in a minute", Retry_After=wait_s)

    async def _stranger(self, address: str) -> Refusal:
        """Note a request without a valid token, and return the refusal.

        A valid token is accepted however many wrong tokens came before: a stranger behind the proxy of a hospital must
        not be able to shut out its callers, and nobody guesses 256 random bits.
        """
        count = self._complaints.note("token_refused", "refused a caller without a valid token", address)
        self._logins.refused(address, count)
        if not await to_thread.run_sync(self._tokens.names, limiter=self._lookups):
            remedy = "no caller has a token yet: create a token with `ainode token add NAME`"
            return Refusal(401, remedy, WWW_Authenticate="Bearer")
        if count > _MAX_REFUSALS_A_MINUTE:
            wait_s = str(self._complaints.remaining_s)
            return Refusal(429, "too many requests without a valid token", Retry_After=wait_s)
        remedy = "send `Authorization: Bearer TOKEN`; `ainode token add NAME` creates a token"
        return Refusal(401, remedy, WWW_Authenticate="Bearer")


def _page(status: int, detail: str) -> str:
    phrase = HTTPStatus(status).phrase
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{phrase}</title></head>'
        f"<body><h1>{phrase}</h1><p>{escape(detail)}</p></body></html>"
    )


def _refuse_framing(headers: Headers) -> None:
    """Refuse a body with two lengths, of which a proxy may believe the other (RFC 9112 6.1)."""
    if "transfer-encoding" in headers and "content-length" in headers:
        raise Refusal(400, "send Content-Length or Transfer-Encoding, not both", Connection="close")


def _refuse_another_site(headers: Headers) -> None:
    """Refuse what the page of another site made a browser send, which reaches the addresses of its own machine."""
    if is_of_another_site(headers):
        raise Refusal(403, "another site made the browser send this; scripts send no Origin")


def _refuse_nul(scope: Scope) -> None:
    """Refuse an address with a NUL; `Body` looks for NUL in the body."""
    if has_nul(scope):
        raise Refusal(400, NUL_REFUSED)


def _refuse_content(scope: Scope, headers: Headers, area: Area) -> None:
    """Refuse a body that is compressed, is announced as too long, or is of another type than the area takes."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "send the body without Content-Encoding", Accept_Encoding="identity")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > area.max_bytes:
        raise Refusal(413, f"the body is longer than {area.max_bytes} bytes")
    if area.is_text and not is_utf_8(headers.get("content-type", "")):
        raise Refusal(415, CHARSET_REFUSED)
    media_type = headers.get("content-type", area.media_types[0]).partition(";")[0].strip().lower()
    if scope["method"] == "POST" and not media_type.endswith(area.media_types):
        raise Refusal(415, f"send {_WORDS[area.media_types[0]]}")
