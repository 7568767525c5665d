"""Pull announced studies from archives: one thread per archive, so that a dead archive delays no other archive.

The announcements hold the studies that wait for a pull, so a restart continues the pulls.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from ainode.node import logs
from ainode.node.archive import orthanc
from ainode.node.archive.web import WebLink
from ainode.node.deciding.sender_counts import own_documents
from ainode.node.domain import UID
from ainode.node.domain.pauses import back_off_s
from ainode.node.encoding import headers
from ainode.node.errors import (
    ArchiveError,
    ArchiveUnreachable,
    CannotUnderstand,
    NodeError,
    OutOfResources,
    ReceiveError,
)
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.ledger import Ledger
from ainode.node.settings import DeliveryTable, Peer
from ainode.node.threads import WakeableThread
from ainode.node.web.doorway import Doorway, Visit

log = logging.getLogger(__name__)
_FILES_AT_ONCE: Final = 4
# The longest delay of a pull that nobody wakes the thread for: another process announced it, or a retry is due.
_POLL_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class PullerDependencies:
    """The parts of the node that a puller uses."""

    announcements: Announcements
    catalog: Catalog
    ledger: Ledger
    doorway: Doorway
    on_pulled: Callable[[UID], None]
    retries: DeliveryTable
    """attempts and waits, the same as for a delivery"""


class Puller(WakeableThread):
    """The thread that pulls studies from one archive, one study at a time."""

    def __init__(self, link: WebLink, dependencies: PullerDependencies) -> None:
        super().__init__(f"pull {link.peer.name}")
        self._link, self._node = link, dependencies

    @property
    def peer(self) -> Peer:
        """Return the archive's peer."""
        return self._link.peer

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            for announcement in self._node.announcements.waiting(self.peer.name):
                if announcement.due_at <= datetime.now(UTC) and not self._stopping.is_set():
                    self._try_pull(announcement)
            self._woken.wait(_POLL_S)

    def _try_pull(self, announcement: Announcement) -> None:
        """Pull one study; record a failure with its reason, and with the time of the next attempt if any is left."""
        study, announcements = announcement.study_instance_uid, self._node.announcements
        try:
            expected = self._pull(announcement)
        except (NodeError, OSError) as error:
            self._record_failure(announcement, error)
        except Exception as error:  # noqa: BLE001 - the boundary of a pull: no error may end the thread
            self._record_failure(
                announcement, NodeError(f"{type(error).__name__} while pulling; see the log"), logs.raised_at(error)
            )
        else:
            announcements.update(announcement, state=Fetching.HERE, expected=expected, reason="")
            log.info("study pulled", extra={"action": "pulled", "study_instance_uid": study, "peer": self.peer.name})
        self._node.on_pulled(study)

    def _record_failure(self, announcement: Announcement, error: NodeError | OSError, traceback: str = "") -> None:
        retries, attempts = self._node.retries, announcement.attempts + 1
        pause_s = back_off_s(announcement.attempts, first_s=retries.first_wait_s, longest_s=retries.longest_wait_s)
        is_temporary = isinstance(error, OSError | OutOfResources) or (isinstance(error, ArchiveError) and error.retry)
        state = Fetching.WAITING if is_temporary and attempts < retries.attempts else Fetching.FAILED
        due_at = datetime.now(UTC) + timedelta(seconds=pause_s)
        self._node.announcements.update(
            announcement, state=state, attempts=attempts, due_at=due_at, reason=f"not pulled: {error}"
        )
        extra = {"action": "pull_failed", "study_instance_uid": announcement.study_instance_uid}
        log.warning("pull failed: %s%s", error, traceback and f" ({traceback})", extra=extra)

    def _pull(self, announcement: Announcement) -> int:
        """Pull the missing instances; return the number of instances that the node must have of the study.

        Raises: ArchiveError; OutOfResources if the node's disk is full.
        """
        study, refused_count = announcement.study_instance_uid, 0
        with _archive_session(self._link) as archive:
            listings = archive.instances(study, announcement.orthanc_studies)
            if not any(listings):
                raise ArchiveUnreachable(f"{self.peer.name}: has no instance of the study (yet)")
            own_uids = {ref.sop_instance_uid for ref in own_documents(self._node.ledger, study)}
            content = self._node.catalog.content(study).keys()
            missing = self._missing(announcement, listings, own_uids)
            if any(missing):
                sender = (self.peer.ae_title or self.peer.name)[:16]
                with self._node.doorway.visit(sender) as visit:
                    for identifiers in missing:  # one after the other: of two versions the later version stays
                        refused_count += self._store_all(visit, archive, identifiers)
        source_uids = set(content).union(*listings) - own_uids
        return len(source_uids) - refused_count

    def _missing(
        self, announcement: Announcement, listings: Sequence[Mapping[UID, str]], own_uids: AbstractSet[UID]
    ) -> list[list[str]]:
        """Return the identifiers of the instances that the node does not have, for each listing.

        An instance of an Orthanc study that the node holds with another Patient ID is missing.
        """
        instances = self._node.catalog.instances(announcement.study_instance_uid)
        stored_instances = {stored.ref.sop_instance_uid: stored for stored in instances}
        is_by_patient = bool(self.peer.orthanc and announcement.orthanc_studies)
        missing: list[list[str]] = []
        for listing in listings:
            uids = [
                uid
                for uid in sorted(listing.keys() - own_uids)
                if uid not in stored_instances
                or (is_by_patient and not _is_version(stored_instances[uid], listing[uid]))
            ]
            for uid in uids:
                stored_instances.pop(uid, None)
            missing.append([listing[uid] for uid in uids])
        return missing

    def _store_all(self, visit: Visit, archive: "_Archive", identifiers: Sequence[str]) -> int:
        """Write instances into the spool; return how many the node refuses."""
        with _pull_threads() as threads:
            stored = threads.map(lambda identifier: self._store(visit, archive.file(identifier)), identifiers)
            return sum(not is_stored for is_stored in stored)

    def _store(self, visit: Visit, blocks: Iterator[bytes]) -> bool:
        """Write one file into the spool; return False if the node refuses the file, as it would over C-STORE."""
        if self._stopping.is_set():
            raise ArchiveUnreachable("the node is being stopped")
        with visit.file() as file:
            try:
                for block in blocks:
                    file.write(memoryview(block))
                visit.store(file)
            except OutOfResources:
                raise
            except ReceiveError as error:
                log.warning("refused: %s", error, extra={"action": "object_refused", "peer": self.peer.name})
                return False
        return True


