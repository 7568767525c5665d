"""Sessions with a web service of an archive: each failure becomes an `ArchiveError`, each answer has a limit.

`WebLink` is the counterpart of `dimse.Link`. The address of a QIDO-RS query holds a Patient ID, and the errors of the
libraries repeat the address. Therefore no `ArchiveError` repeats the text of a library, or has its error as a cause.
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
from urllib3.exceptions import HTTPError, NewConnectionError

from ainode.node import tls
from ainode.node.archive.comments import response_comment, warning_comment
from ainode.node.archive.paced import pool_classes
from ainode.node.archive.search import Deadline
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable, ConfigError, NotSent
from ainode.node.settings import Peer

_BLOCK_BYTES = 65_536
# What an operator corrects, in node.toml or at the archive; until then the node tries again.
_REMEDIES = {
    HTTPStatus.UNAUTHORIZED: "the archive asks for other credentials: look at user_env, password_env, token_env",
    HTTPStatus.FORBIDDEN: "the account of the node lacks the right: change the rights at the archive",
    HTTPStatus.NOT_FOUND: "the archive has no such service or object: look at its address in node.toml",
    HTTPStatus.METHOD_NOT_ALLOWED: "the archive does not offer the service at the address",
}
# RFC 9110 15.5.9, 15.6; RFC 6585 4; RFC 8470 5.2; RFC 4918 11.5 (no space left).
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 507})


@dataclass(frozen=True, slots=True)
class WebLink:
    """The web service of a peer, and the time limit of each step of an answer."""

    peer: Peer
    timeout_s: float = 60.0
    max_bytes: int = 1 << 26
    """the limit of an answer that is read into memory"""

    @contextmanager
    def session(self, request: str, deadline: Deadline | None = None, *, streamed: bool = False) -> Iterator[Session]:
        """Open a session, close it at the end, translate its failures; `request` names the request without a value.

        Without a deadline each answer may take `timeout_s` from its first byte.

        Raises: ArchiveUnreachable, NotSent without a connection; ArchiveRefused; ConfigError if the credentials that
        node.toml names are missing.
        """
        name = self.peer.name
        with requests.Session() as session:
            adapter = _Adapter(self.timeout_s, deadline, self.max_bytes)
            with tls.patience_with_files():
                adapter.init_poolmanager(1, 1, ssl_context=tls.calling_web(self.peer))
                session.verify, session.cert = tls.client_files(self.peer)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            session.trust_env = False  # neither a proxy setting nor ~/.netrc redirects patient data
            session.headers["Accept-Encoding"] = "identity"
            session.auth = credentials(self.peer)
            try:
                yield session
            except requests.exceptions.SSLError:
                raise ArchiveUnreachable(
                    f"{name}: TLS failed at {request}; look at ca_file and the certificate"
                ) from None
            except requests.TooManyRedirects:
                raise ArchiveUnreachable(f"{name}: redirects {request}; enter the new address") from None
            except requests.HTTPError as error:
                # The body of a stream has no limit.
                words = (warning_comment if streamed else response_comment)(error.response)
                raise self.http_error(error.response.status_code, request, words) from None
            except (requests.RequestException, HTTPError) as error:
                kind, error_class = type(error).__name__, NotSent if _is_unconnected(error) else ArchiveUnreachable
                raise error_class(f"{name}: {request} failed ({kind}); try again later") from None
            except (ValueError, RecursionError) as error:
                kind = type(error).__name__
                raise ArchiveUnreachable(f"{name}: the answer to {request} cannot be understood ({kind})") from None

    def http_error(self, status: int, request: str, words: str = "") -> ArchiveError:
        """Return the error of an HTTP status other than success; `words` are the archive's own."""
        name = self.peer.name
        if status in _TRANSIENT:
            error_class = ServerFailed if status == HTTPStatus.INTERNAL_SERVER_ERROR else ArchiveUnreachable
            return error_class(f"{name}: cannot do {request} now (HTTP {status}); try again later", comment=words)
        if remedy := _REMEDIES.get(HTTPStatus(status) if status in set(HTTPStatus) else HTTPStatus.OK):
            error_class = NotThere if status == HTTPStatus.NOT_FOUND else ArchiveUnreachable
            return error_class(f"{name}: refused {request} (HTTP {status}): {remedy}", comment=words)
        return ArchiveRefused(
            f"{name}: refused {request} (HTTP {status}); see the log of the archive",
            archive_status=status,
            comment=words,
        )


