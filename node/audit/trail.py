"""The audit trail on disk: files of RFC 5424 messages, each with a number and the digest of the message before it.

A line is `<PRI>1 TIME HOST ainode PID DICOM+RFC3881 [ainode@32473 seq previous sha256] BOM XML`: `sha256` is over the
line without itself, `previous` is the digest of the line before. `head` holds number and digest of the last line.
"""

import fcntl
import hashlib
import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ainode.node.audit.messages import SUCCESS, AuditSource, Message, xml
from ainode.node.disk import make_folder, sync_folder
from ainode.node.settings import Settings

_log = logging.getLogger(__name__)
# PS3.15 A.6: facility 10, severity 5; RFC 5424 6.2.1: 4 is a warning.
_NOTICE, _WARNING = 85, 84
# RFC 5612: 32473 is the enterprise number of examples; the project has none of its own.
_DATA_ID: Final = "ainode@32473"
_LINE: Final = re.compile(
    rb'<8[45]>1 [^\[]+ \[ainode@32473 seq="(\d{1,18})" previous="([0-9a-f]{64})"( sha256="([0-9a-f]{64})")\] '
    rb"\xef\xbb\xbf<.*>\n",
    re.DOTALL,
)
_HEAD: Final = re.compile(rb"(\d{18}) ([0-9a-f]{64})\n")
_STOP: Final = b'<EventTypeCode csd-code="110121"'
_NO_DIGEST: Final = "0" * 64
_FILE_BYTES: Final = 16 * 1024**2
# Longer than any line.
_TAIL_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Link:
    """A place in the chain: the number of a record, 0 before the first, and its digest."""

    number: int = 0
    digest: str = _NO_DIGEST


@dataclass(frozen=True, slots=True)
class Record:
    """One whole line of a trail, whose digest is right."""

    link: Link
    previous: str


def record_of(line: bytes) -> Record | None:
    """Return the record of a line, None if the line is no record or not as it was written."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    content = line[: match.start(3)] + line[match.end(3) :]
    digest = match[4].decode()
    if hashlib.sha256(content).hexdigest() != digest:
        return None
    return Record(Link(int(match[1]), digest), match[2].decode())


def files(folder: Path) -> list[Path]:
    """Return the files of a trail in their order; the name is the number of the first record."""
    return sorted(folder.glob("audit-*.log"))


@dataclass(frozen=True, slots=True)
class Trail:
    """The trail of one installation; several processes may append to it."""

    folder: Path
    source: AuditSource

    @classmethod
    def of(cls, settings: Settings, worker: str = "") -> "Trail":
        """Return the trail in the data folder of a node, or that of a worker below it: each is one chain."""
        node, folder = settings.node, settings.data / "audit"
        source = AuditSource(worker or node.name, node.ae_title, socket.gethostname())
        return cls(folder / f"worker-{worker}" if worker else folder, source)

    def append(self, events: Sequence[tuple[datetime, Message]]) -> None:
        """Write messages with their times; when the method returns, they are on disk.

        Raises: OSError; then none of the messages is in the trail.
        """
        with self._locked() as head_descriptor:
            last = max(_head(head_descriptor) or Link(), self._tail(), key=lambda link: link.number)
            path = self._file(last)
            content = bytearray()
            for time, message in events:
                line, last = self._line(time, message, last)
                content += line
            _append(path, bytes(content))
            os.pwrite(head_descriptor, f"{last.number:018} {last.digest}\n".encode(), 0)

    def is_open(self) -> bool:
        """Return whether the last message is no stop of the node: the node was killed, or a command wrote since.

        Raises: OSError.
        """
        for path in reversed(files(self.folder)):
            if last_lines := path.read_bytes().splitlines()[-1:]:
                return _STOP not in last_lines[0]
        return False

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Yield the descriptor of `head`, locked against other writers."""
        if not self.folder.exists():
            make_folder(self.folder.parent)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self.folder.parent)
        descriptor = os.open(self.folder / "head", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _tail(self) -> Link:
        """Return the last record on disk, after the removal of what a power cut left of an unfinished line."""
        for path in reversed(files(self.folder)):
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                content = file.read()
            if torn_bytes := len(content) - content.rfind(b"\n") - 1:
                os.truncate(path, size - torn_bytes)
                about = {"action": "audit_record_torn", "path": path.name}
                _log.warning("audit: %d bytes of an unfinished record were removed", torn_bytes, extra=about)
            for line in reversed(content.splitlines(keepends=True)):
                if record := record_of(line):
                    return record.link
        return Link()

    def _file(self, last: Link) -> Path:
        """Return the file of the next record; a new file once the last is large."""
        existing = files(self.folder)
        if existing and existing[-1].stat().st_size < _FILE_BYTES:
            return existing[-1]
        return self.folder / f"audit-{last.number + 1:018}.log"

    def _line(self, time: datetime, message: Message, last: Link) -> tuple[bytes, Link]:
        priority = _NOTICE if message.outcome == SUCCESS else _WARNING
        instant = time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        host = "".join(char for char in self.source.host if "!" <= char <= "~" and char != "[") or "-"
        number = last.number + 1
        before = f"<{priority}>1 {instant} {host} ainode {os.getpid()} DICOM+RFC3881 [{_DATA_ID}"
        before += f' seq="{number}" previous="{last.digest}"'
        after = f"] \ufeff{xml(message, time, self.source)}\n"
        digest = hashlib.sha256((before + after).encode()).hexdigest()
        return f'{before} sha256="{digest}"{after}'.encode(), Link(number, digest)


def _head(descriptor: int) -> Link | None:
    """Return number and digest of the last record as `head` tells them, None if `head` is damaged."""
    match = _HEAD.fullmatch(os.pread(descriptor, 1024, 0))
    return Link(int(match[1]), match[2].decode()) if match else None


def _append(path: Path, content: bytes) -> None:
    """Append to a file and wait until the bytes are on disk; a write that fails leaves the file as it was.

    Raises: OSError.
    """
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    size = os.fstat(descriptor).st_size
    try:
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)


def state(folder: Path) -> tuple[Link | None, dict[Path, int]]:
    """Return the head and the size of each file at a moment at which nobody writes."""
    try:
        descriptor = os.open(folder / "head", os.O_RDONLY)
    except FileNotFoundError:
        return None, {path: path.stat().st_size for path in files(folder)}
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return _head(descriptor), {path: path.stat().st_size for path in files(folder)}
    finally:
        os.close(descriptor)


def lines(path: Path, begin: int, end: int) -> Iterator[bytes]:
    """Yield the lines between two offsets of a file."""
    with path.open("rb") as file:
        file.seek(begin)
        while begin < end and (line := file.readline(end - begin)):
            begin += len(line)
            yield line