class _Archive(Protocol):
    """An archive in an open session."""

    def instances(self, study: UID, orthanc_studies: Sequence[str], /) -> tuple[dict[UID, str], ...]:
        """Return the SOP Instance UIDs of each listed part of a study, each with the identifier that `file` needs."""
        ...

    def file(self, identifier: str) -> Iterator[bytes]:
        """Yield the bytes of an instance's file."""
        ...


def _archive_session(link: WebLink) -> AbstractContextManager[_Archive]:
    """Return a session with the peer, over Orthanc's REST interface if configured, else over DICOMweb."""
    if link.peer.orthanc:
        return orthanc.pull_session(link)
    from ainode.node.archive import wado  # noqa: PLC0415 - its client is an extra

    return wado.pull_session(link)


def _is_version(stored: StoredInstance, identifier: str) -> bool:
    """Return whether the node holds the instance as Orthanc has the instance, with the same Patient ID."""
    try:
        return orthanc.instance_identifier(headers.instance(stored.path, sha256=stored.sha256)) == identifier
    except CannotUnderstand:
        return False


def is_pulled(peer: Peer) -> bool:
    """Return whether the node pulls the announced studies of this peer."""
    return bool(peer.orthanc or peer.dicomweb)


@contextlib.contextmanager
def _pull_threads() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads; at the end, files whose pull has not begun are dropped."""
    threads = ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="pull")
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)