class NotThere(ArchiveUnreachable):
    """The archive has no such service or object (HTTP 404)."""


class ServerFailed(ArchiveUnreachable):
    """The archive answered, and failed at the request (HTTP 500)."""


class _Adapter(HTTPAdapter):
    """Ends an answer that is slower than the deadline, longer than `max_bytes` and no stream, or a redirect."""

    def __init__(self, timeout_s: float, deadline: Deadline | None, max_bytes: int) -> None:
        self._timeout_s, self._deadline, self._max_bytes = timeout_s, deadline, max_bytes
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Make the pool of connections, whose time limits are limits on the whole."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = pool_classes(self._timeout_s, self._deadline)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - as the base class
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> requests.Response:
        """Send a request as the base class does, within the remaining time."""
        kwargs["timeout"] = (self._deadline or Deadline()).remaining_s(self._timeout_s)
        response = super().send(request, stream, *args, **kwargs)
        if response.is_redirect:
            response.raw.close()
            raise requests.TooManyRedirects(response=response)
        # The node asks for no encoding: an encoded stream may be any number of bytes.
        if stream and response.headers.get("Content-Encoding", "identity") != "identity":
            response.raw.close()
            raise requests.exceptions.ContentDecodingError(response=response)
        response.raw = _Bounded(response.raw, float("inf") if stream else self._max_bytes)
        return response


class _Bounded:
    """The body of a response; `requests` reads the body by `stream`."""

    def __init__(self, raw: BaseHTTPResponse, max_bytes: float) -> None:
        self._raw, self._max_bytes = raw, max_bytes
        self.close, self.release_conn = raw.close, raw.release_conn

    def stream(self, amount: int | None = None, *, decode_content: bool = True) -> Iterator[bytes]:
        """Yield each block when it arrives; the `stream` of urllib3 waits for `amount` bytes."""
        received_bytes, whole = 0, False
        try:
            while block := self._raw.read1(min(amount or _BLOCK_BYTES, _BLOCK_BYTES), decode_content=decode_content):
                received_bytes += len(block)
                if received_bytes > self._max_bytes:
                    raise ArchiveUnreachable(f"the archive's answer is longer than {self._max_bytes:.0f} bytes")
                yield block
            whole = True
        finally:
            if not whole:
                self._raw.close()


class Bearer(AuthBase):
    """Adds a bearer token to a request (RFC 6750 2.1)."""

    def __init__(self, token: str) -> None:
        """Keep the token."""
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _is_unconnected(error: Exception) -> bool:
    """Return whether no connection was made, so that nothing was sent."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)


def credentials(peer: Peer) -> AuthBase | None:
    """Return the credentials for a peer, from the environment variables that node.toml names; None if it names none.

    Raises: ConfigError if a named variable is not set.
    """
    if peer.token_env:
        return Bearer(_secret(peer, peer.token_env))
    if peer.user_env:
        # As UTF-8 (RFC 7617 2.1): `requests` encodes a str as Latin-1.
        return HTTPBasicAuth(_secret(peer, peer.user_env).encode(), _secret(peer, peer.password_env).encode())
    return None


def _secret(peer: Peer, name: str) -> str:
    """Return the value of an environment variable.

    Raises: ConfigError if the variable is not set.
    """
    if not (value := os.environ.get(name, "")):
        raise ConfigError(f"peer {peer.name}: the environment has no {name or 'password_env'}, which node.toml names")
    return value
