"""A web station on a real socket, over a real spool and catalog; the intake is driven by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
from fastapi import FastAPI

from ainode.node.audit.messages import Message
from ainode.node.audit.recorder import drop
from ainode.node.console.application import console
from ainode.node.console.parts import Parts
from ainode.node.deciding.events import IntakeEvent
from ainode.node.deciding.intake import Doors, Intake
from ainode.node.deciding.liveness import Liveness
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.reading.readers import Readers
from ainode.node.reading.weights import HandlerWeights, environment
from ainode.node.routes import Route
from ainode.node.settings import ConsoleTable, NodeTable, Peer, Settings, Subscription, WebTable
from ainode.node.settings.tables import DatabaseTable
from ainode.node.web.api import Dependencies
from ainode.node.web.station import Neighbors, Web
from ainode.node.web.tokens import Tokens
from support.databases import migrated
from support.servers import free_port

BREATH = timedelta(seconds=0.3)
MULTIPART = 'multipart/related; type="application/dicom"; boundary=b0'


@dataclass
class Bench:
    """A web station, and an intake that takes its events when it is told to."""

    folder: Path
    events: list[IntakeEvent] = field(default_factory=list)
    opened: list[Job] = field(default_factory=list)
    fault: str = ""
    """of the receiver"""
    put_event: Callable[[IntakeEvent], None] = field(init=False)
    certificate: Path | None = None
    """with its key in the same file: then it speaks https"""
    open_upload: bool = False
    fhir: bool = False
    database_url: str = ""
    """'' for SQLite"""
    console: ConsoleTable = field(default_factory=ConsoleTable)
    peers: tuple[Peer, ...] = (Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=1),)
    routes: tuple[Route, ...] = (
        Route(name="spine", handler="spine_radiograph", modality=("DX",), body_part=("SPINE",)),
    )
    subscriptions: tuple[Subscription, ...] = ()
    record: Callable[[Message], None] = drop
    pages: FastAPI = field(init=False)
    """the console"""
    reloads: list[datetime] = field(default_factory=list)
    """when a page asked the node to take up its files"""
    parts: Parts = field(init=False)
    """what the pages use"""

    def __post_init__(self) -> None:
        self.put_event = self.events.append
        self.folder.mkdir(exist_ok=True)
        self.settings = Settings(
            node=NodeTable(
                data=self.folder, port=free_port(), min_free_bytes=0, network_timeout_s=5, max_object_bytes=1 << 30
            ),
            web=WebTable(
                enabled=True,
                port=free_port(),
                tls_certificate=self.certificate,
                tls_key=self.certificate,
                open_upload=self.open_upload,
                fhir=self.fhir,
            ),
            console=self.console,
            database=DatabaseTable(url=self.database_url),
            peers=self.peers,
            routes=self.routes,
            subscriptions=self.subscriptions,
        )
        self.engine = migrated(self.settings.database_url)
        self.catalog, self.ledger = Catalog(self.engine), Ledger(self.engine)
        self.announcements = Announcements(self.engine)
        self.tokens = Tokens(self.folder)
        self.web = Web(
            self.settings,
            Neighbors(
                self.catalog,
                self.ledger,
                self.announcements,
                lambda event: self.put_event(event),  # noqa: PLW0108 - a test replaces the function
                Liveness(lambda: self.fault, lambda: "", lambda: ""),
                self.engine,
                self.record,
                pages=self._pages if self.console.enabled else None,
            ),
        )
        self.restart()
        self.web.start()

    def _pages(self, web: Dependencies) -> FastAPI:
        readers = Readers((), environment(self.settings), self.settings.reader, lambda _: None)
        self.parts = Parts(web, self.engine, readers, request_reload=lambda: self.reloads.append(datetime.now(UTC)))
        self.pages = console(self.parts)
        return self.pages

    def restart(self) -> None:
        """Forget what the intake holds in memory."""
        spool = Spool(self.folder / "spool", Limits(0, 1 << 30))
        weights = HandlerWeights(digest="ff")
        doors = Doors(self.opened.append, lambda *_: None, lambda _: weights, self.announcements, lambda _: ())
        self.intake = Intake(self.settings, spool, self.catalog, doors)
        self.intake.recover(datetime.now(UTC))

    def take(self, *, later: timedelta = BREATH) -> None:
        """Let the intake take what happened, and look at the clock a moment later."""
        now = datetime.now(UTC)
        events, self.events[:] = list(self.events), []
        self.intake.handle(events, now)
        self.intake.route_complete(now + later)

    def call(self, method: str, path: str, token: str = "", **options: object) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", **dict(options.pop("headers", {}))}  # type: ignore[call-overload]
        address = f"http://127.0.0.1:{self.settings.web.port}{path}"
        with requests.Session() as session:
            return session.request(method, address, headers=headers, timeout=300, **options)  # type: ignore[arg-type]

    def store(self, token: str, *files: bytes, path: str = "/dicom-web/studies") -> requests.Response:
        return self.call("POST", path, token, data=multipart(*files), headers={"Content-Type": MULTIPART})


def multipart(*files: bytes) -> bytes:
    parts = b"".join(b"--b0\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in files)
    return parts + b"--b0--\r\n"
