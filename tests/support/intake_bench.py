"""An intake with a real catalog and spool, which a test drives event by event."""

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import sqlalchemy as sa
from pydicom import dcmwrite

from ainode.node import testing
from ainode.node.deciding.intake import Doors, Intake
from ainode.node.domain import UID, InstanceRef
from ainode.node.encoding.part10 import Origin, head
from ainode.node.keeping import database
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.records import Job
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.reading.weights import HandlerWeights
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, InstanceStored
from ainode.node.routes import Route
from ainode.node.settings import CompletenessTable, NodeTable, Peer, Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BREATH = timedelta(seconds=0.2)
MESSAGE = "SECRET"
STUDY = UID(testing.uid("study"))


@dataclass
class IntakeBench:
    """An intake with a real catalog and spool, and doors that write down what is handed over."""

    folder: Path
    settings: Settings
    opened: list[Job] = field(default_factory=list)
    demonstration: tuple[str, ...] = ()
    broken: int = 0
    """how often the handler's weights raise"""
    asked: list[tuple[str, UID]] = field(default_factory=list)
    own_documents: tuple[InstanceRef, ...] = ()
    faults: dict[str, Exception] = field(default_factory=dict)
    """what the weights of a handler raise"""
    spool_folder: str = "spool"

    def __post_init__(self) -> None:
        self.engine = database.connect(f"sqlite:///{self.folder / 'catalog.sqlite'}")
        # A locked database is unavailable after 50 ms, and not after 20 s as in a node.
        sa.event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=50"))
        database.migrate(self.engine)
        self.catalog = Catalog(self.engine)
        self.announcements = Announcements(self.engine)
        self.spool = Spool(self.folder / self.spool_folder, Limits(0, 10**9))
        self.numbers = itertools.count(1)
        self.restart()

    def restart(self) -> None:
        doors = Doors(
            self.opened.append,
            lambda ae_title, study: self.asked.append((ae_title, study)),
            self.weights,
            self.announcements,
            lambda _: self.own_documents,
        )
        self.intake = Intake(self.settings, self.spool, self.catalog, doors)

    def weights(self, handler: str) -> HandlerWeights:
        if handler in self.faults:
            raise self.faults[handler]
        if self.broken:
            self.broken -= 1
            raise ZeroDivisionError(MESSAGE)
        return HandlerWeights(digest="ff", demonstration=self.demonstration)

    def stored(self, association: str, number: int, at: datetime, **header: str | int) -> InstanceStored:
        """Put an instance into the spool as the receiver does."""
        origin, encoded = encoded_instance(number, **header)
        with self.spool.incoming(origin) as incoming:
            incoming.write(memoryview(encoded))
            ref, path = incoming.ref(), incoming.commit()
        return InstanceStored(association, path, ref, origin.transfer_syntax_uid, incoming.size_bytes, at)

    def left(self, number: int, **header: str | int) -> None:
        """Leave an instance in the spool, as a crash does, without waiting for the disk."""
        origin, encoded = encoded_instance(number, **header)
        (self.spool.root / "new" / f"{next(self.numbers):020d}.dcm").write_bytes(head(origin) + encoded)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let another process hold the write lock of the database."""
        lock = sqlite3.connect(self.folder / "catalog.sqlite", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            lock.close()

    def send(self, *numbers: int, at: datetime, **header: str | int) -> None:
        """Send instances over one association, a second each, and release it."""
        name = f"association {next(self.numbers)}"
        self.intake.handle([AssociationOpened(name, "PACS", "127.0.0.1", at)], at)
        for number in numbers:
            self.intake.handle([self.stored(name, number, at, **header)], at)
        self.intake.handle([AssociationEnded(name, at, is_released=True)], at)
        self.intake.route_complete(at + BREATH)


def encoded_instance(number: int, **header: str | int) -> tuple[Origin, bytes]:
    """Return a small radiograph of the spine as an association carries it."""
    image = testing.noise(8, 8, seed=number, BodyPartExamined="TSPINE", **header)
    dataset = testing.dataset(image, study="study", number=number)
    encoded, syntax = BytesIO(), UID(dataset.file_meta.TransferSyntaxUID)
    del dataset.file_meta
    dcmwrite(encoded, dataset, implicit_vr=False, little_endian=True)
    return Origin(dataset.SOPClassUID, dataset.SOPInstanceUID, syntax, "PACS"), encoded.getvalue()


def intake_bench(folder: Path, *, silence_s: float = 10.0) -> IntakeBench:
    """Return a bench with one route, for radiographs of the spine."""
    route = Route(name="spine", handler="spine_radiograph", modality=("DX",), body_part=("SPINE",))
    return IntakeBench(
        folder,
        Settings(
            node=NodeTable(data=folder),
            completeness=CompletenessTable(min_silence_s=min(2.0, silence_s), default_silence_s=silence_s),
            peers=(Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=1),),
            routes=(route,),
        ),
    )
