"""Storage commitment on disk: each request and report is a small JSON file before it is answered.

The file is removed once its effect is durable elsewhere. Its name is made of a time and random digits.
"""

import contextlib
import json
import mmap
import secrets
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from ainode.node.disk import make_folder, sync_folder, write_durably
from ainode.node.domain import UID
from ainode.node.encoding.elements import Buffer
from ainode.node.errors import CannotUnderstand, OutOfResources

_REQUEST, _REPORT = "request", "report"
_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """A sender requests storage commitment for (class, instance) pairs; the node reports on a new association."""

    calling_ae_title: str
    transaction_uid: UID
    references: tuple[tuple[UID, UID], ...]


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """An archive reports which of the node's instances it committed, and which failed with a failure reason."""

    transaction_uid: UID
    committed: tuple[UID, ...]
    failed: tuple[tuple[UID, int], ...]


CommitmentRecord: TypeAlias = CommitmentRequest | CommitmentReport


class CommitmentFiles:
    """The folder of requests and reports whose effect is not durable yet."""

    def __init__(self, folder: Path) -> None:
        """Make the folder."""
        self._folder = folder
        self._decoding = threading.Lock()
        make_folder(folder)

    @contextlib.contextmanager
    def data_set(self, fragments: Iterable[memoryview], max_bytes: int) -> Iterator[Buffer]:
        """Yield the data set of a message; only one thread at a time is in this context with a data set.

        The data set waits in a file without a name, so that many long ones at once take little memory.
        Raises: CannotUnderstand if the data set is too long; OutOfResources if the disk does not take the data set.
        """
        try:
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
                for fragment in fragments:
                    file.write(fragment)
                    if file.tell() > max_bytes:
                        raise CannotUnderstand("storage commitment data set is too long; request fewer instances")
                is_empty = not file.tell()
                with self._decoding, contextlib.ExitStack() as stack:
                    yield b"" if is_empty else stack.enter_context(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        except OSError as error:
            raise _out_of_resources(error) from error

    def save(self, record: CommitmentRecord) -> Path:
        """Return the file of a new request or report, which is on disk with its name.

        Raises: OutOfResources if the disk does not take the file.
        """
        path = self._folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}{_SUFFIX}"
        kind = _REQUEST if isinstance(record, CommitmentRequest) else _REPORT
        content = json.dumps({"kind": kind} | {name: getattr(record, name) for name in record.__slots__})
        try:
            write_durably(path, content.encode())
        except OSError as error:
            raise _out_of_resources(error) from error
        return path

    def paths(self) -> tuple[Path, ...]:
        """Return every file, oldest first."""
        return tuple(sorted(self._folder.glob(f"*{_SUFFIX}")))

    def remove(self, path: Path) -> None:
        """Remove a file whose effect is durable.

        Raises: OSError.
        """
        path.unlink(missing_ok=True)
        sync_folder(self._folder)


def _out_of_resources(error: OSError) -> OutOfResources:
    return OutOfResources(f"disk: {error.strerror}; send again later")


def load(path: Path) -> CommitmentRecord:
    """Return the request or the report in a file.

    Raises: CannotUnderstand if the file is damaged; OSError.
    """
    try:
        values = json.loads(path.read_bytes())
        transaction_uid = UID(values["transaction_uid"])
        if values["kind"] == _REQUEST:
            references = tuple((UID(sop_class), UID(instance)) for sop_class, instance in values["references"])
            return CommitmentRequest(values["calling_ae_title"], transaction_uid, references)
        failed = tuple((UID(uid), int(reason)) for uid, reason in values["failed"])
        return CommitmentReport(transaction_uid, tuple(UID(uid) for uid in values["committed"]), failed)
    except (ValueError, KeyError, TypeError) as error:
        raise CannotUnderstand(f"{path}: is no storage commitment; remove the file") from error
