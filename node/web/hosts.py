"""What a browser says of the site that made it call: its name for the node, and whether the site is the node itself.

A foreign name that leads here is how another site reads pages.

Source: OWASP, DNS rebinding. An address is no name, so nobody else can point an address here.
"""

import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

_LOCAL: Final = frozenset({"localhost", "localhost.localdomain"})


class Hosts:
    """The names of this machine, and those that node.toml lists."""

    def __init__(self, bind: str, listed: Iterable[str]) -> None:
        machine = socket.gethostname()
        names = {*_LOCAL, bind, machine, machine.partition(".")[0], f"{machine}.local", *listed}
        self._names = frozenset(name.lower().rstrip(".") for name in names)

    def is_own(self, host: str) -> bool:
        """Return whether the value of a Host header names this node, by a name or by any address."""
        name = _without_port(host.strip().lower()).rstrip(".")
        return bool(name) and (name in self._names or _is_address(name))


def is_of_another_site(headers: Headers) -> bool:
    """Return whether a browser says that another site made it send the request (Fetch Metadata, RFC 6454 7.3)."""
    if site := headers.get("sec-fetch-site"):
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    if origin is None:
        return False
    return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def _without_port(host: str) -> str:
    """Return the name in a Host header (RFC 9110 7.2); '' if there is something else in the header."""
    if host.startswith("["):
        name, closing, rest = host[1:].partition("]")
        is_right = bool(closing) and ":" in name and (not rest or rest.startswith(":"))
        return name if is_right else ""
    name, colon, port = host.partition(":")
    return name if not colon or port.isdecimal() else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
