"""Storage commitment on disk: each request and report is a small JSON file before it is answered.

The file is removed once its effect is durable elsewhere. Its name is made of a time and random digits.
"""

import dataclasses
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from ainode.node.disk import make_folder, sync_folder, write_durably
from ainode.node.domain import UID
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
        make_folder(folder)

    def save(self, record: CommitmentRecord) -> Path:
        """Return the file of a new request or report, which is on disk with its name.

        Raises: OutOfResources if the disk does not take the file.
        """
        path = self._folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}{_SUFFIX}"
        kind = _REQUEST if isinstance(record, CommitmentRequest) else _REPORT
        content = json.dumps({"kind": kind, **dataclasses.asdict(record)})
        try:
            write_durably(path, content.encode())
        except OSError as error:
            raise OutOfResources(f"disk: {error.strerror}; send again later") from error
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
