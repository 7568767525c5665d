"""The file around a data set (PS3.10 7.1): the meta group that the node writes, and reads back."""

import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ainode.node.domain import UID
from ainode.node.encoding.elements import Buffer, meta_group, outermost
from ainode.node.errors import CannotUnderstand

# Ours, made from a UUID once (PS3.5 B.2); PS3.7 D.3.3.2 asks for it in every association and file.
IMPLEMENTATION_CLASS_UID: Final = "2.25.218402177186401933462190424553079463"
IMPLEMENTATION_VERSION_NAME: Final = "AINODE"

_PREAMBLE: Final = bytes(128) + b"DICM"
_GROUP: Final = 0x0002
_GROUP_LENGTH: Final = 0x0000
# More than a UID and its padding; a value that is longer stays wrong.
_READ_BYTES: Final = 66
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010
_IMPLEMENTATION_CLASS, _IMPLEMENTATION_VERSION, _SOURCE_AE_TITLE = 0x0012, 0x0013, 0x0016


@dataclass(frozen=True, slots=True)
class Origin:
    """What the association says of a data set: the meta group of its file."""

    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    calling_ae_title: str


def _element(element: int, vr: bytes, value: str, padding: bytes) -> bytes:
    encoded = value.encode("ascii")
    encoded += padding * (len(encoded) % 2)
    return struct.pack("<HH2sH", _GROUP, element, vr, len(encoded)) + encoded


def head(origin: Origin) -> bytes:
    """Return preamble and meta group, to be followed by the data set as it was received."""
    group = (
        struct.pack("<HH2sHI2s", _GROUP, 1, b"OB", 0, 2, b"\0\1")
        + _element(_SOP_CLASS, b"UI", origin.sop_class_uid, b"\0")
        + _element(_SOP_INSTANCE, b"UI", origin.sop_instance_uid, b"\0")
        + _element(_TRANSFER_SYNTAX, b"UI", origin.transfer_syntax_uid, b"\0")
        + _element(_IMPLEMENTATION_CLASS, b"UI", IMPLEMENTATION_CLASS_UID, b"\0")
        + _element(_IMPLEMENTATION_VERSION, b"SH", IMPLEMENTATION_VERSION_NAME, b" ")
        + _element(_SOURCE_AE_TITLE, b"AE", origin.calling_ae_title, b" ")
    )
    return _PREAMBLE + struct.pack("<HH2sHI", _GROUP, _GROUP_LENGTH, b"UL", 4, len(group)) + group


def parse(content: Buffer) -> tuple[Origin, int]:
    """Return what the meta group of a file says, '' for what it lacks, and where the data set begins.

    The group ends where another begins, as for every reader; no data set that is received begins with this one.
    Raises: CannotUnderstand if the content has no DICM after 128 bytes.
    """
    end = len(_PREAMBLE)
    if content[:end][128:] != b"DICM":
        raise CannotUnderstand("the file is not DICOM Part 10: no DICM after 128 bytes; export it again as Part 10")
    values: dict[int, str] = {}
    with suppress(CannotUnderstand):  # the group ends before what cannot be read
        for element in outermost(meta_group(content, end)):
            if element.tag >> 16 != _GROUP:
                break
            end = element.begin + element.length
            value = content[element.begin : min(end, element.begin + _READ_BYTES)]
            values[element.tag & 0xFFFF] = value.decode("ascii", "replace").rstrip("\0 ")
    origin = Origin(
        sop_class_uid=UID(values.get(_SOP_CLASS, "")),
        sop_instance_uid=UID(values.get(_SOP_INSTANCE, "")),
        transfer_syntax_uid=UID(values.get(_TRANSFER_SYNTAX, "")),
        calling_ae_title=values.get(_SOURCE_AE_TITLE, ""),
    )
    return origin, end
