"""The elements of a file as rows of a table, without pixels and without end neither in depth nor in length."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pydicom import DataElement, Dataset, dcmread

from ainode.node.console.rendering.impersonal import is_impersonal
from ainode.node.domain import counted
from ainode.node.logs import printable

NOT_SHOWN: Final = "(not shown)"
"""the value of an element that may be of a patient"""
_ROWS: Final = 2_000
_DEPTH: Final = 6
_ITEMS: Final = 50
_CHARACTERS: Final = 200
# pydicom leaves a longer value on the disk until somebody asks for the value.
_DEFERRED_BYTES: Final = 65_536
_BULK: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


def header_rows(path: Path, *, is_anonymous: bool) -> list[dict[str, Any]]:
    """Return tag, name, VR, value and depth of each element; names are those of the standard.

    `is_anonymous` shows the values alone of which is known that they are no patient attribute.

    Raises: one of BROKEN_FILE.
    """
    data_set = dcmread(path, stop_before_pixels=True, defer_size=_DEFERRED_BYTES)
    rows = _rows(data_set.file_meta, 0, is_anonymous=is_anonymous), _rows(data_set, 0, is_anonymous=is_anonymous)
    return list(islice((row for part in rows for row in part), _ROWS))


def _rows(data_set: Dataset, depth: int, *, is_anonymous: bool, sequence: str = "") -> Iterator[dict[str, Any]]:
    for tag in sorted(data_set.keys()):
        raw = data_set.get_item(tag)
        length = getattr(raw, "length", None)
        if length is not None and length != 0xFFFFFFFF and length > _DEFERRED_BYTES and raw.VR != "SQ":  # noqa: PLR2004
            yield _row(tag, "", str(raw.VR or ""), f"{length:,} bytes", depth)
            continue
        element = data_set[tag]
        is_shown = not is_anonymous or is_impersonal(element, sequence)
        yield _row(tag, element.name, str(element.VR), _text(element) if is_shown else NOT_SHOWN, depth)
        if element.VR == "SQ" and is_shown and depth < _DEPTH:
            for number, item in enumerate(element.value[:_ITEMS], start=1):
                yield _row(tag, f"Item {number}", "", "", depth + 1)
                yield from _rows(item, depth + 2, is_anonymous=is_anonymous, sequence=element.keyword)


def _row(tag: int, name: str, vr: str, value: str, depth: int) -> dict[str, Any]:
    tag_text = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    return {"tag": tag_text, "name": printable(name), "vr": vr, "value": printable(value), "depth": depth}


def _text(element: DataElement) -> str:
    if element.VR == "SQ":
        return counted(len(element.value), "item")
    if element.VR in _BULK:
        return counted(len(element.value or b""), "byte")
    values = [str(value) for value in islice(element.value, _CHARACTERS)] if element.VM > 1 else [str(element.value)]
    text = " \\ ".join("" if value == "None" else value for value in values)
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]} …"
