"""The web interface as one station of the node: the HTTP server, and what its requests need."""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from fastapi import FastAPI

from ainode.node.audit.messages import Message
from ainode.node.audit.recorder import drop
from ainode.node.deciding.events import IntakeEvent
from ainode.node.deciding.liveness import Liveness
from ainode.node.domain import JobState
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.report_search import ReportSearch
from ainode.node.offline.trials import Trials
from ainode.node.settings import Settings
from ainode.node.web.api import Dependencies, application
from ainode.node.web.limits import Complaints
from ainode.node.web.pullers import Pullers, PullNeighbors
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
    metrics: Callable[[], str] | None = None
    """returns the page for Prometheus, None where there is none"""


class Web:
    """The web interface, which the node starts last and stops first."""

    def __init__(self, settings: Settings, neighbors: Neighbors) -> None:
        """Bind the socket; callers are served after `start`.

        Raises: ConfigError if the certificate is wrong, or the address and port cannot be bound.
        """
        self._neighbors = neighbors
        catalog, ledger, announcements = neighbors.catalog, neighbors.ledger, neighbors.announcements
        self.pullers = Pullers(settings, PullNeighbors(catalog, ledger, announcements, neighbors.put_event))
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
            self.pullers.doorway,
            self.pullers.on_announced,
            neighbors.liveness,
            Readiness(
                neighbors.engine, neighbors.liveness, settings.data, settings.node.min_free_bytes, settings.handlers
            ),
            self._uploads,
            self._trials,
            neighbors.record,
            neighbors.metrics,
            ReportSearch(neighbors.engine) if settings.web.fhir else None,
        )
        pages = neighbors.pages(parts) if neighbors.pages else None
        self._server = WebServer(application(parts, pages), settings.web, complaints)

    def start(self) -> None:
        """Continue the pulls that wait, and begin to serve callers."""
        self._uploads.remove_leftovers()
        self._trials.start()
        self.pullers.start()
        self._server.start()

    def is_alive(self) -> bool:
        """Return whether the server and every puller still run."""
        return self._server.is_alive() and self.pullers.is_alive()

    def stop(self) -> None:
        """Accept no more requests, and end each pull after its current file."""
        self._server.stop()
        self._trials.stop()
        self.pullers.stop()

    def _is_reading(self) -> bool:
        """Return whether a study is being read."""
        return bool(self._neighbors.ledger.jobs(states=(JobState.READING,)))
