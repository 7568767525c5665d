"""Who may call over HTTP: each caller has one bearer token, kept as a digest and looked up at every request.

A token has 256 random bits, so nobody can guess a token, and one sha256 protects the token as well as a slow hash.
A slow hash such as argon2 protects passwords, which people choose.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ainode.node.disk import write_durably
from ainode.node.errors import ConfigError

# The name stands for a calling AE title where the caller sends instances (PS3.5 6.2: 16 characters).
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,16}")
_RANDOM_BYTES: Final = 32
# How the digest of a token begins that reads the metrics and nothing else; to a node before them it is no digest.
_METRICS: Final = "metrics "


@dataclass(frozen=True, slots=True)
class Caller:
    """To whom a token belongs."""

    name: str
    reads_metrics_alone: bool


class Tokens:
    """The callers and the digests of their tokens, in a file of the node's data folder."""

    def __init__(self, data: Path) -> None:
        self._path = data / "tokens"

    def add(self, name: str, *, for_metrics: bool = False) -> str:
        """Return a new token for the caller `name`, maybe for /metrics alone; it cannot be shown a second time.

        Raises: ConfigError if the name is not valid, or has a token.
        """
        digests = self._digests()
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r}: a token's name has 1 to 16 of A-Z a-z 0-9 _ . -")
        if name in digests:
            raise ConfigError(f"{name!r} has a token; `ainode token remove {name}` first")
        token = f"ainode_{secrets.token_urlsafe(_RANDOM_BYTES)}"
        self._write({**digests, name: f"{_METRICS if for_metrics else ''}{_digest(token)}"})
        return token

    def remove(self, name: str) -> None:
        """Remove the token of a caller; the caller is refused from the next request on.

        Raises: ConfigError if no token has that name.
        """
        digests = self._digests()
        if name not in digests:
            raise ConfigError(f"no token is named {name!r} (names with a token: {', '.join(digests) or 'none'})")
        self._write({caller: digest for caller, digest in digests.items() if caller != name})

    def names(self) -> tuple[str, ...]:
        """Return the names of the callers that have a token.

        Raises: ConfigError if the file holds anything else than tokens.
        """
        return tuple(self._digests())

    def owner(self, token: str) -> Caller | None:
        """Return the caller to whom a token belongs; every digest is compared, so the duration reveals nothing."""
        digest, owner = _digest(token), None
        for name, stored_digest in self._digests().items():
            if hmac.compare_digest(digest, stored_digest.removeprefix(_METRICS)):
                owner = Caller(name, stored_digest.startswith(_METRICS))
        return owner

    def _digests(self) -> dict[str, str]:
        try:
            digests: dict[str, str] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", "") or "it is no JSON"
            raise ConfigError(f"{self._path}: {self._remedy(reason)}") from error
        if not isinstance(digests, dict) or not all(isinstance(digest, str) for digest in digests.values()):
            raise ConfigError(f"{self._path}: {self._remedy('it is no table of names and digests')}")
        return digests

    def _remedy(self, reason: str) -> str:
        return f"cannot be read ({reason}); restore the file, or remove it and `ainode token add NAME` for each caller"

    def _write(self, digests: Mapping[str, str]) -> None:
        write_durably(self._path, json.dumps(digests, indent=1).encode(), mode=0o600)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
