"""What changes the rows of the ledger, each in a process that ends by SIGKILL before its n-th step, and the next start.

A step is a statement, a commit, or a change of a name or a file that Python makes. The process comes from a fork server
that has all modules loaded, so that a kill costs milliseconds.
"""

import itertools
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from pydicom import dcmread

from ainode.node import testing
from ainode.node.diagnosis.doctor_objects import trial_message
from ainode.node.domain import (
    UID,
    Algorithm,
    Code,
    Document,
    DocumentKind,
    OnEarly,
    Reading,
    Request,
    Result,
    WeightsStatus,
)
from ainode.node.errors import BrokenSeries
from ainode.node.identity import message_address
from ainode.node.jobs.commitments import Commitments
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.retries import retry
from ainode.node.jobs.stations import Stations
from ainode.node.jobs.workflows import Jobs
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.keeping.retention import JobRetention
from ainode.node.receiving.commitment_files import CommitmentFiles
from ainode.node.routes import Route
from ainode.node.settings import DeliveryTable, NodeTable, Peer, Settings
from support.databases import migrated
from support.files import instance_ref
from support.processes import exit_codes, is_killed
from support.waiting import until

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STUDY: Final = UID("1.2.3")
ROUTE: Final = Route("chest", "reader", destinations=("archive",), allow_demonstration=True)
TRANSACTION: Final = UID("1.2.3.4.5")
KINDS: Final = (DocumentKind.STRUCTURED_REPORT, DocumentKind.SECONDARY_CAPTURE)
_CHANGES_OF_FILES: Final = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir"})
Counted = Callable[[str], bool]
"""whether a step counts: a step names the file of its database, or is empty for a change of the file system"""


@dataclass(frozen=True)
class World:
    """The data folder of a node without receiver and intake, and the port of its archive."""

    data: Path
    archive_port: int
    listener_port: int = 0
    """of a listener that gets its message before the reading ends; 0: there is none"""

    @property
    def archive(self) -> Path:
        """Return the folder of the archive."""
        return self.data.with_name("archive")

    @property
    def document(self) -> Path:
        """Return the file that the documents of every answer are made of."""
        return self.data / "document.dcm"

    @property
    def settings(self) -> Settings:
        """Return the settings of the node."""
        archive = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=self.archive_port)
        his = Peer(name="his", host="127.0.0.1", port=self.listener_port or 1, deliver="hl7")
        delivery = DeliveryTable(first_wait_s=0.1, longest_wait_s=0.1, attempts=20)
        node = NodeTable(data=self.data, min_free_bytes=0, job_retention_days=1)
        return Settings(node=node, peers=(archive, his), routes=(ROUTE,), delivery=delivery)

    @property
    def commitments(self) -> CommitmentFiles:
        """Return the folder of what archives and senders reported and requested."""
        return CommitmentFiles(self.data / "commitments")

    def engine(self) -> sa.Engine:
        """Return an engine of the ledger's database; its tables are there."""
        return migrated(self.settings.database_url)

    def read(self, handler: str, request: Request, on_early: OnEarly) -> Reading:
        """Answer at once, and for one study always the same; find the images broken where there is no document.

        With a listener, its message comes first.
        """
        del handler
        if not self.document.exists():
            raise BrokenSeries(f"study {request.study_instance_uid}: broken for the test")
        algorithm = Algorithm("model", "1", "ff", WeightsStatus.RESEARCH)
        result = Result(STUDY, algorithm, "Task", Code("1", "99", "x"), (), (), (), ())
        contents = [self._content(request.study_instance_uid, kind) for kind in KINDS]
        documents = tuple(
            Document(kind, instance_ref(content), content) for kind, content in zip(KINDS, contents, strict=True)
        )
        if not self.listener_port:
            return Reading(result, documents, "{}", 1.0)
        message = trial_message(message_address(self.settings.peer("his")), request.study_instance_uid, NOW)
        on_early(Reading(result, (message,), "{}", 1.0, is_early=True))
        return Reading(result, (*documents, message), "{}", 1.0)

    def _content(self, study: UID, kind: DocumentKind) -> bytes:
        dataset, stream = dcmread(self.document), BytesIO()
        dataset.StudyInstanceUID, dataset.SOPInstanceUID = study, testing.uid(study, kind)
        dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue()


def _now() -> datetime:
    return datetime.now(UTC)


