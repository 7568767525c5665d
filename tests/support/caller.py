"""A caller of the receiver that knows no library and no manners: it says whatever bytes a test wants."""

import socket
import ssl
import struct
from pathlib import Path
from typing import Self

from ainode.node.receiving.command_set import Command, CommandField, Tag, decode, encode

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
_ENDS = {0, 7}
"""nothing, or an A-ABORT"""


class Caller:
    """A caller that can say anything, in bytes."""

    def __init__(
        self,
        port: int,
        *contexts: tuple[str, str],
        called: str = "AINODE",
        calling: str = "CALLER",
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 60,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        # A request and its data are two PDUs: else the second waits 40 ms until the first is acknowledged.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if tls:
                self.socket = tls.wrap_socket(self.socket)
            self.socket.sendall(associate(contexts or ((CT, IMPLICIT),), called=called, calling=calling))
            self.kind, self.answer = self.pdu()
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def pdu(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU; (0, b"") once the receiver has closed."""
        header = self._exactly(6)
        if not header:
            return 0, b""
        kind, length = struct.unpack(">BxI", header)
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count and (more := self.socket.recv(count - len(content))):
            content += more
        return content

    def send(self, content: bytes, *, context: int = 1, control: int = 0x02) -> None:
        """Send one value in a PDU of its own."""
        value = struct.pack(">IBB", len(content) + 2, context, control) + content
        self.socket.sendall(struct.pack(">BxI", 4, len(value)) + value)

    def store(self, content: bytes, *, sop_class: str = CT, instance: str = "1.3.1", step: int = 4000) -> Command:
        """Send a C-STORE in pieces and return the response."""
        self.send(store_request(sop_class, instance), control=0x03)
        pieces = [content[at : at + step] for at in range(0, len(content), step)] or [b""]
        for piece in pieces[:-1]:
            self.send(piece, control=0x00)
        self.send(pieces[-1], control=0x02)
        return self.response()

    def response(self) -> Command:
        """Return the next response.

        Raises: ConnectionError if the receiver ends the association.
        """
        kind, body = self.pdu()
        if kind in _ENDS:
            raise ConnectionAbortedError(f"no answer but a PDU of type {kind}")
        assert kind == 4, f"no answer but a PDU of type {kind}"
        return decode(body[6:])

    def release(self) -> int:
        self.socket.sendall(struct.pack(">BxII", 5, 4, 0))
        return self.pdu()[0]

    def unread_bytes(self) -> int | None:
        """Return how much of what was sent the receiver has not read; None where the kernel does not say.

        The kernel lists connections in pieces, and misses some while others come and go.
        """
        rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
        queues = {(row[1].partition(":")[2], row[2].partition(":")[2]): row[4].split(":") for row in rows}
        here, there = (f"{address[1]:04X}" for address in (self.socket.getsockname(), self.socket.getpeername()))
        if not {(here, there), (there, here)} <= queues.keys():
            return None
        return int(queues[here, there][0], 16) + int(queues[there, here][1], 16)

    def aborted(self) -> bool:
        """Whether the receiver ends the association, with an A-ABORT or a closed connection."""
        try:
            return self.pdu()[0] in _ENDS
        except ConnectionResetError:
            return True


def associate(contexts: tuple[tuple[str, str], ...], *, called: str, calling: str) -> bytes:
    def item(kind: int, value: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(value)) + value

    body = struct.pack(">H2x16s16s32x", 1, called.encode().ljust(16), calling.encode().ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, transfer) in enumerate(contexts):
        syntaxes = item(0x30, abstract.encode()) + item(0x40, transfer.encode())
        body += item(0x20, bytes((2 * number + 1, 0, 0, 0)) + syntaxes)
    body += item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    return struct.pack(">BxI", 1, len(body)) + body


def store_request(sop_class: str, instance: str, *, data_set: int = 1) -> bytes:
    return encode(
        {
            Tag.AFFECTED_SOP_CLASS_UID: sop_class.encode(),
            Tag.COMMAND_FIELD: struct.pack("<H", CommandField.C_STORE),
            Tag.MESSAGE_ID: struct.pack("<H", 7),
            Tag.COMMAND_DATA_SET_TYPE: struct.pack("<H", data_set),
            Tag.AFFECTED_SOP_INSTANCE_UID: instance.encode(),
        }
    )


def data_set(instance: str = "1.3.1", *, sop_class: str = CT, size: int = 20_000, patient: str = "Doe^Jane") -> bytes:
    """Return an implicit little-endian data set."""
    elements = (
        (0x0008, 0x0016, sop_class),
        (0x0008, 0x0018, instance),
        (0x0010, 0x0010, patient),
        (0x0020, 0x000D, "1.4"),
        (0x0020, 0x000E, "1.5"),
        (0x7FE0, 0x0010, "\0" * size),
    )
    padded = ((group, element, (value + "\0" * (len(value) % 2)).encode()) for group, element, value in elements)
    return b"".join(struct.pack("<HHI", group, element, len(value)) + value for group, element, value in padded)


def status(response: Command) -> int:
    return response.number(Tag.STATUS)
