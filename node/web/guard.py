"""Who may ask, and how often: a request is refused by its head, before the node reads a byte of its body."""

from collections import Counter
from typing import Final

from anyio import CapacityLimiter, to_thread
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ainode.node.receiving.places import network_of
from ainode.node.web.limits import Body, Complaints, Tally
from ainode.node.web.logins import Logins
from ainode.node.web.tokens import Tokens

PUBLIC: Final = frozenset({"/", "/health", "/ready", "/docs", "/openapi.json"})
"""the paths that need no token; none reads a body"""
PAGES: Final = "/console"
"""below this path a person's session decides, and not a token"""
_PROBES: Final = frozenset({"/health", "/ready"})
_UPLOADS: Final = "/dicom-web/"
# A question is short; the spool limits each uploaded file.
_MAX_QUESTION_BYTES: Final = 65_536
# Of one caller: requests that run, and requests within a minute. Uploads of single instances are some hundred a second.
_MAX_RUNNING: Final = 64
_MAX_A_MINUTE: Final = 60_000
# Of one address: pages without a token, and refusals before the refusals say how long to wait.
_MAX_PAGES_A_MINUTE: Final = 600
_MAX_REFUSALS_A_MINUTE: Final = 10
_LOOKUPS_AT_ONCE: Final = 4


class Refusal(Exception):
    """A request that is answered by its head alone."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.response = JSONResponse(
            {"detail": detail}, status, {name.replace("_", "-"): value for name, value in headers.items()}
        )


class Guard:
    """Middleware: passes a request with its caller's name in `state`, and with limits on its body."""

    def __init__(
        self, app: ASGIApp, *, tokens: Tokens, complaints: Complaints, logins: Logins, timeout_s: float
    ) -> None:
        self._app, self._tokens, self._complaints, self._timeout_s = app, tokens, complaints, timeout_s
        self._logins = logins
        self._running: Counter[str] = Counter()
        self._requests = Tally()
        self._lookups = CapacityLimiter(_LOOKUPS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            _refuse_framing(headers)
            caller = await self._caller(scope, headers)
            _refuse_content(scope, headers)
        except Refusal as refusal:
            await refusal.response(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        max_bytes = float("inf") if scope["path"].startswith(_UPLOADS) else _MAX_QUESTION_BYTES
        body = Body(receive, timeout_s=self._timeout_s, max_bytes=max_bytes)
        self._running[caller] += 1
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._running[caller] -= 1

    async def _caller(self, scope: Scope, headers: Headers) -> str:
        """Return the name of the caller, '' where no token is needed.

        Raises: Refusal 401 or 503 if the caller has no token, 429 if the caller asks too much.
        """
        address = scope["client"][0] if scope["client"] else ""
        if scope["path"] in PUBLIC or is_page(scope):
            if scope["path"] not in _PROBES:
                self._count(f"address {network_of(address)}", _MAX_PAGES_A_MINUTE)
            return ""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        owner = None
        if scheme.lower() == "bearer" and token:
            owner = await to_thread.run_sync(self._tokens.owner, token.strip(), limiter=self._lookups)
        if owner is None:
            raise await self._stranger(address)
        self._logins.accepted(owner, address)
        if self._running[owner] >= _MAX_RUNNING:
            raise Refusal(429, f"{_MAX_RUNNING} requests of {owner} run; wait for an answer", Retry_After="1")
        self._count(f"caller {owner}", _MAX_A_MINUTE)
        return owner

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
            return Refusal(503, "no caller has a token yet: create a token with `ainode token add NAME`")
        if count > _MAX_REFUSALS_A_MINUTE:
            wait_s = str(self._complaints.remaining_s)
            return Refusal(429, "too many requests without a valid token", Retry_After=wait_s)
        remedy = "send `Authorization: Bearer TOKEN`; `ainode token add NAME` creates a token"
        return Refusal(401, remedy, WWW_Authenticate="Bearer")


def is_page(scope: Scope) -> bool:
    """Return whether a request is for a page of the console."""
    path: str = scope["path"]
    return path == PAGES or path.startswith(f"{PAGES}/")


def _refuse_framing(headers: Headers) -> None:
    """Refuse a body with two lengths, of which a proxy may believe the other (RFC 9112 6.1)."""
    if "transfer-encoding" in headers and "content-length" in headers:
        raise Refusal(400, "send Content-Length or Transfer-Encoding, not both", Connection="close")


def _refuse_content(scope: Scope, headers: Headers) -> None:
    """Refuse a body that is compressed, or is announced as too long, or is no JSON where JSON is asked."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "send the body without Content-Encoding", Accept_Encoding="identity")
    if scope["path"].startswith(_UPLOADS):
        return
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > _MAX_QUESTION_BYTES:
        raise Refusal(413, f"the body is longer than {_MAX_QUESTION_BYTES} bytes")
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if scope["method"] == "POST" and not is_page(scope) and not media_type.endswith(("/json", "+json")):
        raise Refusal(415, "send application/json")
