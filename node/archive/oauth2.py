"""Tokens of the client credentials grant (RFC 6749 4.4), each kept until shortly before it expires."""

import base64
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus

from ainode.node.archive.web import WebLink
from ainode.node.errors import ArchiveUnreachable, ConfigError
from ainode.node.settings import OAuth2Table

# A token that would expire on its way is no token.
_MARGIN_S: Final = 30.0
_MAX_TOKEN_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    ends_at: float
    """of `time.monotonic`"""


class Tokens:
    """The tokens of this process, one for each [peer.oauth2]; threads may share it."""

    def __init__(self) -> None:
        self._kept_tokens: dict[OAuth2Table, _Token] = {}
        # One for each: a server of tokens that hangs delays its own peer alone.
        self._locks: defaultdict[OAuth2Table, threading.Lock] = defaultdict(threading.Lock)

    def token(self, link: WebLink, table: OAuth2Table) -> str:
        """Return the kept token of a peer, else a new one.

        Raises: ConfigError if the environment lacks id or secret; ArchiveError if the server gives no token.
        """
        with self._locks[table]:
            held_token = self._kept_tokens.get(table)
            if held_token is None or held_token.ends_at <= time.monotonic():
                held_token = self._kept_tokens[table] = _fetched(link, table)
            return held_token.text

    def drop(self, table: OAuth2Table, token: str) -> None:
        """Forget a token that a server refused, unless another thread has fetched its successor."""
        with self._locks[table]:
            held_token = self._kept_tokens.get(table)
            if held_token is not None and held_token.text == token:
                del self._kept_tokens[table]


def _fetched(link: WebLink, table: OAuth2Table) -> _Token:
    client_id, secret = (_secret(link.peer.name, name) for name in (table.client_id_env, table.client_secret_env))
    form = {"grant_type": "client_credentials"} | ({"scope": table.scope} if table.scope else {})
    headers = {"Accept": "application/json"}
    if table.authentication == "basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    else:
        form |= {"client_id": client_id, "client_secret": secret}
    asked_at = time.monotonic()
    # The token endpoint gets the client's own credentials, and no others.
    with WebLink(link.peer, link.timeout_s, _MAX_TOKEN_BYTES).session("the token request") as session:
        session.auth = None
        response = session.post(table.token_url, data=form, headers=headers)
        if not response.ok:
            raise ArchiveUnreachable(
                f"{link.peer.name}: the server of tokens refused the node (HTTP {response.status_code}); look at "
                "token_url, client_id_env, client_secret_env and scope of [peer.oauth2], and at the client there"
            )
        answer = response.json()
    return _token_of(link, answer, asked_at)


def _token_of(link: WebLink, answer: object, asked_at: float) -> _Token:
    """Return the token of an answer (RFC 6749 5.1); without a duration it serves the call that asked for it alone."""
    values = answer if isinstance(answer, dict) else {}
    token, kind, duration = (values.get(key) for key in ("access_token", "token_type", "expires_in"))
    if not (isinstance(token, str) and token.isprintable() and token) or str(kind).lower() != "bearer":
        raise ArchiveUnreachable(
            f"{link.peer.name}: the server of tokens answers without a bearer token; look at token_url of [peer.oauth2]"
        )
    seconds = float(duration) if isinstance(duration, int | float) else 0.0
    return _Token(token, asked_at + seconds - _MARGIN_S)


def _secret(peer: str, name: str) -> str:
    if not (value := os.environ.get(name, "")):
        raise ConfigError(f"peer {peer}: the environment has no {name}, which [peer.oauth2] of node.toml names")
    return value
