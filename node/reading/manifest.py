"""The manifest of a folder of weights: TOML that a person writes, or `ainode weights import`.

One file has one entry: a second entry under its name, or for its file, is refused and never wins in silence.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final
from unicodedata import category

import tomli_w

from ainode.node.disk import make_folder, part_folder, place_durably, sha256_of, write_durably
from ainode.node.domain import WeightsStatus
from ainode.node.errors import WeightsError

_NAME: Final = "manifest.toml"
_Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One file of a manifest."""

    name: str
    path: Path
    sha256: str
    size_bytes: int
    licence: str
    model: str
    version: str
    status: WeightsStatus
    training_data: str
    metrics: str = ""
    url: str = ""
    companions: tuple[tuple[Path, str], ...] = ()
    """further files that answers hang on, each with its sha256: such as the description of a site's model"""

    @property
    def digest(self) -> str:
        """Return what a reading hangs on: the sha256 of the file, with companions one sha256 over those of all."""
        if not self.companions:
            return self.sha256
        return hashlib.sha256("".join((self.sha256, *(sha256 for _, sha256 in self.companions))).encode()).hexdigest()

    @property
    def is_present(self) -> bool:
        """Whether the file is on this disk, with whatever bytes."""
        try:
            return self.path.is_file()
        except OSError:
            return False


def entries(folder: Path) -> tuple[WeightsEntry, ...]:
    """Return the entries of a folder's manifest, none where there is no manifest.

    Raises: WeightsError that names the manifest, the entry or line, and the key.
    """
    return tuple(_entry(folder, row) for row in _rows(folder))


def add(folder: Path, source: Path, entry: WeightsEntry) -> Path:
    """Copy a file into a folder, write its entry into the folder's manifest, and return the path of the copy.

    Raises: WeightsError if the manifest cannot hold the entry; OSError.
    """
    target = folder / entry.path.name
    make_folder(folder)
    with _alone(folder), part_folder(folder) as part:
        rows = _rows(folder)
        copy = shutil.copyfile(source, part / target.name)
        rows.append(_row(entry, target.name, copy))
        _refuse_unclear(folder / _NAME, rows)
        if target.name == _NAME or (target.exists() and sha256_of(target) != sha256_of(copy)):
            raise WeightsError(f"{target} is no file of an entry; rename the file that you import, or remove {target}")
        place_durably(copy, target)
        write_durably(folder / _NAME, tomli_w.dumps({"weights": rows}).encode())
    return target


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process imports into a folder, and let none import meanwhile; a crash ends the lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _rows(folder: Path) -> list[_Row]:
    """Return the tables of a folder's manifest.

    Raises: WeightsError.
    """
    path = folder / _NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        rows = tomllib.loads(content.decode()).get("weights", [])
    except ValueError as error:
        raise WeightsError(f"{path}: {_place(content, error)}cannot be read as TOML: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WeightsError(f"{path}: `weights` is no array of tables; write each entry below [[weights]]")
    _refuse_unclear(path, rows)
    return rows


def _place(content: bytes, error: ValueError) -> str:
    """Return the line of an error and the key of that line, '' if the error names no place."""
    if isinstance(error, UnicodeDecodeError):
        number = content.count(b"\n", 0, error.start) + 1
    elif match := re.search(r"at line (\d+)", str(error)):
        number = int(match[1])
    else:
        return ""
    lines = content.decode(errors="replace").split("\n")[:number]
    keys = [match[1] for line in lines if (match := re.match(r"\s*([\w-]+)\s*=", line))]
    return f"line {number}, key {keys[-1]}: " if keys else f"line {number}: "


def _refuse_unclear(path: Path, rows: Sequence[_Row]) -> None:
    """Refuse entries that name the same weights or the same file, and texts that no TOML file holds as they are.

    Raises: WeightsError.
    """
    for row in rows:
        for key, value in row.items():
            if isinstance(value, str) and (character := _unwritable(value)):
                raise WeightsError(
                    f"{path}: entry {row.get('name', '?')!r}: {key} has the character U+{ord(character):04X}; write "
                    "the text without the character"
                )
    for key in ("name", "file"):
        values = (str(row[key]) for row in rows if key in row)
        counts = Counter(map(os.path.normpath, values) if key == "file" else values)
        for value in (value for value, count in counts.items() if count > 1):
            raise WeightsError(f"{path}: two entries with the {key} {value!r}; rename one, or remove one")


def _unwritable(text: str) -> str:
    """Return the first control character of a text, or the first byte that was no UTF-8; '' if there is none."""
    return next((letter for letter in text if letter not in "\t\n" and category(letter) in {"Cc", "Cs"}), "")


def _entry(folder: Path, row: _Row) -> WeightsEntry:
    def text(key: str) -> str:
        return str(row.get(key, ""))

    place = f"{folder / _NAME}: entry {text('name') or '?'}"
    for key in ("name", "file", "sha256", "bytes", "status"):
        if not text(key):
            raise WeightsError(f"{place}: {key} is missing")
    if (file := PurePath(text("file"))).is_absolute() or ".." in file.parts:
        raise WeightsError(f"{place}: file {text('file')!r} leads out of the folder; give a path within it")
    try:
        size_bytes, status = int(text("bytes")), WeightsStatus(text("status"))
    except ValueError as error:
        raise WeightsError(f"{place}: bytes or status: {error}") from error
    return WeightsEntry(
        name=text("name"),
        path=folder / text("file"),
        sha256=text("sha256"),
        size_bytes=size_bytes,
        licence=text("licence"),
        model=text("model"),
        version=text("version"),
        status=status,
        training_data=text("training_data"),
        metrics=text("metrics"),
        url=text("url"),
    )


def _row(entry: WeightsEntry, name: str, file: Path) -> _Row:
    """Return what a manifest says of a file that gets a name."""
    return {
        "name": entry.name,
        "file": name,
        "sha256": sha256_of(file),
        "bytes": file.stat().st_size,
        "licence": entry.licence,
        "model": entry.model,
        "version": entry.version,
        "status": entry.status.value,
        "training_data": entry.training_data,
        "metrics": entry.metrics,
    }
