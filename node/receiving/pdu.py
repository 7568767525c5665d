"""The PDUs that the acceptor of an association needs (PS3.8 9.3); each length is checked against the received bytes.

The receiver does not use pynetdicom, whose import takes 45 MB, and whose decoders raise any exception on hostile bytes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ainode.node.encoding.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ainode.node.errors import NodeError

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
# PS3.8 9.3.2.2: identifiers are odd numbers from 1 to 255.
_MAX_CONTEXTS: Final = 128
# 128 contexts with 70 transfer syntaxes each, which are more than PS3.6 has. A request of empty items would take the
# interpreter from every other caller.
_MAX_ITEMS: Final = 10_000
RELEASE_RESPONSE: Final = struct.pack(">BxII", 0x06, 4, 0)


class PduType(IntEnum):
    """The types of PDUs (PS3.8 9.3.1)."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    DATA = 0x04
    RELEASE_RQ = 0x05
    ABORT = 0x07


class _Item(IntEnum):
    """The types of items in an A-ASSOCIATE PDU (PS3.8 9.3.2, PS3.7 D.3.3)."""

    APPLICATION_CONTEXT = 0x10
    PRESENTATION_CONTEXT_RQ = 0x20
    PRESENTATION_CONTEXT_AC = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS = 0x52
    ROLE_SELECTION = 0x54
    IMPLEMENTATION_VERSION = 0x55


class AbortReason(IntEnum):
    """The reason of an A-ABORT by the service provider (PS3.8 9.3.8)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class ProtocolViolation(NodeError):
    """The peer broke the upper layer protocol; the node aborts the association."""

    def __init__(self, message: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        """Take the message, and the reason for the A-ABORT."""
        super().__init__(message)
        self.reason = reason


class ContextResult(IntEnum):
    """The answer to one presentation context (PS3.8 table 9-18)."""

    ACCEPTED = 0
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


class Rejection(IntEnum):
    """Result, source and reason of an A-ASSOCIATE-RJ as one number (PS3.8 table 9-21)."""

    APPLICATION_CONTEXT_NOT_SUPPORTED = 0x010102
    CALLING_AE_TITLE_NOT_RECOGNIZED = 0x010103
    CALLED_AE_TITLE_NOT_RECOGNIZED = 0x010107
    PROTOCOL_VERSION_NOT_SUPPORTED = 0x010202
    LOCAL_LIMIT_EXCEEDED = 0x020302


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context that the requestor proposes."""

    identifier: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """The node's answer to a presentation context."""

    identifier: int
    abstract_syntax: str
    result: ContextResult
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Role:
    """SCP/SCU role selection for one SOP class (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """The content of an A-ASSOCIATE-RQ."""

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    application_context: str
    contexts: tuple[ProposedContext, ...]
    roles: tuple[Role, ...]


def proposal(body: bytes) -> Proposal:
    """Return the content of an A-ASSOCIATE-RQ; `body` begins after the PDU length.

    Raises: ProtocolViolation if a length exceeds the body.
    """
    fixed_bytes = 68
    if len(body) < fixed_bytes:
        raise ProtocolViolation("the A-ASSOCIATE-RQ is cut off")
    version, called, calling = struct.unpack_from(">H2x16s16s", body)
    application_context, contexts, roles, budget = "", [], [], iter(range(_MAX_ITEMS))
    for kind, value in _items(body[fixed_bytes:], budget):
        if kind == _Item.APPLICATION_CONTEXT:
            application_context = _text(value)
        elif kind == _Item.PRESENTATION_CONTEXT_RQ:
            contexts.append(_context(value, budget))
            if len(contexts) > _MAX_CONTEXTS:
                raise ProtocolViolation(f"the A-ASSOCIATE-RQ has more than {_MAX_CONTEXTS} presentation contexts")
        elif kind == _Item.USER_INFORMATION:
            roles = [_role(item) for item_type, item in _items(value, budget) if item_type == _Item.ROLE_SELECTION]
    return Proposal(version, _text(called), _text(calling), application_context, tuple(contexts), tuple(roles))


def _items(encoded: bytes, budget: Iterator[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the value of each item, of which the whole request has as many as the budget."""
    position = 0
    while position < len(encoded):
        if next(budget, None) is None:
            raise ProtocolViolation(f"the A-ASSOCIATE-RQ has more than {_MAX_ITEMS} items")
        if position + 4 > len(encoded):
            raise ProtocolViolation("an item of the A-ASSOCIATE-RQ is cut off")
        kind, length = struct.unpack_from(">BxH", encoded, position)
        position += 4 + length
        if position > len(encoded):
            raise ProtocolViolation("an item of the A-ASSOCIATE-RQ is longer than the item around it")
        yield kind, encoded[position - length : position]


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def _context(value: bytes, budget: Iterator[int]) -> ProposedContext:
    if len(value) < 4:  # noqa: PLR2004 - identifier and three reserved bytes
        raise ProtocolViolation("a presentation context is cut off")
    items = [(kind, _text(item)) for kind, item in _items(value[4:], budget)]
    abstract_syntaxes = [text for kind, text in items if kind == _Item.ABSTRACT_SYNTAX]
    transfer_syntaxes = tuple(text for kind, text in items if kind == _Item.TRANSFER_SYNTAX)
    if len(abstract_syntaxes) != 1 or not transfer_syntaxes:
        raise ProtocolViolation("a presentation context lacks an abstract syntax or a transfer syntax")
    return ProposedContext(value[0], abstract_syntaxes[0], transfer_syntaxes)


