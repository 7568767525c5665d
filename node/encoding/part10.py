"""The file around a data set (PS3.10 7.1): the meta group that the node writes, and reads back from its own files."""

import struct
from dataclasses import dataclass
from typing import Final

from ainode.node.domain import UID
from ainode.node.encoding.dataset_scan import Buffer
from ainode.node.errors import CannotUnderstand

# Ours, made from a UUID once (PS3.5 B.2); PS3.7 D.3.3.2 asks for it in every association and file.
IMPLEMENTATION_CLASS_UID: Final = "2.25.218402177186401933462190424553079463"
IMPLEMENTATION_VERSION_NAME: Final = "AINODE"

_PREAMBLE: Final = bytes(128) + b"DICM"
_GROUP_LENGTH: Final = 0x0000
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
    return struct.pack("<HH2sH", 2, element, vr, len(encoded)) + encoded


def head(origin: Origin) -> bytes:
    """Return preamble and meta group, to be followed by the data set as it was received."""
    group = (
        struct.pack("<HH2sHI2s", 2, 1, b"OB", 0, 2, b"\0\1")
        + _element(_SOP_CLASS, b"UI", origin.sop_class_uid, b"\0")
        + _element(_SOP_INSTANCE, b"UI", origin.sop_instance_uid, b"\0")
        + _element(_TRANSFER_SYNTAX, b"UI", origin.transfer_syntax_uid, b"\0")
        + _element(_IMPLEMENTATION_CLASS, b"UI", IMPLEMENTATION_CLASS_UID, b"\0")
        + _element(_IMPLEMENTATION_VERSION, b"SH", IMPLEMENTATION_VERSION_NAME, b" ")
        + _element(_SOURCE_AE_TITLE, b"AE", origin.calling_ae_title, b" ")
    )
    return _PREAMBLE + struct.pack("<HH2sHI", 2, _GROUP_LENGTH, b"UL", 4, len(group)) + group


def parse(content: Buffer) -> tuple[Origin, int]:
    """Return the meta group that `head` wrote, and where the data set begins.

    Raises: CannotUnderstand if the file is none of ours.
    """
    start = len(_PREAMBLE) + 12
    beginning = content[:start]
    if len(beginning) < start or not beginning.startswith(_PREAMBLE):
        raise CannotUnderstand("file has no DICOM meta group; it was not written by the spool")
    end = start + int.from_bytes(beginning[-4:], "little")
    values: dict[int, str] = {}
    at = start + 14  # behind File Meta Information Version
    while at < end:
        _, element, _, length = struct.unpack("<HH2sH", content[at : at + 8].ljust(8, b"\0"))
        values[element] = content[at + 8 : at + 8 + length].decode("ascii", "replace").rstrip("\0 ")
        at += 8 + length
    origin = Origin(
        sop_class_uid=UID(values.get(_SOP_CLASS, "")),
        sop_instance_uid=UID(values.get(_SOP_INSTANCE, "")),
        transfer_syntax_uid=UID(values.get(_TRANSFER_SYNTAX, "")),
        calling_ae_title=values.get(_SOURCE_AE_TITLE, ""),
    )
    return origin, end
