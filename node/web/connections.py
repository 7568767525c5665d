"""Connections over HTTP: what a stranger sends has a time limit as a whole, and silent connections make room.

uvicorn has no time limit for a head, nor for an answer that nobody reads, and answers 503 to everybody while many
connections are silent.
"""

import asyncio
import contextlib
import ssl
from collections import Counter
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr

from ainode.node.receiving.places import network_of
from ainode.node.tls import HANDSHAKE_S
from ainode.node.web.limits import ADMITTED, Complaints

# Of a head, and of the body of a stranger, counted from the connection or from the answer before.
_HEAD_S: Final = 10.0
# So many bytes are parsed at a time as long as there is no whole head: h11 measures only a head that is not whole.
_HEAD_BYTES: Final = 16_384
# The chunks of a body may be small, but not all of them: each costs as much as a large chunk.
_MANY_CHUNKS: Final = 1_000
_SMALL_CHUNK_BYTES: Final = 64
# What is left of a body after the answer is read for so long, and no more bytes, so that the answer arrives.
_LINGER_S: Final = 2.0
_LINGER_BYTES: Final = 65_536
# Of each piece of an answer that nobody takes off the socket.
_UNREAD_S: Final = 30.0


class Places:
    """The open connections, which are limited: the address with the most silent connections loses its oldest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[BoundedProtocol] = set()
        self._silent: dict[BoundedProtocol, str] = {}

    def wait(self, connection: "BoundedProtocol", address: str) -> None:
        """Note that a connection has no request, and make room if there are too many connections."""
        self._open.add(connection)
        self._silent.pop(connection, None)
        self._silent[connection] = address
        while len(self._open) > self._limit:
            ((crowd, _),) = Counter(self._silent.values()).most_common(1)
            oldest = next(silent for silent, address in self._silent.items() if address == crowd)
            self.leave(oldest)
            oldest.abort()

    def work(self, connection: "BoundedProtocol") -> None:
        """Note that a connection has a request that is whole, or of a caller who is known: nobody displaces it."""
        self._silent.pop(connection, None)

    def leave(self, connection: "BoundedProtocol") -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self._silent.pop(connection, None)


class _Connection(h11.Connection):
    """The parser of h11, which refuses a body of many small chunks."""

    _chunks, _bytes = 0, 0

    def next_event(self) -> Any:  # noqa: ANN401 - as the base class
        """Return the next event.

        Raises: h11.RemoteProtocolError if the bytes are no HTTP, or the chunks are too small.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += 1
            self._bytes += len(event.data)
            if self._chunks > _MANY_CHUNKS and self._bytes < self._chunks * _SMALL_CHUNK_BYTES:
                raise h11.RemoteProtocolError("too many small chunks")
        return event


class BoundedProtocol(H11Protocol):
    """The protocol of uvicorn with time limits and, if there is a context, TLS."""

    def __init__(
        self,
        places: Places,
        complaints: Complaints,
        context: ssl.SSLContext | None,
        **options: Any,  # noqa: ANN401 - as the base class
    ) -> None:
        super().__init__(**options)
        self.conn = _Connection(h11.SERVER, _HEAD_BYTES)
        self._places, self._complaints, self._context = places, complaints, context
        self._address, self._unread_bytes, self._early = "", 0, b""
        self._timer: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base class
        """Take a place, and begin; over TLS, begin after a handshake that has a time limit."""
        self.transport = transport
        self._address = (get_remote_addr(transport) or ("", 0))[0]
        self._places.wait(self, network_of(self._address))
        self._end_after(_HEAD_S)
        if self._context is None:
            super().connection_made(transport)
        else:
            self.connections.add(self)
            transport.pause_reading()
            self._handshake = self.loop.create_task(self._begin_tls(transport, self._context))

    async def _begin_tls(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        secured = None
        # A caller that speaks no TLS, or leaves: no server has an answer to such a caller.
        with contextlib.suppress(OSError):
            secured = await self.loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        if secured is None or secured.is_closing():
            self.connections.discard(self)
            self._forget()
            transport.abort()
        else:
            super().connection_made(secured)
            if self._early:  # no bytes would be the end of the connection
                self.data_received(self._early)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request; after the answer, not many of them."""
        if self.flow is None:  # the bytes came together with the end of the handshake
            self._early += data
            return
        begin = 0
        while begin < len(data) and not self.transport.is_closing():
            end = len(data) if self._is_working() else begin + _HEAD_BYTES
            super().data_received(data[begin:end])
            begin = end
        if self._is_unread():
            self._unread_bytes += len(data)
            if self._unread_bytes > _LINGER_BYTES:
                self.flow.pause_reading()

    def handle_events(self) -> None:
        """Handle what arrived; with a whole request, or if the caller is known, the connection is no longer silent."""
        super().handle_events()
        if self._is_working():
            self.cycle.scope["state"][ADMITTED] = self._admit
            if not self.cycle.more_body:
                self._admit()

    def _admit(self) -> None:
        """Keep the place of a request, and limit its time no longer as that of a stranger."""
        if self._is_working():
            self._places.work(self)
            self._end_after(None)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that nobody wants."""
        self._unread_bytes = 0
        self._places.wait(self, network_of(self._address))
        self._end_after(_LINGER_S if self._is_unread() else _HEAD_S)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; the request that runs meanwhile, if any, ends as if the caller had left."""
        self._complaints.note("malformed_request", "a request is no HTTP", self._address)
        if self._is_working():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:  # an answer has begun, or is complete
            self.abort()

    def pause_writing(self) -> None:
        """Limit the time in which nobody reads the answer."""
        super().pause_writing()
        self._end_after(_UNREAD_S)

    def resume_writing(self) -> None:
        """Go on: the answer is read."""
        super().resume_writing()
        self._end_after(None if self._is_working() else _HEAD_S)

    def shutdown(self) -> None:
        """End as the base class does; an answer without an end ends at once, and its page asks again later."""
        super().shutdown()
        if self._is_working() and (b"accept", b"text/event-stream") in self.cycle.scope["headers"]:
            self.transport.close()

    def abort(self) -> None:
        """Close the connection, whatever is unsent."""
        self.transport.abort()

    def _is_working(self) -> bool:
        """Return whether a request has a whole head and no whole answer."""
        return self.cycle is not None and not (self.cycle.response_complete or self.cycle.disconnected)

    def _is_unread(self) -> bool:
        """Return whether the caller still sends the body of a request that is answered."""
        is_answered = self.cycle is not None and self.cycle.response_complete
        return is_answered and self.conn.their_state is h11.SEND_BODY

    def _end_after(self, seconds: float | None) -> None:
        """Abort the connection after so many seconds, instead of earlier times; None is never."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.abort)

    def _forget(self) -> None:
        self._end_after(None)
        self._places.leave(self)
