"""The pullers of all archives as one station, and the doorway through which what comes over HTTP reaches the spool."""

from collections.abc import Callable
from dataclasses import dataclass

from ainode.node.archive.web import WebLink
from ainode.node.deciding.events import IntakeEvent, StudyAnnounced
from ainode.node.domain import UID
from ainode.node.keeping.announcements import Announcement, Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.receiving.negotiation import policy
from ainode.node.settings import Settings
from ainode.node.web.doorway import Doorway
from ainode.node.web.puller import Puller, PullerDependencies, is_pulled


@dataclass(frozen=True, slots=True)
class PullNeighbors:
    """The other parts of the node that pulls use."""

    catalog: Catalog
    ledger: Ledger
    announcements: Announcements
    put_event: Callable[[IntakeEvent], None]
    """puts an event into the intake's queue"""


class Pullers:
    """A puller for each archive whose announced studies the node pulls."""

    def __init__(self, settings: Settings, neighbors: PullNeighbors) -> None:
        limits = Limits(settings.node.min_free_bytes, settings.node.max_object_bytes)
        # The receiver's spool, with a separate folder for files that are still being written.
        self._spool = Spool(settings.data / "spool", limits, writing="tmp-web")
        self._put_event = neighbors.put_event
        self.doorway = Doorway(self._spool, policy(settings), neighbors.put_event)
        dependencies = PullerDependencies(
            neighbors.announcements,
            neighbors.catalog,
            neighbors.ledger,
            self.doorway,
            self._on_pulled,
            settings.delivery,
        )
        links = [WebLink(peer, settings.node.network_timeout_s) for peer in settings.peers if is_pulled(peer)]
        self._pullers = {link.peer.name: Puller(link, dependencies) for link in links}

    def start(self) -> None:
        """Continue the pulls that wait."""
        self._spool.sweep()
        for puller in self._pullers.values():
            puller.start()

    def is_alive(self) -> bool:
        """Return whether every puller still runs."""
        return all(puller.is_alive() for puller in self._pullers.values())

    def stop(self) -> None:
        """End each pull after its current file."""
        for puller in self._pullers.values():
            puller.stop()

    def on_announced(self, announcement: Announcement) -> None:
        """Take up an announcement that is committed."""
        self._put_event(StudyAnnounced(announcement.study_instance_uid))
        if announcement.peer in self._pullers:
            self._pullers[announcement.peer].wake()

    def _on_pulled(self, study: UID) -> None:
        self._put_event(StudyAnnounced(study))
