"""Messages out of a connected pair of sockets: what belongs together is put together, all else ends the association."""

import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ainode.node.domain import UID
from ainode.node.receiving.command_set import CommandField, Tag, encode
from ainode.node.receiving.pdu import AbortReason, ProtocolViolation
from ainode.node.receiving.upper_layer import Association, AssociationLost, Channel, PresentationContext

CONTEXT = PresentationContext(1, UID("1.2.840.10008.5.1.4.1.1.2"), UID("1.2.840.10008.1.2"))
RELEASE_REQUEST, ABORT = struct.pack(">BxII", 5, 4, 0), struct.pack(">BxII", 7, 4, 0)
COMMAND, LAST, PDU_BYTES = 0x01, 0x02, 256


@dataclass
class Pair:
    """An association, and the socket of its peer."""

    association: Association
    peer: socket.socket

    def says(self, *pdus: bytes) -> None:
        """Send PDUs as the peer, which says nothing more."""
        self.peer.sendall(b"".join(pdus))
        self.peer.shutdown(socket.SHUT_WR)

    def requests(self) -> list[bytes]:
        """Return the data set of each request until the release."""
        return [b"".join(bytes(part) for part in message.fragments) for message in self.association.messages()]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        connection, _ = server.accept()
        channel = Channel(connection, timeout_s=5)
        yield Pair(Association(channel, {1: CONTEXT}, max_pdu_bytes=PDU_BYTES), peer)
        channel.close()


def value(content: bytes, control: int, context: int = 1) -> bytes:
    return struct.pack(">IBB", len(content) + 2, context, control) + content


def pdu(*values: bytes, kind: int = 4) -> bytes:
    body = b"".join(values)
    return struct.pack(">BxI", kind, len(body)) + body


def request(*, has_data_set: bool = True) -> bytes:
    return encode(
        {
            Tag.COMMAND_FIELD: struct.pack("<H", CommandField.C_STORE),
            Tag.COMMAND_DATA_SET_TYPE: struct.pack("<H", 1 if has_data_set else 0x0101),
        }
    )


