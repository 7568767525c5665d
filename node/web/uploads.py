"""Forms with files, streamed to folders below the data folder: within limits, under names of the node's own.

A file of the caller is `files/000001` here, or `files/000001.nrrd` where its name promises a kind of file. Every folder
is removed at its end, or at the next start.
"""

import re
import secrets
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Final

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from starlette.exceptions import HTTPException

from ainode.node.archive.multipart import boundary_of, entries
from ainode.node.disk import is_full, make_folder, refuse_full
from ainode.node.errors import OutOfResources
from ainode.node.offline.kinds import kind_suffix
from ainode.node.settings import Settings
from ainode.node.web.bodies import blocks
from ainode.node.web.texts import NUL_REFUSED

DISK_FULL: Final = "the disk of the node is full; try again later"
_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MAX_FIELDS: Final = 100
_MAX_VALUE_BYTES: Final = 65_536
_MAX_NAME_LETTERS: Final = 120
_UPLOADS_AT_ONCE: Final = 4
# The room on the disk is looked at after so many bytes.
_LOOK_BYTES: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file of a form."""

    path: Path
    name: str = field(repr=False)
    """as the caller named it, to show to the caller alone: it may be the name of a patient, and is never a path"""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form: files and values by the name of the field."""

    files: Mapping[str, tuple[UploadedFile, ...]]
    values: Mapping[str, str] = field(repr=False)

    @property
    def all_files(self) -> tuple[UploadedFile, ...]:
        """Return the files of every field."""
        return tuple(file for files in self.files.values() for file in files)


class Uploads:
    """Takes forms with files; each caller has uploads of its own, so that slow uploads delay no other caller."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.trials
        self._limits, self._min_free_bytes = settings.web, settings.node.min_free_bytes
        self._at_once: defaultdict[str, CapacityLimiter] = defaultdict(lambda: CapacityLimiter(_UPLOADS_AT_ONCE))

    def remove_leftovers(self) -> None:
        """Remove what a node that died left; call before the first upload, with the lock of the data folder."""
        shutil.rmtree(self._root, ignore_errors=True)

    def new_folder(self, name: str = "") -> Path:
        """Make a folder for one upload, which the caller removes.

        Raises: OSError; FileExistsError if there is a folder of that name.
        """
        folder = self._root / (name or secrets.token_hex(16))
        make_folder(self._root)
        folder.mkdir(mode=0o700)
        return folder

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield a folder for one upload, removed at the end.

        Raises: OSError.
        """
        folder = self.new_folder()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def receive(
        self, request: Request, folder: Path, *, caller: str, on_bytes: Callable[[int, int], None] | None = None
    ) -> Form:
        """Write the files of a form into a folder, and return the form.

        `on_bytes` gets the received bytes, and the length of the whole body, 0 where the caller does not tell.

        Raises: HTTPException 400 for no form, 413 for an upload beyond the limits: by its length before a byte of it is
        read; 507 if the disk has no room; 408 or ClientDisconnect if the upload breaks off.
        """
        boundary = boundary_of(request.headers.get("content-type", ""))
        if boundary is None:
            raise HTTPException(415, "send multipart/form-data")
        length = int(request.headers.get("content-length", 0))
        self._refuse_larger(length)
        self._refuse_no_room(folder, length)
        counter = _Counter(length, on_bytes or _nothing)
        body = counter.counted(blocks(request.stream()), self._look(folder))
        try:
            return await to_thread.run_sync(self._written, body, boundary, folder, limiter=self._at_once[caller])
        except ValueError as error:
            raise HTTPException(400, f"the body is no form: {error}") from error
        except OSError as error:
            if not is_full(error):
                raise
            raise HTTPException(507, DISK_FULL) from error

    def _look(self, folder: Path) -> Callable[[int, int], None]:
        """Return what is done with each new count of bytes: refuse too many bytes, and a disk that fills."""

        def look(before: int, now: int) -> None:
            self._refuse_larger(now)
            if before // _LOOK_BYTES != now // _LOOK_BYTES:
                self._refuse_no_room(folder, 0)

        return look

    def _refuse_larger(self, size_bytes: int) -> None:
        limit = self._limits.max_upload_bytes
        if size_bytes > limit:
            raise HTTPException(413, f"the upload is larger than {limit} bytes ([web] max_upload_bytes); send less")

    def _refuse_no_room(self, folder: Path, size_bytes: int) -> None:
        try:
            refuse_full(folder, self._min_free_bytes + size_bytes if self._min_free_bytes else 0)
        except OutOfResources as error:
            raise HTTPException(507, f"the node cannot take the upload: {error}") from error

    def _written(self, blocks: Iterator[bytes], boundary: bytes, folder: Path) -> Form:
        """Write the files of a form, and read its body to the end.

        Raises: ValueError for no form; HTTPException for a form with too many files or fields.
        """
        files: defaultdict[str, list[UploadedFile]] = defaultdict(list)
        values: dict[str, str] = {}
        for head, content in entries(blocks, boundary):
            name, file_name = _names(head)
            if file_name is None:
                values[name] = _value(content)
            elif file_name:
                number = sum(map(len, files.values())) + 1
                self._refuse_more_files(number)
                files[name].append(_file(content, folder / name / f"{number:06d}{kind_suffix(file_name)}", file_name))
            if len(values) > _MAX_FIELDS or len(files) > _MAX_FIELDS:
                raise HTTPException(413, f"the form has more than {_MAX_FIELDS} fields")
        for _ in blocks:
            pass
        return Form({name: tuple(entries) for name, entries in files.items()}, values)

    def _refuse_more_files(self, number: int) -> None:
        limit = self._limits.max_upload_files
        if number > limit:
            raise HTTPException(
                413, f"the upload has more than {limit} files ([web] max_upload_files); send fewer, or a ZIP archive"
            )


