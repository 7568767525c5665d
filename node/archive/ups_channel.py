"""The event channel of a worklist: a WebSocket on which a subscriber gets event reports (PS3.18 8.10, PS3.4 CC.2.4)."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import requests
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from ainode.node import tls
from ainode.node.archive.dicom_json import JsonDataset, datasets_of, number, text
from ainode.node.archive.web import WebLink, credentials
from ainode.node.domain import UID, is_uid
from ainode.node.errors import ArchiveUnreachable

# PS3.4 table CC.2.4-1.
STATE_REPORT, CANCEL_REQUESTED, PROGRESS_REPORT, STATUS_CHANGE, ASSIGNED = 1, 2, 3, 4, 5
"""Event Type ID (0000,1002)"""
_MAX_MESSAGE_BYTES: Final = 1 << 20
_TYPE: Final = "application/dicom+json"
_PORTS: Final = {"ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Event:
    """One event report."""

    kind: int
    uid: UID
    """of the workitem"""
    state: str = ""
    readiness: str = ""


class Channel:
    """An open channel."""

    def __init__(self, name: str, connection: ClientConnection) -> None:
        self._name, self._connection = name, connection

    def events(self, timeout_s: float) -> Iterator[Event | None]:
        """Yield each event as it comes, and None after each time without one; a message that is none is passed over.

        Raises: ArchiveUnreachable if the channel is closed or broken.
        """
        while True:
            try:
                message = self._connection.recv(timeout_s)
            except TimeoutError:
                yield None
                continue
            except (ConnectionClosed, OSError) as error:
                raise ArchiveUnreachable(f"{self._name}: the event channel was closed") from error
            yield from events_of(message)


@contextmanager
def channel(link: WebLink, address: str) -> Iterator[Channel]:
    """Open a channel at an address that the worklist named, and close it at the end.

    Raises: ArchiveUnreachable, also if the address is of another machine, or the channel is without TLS where the
    service has it; ConfigError if the credentials that node.toml names are missing.
    """
    place = _place(link, address)
    name = link.peer.name
    request = requests.Request("GET", link.peer.dicomweb).prepare()
    if authentication := credentials(link.peer):
        authentication(request)
    headers = {key: value for key, value in request.headers.items() if key == "Authorization"}
    context = None
    if address.startswith("wss:"):
        with tls.patience_with_files():
            context = tls.calling(link.peer)
        context.sslsocket_class = tls.ChannelSocket  # the library receives in a thread of its own
    try:
        connection = connect(
            address,
            sock=socket.create_connection(place, link.timeout_s),  # the library follows no redirect on a given socket
            ssl=context,
            additional_headers=headers,
            open_timeout=link.timeout_s,
            close_timeout=1.0,
            max_size=_MAX_MESSAGE_BYTES,
        )
    except (OSError, InvalidHandshake, InvalidURI, WebSocketException, TimeoutError) as error:
        kind = type(error).__name__
        raise ArchiveUnreachable(f"{name}: the event channel does not open ({kind}); try again later") from None
    with connection:
        yield Channel(name, connection)


def _place(link: WebLink, address: str) -> tuple[str, int]:
    """Return host and port of a channel if it is where the worklist is: the node sends its credentials there."""
    name, service = link.peer.name, urlsplit(link.peer.dicomweb)
    try:
        named = urlsplit(address)
        host, port = named.hostname or "", named.port or _PORTS.get(named.scheme, 0)
    except ValueError:
        host, port = "", 0
    if not port or host != service.hostname:
        raise ArchiveUnreachable(f"{name}: names an event channel on another machine, or none; it is not called")
    if service.scheme == "https" and named.scheme != "wss":
        raise ArchiveUnreachable(f"{name}: names an event channel without TLS; it is not called")
    return host, port


def events_of(message: str | bytes) -> Iterator[Event]:
    """Yield the event reports of a message."""
    content = message.encode("utf-8", "replace") if isinstance(message, str) else message
    try:
        datasets = datasets_of(content, _TYPE)
    except ValueError:
        return
    for dataset in datasets:
        kind, uid = number(dataset, "EventTypeID"), text(dataset, "AffectedSOPInstanceUID")
        if kind is not None and is_uid(uid):
            yield _event(kind, uid, dataset)


def _event(kind: int, uid: str, dataset: JsonDataset) -> Event:
    return Event(kind, UID(uid), text(dataset, "ProcedureStepState"), text(dataset, "InputReadinessState"))
