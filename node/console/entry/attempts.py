"""How often somebody may try a password: a stranger is stopped, and cannot keep a person out.

Three counts within a minute: of a name from an address, of all names from an address, and of a name from everywhere.
A browser in which the person has logged in before has a count of its own, which no stranger can fill.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from ainode.node.web.limits import Tally

_MAX_OF_NAME_AND_ADDRESS: Final = 5
_MAX_OF_BROWSER: Final = 10
_MAX_OF_ADDRESS: Final = 30
_MAX_OF_NAME: Final = 50
_RANDOM_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Attempt:
    """A name and a password that somebody sends."""

    name: str
    network: str
    """address of the caller, or its network"""
    browser: str = ""
    """identifier of a browser in which the person logged in before, '' for any other"""

    def limits(self) -> tuple[tuple[str, int], ...]:
        """Return what is counted, and how often it may fail within a minute."""
        if self.browser:
            return ((f"browser {self.browser}", _MAX_OF_BROWSER),)
        return (
            (f"{self.network} {self.name}", _MAX_OF_NAME_AND_ADDRESS),
            (f"address {self.network}", _MAX_OF_ADDRESS),
            (f"name {self.name}", _MAX_OF_NAME),
        )


class Attempts:
    """Counts the attempts that failed within a minute."""

    def __init__(self) -> None:
        self._failures = Tally()

    def wait_s(self, attempt: Attempt) -> int:
        """Return 0 if the attempt may be made, or the seconds until it may."""
        is_over = any(self._failures.current(name) >= limit for name, limit in attempt.limits())
        return self._failures.remaining_s if is_over else 0

    def failed(self, attempt: Attempt) -> None:
        """Count an attempt that failed."""
        for name, _ in attempt.limits():
            self._failures.count(name)


def browser_mark(name: str, stored_hash: str) -> str:
    """Return what a browser keeps after a login; another password of the person makes it worthless."""
    identifier = secrets.token_urlsafe(_RANDOM_BYTES)
    return f"{identifier}.{_signature(identifier, name, stored_hash)}"


def known_browser(mark: str, name: str, stored_hash: str) -> str:
    """Return the identifier of a browser in which the person has logged in with this password, '' for any other."""
    identifier, _, signature = mark.partition(".")
    is_known = hmac.compare_digest(signature.encode(), _signature(identifier, name, stored_hash).encode())
    return identifier if stored_hash and is_known else ""


def _signature(identifier: str, name: str, stored_hash: str) -> str:
    return hmac.new(stored_hash.encode(), f"{identifier} {name}".encode(), hashlib.sha256).hexdigest()
