"""HL7 v2 messages to a listener over MLLP: each message is framed, and its acknowledgment is the proof that it arrived.

HL7 v2.5.1 chapter 2.9 (acknowledgments), and its implementation guide, appendix C (Minimal Lower Layer Protocol).
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ainode.node import tls
from ainode.node.archive.store import Outgoing, SendOutcome, always
from ainode.node.domain import UID, InstanceRef
from ainode.node.encoding.hl7 import Acknowledgment, acknowledgment, codec_of, control_id_of
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable, NotSent
from ainode.node.settings import Peer

_BEGIN, _END, _RETURN = b"\x0b", b"\x1c", b"\x0d"
# An acknowledgment has three or four lines.
_MAX_ANSWER_BYTES: Final = 65_536
_BLOCK_BYTES: Final = 4_096
# What listeners write before a frame or a segment: ends of lines, and the byte order mark of UTF-8 (of .NET).
_MARK: Final = b"\xef\xbb\xbf"
_LEADING: Final = b"\r\n \t" + _MARK
_TAKEN: Final = frozenset({"AA", "CA"})
_REJECTED: Final = frozenset({"AR", "CR"})
_FAILED: Final = frozenset({"AE", "CE"})
# HL7 table 0357. The same bytes have the same fault again: segment sequence, required field, data type, table value;
# unsupported message type, event, processing id, version; and a key that is there already.
_LASTING: Final = frozenset({"100", "101", "102", "103", "200", "201", "202", "203", "205"})
# A record is locked; an internal error of the listener.
_PASSING: Final = frozenset({"206", "207"})


@dataclass(frozen=True, slots=True)
class MessageLink:
    """A listener; each connection and each answer may take `answer_s` of its `[peer.hl7]`."""

    peer: Peer

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """Open a connection, over TLS if the peer has TLS; close it at the end.

        Raises: ArchiveUnreachable, also for a connection that breaks off in the body, and for a file that cannot be
        used; NotSent if there is no connection.
        """
        peer, where = self.peer, f"{self.peer.host}:{self.peer.port}"
        error_class: type[ArchiveUnreachable] = NotSent
        with tls.patience_with_files():
            context = tls.calling(peer) if peer.tls else None
        try:
            with socket.create_connection((peer.host, peer.port), peer.listener.answer_s) as plain:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if context is None:
                    error_class = ArchiveUnreachable
                    yield plain
                    return
                with context.wrap_socket(plain, server_hostname=peer.host) as secured:
                    error_class = ArchiveUnreachable
                    yield secured
        except ssl.SSLError as error:
            reason = tls.failure_reason(error)
            raise error_class(
                f"{peer.name}: no TLS with {where} ({reason}); look at tls, ca_file and tls_certificate of this "
                "[[peer]], and at the log of the listener"
            ) from error
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", "") or "no answer in time"
            raise error_class(
                f"{peer.name}: the connection with {where} failed ({reason}); check that the listener runs, and host "
                "and port of this [[peer]] in node.toml"
            ) from error


def connect(link: MessageLink) -> None:
    """Open a connection and close it; no message is sent.

    Raises: ArchiveUnreachable.
    """
    with link.connection():
        pass


def send(
    link: MessageLink, documents: Sequence[Outgoing], may_leave: Callable[[], None] = always
) -> tuple[SendOutcome, ...]:
    """Send the messages over one connection and return the outcome of each, in their order, as `store.send` does.

    Each is sent once its predecessor is acknowledged. After a failure of the connection, or an answer to nothing that
    was asked, the remaining messages get the error, for a later retry: what comes later on the connection may be of an
    earlier message. `may_leave` is called before each message leaves.

    Raises: OSError if a file cannot be read. A failure of the listener is an outcome.
    """
    outcomes: list[SendOutcome] = []
    if not documents:
        return ()
    contents = [document.read() for document in documents]
    try:
        with link.connection() as connection:
            for document, content in zip(documents, contents, strict=True):
                may_leave()
                answer = _answer(link, connection, content)
                outcomes.append(_outcome(link.peer, document, answer))
    except ArchiveError as error:
        outcomes.extend(SendOutcome.failed(document, error) for document in documents[len(outcomes) :])
    return tuple(outcomes)


def confirm_by_query(link: MessageLink, refs: Sequence[InstanceRef]) -> frozenset[UID]:
    """Return nothing: nobody can ask a listener what it has.

    Raises: ArchiveRefused.
    """
    raise ArchiveRefused(f"{link.peer.name}: a listener cannot be asked for {len(refs)} messages", archive_status=None)


def _answer(link: MessageLink, connection: socket.socket, content: bytes) -> Acknowledgment:
    """Send a message and return its acknowledgment.

    Raises: ArchiveUnreachable if there is none, or what comes is none; OSError if the connection breaks off.
    """
    name, control_id = link.peer.name, control_id_of(content)
    connection.settimeout(link.peer.listener.answer_s)
    connection.sendall(_BEGIN + content + _END + _RETURN)
    frame = _frame(link, connection)
    try:
        answer = acknowledgment(frame, codec_of(link.peer.listener.character_set))
    except ValueError as error:
        raise ArchiveUnreachable(
            f"{name}: answers to message {control_id} with what is no acknowledgment ({error}); see its log"
        ) from error
    if not answer.control_id:
        raise ArchiveUnreachable(
            f"{name}: acknowledges no message by its control id (MSA-2), which is no proof for {control_id}; it "
            "is sent again; let the listener repeat MSH-10"
        )
    if answer.control_id != control_id:
        raise ArchiveUnreachable(
            f"{name}: acknowledges another message than {control_id}, which is sent again; see the log of the listener"
        )
    return answer


def _frame(link: MessageLink, connection: socket.socket) -> bytes:
    """Return what a listener answers, without its frame; a listener that drips has no more time than one that is quiet.

    Raises: ArchiveUnreachable if the connection ends first, or the answer is no frame; OSError.
    """
    name, received = link.peer.name, b""
    deadline = time.monotonic() + link.peer.listener.answer_s
    while _END not in received:
        rest_s = deadline - time.monotonic()
        if rest_s <= 0:
            raise TimeoutError
        connection.settimeout(rest_s)
        block = connection.recv(_BLOCK_BYTES)
        if not block:
            part = "in the middle of its answer" if received else "without an answer"
            raise ArchiveUnreachable(f"{name}: closed the connection {part}; the message is sent again")
        received = (received + block).lstrip(_LEADING)
        if (received and not received.startswith(_BEGIN)) or len(received) > _MAX_ANSWER_BYTES:
            raise ArchiveUnreachable(f"{name}: answers with what is no MLLP frame; look at the port of this [[peer]]")
    return received[len(_BEGIN) : received.index(_END)].removeprefix(_MARK)


def _outcome(peer: Peer, document: Outgoing, answer: Acknowledgment) -> SendOutcome:
    """Return the outcome of a message: taken, refused for good, or refused for now."""
    uid, words = document.sop_instance_uid, answer.text
    if answer.code in _TAKEN:
        return SendOutcome(uid, 0, comment=words)
    code = f"{answer.code}, error {answer.error_code}" if answer.error_code else answer.code
    if answer.code not in _REJECTED | _FAILED:
        error: ArchiveError = ArchiveUnreachable(
            f"{peer.name}: answers to message {answer.control_id} with an unknown code; see the log of the listener"
        )
    elif answer.error_code in _LASTING or (answer.code in _REJECTED and answer.error_code not in _PASSING):
        remedy = "let the listener take ORU^R01 of version 2.5.1, or correct [peer.hl7], then `ainode retry`"
        text = f"{peer.name}: refused message {answer.control_id} with {code}; {remedy}"
        error = ArchiveRefused(text, archive_status=None, comment=words)
    else:
        text = f"{peer.name}: cannot take message {answer.control_id} now ({code}); see the log of the listener"
        error = ArchiveUnreachable(text, comment=words)
    return SendOutcome(uid, None, error, words)
