"""The web interface as one station of the node: its server, its way into the spool, and a puller per archive."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ainode.node.archive.web import WebLink
from ainode.node.deciding.events import IntakeEvent, StudyAnnounced
from ainode.node.domain import UID
from ainode.node.keeping.announcements import Announcement, Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.receiving.negotiation import policy
from ainode.node.settings import Settings
from ainode.node.web.api import Desk, application
from ainode.node.web.doorway import Doorway
from ainode.node.web.puller import Puller, Sources, is_pulled
from ainode.node.web.server import WebServer
from ainode.node.web.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The stations that it talks to."""

    catalog: Catalog
    ledger: Ledger
    announcements: Announcements
    tell: Callable[[IntakeEvent], None]
    """puts an event where the intake takes it"""
    is_alive: Callable[[], bool]


class Web:
    """Started last and stopped first."""

    def __init__(self, settings: Settings, neighbors: Neighbors) -> None:
        """Listen.

        Raises: ConfigError if the certificate is wrong, or the address or port cannot be had.
        """
        self._neighbors = neighbors
        self._spool = _spool(settings.data, settings)
        doorway = Doorway(self._spool, policy(settings), neighbors.tell)
        catalog, ledger, announcements = neighbors.catalog, neighbors.ledger, neighbors.announcements
        sources = Sources(announcements, catalog, ledger, doorway, self._on_pulled, settings.delivery)
        links = [WebLink(peer, settings.node.network_timeout_s) for peer in settings.peers if is_pulled(peer)]
        self._pullers = {link.peer.name: Puller(link, sources) for link in links}
        desk = Desk(
            settings,
            catalog,
            ledger,
            announcements,
            Tokens(settings.data),
            doorway,
            self._on_announced,
            neighbors.is_alive,
        )
        self._server = WebServer(application(desk), settings.web)

    def start(self) -> None:
        """Go on with what was to be pulled, and serve."""
        self._spool.sweep()
        for puller in self._pullers.values():
            puller.start()
        self._server.start()

    def is_alive(self) -> bool:
        """Whether callers are answered, and announced studies pulled."""
        return self._server.is_alive() and all(one.is_alive() for one in self._pullers.values())

    def stop(self) -> None:
        """Take no more questions, and end what is being pulled after its current file."""
        self._server.stop()
        for puller in self._pullers.values():
            puller.stop()

    def _on_pulled(self, study: UID) -> None:
        self._neighbors.tell(StudyAnnounced(study))

    def _on_announced(self, announcement: Announcement) -> None:
        self._neighbors.tell(StudyAnnounced(announcement.study_instance_uid))
        if announcement.peer in self._pullers:
            self._pullers[announcement.peer].wake()


def _spool(data: Path, settings: Settings) -> Spool:
    """Return the receiver's spool, with a folder of our own for what is being written."""
    limits = Limits(settings.node.min_free_bytes, settings.node.max_object_bytes)
    return Spool(data / "spool", limits, writing="tmp-web")