WHOLE_REQUEST = pdu(value(request(), COMMAND | LAST))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=900), step=st.integers(1, 200), command_step=st.integers(8, 60))
def test_a_message_is_whole_however_it_is_cut_into_values(content: bytes, step: int, command_step: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        connection, _ = server.accept()
        subject = Pair(Association(Channel(connection, timeout_s=5), {1: CONTEXT}, max_pdu_bytes=PDU_BYTES), peer)
        subject.says(*parts(request(), command_step, COMMAND), *parts(content, step, 0), RELEASE_REQUEST)
        assert subject.requests() == [content]
        assert peer.recv(10, socket.MSG_WAITALL) == struct.pack(">BxII", 6, 4, 0)
        connection.close()


class Counted(Channel):
    """A channel that counts how often it asks the system for bytes."""

    calls = 0

    def _receive(self, buffer: memoryview) -> int:
        self.calls += 1
        return super()._receive(buffer)


def test_the_header_behind_a_value_that_has_come_is_read_with_the_value() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        connection, _ = server.accept()
        channel = Counted(connection, timeout_s=5)
        subject = Pair(Association(channel, {1: CONTEXT}, max_pdu_bytes=PDU_BYTES), peer)
        content = bytes(range(200)) * 5
        said = b"".join((WHOLE_REQUEST, *parts(content, 200, 0), RELEASE_REQUEST))
        subject.says(said)
        assert connection.recv(len(said), socket.MSG_PEEK | socket.MSG_WAITALL) == said, "all has come"
        assert subject.requests() == [content]
        assert channel.calls == 1 + 1 + 5, "the first header, the command, five values"
        connection.close()


@pytest.mark.parametrize("step", [1, 7, 11, 300])
def test_a_message_is_whole_however_its_bytes_come(step: int) -> None:
    content = bytes(range(256)) * 4
    said = b"".join((*parts(request(), 20, COMMAND), *parts(content, 100, 0), *parts(request(), 200, COMMAND)))
    said += b"".join((pdu(value(b"last", LAST)), RELEASE_REQUEST))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        connection, _ = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        subject = Pair(Association(Channel(connection, timeout_s=30), {1: CONTEXT}, max_pdu_bytes=PDU_BYTES), peer)
        taken: list[bytes] = []
        reader = threading.Thread(target=lambda: taken.extend(subject.requests()), daemon=True)
        reader.start()
        for at in range(0, len(said), step):
            peer.sendall(said[at : at + step])
        reader.join(60)
        assert taken == [content, b"last"]
        connection.close()


def parts(content: bytes, step: int, control: int) -> list[bytes]:
    pieces = [content[at : at + step] for at in range(0, len(content), step)]
    return [pdu(value(piece, control | (LAST if piece is pieces[-1] else 0))) for piece in pieces]


def test_a_request_without_data_set_and_values_that_share_a_pdu_are_taken(pair: Pair) -> None:
    echo = pdu(value(request(has_data_set=False), COMMAND | LAST))
    shared = pdu(value(request(), COMMAND | LAST), value(b"ab", 0), value(b"cd", LAST))
    pair.says(echo, shared, RELEASE_REQUEST)
    assert pair.requests() == [b"", b"abcd"]


def test_what_a_service_leaves_of_a_data_set_is_skipped_before_the_response(pair: Pair) -> None:
    pair.says(WHOLE_REQUEST, pdu(value(b"unread", 0)), pdu(value(b"too", LAST)), RELEASE_REQUEST)
    for message in pair.association.messages():
        pair.association.respond(message, b"response")
    answers = pdu(value(b"response", COMMAND | LAST)) + struct.pack(">BxII", 6, 4, 0)
    assert pair.peer.recv(len(answers), socket.MSG_WAITALL) == answers


VIOLATIONS = {
    "a data set without a request": pdu(value(b"data", LAST)),
    "another request within a data set": WHOLE_REQUEST * 2,
    "a release within a data set": WHOLE_REQUEST + RELEASE_REQUEST,
    "a context that was not accepted": pdu(value(request(), COMMAND | LAST, context=3)),
    "a value that is longer than its PDU": pdu(struct.pack(">IBB", 100, 1, 3)),
    "an empty value": pdu(struct.pack(">IBB", 1, 1, 3)),
    "a PDU that ends within a value": pdu(value(request(), COMMAND | LAST), b"\0\0"),
    "a PDU that is longer than the maximum": pdu(value(bytes(PDU_BYTES), COMMAND | LAST)),
    "a second association request": pdu(bytes(10), kind=1),
    "a PDU of an unknown type": pdu(bytes(10), kind=9),
    "a command without an end": pdu(value(bytes(200), COMMAND)) * 400,
    "a command that is none": pdu(value(b"no command", COMMAND | LAST)),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_what_breaks_the_protocol_ends_the_association_with_a_reason(pair: Pair, violation: str) -> None:
    pair.says(VIOLATIONS[violation])
    with pytest.raises(ProtocolViolation) as ended:
        pair.requests()
    assert ended.value.reason in AbortReason


@pytest.mark.parametrize(("ending", "reason"), [(ABORT, "aborted"), (b"", "closed"), (b"\x04\0\0", "closed")])
def test_a_peer_that_is_gone_is_said_to_be(pair: Pair, ending: bytes, reason: str) -> None:
    pair.says(WHOLE_REQUEST, pdu(value(b"first", 0)), ending)
    with pytest.raises(AssociationLost, match=reason):
        pair.requests()


@pytest.mark.parametrize("opening", [RELEASE_REQUEST, struct.pack(">BxI", 1, 1 << 20), b"GET / HTTP/1.1\r\n\r\n"])
def test_what_opens_no_association_is_refused_before_its_length_is_believed(pair: Pair, opening: bytes) -> None:
    pair.says(opening)
    with pytest.raises(ProtocolViolation, match="longer than 262144 bytes"):
        pair.association._channel.associate_request()
