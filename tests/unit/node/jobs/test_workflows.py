"""The durable workflow on its own engine: what is tried again and what is not, in which order, and after a restart."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import a_file, free_port, instance_ref

from ainode.node import testing
from ainode.node.domain import (
    UID,
    Algorithm,
    Code,
    DeliveryState,
    Document,
    DocumentKind,
    JobState,
    OutOfScope,
    Reading,
    Request,
    Result,
    WeightsStatus,
)
from ainode.node.errors import BrokenSeries
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.workflows import Jobs, Stations
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.routes import Route
from ainode.node.settings import DeliveryTable, NodeTable, Peer, Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROUTE = Route("chest", "reader", destinations=("archive", "gone"))
ANSWER = Result(
    UID("1.2"), Algorithm("model", "1", "ff", WeightsStatus.RESEARCH), "Task", Code("1", "99", "x"), (), (), (), ()
)


@dataclass
class Reader:
    """Answers each request by the next of its answers, the last of them again and again."""

    answers: list[Reading | Exception] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)

    def __call__(self, handler: str, request: Request) -> Reading:
        assert handler == "reader"
        self.studies.append(request.study_instance_uid)
        assert self.free.wait(30)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Bench:
    """The jobs of a node with this reader; the archive `gone` has a closed port."""

    jobs: Jobs
    settings: Settings
    ledger: Ledger
    reader: Reader

    def until(self, job: str, *states: JobState) -> Job:
        self.wait(lambda: self.ledger.job(job).state in states)
        return self.ledger.job(job)

    def wait(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not true():
            assert time.monotonic() < deadline, self.ledger.jobs()
            time.sleep(0.02)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One engine for the file, as for a process."""
    folder = tmp_path_factory.mktemp("node")
    peers = [
        Peer(name=name, ae_title="ARCHIVE", host="127.0.0.1", port=free_port(), confirm="none")
        for name in ROUTE.destinations
    ]
    delivery = DeliveryTable(first_wait_s=0.1, longest_wait_s=0.1, attempts=2)
    node = NodeTable(data=folder, min_free_bytes=0)
    settings = Settings(node=node, peers=tuple(peers), routes=(ROUTE,), delivery=delivery)
    engine = database.connect(f"sqlite:///{folder / 'catalog.sqlite'}")
    database.migrate(engine)
    ledger, reader = Ledger(engine), Reader()
    courier = Courier(settings, ledger)
    jobs = Jobs(Stations(settings, Catalog(engine), ledger, courier, reader, lambda: datetime.now(UTC)))
    jobs.launch()
    yield Bench(jobs, settings, ledger, reader)
    jobs.stop()
    engine.dispose()


@pytest.fixture
def bench(launched: Bench) -> Iterator[Bench]:
    """Return the bench with a reader that was asked nothing yet."""
    launched.reader.studies.clear()
    launched.reader.answers = [reading()]
    launched.reader.free.set()
    yield launched
    launched.reader.free.set()


def a_job(name: str, study: str = "", **values: object) -> Job:
    uid = UID(study or f"1.2.{sum(name.encode())}")
    job = Job(name, uid, ROUTE.name, ROUTE.handler, {UID(f"{uid}.1"): "00"}, NOW, NOW, ROUTE.destinations)
    return replace(job, **values)  # type: ignore[arg-type]


def reading(*documents: Document) -> Reading:
    return Reading(ANSWER, documents, "{}", 1.0)


def a_document() -> Document:
    content = a_file()
    return Document(DocumentKind.STRUCTURED_REPORT, instance_ref(content), content)


def test_a_reading_that_fails_for_now_is_tried_again(bench: Bench) -> None:
    bench.reader.answers = [OSError("the disk is busy"), reading()]
    bench.jobs.open(a_job("again"))
    job = bench.until("again", JobState.REPORTED)
    assert (job.attempts, job.reason, len(bench.reader.studies)) == (2, "", 2)


