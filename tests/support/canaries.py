"""Words in every header that a person may fill in, and a search for the words in whatever a program left."""

import base64
import io
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from pydicom import Dataset, dcmwrite
from pydicom._dicom_dict import DicomDictionary

from ainode.node import testing

WORDS = ("Kanari", "канарейка", "金糸雀")
"""in the headers: Latin, Cyrillic and Japanese"""
QUOTATION = "Gaviota"
"""in what an archive says"""
_ENCODINGS = (
    *("utf-8", "latin-1", "iso8859-5", "koi8-r", "iso2022-jp", "shift-jis"),
    *("utf-16-le", "utf-16-be", "utf-32-le"),
)
_TYPED = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_FORMED = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"})
_PATIENTS = (0x0010, 0x0012, 0x0032, 0x0038, 0x0040)
_GROUPS = (0x0008, *_PATIENTS, 0x0018, 0x0020, 0x0054, 0x2110, 0x4008)
_REQUESTS = 0x00400275
_LONG = frozenset({"OB", "SQ", "UC", "UN", "UR", "UT"})
Elements: TypeAlias = dict[int, tuple[str, bytes]]
# Without these values no image is read.
_NEEDED = frozenset({"PatientSpeciesDescription", "RescaleType", "TimezoneOffsetFromUTC"})


def typed_in(tag: int, word: str) -> str:
    """Return what a person typed into an attribute: a word, and the tag that tells where a finding comes from."""
    return f"{word}{tag:08X}"


def typed(word: str = WORDS[0], *, encoding: str = "ascii", groups: Iterable[int] = _GROUPS) -> Elements:
    """Return every attribute of the standard in these groups that takes text, filled in, also in items and private."""
    elements: Elements = {
        tag: (vr, typed_in(tag, word).encode(encoding))
        for tag, (vr, _, _, _, keyword) in DicomDictionary.items()
        if vr in _TYPED and tag >> 16 in set(groups) and keyword not in _NEEDED
    }
    nested = ((0x00081070, "PN"), (0x00081090, "LO"), (0x00401008, "LO"), (0x0040A123, "PN"))
    item = {tag: (vr, typed_in(tag, word).encode(encoding)) for tag, vr in nested}
    elements[_REQUESTS] = ("SQ", _items({0x00321064: ("SQ", _items(item))}))
    elements[0x00190010] = ("LO", f"{WORDS[0]} block".encode())
    for number, vr in ((0x00191001, "PN"), (0x00191002, "UN"), (0x00191003, "LT"), (0x00191004, "OB")):
        elements[number] = (vr, typed_in(number, word).encode(encoding))
    return elements


def deformed(word: str = WORDS[0]) -> Elements:
    """Return every attribute of the patient that takes a number, a date, a code or a UID, filled in with words."""
    others = ((0x00080020, "DA"), (0x00080030, "TM"), (0x00180060, "DS"), (0x00201208, "IS"))
    formed = ((tag, vr) for tag, (vr, *_) in DicomDictionary.items() if vr in _FORMED and tag >> 16 in _PATIENTS)
    return {tag: (vr, typed_in(tag, word).encode()) for tag, vr in (*others, *formed)}


def _items(elements: Elements) -> bytes:
    """Return a single item (PS3.5 7.5)."""
    content = _encoded(elements)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def _encoded(elements: Elements) -> bytes:
    """Return elements as Explicit VR Little Endian (PS3.5 7.1.2)."""
    parts = []
    for tag, (vr, value) in sorted(elements.items()):
        padded = value + b" " * (len(value) % 2)
        length = struct.pack("<HI", 0, len(padded)) if vr in _LONG else struct.pack("<H", len(padded))
        parts.append(struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode()) + length + padded)
    return b"".join(parts)


def as_file(dataset: Dataset, elements: Elements) -> bytes:
    """Return a Part 10 file of a data set in which the elements replace its own; pydicom would mend their values."""
    parts = {tag: _encoded({tag: element}) for tag, element in elements.items()}
    for element in dataset:
        single, buffer = Dataset(), io.BytesIO()
        single.add(element)
        dcmwrite(buffer, single, implicit_vr=False, little_endian=True)
        parts.setdefault(int(element.tag), buffer.getvalue())
    meta, buffer = Dataset(), io.BytesIO()
    meta.file_meta = dataset.file_meta
    meta.SOPClassUID, meta.SOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    dcmwrite(buffer, meta, enforce_file_format=True)
    head = buffer.getvalue().partition(_encoded({0x00080016: ("UI", b"")})[:6])[0]
    return head + b"".join(part for _, part in sorted(parts.items()))


def image(study: str, order: str, number: int = 1, side: int = 320, **header: str) -> Dataset:
    """Return a radiograph of noise whose Image Type gives the handler an order."""
    kind = ("ORIGINAL", "PRIMARY", order)
    noise = testing.noise(side, side, seed=number, BodyPartExamined="TSPINE")
    synthetic = testing.SyntheticImage(
        noise.rows, noise.columns, noise.pixels, {**noise.header, "ImageType": kind, **header}
    )
    return testing.dataset(synthetic, study=study, number=number)


@cache
def _forms(words: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    """Return how the words may look in bytes, with a name for each look."""
    forms: dict[bytes, str] = {}
    for word in words:
        for case in {word, word.lower(), word.upper(), word.title()}:
            for encoding in _ENCODINGS:
                try:
                    content = case.encode(encoding)
                except UnicodeEncodeError:
                    continue
                forms.setdefault(content, encoding)
                forms.setdefault(content.hex().encode(), f"hexadecimal {encoding}")
                for shift in range(3):
                    # The first and the last characters depend on what is beside the word.
                    shifted = base64.b64encode(bytes(shift) + content + bytes(3))
                    start, end = -(-shift * 4 // 3), (shift + len(content)) * 4 // 3
                    forms.setdefault(shifted[start:end], f"base64 {encoding}")
            forms.setdefault(case.encode("unicode_escape"), "escaped")
            forms.setdefault(quote(case).encode(), "quoted")
    return tuple((name, form) for form, name in forms.items())


def traces(content: bytes, words: tuple[str, ...] = WORDS) -> list[str]:
    """Return in which form the words stand in bytes, each with what is beside them."""
    return [
        f"{name}: {content[max(place - 60, 0) : place + 60]!r}"
        for name, form in _forms(words)
        if (place := content.find(form)) >= 0
    ]


def rows(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each value of a SQLite file with table and column, and once more decoded where it is base64."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            cursor = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - a table of the file itself
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                for column, value in zip(columns, row, strict=True):
                    content = value if isinstance(value, bytes) else str(value).encode()
                    yield f"{table}.{column}", content
                    try:
                        yield f"{table}.{column}, decoded", base64.b64decode(content, validate=True)
                    except ValueError:
                        continue
    finally:
        connection.close()
