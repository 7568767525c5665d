"""The PDUs of the upper layer protocol as an acceptor meets them (PS3.8 9.3); every length is held against the bytes.

Written here and not taken from pynetdicom: importing it costs the receiver 45 MB, and its decoders raise whatever
hostile bytes make them raise.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ainode.node.encoding.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ainode.node.errors import NodeError

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
RELEASE_RESPONSE: Final = struct.pack(">BxII", 0x06, 4, 0)


class PduType(IntEnum):
    """PS3.8 9.3.1."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    DATA = 0x04
    RELEASE_RQ = 0x05
    ABORT = 0x07


class _Item(IntEnum):
    """PS3.8 9.3.2, PS3.7 D.3.3."""

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
    """Why the service provider aborts (PS3.8 9.3.8)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class ProtocolViolation(NodeError):
    """The peer does not speak the upper layer protocol: the association is aborted."""

    def __init__(self, message: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        """Keep the reason that the A-ABORT carries."""
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
    """A presentation context as the requestor offers it."""

    identifier: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """A presentation context as we answer it."""

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
    """An A-ASSOCIATE-RQ."""

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    application_context: str
    contexts: tuple[ProposedContext, ...]
    roles: tuple[Role, ...]


def proposal(body: bytes) -> Proposal:
    """Return what the A-ASSOCIATE-RQ with this body (after the PDU length) asks for.

    Raises: ProtocolViolation if a length does not fit.
    """
    fixed = 68
    if len(body) < fixed:
        raise ProtocolViolation("A-ASSOCIATE-RQ is cut off")
    version, called, calling = struct.unpack_from(">H2x16s16s", body)
    application_context, contexts, roles = "", [], []
    for kind, value in _items(body[fixed:]):
        if kind == _Item.APPLICATION_CONTEXT:
            application_context = _text(value)
        elif kind == _Item.PRESENTATION_CONTEXT_RQ:
            contexts.append(_context(value))
        elif kind == _Item.USER_INFORMATION:
            roles = [_role(item) for sub, item in _items(value) if sub == _Item.ROLE_SELECTION]
    return Proposal(version, _text(called), _text(calling), application_context, tuple(contexts), tuple(roles))


def _items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(encoded):
        if at + 4 > len(encoded):
            raise ProtocolViolation("an item of the A-ASSOCIATE-RQ is cut off")
        kind, length = struct.unpack_from(">BxH", encoded, at)
        at += 4 + length
        if at > len(encoded):
            raise ProtocolViolation("an item of the A-ASSOCIATE-RQ is longer than what holds it")
        yield kind, encoded[at - length : at]


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def _context(value: bytes) -> ProposedContext:
    if len(value) < 4:  # noqa: PLR2004 - identifier and three reserved bytes
        raise ProtocolViolation("a presentation context is cut off")
    items = [(kind, _text(item)) for kind, item in _items(value[4:])]
    abstract = [text for kind, text in items if kind == _Item.ABSTRACT_SYNTAX]
    transfer = tuple(text for kind, text in items if kind == _Item.TRANSFER_SYNTAX)
    if len(abstract) != 1 or not transfer:
        raise ProtocolViolation("a presentation context lacks its abstract syntax or its transfer syntaxes")
    return ProposedContext(value[0], abstract[0], transfer)


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
    """Return the encoded A-ASSOCIATE-AC; `max_pdu_bytes` is the longest PDU that we take."""
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
    """Return a P-DATA-TF with one whole command set."""
    return _pdu(PduType.DATA, struct.pack(">IBB", len(command) + 2, context, 0x03) + command)
