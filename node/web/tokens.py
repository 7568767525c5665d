"""Who may call over HTTP: one bearer token a caller, kept as a digest, looked up at every request.

A token has 256 random bits, so nothing can be tried through and one sha256 guards it as well as a slow hash would;
argon2 is for what people choose themselves.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ainode.node.errors import ConfigError

# It stands for a calling AE title where its owner sends instances (PS3.5 6.2: 16 characters).
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,16}")
_RANDOM_BYTES: Final = 32


class Tokens:
    """The file of names and digests in the node's data folder."""

    def __init__(self, data: Path) -> None:
        self._path = data / "tokens"

    def add(self, name: str) -> str:
        """Return a new token for `name`, for the only time.

        Raises: ConfigError if the name is none, or is taken.
        """
        known = self._digests()
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r}: a token's name has 1 to 16 of A-Z a-z 0-9 _ . -")
        if name in known:
            raise ConfigError(f"{name!r} has a token; `ainode token remove {name}` first")
        token = f"ainode_{secrets.token_urlsafe(_RANDOM_BYTES)}"
        self._write({**known, name: _digest(token)})
        return token

    def remove(self, name: str) -> None:
        """Forget a token: its owner is refused from the next request on.

        Raises: ConfigError if there is none of that name.
        """
        known = self._digests()
        if name not in known:
            raise ConfigError(f"no token is named {name!r} (known: {', '.join(known) or 'none'})")
        self._write({other: digest for other, digest in known.items() if other != name})

    def names(self) -> tuple[str, ...]:
        """Return who has a token."""
        return tuple(self._digests())

    def owner(self, token: str) -> str | None:
        """Return whose token it is; every digest is compared, so the time tells nothing."""
        digest, found = _digest(token), None
        for name, known in self._digests().items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _digests(self) -> dict[str, str]:
        try:
            known: dict[str, str] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return known

    def _write(self, digests: Mapping[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(digests, indent=1), encoding="utf-8")
        part.replace(self._path)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