def _role(value: bytes) -> Role:
    length = int.from_bytes(value[:2], "big")
    if len(value) != length + 4:
        raise ProtocolViolation("a role selection has the wrong length")
    return Role(_text(value[2:-2]), scu=bool(value[-2]), scp=bool(value[-1]))


def _item(kind: _Item, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _pdu(kind: PduType, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def acceptance(
    request: Proposal, contexts: tuple[AnsweredContext, ...], roles: tuple[Role, ...], *, max_pdu_bytes: int
) -> bytes:
    """Return the encoded A-ASSOCIATE-AC; `max_pdu_bytes` is the length of the longest PDU that the node accepts."""
    user = _item(_Item.MAXIMUM_LENGTH, struct.pack(">I", max_pdu_bytes))
    user += _item(_Item.IMPLEMENTATION_CLASS, IMPLEMENTATION_CLASS_UID.encode())
    for role in roles:
        uid = role.sop_class_uid.encode()
        user += _item(_Item.ROLE_SELECTION, struct.pack(">H", len(uid)) + uid + bytes((role.scu, role.scp)))
    user += _item(_Item.IMPLEMENTATION_VERSION, IMPLEMENTATION_VERSION_NAME.encode())
    titles = (title.encode("ascii").ljust(16) for title in (request.called_ae_title, request.calling_ae_title))
    body = struct.pack(">H2x16s16s32x", 1, *titles) + _item(_Item.APPLICATION_CONTEXT, APPLICATION_CONTEXT.encode())
    for context in contexts:
        transfer = _item(_Item.TRANSFER_SYNTAX, context.transfer_syntax.encode("ascii", "replace"))
        answer = struct.pack(">BxBx", context.identifier, context.result) + transfer
        body += _item(_Item.PRESENTATION_CONTEXT_AC, answer)
    return _pdu(PduType.ASSOCIATE_AC, body + _item(_Item.USER_INFORMATION, user))


def rejection(reason: Rejection) -> bytes:
    """Return the encoded A-ASSOCIATE-RJ."""
    return _pdu(PduType.ASSOCIATE_RJ, b"\0" + reason.to_bytes(3, "big"))


def abort(reason: AbortReason) -> bytes:
    """Return the encoded A-ABORT of the service provider."""
    return _pdu(PduType.ABORT, bytes((0, 0, 2, reason)))


def command_pdu(context: int, command: bytes) -> bytes:
    """Return a P-DATA-TF that holds one whole command set."""
    return _pdu(PduType.DATA, struct.pack(">IBB", len(command) + 2, context, 0x03) + command)
