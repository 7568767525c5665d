"""How the node calls a web service of an archive: one session per question, every failure translated, bounded answers.

The counterpart of `dimse.py`. An address may hold a Patient ID (QIDO-RS has it in the query), and the libraries' errors
repeat the address: so their text goes nowhere, neither into ours nor as its cause.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import requests
from requests import Session
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from ainode.node import tls
from ainode.node.archive.search import Deadline
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable, ConfigError
from ainode.node.settings import Peer

_BLOCK_BYTES = 65_536
# What an operator corrects, here or there: until then trying again is right, as with an association that is rejected.
_REMEDIES = {
    HTTPStatus.UNAUTHORIZED: "it asks for other credentials: look at user_env, password_env, token_env",
    HTTPStatus.FORBIDDEN: "our account may not do this there: change its rights",
    HTTPStatus.NOT_FOUND: "it has no such service or object: look at the address of this [[peer]] in node.toml",
    HTTPStatus.METHOD_NOT_ALLOWED: "it does not offer this service at that address",
}
# RFC 9110 15.5.9, 15.6; RFC 6585 4; RFC 8470 5.2; RFC 4918 11.5 (no space left).
_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504, 507})


@dataclass(frozen=True, slots=True)
class WebLink:
    """Us and one peer's web service: with which credentials, and how long one step of an answer may take."""

    peer: Peer
    timeout_s: float = 60.0
    max_bytes: int = 1 << 26
    """of an answer that is kept in memory"""

    @contextmanager
    def session(self, what: str, deadline: Deadline | None = None, *, streamed: bool = False) -> Iterator[Session]:
        """Open a session, close it at the end, translate what fails in it; `what` was asked is named without a value.

        Without a deadline each answer, once it has begun, may take `timeout_s`.

        Raises: ArchiveUnreachable, ArchiveRefused; ConfigError without the credentials that node.toml names.
        """
        name = self.peer.name
        most = float("inf") if streamed else self.max_bytes
        with requests.Session() as session:
            session.mount("http://", adapter := _Adapter(self.timeout_s, deadline, most))
            session.mount("https://", adapter)
            session.trust_env = False  # neither proxies nor ~/.netrc decide where a patient's data goes
            session.max_redirects = 0
            session.headers["Accept-Encoding"] = "identity"
            session.auth = credentials(self.peer)
            session.verify, session.cert = tls.client_files(self.peer)
            try:
                yield session
            except requests.exceptions.SSLError:
                raise ArchiveUnreachable(f"{name}: TLS failed at {what}; look at ca_file and its certificate") from None
            except requests.TooManyRedirects:
                raise ArchiveUnreachable(f"{name}: redirects {what}; give the address that it redirects to") from None
            except requests.HTTPError as error:
                raise self.refusal(error.response.status_code, what) from None
            except (requests.RequestException, HTTPError) as error:
                kind = type(error).__name__
                raise ArchiveUnreachable(f"{name}: {what} failed ({kind}); it will be tried again") from None
            except ValueError as error:
                kind = type(error).__name__
                raise ArchiveUnreachable(f"{name}: the answer to {what} cannot be understood ({kind})") from None

    def refusal(self, status: int, what: str) -> ArchiveError:
        """Return the error that an HTTP status stands for."""
        name = self.peer.name
        if status in _MAY_PASS:
            return ArchiveUnreachable(f"{name}: cannot do {what} now (HTTP {status}); it will be tried again")
        if remedy := _REMEDIES.get(HTTPStatus(status) if status in set(HTTPStatus) else HTTPStatus.OK):
            return ArchiveUnreachable(f"{name}: refused {what} (HTTP {status}): {remedy}")
        return ArchiveRefused(f"{name}: refused {what} (HTTP {status}); see its log", archive_status=status)


class _Adapter(HTTPAdapter):
    """Lets an answer end: at the deadline even if it drips, and above so many bytes."""

    def __init__(self, timeout_s: float, deadline: Deadline | None, max_bytes: float) -> None:
        super().__init__()
        self._timeout_s, self._deadline, self._max_bytes = timeout_s, deadline, max_bytes

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401
        """Send as the base class does, with the time that is left."""
        kwargs["timeout"] = (self._deadline or Deadline()).remaining_s(self._timeout_s)
        response = super().send(request, *args, **kwargs)
        # without a deadline of the caller's own: of the answer only, however long the request took
        response.raw = _Bounded(response.raw, self._deadline or Deadline.within(self._timeout_s), self._max_bytes)
        return response


class _Bounded:
    """A response's body; `requests` reads it through `stream`."""

    def __init__(self, raw: BaseHTTPResponse, deadline: Deadline, max_bytes: float) -> None:
        self._raw, self._deadline, self._max_bytes = raw, deadline, max_bytes
        self.close, self.release_conn = raw.close, raw.release_conn

    def stream(self, amount: int | None = None, *, decode_content: bool = True) -> Iterator[bytes]:
        """Yield what has come so far, again and again; urllib3's own waits until `amount` bytes are there."""
        received, whole = 0, False
        try:
            while block := self._raw.read1(min(amount or _BLOCK_BYTES, _BLOCK_BYTES), decode_content=decode_content):
                received += len(block)
                if received > self._max_bytes:
                    raise ArchiveUnreachable(f"the archive's answer is longer than {self._max_bytes:.0f} bytes")
                self._deadline.check()
                yield block
            whole = True
        finally:
            if not whole:
                self._raw.close()


class _Bearer(AuthBase):
    """RFC 6750 2.1."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def credentials(peer: Peer) -> AuthBase | None:
    """Return what the environment holds for a peer, None if node.toml names nothing.

    Raises: ConfigError if a named variable is not set.
    """
    if peer.token_env:
        return _Bearer(_secret(peer, peer.token_env))
    if peer.user_env:
        # in UTF-8 (RFC 7617 2.1); of a text `requests` makes Latin-1
        return HTTPBasicAuth(_secret(peer, peer.user_env).encode(), _secret(peer, peer.password_env).encode())
    return None


def _secret(peer: Peer, name: str) -> str:
    if not (value := os.environ.get(name, "")):
        raise ConfigError(f"peer {peer.name}: the environment has no {name or 'password_env'}, which node.toml names")
    return value
