"""DIMSE messages from an accepted connection: blocking reads into one buffer; a data fragment is a view of the buffer.

The kernel collects a whole fragment (MSG_WAITALL), so an image takes few system calls, and Python waits outside the
interpreter lock. The kernel's timeouts limit the duration of each call; the channel says how long the peer may take for
all of it, and the accepting thread cuts a channel whose peer takes longer.
"""

import contextlib
import math
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from ainode.node.domain import UID
from ainode.node.errors import CannotUnderstand, NodeError
from ainode.node.receiving.command_set import MAX_COMMAND_BYTES, Command, decode
from ainode.node.receiving.pdu import RELEASE_RESPONSE, AbortReason, PduType, ProtocolViolation, abort, command_pdu

# 128 presentation contexts with 10 transfer syntaxes of 64 characters each have 100 kB.
MAX_ASSOCIATE_BYTES: Final = 1 << 18
_PDU: Final = struct.Struct(">BxI")
# A release and an abort have 10 bytes; so has the header of a P-DATA-TF with the length of its first value.
_PDU_AND_LENGTH: Final = struct.Struct(">BxII")
_SHORTEST_VALUE: Final = 6
# A quarter of the slowest lines that carry images (64 kbit/s, an ISDN channel or a satellite telephone).
LOWEST_BYTES_PER_S: Final = 2000
# struct tcp_info of Linux 4.1 and later, tcp(7): milliseconds since data came, and the number of bytes that came.
_TCP_INFO: Final = struct.Struct("@52xI72xQ")
_IS_COMMAND, _IS_LAST = 0x01, 0x02


class AssociationLost(NodeError):
    """The peer aborted, closed the connection, or was silent for too long."""


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """The meaning of a context identifier in this association."""

    identifier: int
    abstract_syntax: UID
    transfer_syntax: UID


@dataclass(frozen=True, slots=True)
class Message:
    """One request; iterating `fragments` reads its data set, and the response skips the rest of the data set."""

    context: PresentationContext
    command: Command
    fragments: Iterator[memoryview] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class _Fragment:
    """One presentation data value (PS3.8 9.3.5.1)."""

    context: PresentationContext
    is_command: bool
    is_last: bool
    content: memoryview