def test_a_study_that_cannot_be_read_ends_at_once_with_its_reason_and_spares_the_next(bench: Bench) -> None:
    bench.reader.answers = [BrokenSeries("series 1.2.3: a slice is missing"), reading()]
    bench.jobs.open(a_job("broken"))
    bench.jobs.open(a_job("next"))
    bench.until("next", JobState.REPORTED)
    job = bench.ledger.job("broken")
    assert (job.state, job.attempts, job.reason) == (JobState.FAILED, 1, "series 1.2.3: a slice is missing")


def test_of_the_studies_that_wait_the_most_urgent_is_read_first_and_one_at_a_time(bench: Bench) -> None:
    bench.reader.free.clear()
    bench.jobs.open(a_job("first", "1.2.1"))
    bench.wait(lambda: len(bench.reader.studies) == 1)
    bench.jobs.open(a_job("routine", "1.2.2", priority=200))
    bench.jobs.open(a_job("urgent", "1.2.3", priority=10))
    bench.jobs.open(a_job("ordinary", "1.2.4"))
    assert bench.reader.studies == ["1.2.1"]
    bench.reader.free.set()
    bench.until("routine", JobState.REPORTED)
    assert bench.reader.studies == ["1.2.1", "1.2.3", "1.2.4", "1.2.2"]


def test_a_known_job_is_not_read_again_and_a_superseded_job_is_not_read_at_all(bench: Bench) -> None:
    bench.reader.free.clear()
    bench.jobs.open(a_job("blocks the reader", "1.3.1"))
    bench.wait(lambda: len(bench.reader.studies) == 1)
    for job in (a_job("older", "1.3.2"), a_job("newer", "1.3.2"), a_job("newer", "1.3.2")):
        bench.jobs.open(job)
    bench.jobs.open(a_job("last", "1.3.3", priority=200))
    bench.reader.free.set()
    bench.until("last", JobState.REPORTED)
    assert bench.reader.studies == ["1.3.1", "1.3.2", "1.3.3"]
    assert bench.ledger.job("older").state is JobState.SUPERSEDED
    assert bench.ledger.job("newer").state is JobState.REPORTED


def test_an_archive_that_is_gone_holds_back_only_what_is_for_it(bench: Bench, tmp_path: Path) -> None:
    document = a_document()
    bench.reader.answers = [reading(document)]
    with testing.EmbeddedArchive(tmp_path, bench.settings.peer("archive").port) as archive:
        bench.jobs.open(a_job("a"))
        bench.until("a", JobState.REPORTED)
        bench.wait(lambda: bench.ledger.deliveries("a", "gone")[0].state is DeliveryState.FAILED)
        bench.wait(lambda: bench.ledger.deliveries("a", "archive")[0].state is DeliveryState.SENT)
    assert archive.stored == [document.ref.sop_instance_uid]
    assert bench.ledger.deliveries("a", "gone")[0].error.startswith("gone: ")


def test_a_reading_that_runs_twice_keeps_the_bytes_of_its_first_run(bench: Bench) -> None:
    """The second run of a step, after a kill between its document and its state, must not change what may be sent."""
    document = a_document()
    path = bench.settings.data / "documents" / "twice" / f"{document.ref.sop_instance_uid}.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"what the first run wrote")
    bench.reader.answers = [reading(document)]
    bench.jobs.open(a_job("twice"))
    bench.until("twice", JobState.REPORTED)
    assert path.read_bytes() == b"what the first run wrote"


def test_a_start_goes_on_with_the_job_that_a_dead_process_left_in_the_reader(bench: Bench) -> None:
    bench.jobs.stop()
    bench.reader.answers = [Reading(OutOfScope("no chest", "wrong-body-part"), (), "{}", 0.0)]
    bench.ledger.open(a_job("left"))
    assert bench.ledger.move("left", JobState.READING)
    bench.jobs.launch()
    job = bench.until("left", JobState.OUT_OF_SCOPE)
    assert (job.attempts, job.reason) == (2, "no chest")
