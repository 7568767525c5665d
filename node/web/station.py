"""The web interface as one station of the node: the HTTP server, the doorway to the spool, a puller per archive."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from fastapi import FastAPI

from ainode.node.archive.web import WebLink
from ainode.node.audit.messages import Message
from ainode.node.audit.recorder import drop
from ainode.node.deciding.events import IntakeEvent, StudyAnnounced
from ainode.node.deciding.liveness import Liveness
from ainode.node.domain import UID, JobState
from ainode.node.keeping.announcements import Announcement, Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.offline.trials import Trials
from ainode.node.receiving.negotiation import policy
from ainode.node.settings import Settings
from ainode.node.web.api import Dependencies, application
from ainode.node.web.doorway import Doorway
from ainode.node.web.limits import Complaints
from ainode.node.web.puller import Puller, PullerDependencies, is_pulled
from ainode.node.web.readiness import Readiness
from ainode.node.web.server import WebServer
from ainode.node.web.tokens import Tokens
from ainode.node.web.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The other parts of the node that the web interface uses."""

    catalog: Catalog
    ledger: Ledger
    announcements: Announcements
    put_event: Callable[[IntakeEvent], None]
    """puts an event into the intake's queue"""
    liveness: Liveness
    engine: sa.Engine
    record: Callable[[Message], None] = drop
    """writes into the audit trail"""
    mark: str = ""
    """how the marks of the node's reader processes begin"""
    pages: Callable[[Dependencies], FastAPI] | None = None
    """makes the application of people's pages, None without pages"""


class Web:
    """The web interface, which the node starts last and stops first."""

    def __init__(self, settings: Settings, neighbors: Neighbors) -> None:
        """Bind the socket; callers are served after `start`.

        Raises: ConfigError if the certificate is wrong, or the address and port cannot be bound.
        """
        self._neighbors = neighbors
        self._spool = _spool(settings.data, settings)
        doorway = Doorway(self._spool, policy(settings), neighbors.put_event)
        catalog, ledger, announcements = neighbors.catalog, neighbors.ledger, neighbors.announcements
        dependencies = PullerDependencies(announcements, catalog, ledger, doorway, self._on_pulled, settings.delivery)
        links = [WebLink(peer, settings.node.network_timeout_s) for peer in settings.peers if is_pulled(peer)]
        self._pullers = {link.peer.name: Puller(link, dependencies) for link in links}
        complaints = Complaints()
        self._uploads = Uploads(settings)
        self._trials = Trials(settings, settings.trials, mark=neighbors.mark, is_busy=self._is_reading)
        parts = Dependencies(
            settings,
            catalog,
            ledger,
            announcements,
            Tokens(settings.data),
            complaints,
            doorway,
            self._on_announced,
            neighbors.liveness,
            Readiness(neighbors.engine, neighbors.liveness, settings.data, settings.node.min_free_bytes),
            self._uploads,
            self._trials,
            neighbors.record,
        )
        pages = neighbors.pages(parts) if neighbors.pages else None
        self._server = WebServer(application(parts, pages), settings.web, complaints)

    def start(self) -> None:
        """Continue the pulls that wait, and begin to serve callers."""
        self._spool.sweep()
        self._uploads.remove_leftovers()
        self._trials.start()
        for puller in self._pullers.values():
            puller.start()
        self._server.start()

    def is_alive(self) -> bool:
        """Return whether the server and every puller still run."""
        return self._server.is_alive() and all(puller.is_alive() for puller in self._pullers.values())

    def stop(self) -> None:
        """Accept no more requests, and end each pull after its current file."""
        self._server.stop()
        self._trials.stop()
        for puller in self._pullers.values():
            puller.stop()

    def _is_reading(self) -> bool:
        """Return whether a study is being read."""
        return bool(self._neighbors.ledger.jobs(states=(JobState.READING,)))

    def _on_pulled(self, study: UID) -> None:
        self._neighbors.put_event(StudyAnnounced(study))

    def _on_announced(self, announcement: Announcement) -> None:
        self._neighbors.put_event(StudyAnnounced(announcement.study_instance_uid))
        if announcement.peer in self._pullers:
            self._pullers[announcement.peer].wake()


def _spool(data: Path, settings: Settings) -> Spool:
    """Return the receiver's spool, with a separate folder for files that are still being written."""
    limits = Limits(settings.node.min_free_bytes, settings.node.max_object_bytes)
    return Spool(data / "spool", limits, writing="tmp-web")
