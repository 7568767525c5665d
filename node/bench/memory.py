"""The memory of a node and its receiver while people look at every page of the console.

Resident memory is that of both processes; a page of memory that both share, as the code of Python is, counts once.
Readers are not counted, nor processes that decode pictures or try something for a page: they end when they are unused.
"""

import html
import http.client
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ainode.node.bench.processes import receivers, status_bytes, unshared_bytes

LIMIT_MB: Final = 200
"""for the node and its receiver, the console in use"""
_MB: Final = 1e6
_LINK: Final = re.compile(r'href="(/console/[^"#]*)')
# What tells a study, a model, a job or a document from another of its kind.
_UIDS: Final = re.compile(r"/([0-9]+(\.[0-9]+)+|[0-9a-f]{32})(?=/|$)")
_MODELS: Final = re.compile(r"/models/[^/]+")
_FILES: Final = re.compile(r"\.[a-z]+$|/static/|/zip$")
_MOST_PAGES: Final = 200
# It starts a process for each handler.
_ONCE: Final = "/console/routes/ready"


@dataclass(frozen=True, slots=True)
class Memory:
    """The resident memory at a moment."""

    node_mb: float
    receiver_mb: float
    """what no other process shares"""

    @property
    def row(self) -> tuple[str, str, str]:
        """Return the numbers as a row: node, receiver, together."""
        return f"{self.node_mb:.0f}", f"{self.receiver_mb:.0f}", f"{self.node_mb + self.receiver_mb:.0f}"


def memory_of(node: int) -> Memory:
    """Return the memory of a node, by the id of its process, and of its receiver."""
    receiver_bytes = sum(unshared_bytes(pid) for pid in receivers(node))
    return Memory(status_bytes(node, "VmRSS") / _MB, receiver_bytes / _MB)


def every_page(connect: Callable[[], http.client.HTTPConnection], headers: Mapping[str, str]) -> tuple[str, ...]:
    """Read a page of each kind that a page links to, from the worklist on; return their addresses."""
    connection = connect()
    pending, kinds = ["/console/"], {"/console/"}
    addresses: list[str] = []
    while pending and len(addresses) < _MOST_PAGES:
        address = pending.pop(0)
        addresses.append(address)
        for link in map(html.unescape, _LINK.findall(_page(connection, address, headers))):
            kind = _kind(link)
            if kind not in kinds and not _FILES.search(kind):
                kinds.add(kind)
                pending.append(link)
    connection.close()
    return tuple(addresses)


def read_at_once(
    connect: Callable[[], http.client.HTTPConnection],
    headers: Mapping[str, str],
    addresses: tuple[str, ...],
    *,
    connections: int,
    times: int,
) -> None:
    """Read the pages several times over each of several connections at a time."""

    def read() -> None:
        connection = connect()
        for address in [entry for entry in addresses if entry != _ONCE] * times:
            _page(connection, address, headers)
        connection.close()

    threads = [threading.Thread(target=read) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _page(connection: http.client.HTTPConnection, address: str, headers: Mapping[str, str]) -> str:
    """Return the text of a page, be it one that says that something is not there."""
    try:
        connection.request("GET", address, headers=dict(headers))
        answer = connection.getresponse()
    except http.client.RemoteDisconnected:  # which the node may do to a connection that waited
        connection.close()
        connection.request("GET", address, headers=dict(headers))
        answer = connection.getresponse()
    return answer.read().decode(errors="replace")


def _kind(link: str) -> str:
    return _UIDS.sub("/ID", _MODELS.sub("/models/MODEL", urlsplit(link).path))
