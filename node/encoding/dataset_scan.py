"""Whose an encoded data set is, and whether it is whole: every element is stepped over, and four are read."""

from typing import Final

from ainode.node.domain import UID, InstanceRef, is_uid
from ainode.node.encoding.elements import DEFLATED, Buffer, Inflated, Plain, Source, encoding_of, walk
from ainode.node.errors import CannotUnderstand

# 64, the padding, and one more to be noticed.
_READ_BYTES: Final = 66
_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_NAMES: Final = {
    _SOP_CLASS: "SOP Class UID",
    _SOP_INSTANCE: "SOP Instance UID",
    _STUDY: "Study Instance UID",
    _SERIES: "Series Instance UID",
}


def identity(content: Buffer, transfer_syntax_uid: str, *, start: int = 0) -> InstanceRef:
    """Return whose the data set is that begins at `start` and goes on to the end of `content`.

    Raises: CannotUnderstand if it is cut off, is no data set, has an element twice, or lacks one of the four UIDs.
    """
    source: Source = (Inflated if transfer_syntax_uid in DEFLATED else Plain)(content, start)
    values = {
        element.tag: source.read(element.begin, min(element.length, _READ_BYTES))
        for element in walk(source, encoding_of(source, transfer_syntax_uid))
        if element.tag in _NAMES and not element.depth
    }
    uids = {tag: valid_uid(values.get(tag, b""), name) for tag, name in _NAMES.items()}
    return InstanceRef(uids[_STUDY], uids[_SERIES], uids[_SOP_CLASS], uids[_SOP_INSTANCE])


def valid_uid(value: bytes, name: str) -> UID:
    """Return the value as UID, without its padding.

    Raises: CannotUnderstand if it is none, naming the attribute and not the value.
    """
    bare = value.rstrip(b"\0 ").decode("ascii", "replace")
    if not is_uid(bare):
        problem = "is no UID" if bare else "is missing"
        raise CannotUnderstand(f"{name} {problem}; correct the instance at its source and send it again")
    return UID(bare)