class Channel:
    """A connected socket that carries PDUs.

    A peer may let the node wait for `timeout_s` in a whole message, and for as long as its bytes take at the lowest
    rate: a byte now and then keeps no association open. The time that the node itself needs does not count.
    """

    def __init__(self, connection: socket.socket, *, timeout_s: float) -> None:
        """Turn off Nagle's algorithm, so that no answer waits for the peer's delayed acknowledgment."""
        self._socket = connection
        self._patience_s = self._left_s = timeout_s
        self._cut_reason = ""
        self.waiting_since_s = math.inf
        """when the node began to wait for the peer, by the monotonic clock; infinite while the node does not wait"""
        self.longest_wait_s = timeout_s
        """how long the present wait may last"""
        self.is_between_messages = False
        self._ahead = memoryview(bytearray(_PDU_AND_LENGTH.size))
        self._kept = self._ahead[:0]
        """what came with the last read, behind it"""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(True)  # noqa: FBT003 - the signature of socket
        timeval = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, timeval)

    def open(self) -> None:
        """Prepare the channel for the first PDU; this class prepares nothing."""

    def identities(self) -> frozenset[str]:
        """Return the identities of the caller's certificate; without TLS there is none."""
        return frozenset()

    def read(self, buffer: memoryview) -> None:
        """Read as many bytes as `buffer` holds.

        Raises: AssociationLost if the peer closed the connection, is silent, or was cut.
        """
        if self._kept:
            size = min(len(self._kept), len(buffer))
            buffer[:size], self._kept, buffer = self._kept[:size], self._kept[size:], buffer[size:]
            if not buffer:
                return
        self.longest_wait_s = longest_s = self._left_s + len(buffer) / LOWEST_BYTES_PER_S
        self.waiting_since_s = begin_s = time.monotonic()
        while buffer:
            try:
                received_bytes = self._receive(buffer)
            except (BlockingIOError, TimeoutError) as error:
                raise AssociationLost("the peer was silent for longer than node.network_timeout_s") from error
            except OSError as error:
                raise AssociationLost(self._cut_reason or f"the connection was lost: {error.strerror}") from error
            if not received_bytes:
                raise AssociationLost(self._cut_reason or "the peer closed the connection without a release")
            buffer = buffer[received_bytes:]  # empty now, unless a signal or the time limit ended the call early
        self.waiting_since_s = math.inf
        self._left_s = min(longest_s - (time.monotonic() - begin_s), self._patience_s)

    def begin_message(self) -> None:
        """Give the peer the whole time for the rest of a message that has begun."""
        self.is_between_messages = False
        self._left_s = self._patience_s

    def send(self, pdu: bytes) -> None:
        """Send one PDU.

        Raises: AssociationLost if the peer does not accept the PDU.
        """
        self.longest_wait_s = self._patience_s
        self.waiting_since_s = time.monotonic()
        try:
            self._socket.sendall(pdu)
        except OSError as error:
            reason = self._cut_reason or f"the peer does not accept the answer: {error.strerror}"
            raise AssociationLost(reason) from error
        self.waiting_since_s = math.inf
        self._left_s = self._patience_s

    def associate_request(self) -> bytes:
        """Return the body of the A-ASSOCIATE-RQ that opens the association."""
        header = bytearray(_PDU.size)
        self.read(memoryview(header))
        kind, length = _PDU.unpack(header)
        if kind != PduType.ASSOCIATE_RQ or length > MAX_ASSOCIATE_BYTES:
            raise ProtocolViolation(
                f"the first PDU is no A-ASSOCIATE-RQ, or is longer than {MAX_ASSOCIATE_BYTES} bytes",
                AbortReason.UNEXPECTED_PDU,
            )
        body = bytearray(length)
        self.read(memoryview(body))
        return bytes(body)

    def abort(self, reason: AbortReason = AbortReason.NOT_SPECIFIED) -> None:
        """Send an A-ABORT if the connection takes it at once, and close both directions."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(0.0)
            self._socket.send(abort(reason))
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def interrupt(self) -> None:
        """End the association from another thread, which never waits for the peer."""
        with contextlib.suppress(OSError):
            self._socket.send(abort(AbortReason.NOT_SPECIFIED), socket.MSG_DONTWAIT)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def cut(self, reason: str) -> None:
        """End the association from another thread; the thread of the association raises the reason."""
        self._cut_reason = reason
        self.interrupt()

    def reception(self) -> tuple[float, int]:
        """Return the seconds since the kernel received anything from the peer, and the number of bytes in all."""
        try:
            state = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        except OSError:  # the connection is closed
            return math.inf, 0
        silence_ms, received_bytes = _TCP_INFO.unpack(state)
        return silence_ms / 1000, received_bytes

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _receive(self, buffer: memoryview) -> int:
        """Read bytes into `buffer` and return their number, 0 at the end of the stream.

        Behind a value mostly lies the header of the next: read along, it costs no call of its own, for each of which
        threads contend.
        """
        size = self._socket.recvmsg_into((buffer, self._ahead))[0]
        if size > len(buffer):
            self._kept, size = self._ahead[: size - len(buffer)], len(buffer)
        elif 0 < size < len(buffer):
            size += self._socket.recv_into(buffer[size:], 0, socket.MSG_WAITALL)
        return size


class Opener(Protocol):
    """A function that returns the channel of an accepted connection."""

    def __call__(self, connection: socket.socket, /, *, timeout_s: float) -> Channel:
        """Return a channel that owns the connection; nothing is read or sent yet."""
        ...


class Association:
    """An accepted association: yields the peer's requests, and sends the responses."""

    def __init__(self, channel: Channel, contexts: Mapping[int, PresentationContext], *, max_pdu_bytes: int) -> None:
        """Allocate the buffer that receives every fragment."""
        self._channel = channel
        self._contexts = contexts
        self._max_pdu_bytes = max_pdu_bytes
        self._buffer = memoryview(bytearray(max_pdu_bytes))
        self._remaining_bytes = 0  # of the current P-DATA-TF

    def messages(self) -> Iterator[Message]:
        """Yield requests until the peer releases the association, and confirm the release.

        Raises: AssociationLost, ProtocolViolation.
        """
        self._channel.is_between_messages = True
        while (fragment := self._next_fragment()) is not None:
            self._channel.begin_message()
            yield self._message(fragment)
            self._channel.is_between_messages = True
        self._channel.send(RELEASE_RESPONSE)

    def respond(self, message: Message, response: bytes) -> None:
        """Skip the unread rest of the data set, and send an encoded response."""
        deque(message.fragments, maxlen=0)
        self._channel.send(command_pdu(message.context.identifier, response))

    def _message(self, fragment: _Fragment) -> Message:
        """Return the message that begins with this fragment."""
        context, encoded = fragment.context, bytes(fragment.content[: MAX_COMMAND_BYTES + 1])
        while not fragment.is_last and len(encoded) <= MAX_COMMAND_BYTES:
            fragment = self._fragment_of_message(context, is_command=True)
            encoded += fragment.content
        if len(encoded) > MAX_COMMAND_BYTES:
            raise ProtocolViolation(f"a command set is longer than {MAX_COMMAND_BYTES} bytes")
        try:
            command = decode(encoded)
        except CannotUnderstand as error:
            raise ProtocolViolation(str(error)) from error
        if command.is_response or not fragment.is_command:
            raise ProtocolViolation(
                "the message is a response, or a data set without a request", AbortReason.UNEXPECTED_PDU
            )
        return Message(context, command, self._data_set(context) if command.has_data_set else iter(()))

    def _data_set(self, context: PresentationContext) -> Iterator[memoryview]:
        is_last = False
        while not is_last:
            fragment = self._fragment_of_message(context, is_command=False)
            is_last = fragment.is_last
            yield fragment.content

    def _fragment_of_message(self, context: PresentationContext, *, is_command: bool) -> _Fragment:
        """Return the next fragment, which must belong to the same message.

        Raises: ProtocolViolation if another PDU or fragment arrives instead.
        """
        fragment = self._next_fragment()
        if fragment is None or fragment.context != context or fragment.is_command != is_command:
            raise ProtocolViolation("a message was interrupted by another PDU", AbortReason.UNEXPECTED_PDU)
        return fragment

    def _next_fragment(self) -> _Fragment | None:
        """Return the next fragment, None if the peer releases the association."""
        if self._remaining_bytes:
            length = self._following_length()
        elif (first := self._first_length()) is not None:
            length = first
        else:
            return None
        if not 2 <= length <= self._remaining_bytes:  # noqa: PLR2004 - context and control
            raise ProtocolViolation("a presentation data value is empty, or longer than its PDU")
        value = self._buffer[:length]
        self._channel.read(value)
        self._remaining_bytes -= length
        context = self._contexts.get(value[0])
        if context is None:
            raise ProtocolViolation("a message arrived in a presentation context that was not accepted")
        return _Fragment(context, bool(value[1] & _IS_COMMAND), bool(value[1] & _IS_LAST), value[2:])

    def _first_length(self) -> int | None:
        """Return the length of the first value of the next P-DATA-TF, None for an A-RELEASE-RQ."""
        header = self._buffer[: _PDU_AND_LENGTH.size]
        self._channel.read(header)
        kind, pdu_length, length = _PDU_AND_LENGTH.unpack(header)
        if kind == PduType.RELEASE_RQ:
            return None
        if kind == PduType.ABORT:
            raise AssociationLost("the peer aborted the association")
        if kind != PduType.DATA:
            is_pdu_type = kind in PduType.__members__.values()
            reason = AbortReason.UNEXPECTED_PDU if is_pdu_type else AbortReason.UNRECOGNIZED_PDU
            raise ProtocolViolation(f"a PDU of type {kind:02X} is not allowed in an open association", reason)
        if not _SHORTEST_VALUE <= pdu_length <= self._max_pdu_bytes:
            raise ProtocolViolation(f"a PDU of {pdu_length} bytes is empty, or longer than {self._max_pdu_bytes} bytes")
        self._remaining_bytes = pdu_length - 4
        return int(length)

    def _following_length(self) -> int:
        """Return the length of the next value of the same P-DATA-TF."""
        if self._remaining_bytes < _SHORTEST_VALUE:
            raise ProtocolViolation("a PDU ends in the middle of a presentation data value")
        header = self._buffer[:4]
        self._channel.read(header)
        self._remaining_bytes -= 4
        return int.from_bytes(header, "big")
