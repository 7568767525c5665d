"""Whether two files hold the same data set, however it is encoded.

An archive may encode a data set anew when it sends it (DCMTK and Orthanc drop group lengths and change how sequences
say their length), so the same instance over C-STORE and over HTTP has other bytes. It is read once all the same.
"""

import hashlib
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from pydicom.datadict import dictionary_VR

from ainode.node.encoding.elements import (
    DEFLATED,
    DELIMITERS,
    EXPLICIT_BIG,
    ITEM,
    UNDEFINED,
    Buffer,
    Element,
    Plain,
    encoding_of,
    inside,
    walk,
)
from ainode.node.encoding.file_content import FileContent
from ainode.node.encoding.part10 import parse
from ainode.node.errors import CannotUnderstand

_PIXEL_DATA: Final = 0x7FE00010
_STEP_BYTES: Final = 1 << 20
_TRAILING_PADDING: Final = 0xFFFCFFFC
# Depth, tag, whether a value of this length follows.
_RECORD: Final = struct.Struct("<BI?I")


@cache
def _is_sequence(tag: int) -> bool:
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False


def _holds_elements(element: Element, parent: int) -> bool:
    """Whether elements or items lie in it, and not a value."""
    if element.length == UNDEFINED:
        return True
    if element.tag == ITEM:
        return parent != _PIXEL_DATA
    return element.vr == b"SQ" or (not element.vr and _is_sequence(element.tag))


def _all_elements(content: Buffer, elements: Iterator[Element]) -> Iterator[tuple[Element, bool]]:
    """Yield the elements of every level with whether others lie in them; a loop, whatever the nesting."""
    walks = [elements]
    tags: list[int] = []
    while walks:
        element = next(walks[-1], None)
        if element is None:
            walks.pop()
        elif element.tag not in DELIMITERS:
            tags[element.depth :] = [element.tag]
            holds_elements = _holds_elements(element, tags[element.depth - 1])
            yield element, holds_elements
            if holds_elements and element.length != UNDEFINED:
                walks.append(inside(content, element))


def _digest(content: Buffer) -> str | None:
    """Return a digest that another encoding of the data set shares; None where there is none.

    Tags, values and nesting count; neither VR nor how a length is said.
    Raises: CannotUnderstand if the content is no whole data set in a file.
    """
    origin, start = parse(content)
    syntax = origin.transfer_syntax_uid
    if syntax in DEFLATED or syntax == EXPLICIT_BIG:
        return None
    source, digest = Plain(content, start), hashlib.sha256()
    for element, holds_elements in _all_elements(content, walk(source, encoding_of(source, syntax))):
        is_group_length = not element.tag & 0xFFFF
        if is_group_length or element.tag == _TRAILING_PADDING:
            continue
        length = 0 if holds_elements else element.length
        digest.update(_RECORD.pack(element.depth, element.tag, not holds_elements, length))
        end = element.begin + length
        for begin in range(element.begin, end, _STEP_BYTES):
            digest.update(content[begin : min(begin + _STEP_BYTES, end)])
    return digest.hexdigest()


def _file_digest(path: Path) -> str | None:
    """Return the digest of a file, None where it cannot be compared."""
    if not path.stat().st_size:
        return None
    with path.open("rb", buffering=0) as file:
        try:
            return _digest(FileContent(file.fileno()))
        except CannotUnderstand:
            return None


def same_data_set(first: Path, second: Path) -> bool:
    """Whether two files of the spool hold the same elements with the same values."""
    digest = _file_digest(first)
    return digest is not None and digest == _file_digest(second)
