"""From the spool to the catalog: commit a batch of instances, then move their files.

A batch can be given again after a fault of the machine: whatever was done of the batch stays done. A fault of one file
costs this file alone.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from ainode.node import logs
from ainode.node.deciding.faults import attempt, reason_of
from ainode.node.domain import UID
from ainode.node.encoding.same_content import same_data_set
from ainode.node.errors import CannotUnderstand, NodeError
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.spool import Spool, Spooled, content_sha256, spooled

log = logging.getLogger(__name__)
_Versions = Mapping[tuple[UID, UID], StoredInstance]


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A file of the spool, and the row that the file gets."""

    path: Path
    stored: StoredInstance


class Indexing:
    """Indexes the files of the spool."""

    def __init__(self, spool: Spool, catalog: Catalog) -> None:
        self._spool, self._catalog = spool, catalog
        self._stranded: set[Path] = set()
        self.set_aside_count = 0
        """damaged files that were set aside"""

    def index(self, files: Sequence[tuple[Spooled, datetime]]) -> frozenset[UID]:
        """Commit files with their times of reception, then move them; return those studies that wait for routing.

        A file that is gone was indexed before, and a known data set in another encoding is removed.

        Raises: a fault that waiting mends; then give the same files again.
        """
        versions = self._catalog.versions(file.ref.sop_instance_uid for file, _ in files)
        arrivals = [
            arrival
            for file, at in files
            if (arrival := attempt(partial(self._arrival, file, at, versions), partial(self._note_fault, file.path)))
        ]
        for arrival in self._committed(arrivals):
            path, stored = arrival.path, arrival.stored
            attempt(partial(self._spool.keep, path, stored.ref, stored.sha256), partial(self._note_fault, path))
        return frozenset(self._catalog.unrouted({file.ref.study_instance_uid for file, _ in files}))

    def read(self, path: Path) -> Spooled | None:
        """Return what a file holds; None if the file is gone, was set aside, or cannot be read now."""
        return attempt(partial(spooled, path), partial(self._note_fault, path))

    def _arrival(self, file: Spooled, at: datetime, versions: _Versions) -> _Arrival | None:
        """Return what to commit; None if there is nothing to commit of the file."""
        indexed = versions.get((file.ref.study_instance_uid, file.ref.sop_instance_uid))
        try:
            sha256 = content_sha256(file.path)
        except FileNotFoundError:
            if indexed is None:
                about = {"action": "spool_lost", "study_instance_uid": file.ref.study_instance_uid}
                message = "an accepted instance is gone from the spool; send it again"
                log.error(message, extra={**about, "sop_instance_uid": file.ref.sop_instance_uid})  # noqa: TRY400
            return None
        stored = StoredInstance(
            ref=file.ref,
            transfer_syntax_uid=file.transfer_syntax_uid,
            sha256=sha256,
            size_bytes=file.size_bytes,
            path=self._spool.destination(file, sha256),
            calling_ae_title=file.calling_ae_title,
            received_at=at,
        )
        if indexed and _is_encoded_anew(file, stored, indexed):
            file.path.unlink()
            return None
        return _Arrival(file.path, stored)

    def _committed(self, arrivals: Sequence[_Arrival]) -> Iterable[_Arrival]:
        """Commit the arrivals at once, or each alone if the database refuses one; return those that are committed."""
        if not arrivals or attempt(partial(self._commit, arrivals), lambda _: None):
            return arrivals
        return [
            arrival
            for arrival in arrivals
            if attempt(partial(self._commit, [arrival]), partial(self._note_fault, arrival.path))
        ]

    def _commit(self, arrivals: Sequence[_Arrival]) -> bool:
        self._catalog.index([arrival.stored for arrival in arrivals])
        return True

    def _note_fault(self, path: Path, error: Exception) -> None:
        """Set a damaged file aside; leave another file where it is, and log its fault once."""
        if isinstance(error, CannotUnderstand):
            attempt(partial(self._set_aside, path, error), partial(self._strand, path))
        elif not isinstance(error, FileNotFoundError):
            self._strand(path, error)

    def _set_aside(self, path: Path, error: CannotUnderstand) -> None:
        target = self._spool.set_aside(path)
        self.set_aside_count += 1
        log.error("damaged file set aside: %s", error, extra={"action": "spool_damaged", "path": str(target)})

    def _strand(self, path: Path, error: Exception) -> None:
        if path not in self._stranded:
            self._stranded.add(path)
            reason = reason_of(error) if isinstance(error, NodeError | OSError) else logs.raised_at(error)
            message = "a file of the spool is not indexed; it is tried again every minute: %s"
            log.error(message, reason, extra={"action": "spool_stranded", "path": str(path)})


def _is_encoded_anew(file: Spooled, stored: StoredInstance, indexed: StoredInstance) -> bool:
    """Return whether other bytes hold the data set that is indexed already."""
    if indexed.sha256 == stored.sha256 or not indexed.path.exists():
        return False
    return same_data_set(file.path, indexed.path)
