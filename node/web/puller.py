"""Pulls what was announced and is not here: one thread per archive, so that a dead one holds up only itself.

What is to be pulled stands in the announcements; a restart goes on where it was.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from ainode.node import logs
from ainode.node.archive import orthanc
from ainode.node.archive.web import WebLink
from ainode.node.back_off import back_off_s
from ainode.node.domain import UID
from ainode.node.errors import ArchiveError, ArchiveUnreachable, NodeError, OutOfResources, ReceiveError
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.settings import DeliveryTable, Peer
from ainode.node.web.doorway import Doorway, Visit

log = logging.getLogger(__name__)
_FILES_AT_ONCE: Final = 4
# How soon a pull is begun that this process was not told of (another one announced it, or it was due).
_LOOK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Sources:
    """What a pull works with."""

    announcements: Announcements
    catalog: Catalog
    ledger: Ledger
    doorway: Doorway
    on_pulled: Callable[[UID], None]
    patience: DeliveryTable
    """attempts and pauses: those of a delivery"""


class Puller:
    """One archive's pulls, one study at a time."""

    def __init__(self, link: WebLink, sources: Sources) -> None:
        self._link, self._sources = link, sources
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pull {link.peer.name}", daemon=True)

    @property
    def peer(self) -> Peer:
        """Return whose studies it pulls."""
        return self._link.peer

    def start(self) -> None:
        """Go on with what is waiting."""
        self._thread.start()

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    def is_alive(self) -> bool:
        """Whether it still pulls."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End after the file that is being pulled."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            for one in self._sources.announcements.waiting(self.peer.name):
                if one.due_at <= datetime.now(UTC) and not self._stopping.is_set():
                    self._try(one)
            self._wake.wait(_LOOK_S)

    def _try(self, announcement: Announcement) -> None:
        """Pull one study; a failure is kept with its reason and tried again later, or given up."""
        study, announcements = announcement.study_instance_uid, self._sources.announcements
        try:
            expected = self._pull(study)
        except (NodeError, OSError) as error:
            self._failed(announcement, error)
        except Exception as error:  # noqa: BLE001 - the pull's boundary: whatever an archive provokes ends that pull only
            self._failed(
                announcement, NodeError(f"{type(error).__name__} while pulling; see the log"), logs.raised_at(error)
            )
        else:
            announcements.update(announcement, state=Fetching.HERE, expected=expected, reason="")
            log.info("study pulled", extra={"action": "pulled", "study_instance_uid": study, "peer": self.peer.name})
        self._sources.on_pulled(study)

    def _failed(self, announcement: Announcement, error: NodeError | OSError, where: str = "") -> None:
        patience, attempts = self._sources.patience, announcement.attempts + 1
        pause_s = back_off_s(announcement.attempts, first_s=patience.first_wait_s, longest_s=patience.longest_wait_s)
        again = attempts < patience.attempts and (isinstance(error, OSError | OutOfResources) or _may_pass(error))
        state = Fetching.WAITING if again else Fetching.FAILED
        due_at = datetime.now(UTC) + timedelta(seconds=pause_s)
        self._sources.announcements.update(
            announcement, state=state, attempts=attempts, due_at=due_at, reason=f"not pulled: {error}"
        )
        about = {"action": "pull_failed", "study_instance_uid": announcement.study_instance_uid}
        log.warning("pull failed: %s%s", error, where and f"\n{where}", extra=about)

    def _pull(self, study: UID) -> int:
        """Bring what is lacking; return how many instances of the study are to be here.

        Raises: ArchiveError; OutOfResources where our disk does not take them.
        """
        with _opened(self._link) as archive:
            there = archive.instances(study)
            if not there:
                raise ArchiveUnreachable(f"{self.peer.name}: has no instance of the study (yet)")
            wanted = there.keys() - self._made_here(study)
            lacking = sorted(wanted - self._sources.catalog.content(study).keys())
            refused = 0
            if lacking:
                sender = (self.peer.ae_title or self.peer.name)[:16]
                with self._sources.doorway.visit(sender) as visit, _hands() as hands:
                    kept = hands.map(lambda uid: self._take(visit, archive.file(there[uid])), lacking)
                    refused = sum(not one for one in kept)
        return len(wanted) - refused

    def _made_here(self, study: UID) -> frozenset[UID]:
        """Return our own documents of the study: what we gave the archive is not fetched back."""
        ledger = self._sources.ledger
        jobs = ledger.jobs(study=study)
        return frozenset(one.ref.sop_instance_uid for job in jobs for one in ledger.documents(job.id))

    def _take(self, visit: Visit, blocks: Iterator[bytes]) -> bool:
        """Bring one file into the spool; False for one that no C-STORE would take either."""
        if self._stopping.is_set():
            raise ArchiveUnreachable("the node is being stopped")
        with visit.file() as file:
            try:
                for block in blocks:
                    file.write(memoryview(block))
                visit.keep(file)
            except OutOfResources:
                raise
            except ReceiveError as error:
                log.warning("refused: %s", error, extra={"action": "object_refused", "peer": self.peer.name})
                return False
        return True


class _Archive(Protocol):
    """What is asked of an archive while its session is open."""

    def instances(self, study: UID) -> dict[UID, str]: ...
    def file(self, identifier: str) -> Iterator[bytes]: ...


def _opened(link: WebLink) -> AbstractContextManager[_Archive]:
    """Return a session with the peer: by Orthanc's own interface where it has one, else by DICOMweb."""
    if link.peer.orthanc:
        return orthanc.pull_session(link)
    from ainode.node.archive import wado  # noqa: PLC0415 - its client is an extra

    return wado.pull_session(link)


def is_pulled(peer: Peer) -> bool:
    """Whether studies of this peer are pulled when they are announced."""
    return bool(peer.orthanc or peer.dicomweb)


def _may_pass(error: NodeError | OSError) -> bool:
    return isinstance(error, ArchiveError) and error.retry


@contextlib.contextmanager
def _hands() -> Iterator[ThreadPoolExecutor]:
    """Yield threads to pull with; after a failure what was not begun is left."""
    hands = ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="pull")
    try:
        yield hands
    finally:
        hands.shutdown(cancel_futures=True)