def a_job(name: str, *, content: str = "00") -> Job:
    """Return a job that waits."""
    return Job(name, STUDY, ROUTE.name, ROUTE.handler, {UID("1.2.3.1"): content}, NOW, NOW, ROUTE.destinations)


# The operations


def _retry(world: World, ledger: Ledger) -> None:
    retry(world.settings, ledger, "job", Instruction(NOW))


def _settle(world: World, ledger: Ledger) -> None:
    """Take up the reports of archives that are on disk, and wait until none is left."""
    Commitments(world.settings, Catalog(world.engine()), ledger, _now).recover()
    until(lambda: not world.commitments.paths())


def _supersede(_: World, ledger: Ledger) -> None:
    ledger.open(a_job("newer", content="01"))


def _retain(world: World, ledger: Ledger) -> None:
    documents, catalog = world.data / "documents", Catalog(world.engine())
    retention = JobRetention(1, documents=documents, ledger=ledger, catalog=catalog, remove_workflows=_leave)
    retention.sweep(_now() + timedelta(days=30))


def _leave(_: datetime) -> None:
    """Leave the rows of old workflows, which are the engine's."""


def _work(world: World, ledger: Ledger) -> None:
    """Start what the node starts, and wait until nothing remains to be done."""
    _launch(world, ledger)
    until(lambda: not ledger.tasks.waiting(()))


def _launch(world: World, ledger: Ledger) -> None:
    settings = world.settings
    stations = Stations(settings, Catalog(world.engine()), ledger, Courier(settings, ledger), world.read, _now)
    Jobs(stations).launch()


def _by_main_thread(database_path: str) -> bool:
    del database_path
    return threading.current_thread() is threading.main_thread()


def _by_dispatcher(database_path: str) -> bool:
    del database_path
    return threading.current_thread().name == "dispatcher"


def _by_lane(database_path: str) -> bool:
    del database_path
    return threading.current_thread().name.startswith("commitment ")


def _by_workers(database_path: str) -> bool:
    """The engine's own statements come and go with its polling; the work is what the ledger and the disk see."""
    is_work = not database_path or database_path.endswith("catalog.sqlite")
    return is_work and not _by_main_thread("") and not _by_dispatcher("")


@dataclass(frozen=True)
class Operation:
    """Something that changes rows, and which of its steps count."""

    run: Callable[[World, Ledger], None]
    is_step: Counted = _by_main_thread
    is_repeated: bool = False
    """whether the node does it again after a start: whoever wanted it was not answered, or its time has come"""


OPERATIONS: Final[Mapping[str, Operation]] = {
    "retry": Operation(_retry),
    "settle": Operation(_settle, _by_lane, is_repeated=True),
    "supersede": Operation(_supersede, is_repeated=True),
    "report": Operation(_work, _by_workers),
    "sweep": Operation(_work, _by_dispatcher),
    "retain": Operation(_retain, is_repeated=True),
}


# The processes


def _kill_before(step: int, is_step: Counted) -> None:
    numbers = itertools.count(1)

    def count(database_path: str) -> None:
        if is_step(database_path) and next(numbers) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def statement(connection: sa.Connection, *_: object) -> None:
        count(str(connection.engine.url.database))

    def file(event: str, arguments: tuple[object, ...]) -> None:
        if event in _CHANGES_OF_FILES or (event == "open" and "w" in str(arguments[1])):
            count("")

    for name in ("before_cursor_execute", "commit"):
        sa.event.listen(sa.Engine, name, statement)
    sys.addaudithook(file)


def _operate(world: World, name: str, step: int) -> None:
    operation, ledger = OPERATIONS[name], Ledger(world.engine())
    _kill_before(step, operation.is_step)
    operation.run(world, ledger)
    os._exit(0)  # the threads of the engine have no part in this


def _start(world: World, name: str) -> None:
    ledger = Ledger(world.engine())
    if OPERATIONS[name].is_repeated:
        OPERATIONS[name].run(world, ledger)
    _work(world, ledger)
    os._exit(0)


def killed(world: World, name: str, step: int) -> bool:
    """Run an operation; return whether the operation was killed before that step, or ended by itself."""
    return is_killed(_operate, world, name, step)


def started(world: World, name: str = "report") -> None:
    """Start what the node starts after a kill of that operation; return when nothing remains to be done."""
    assert exit_codes(_start, world, name) == [0], "the start did not come to its end"


def restored(world: World, template: Path) -> None:
    """Bring the data folder and the folder of the archive back to what the template holds."""
    for folder in (world.data, world.archive):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template / folder.name, folder)
