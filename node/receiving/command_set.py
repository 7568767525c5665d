"""DIMSE command sets: a few short elements in Implicit VR Little Endian (PS3.7 6.3.1, E.1)."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ainode.node.errors import CannotUnderstand

# A command set has about 200 bytes; Move Originator, Offending Element and comments add little.
MAX_COMMAND_BYTES: Final = 4096
NO_DATA_SET: Final = 0x0101
_RESPONSE: Final = 0x8000
# PS3.5 6.2, LO.
_MAX_COMMENT_CHARACTERS: Final = 64


class Tag(IntEnum):
    """Elements of group 0000, by keyword."""

    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008


class CommandField(IntEnum):
    """The requests that a receiver of storage gets (PS3.7 E.1-1)."""

    C_STORE = 0x0001
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_ACTION = 0x0130
    C_CANCEL = 0x0FFF


@dataclass(frozen=True, slots=True)
class Command:
    """A command set whose values are still encoded."""

    values: Mapping[int, bytes]

    def number(self, tag: Tag) -> int:
        """Return the number in a US element, 0 if the element is absent."""
        return int.from_bytes(self.values.get(tag, b""), "little")

    def uid(self, tag: Tag) -> bytes:
        """Return the bytes of a UI element without padding; the bytes may be no valid UID."""
        return self.values.get(tag, b"").rstrip(b"\0 ")

    @property
    def has_data_set(self) -> bool:
        """Return whether a data set follows the command set."""
        return self.number(Tag.COMMAND_DATA_SET_TYPE) != NO_DATA_SET

    @property
    def is_response(self) -> bool:
        """Return whether the command set is a response; the receiver sends no requests."""
        return bool(self.number(Tag.COMMAND_FIELD) & _RESPONSE)


def decode(encoded: bytes) -> Command:
    """Return the command set in `encoded`.

    Raises: CannotUnderstand if `encoded` is cut off, or has no Command Field or no Command Data Set Type.
    """
    command = Command(dict(_elements(encoded)))
    if Tag.COMMAND_FIELD not in command.values or Tag.COMMAND_DATA_SET_TYPE not in command.values:
        raise CannotUnderstand("the command set has no Command Field or no Command Data Set Type")
    return command


def _elements(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the element number and the value of each element."""
    position = 0
    while position < len(encoded):
        if position + 8 > len(encoded):
            raise CannotUnderstand("the command set is cut off")
        group, element, length = struct.unpack_from("<HHI", encoded, position)
        position += 8 + length
        if group or position > len(encoded):
            raise CannotUnderstand("the command set is cut off, or has elements of another group")
        yield element, encoded[position - length : position]


def response(request: Command, status: int, comment: str = "") -> bytes:
    """Return the encoded response with the request's UIDs and message ID, a status, and a failure's comment."""
    values = {
        Tag.AFFECTED_SOP_CLASS_UID: _affected_or_requested(
            request, Tag.AFFECTED_SOP_CLASS_UID, Tag.REQUESTED_SOP_CLASS_UID
        ),
        Tag.COMMAND_FIELD: _us(request.number(Tag.COMMAND_FIELD) | _RESPONSE),
        Tag.MESSAGE_ID_BEING_RESPONDED_TO: _us(request.number(Tag.MESSAGE_ID)),
        Tag.COMMAND_DATA_SET_TYPE: _us(NO_DATA_SET),
        Tag.STATUS: _us(status),
        Tag.ERROR_COMMENT: comment[:_MAX_COMMENT_CHARACTERS].encode("ascii", "replace"),
        Tag.AFFECTED_SOP_INSTANCE_UID: _affected_or_requested(
            request, Tag.AFFECTED_SOP_INSTANCE_UID, Tag.REQUESTED_SOP_INSTANCE_UID
        ),
        Tag.EVENT_TYPE_ID: request.values.get(Tag.EVENT_TYPE_ID, b""),
        Tag.ACTION_TYPE_ID: request.values.get(Tag.ACTION_TYPE_ID, b""),
    }
    return encode({tag: value for tag, value in values.items() if value})


def encode(values: Mapping[Tag, bytes]) -> bytes:
    """Return the encoded command set: its group length, then the elements in the order of their tags."""
    body = b""
    for tag in sorted(values):
        value = values[tag]
        padding = b" " if tag == Tag.ERROR_COMMENT else b"\0"
        value += padding * (len(value) % 2)
        body += struct.pack("<HHI", 0, tag, len(value)) + value
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _us(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _affected_or_requested(request: Command, affected: Tag, requested: Tag) -> bytes:
    return request.uid(affected) or request.uid(requested)