@dataclass(slots=True)
class _Counter:
    """Counts the bytes of one body."""

    length: int
    on_bytes: Callable[[int, int], None]
    received: int = 0

    def counted(self, body: Iterator[bytes], look: Callable[[int, int], None]) -> Iterator[bytes]:
        """Yield the blocks of a body; `look` is called with the count before and the count with each block."""
        for block in body:
            look(self.received, self.received + len(block))
            self.received += len(block)
            self.on_bytes(self.received, self.length)
            yield block


def _nothing(received: int, length: int) -> None:
    """Do nothing with the counts of a body."""


def _names(head: bytes) -> tuple[str, str | None]:
    """Return the name of a field, and the name of its file: None for a value, '' for a file that nobody chose.

    Raises: ValueError.
    """
    disposition = next(
        (
            line.partition(":")[2].strip()
            for line in head.decode("utf-8", "replace").split("\r\n")
            if line.lower().startswith("content-disposition:")
        ),
        "",
    )
    message = Message()
    message["Content-Disposition"] = disposition
    name = message.get_param("name", "", header="content-disposition")
    if not isinstance(name, str) or not _FIELD.fullmatch(name):
        raise ValueError("a field has no name of small letters")
    file_name = message.get_filename()
    return name, None if file_name is None else _shown_name(file_name)


def _shown_name(name: str) -> str:
    """Return the last part of a path as a caller's program names it, as one short line."""
    last = re.split(r"[/\\]", name.strip())[-1]
    return "".join(letter for letter in last if letter.isprintable())[:_MAX_NAME_LETTERS]


def _value(content: Iterator[bytes]) -> str:
    value = bytearray()
    for block in content:
        value += block
        if len(value) > _MAX_VALUE_BYTES:
            raise HTTPException(413, f"a value of the form is longer than {_MAX_VALUE_BYTES} bytes")
    if b"\0" in value:
        raise HTTPException(400, NUL_REFUSED)
    return value.decode("utf-8", "replace")


def _file(content: Iterator[bytes], path: Path, name: str) -> UploadedFile:
    path.parent.mkdir(exist_ok=True, mode=0o700)
    with path.open("xb") as file:
        for block in content:
            file.write(block)
    return UploadedFile(path, name)
