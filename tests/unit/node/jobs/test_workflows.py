"""The durable workflow on its own engine: what is tried again and what is not, in which order, and after a restart."""

import errno
import socket
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pynetdicom import AE, AllStoragePresentationContexts, evt
from support import a_file, free_port, instance_ref
from support.entities import served
from support.waiting import until
from support.web_archives import a_file_of

from ainode.node import testing
from ainode.node.domain import (
    UID,
    Algorithm,
    Capture,
    Code,
    DeliveryState,
    Document,
    DocumentKind,
    InstanceRef,
    JobState,
    OnEarly,
    OutOfScope,
    Reading,
    Request,
    Result,
    Saliency,
    WeightsStatus,
)
from ainode.node.errors import BrokenSeries, OutOfResources, ReaderTimeout
from ainode.node.jobs import engine
from ainode.node.jobs.courier import Courier
from ainode.node.jobs.readings import Readings
from ainode.node.jobs.stations import Stations
from ainode.node.jobs.workflows import Jobs
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument
from ainode.node.keeping.saliency import FILE_NAME, saliency_entries, saliency_values
from ainode.node.keeping.tasks import Task, TaskKind
from ainode.node.routes import PriorRule, Route
from ainode.node.settings import DeliveryTable, NodeTable, Peer, Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROUTE = Route("chest", "reader", destinations=("archive", "gone"))
FOLLOWED = [
    Route(f"with priors of {name}", "reader", priors=PriorRule(name, timeout_s=300)) for name in ("slow", "gone")
]
ANSWER = Result(
    UID("1.2"), Algorithm("model", "1", "ff", WeightsStatus.RESEARCH), "Task", Code("1", "99", "x"), (), (), (), ()
)


@dataclass
class Reader:
    """Answers each request by the next of its answers, the last of them again and again."""

    answers: list[Reading | Exception] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    """what the reading of a study waits for, if not for `free`"""

    def __call__(self, handler: str, request: Request, _: OnEarly) -> Reading:
        assert handler == "reader"
        self.studies.append(request.study_instance_uid)
        assert self.gates.get(request.study_instance_uid, self.free).wait(300)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Clock:
    """The time of the jobs, which a test may advance over a pause, or stop so that a pause ends by that alone."""

    ahead: timedelta = timedelta()
    stopped_at: datetime | None = None

    def now(self) -> datetime:
        return (self.stopped_at or datetime.now(UTC)) + self.ahead


@dataclass
class Bench:
    """The jobs of a node with this reader; `gone` has a closed port, `silent` takes documents and confirms none."""

    jobs: Jobs
    settings: Settings
    ledger: Ledger
    reader: Reader
    clock: Clock

    def until(self, job: str, *states: JobState) -> Job:
        self.wait(lambda: self.ledger.job(job).state in states)
        return self.ledger.job(job)

    def wait(self, true: Callable[[], bool]) -> None:
        until(true, shown=self.ledger.jobs)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One engine for the file, as for a process."""
    folder = tmp_path_factory.mktemp("node")
    peers = [
        Peer(name=name, ae_title="ARCHIVE", host="127.0.0.1", port=free_port(), confirm=confirm)
        for name, confirm in (("archive", "none"), ("gone", "none"), ("silent", "query"), ("slow", "none"))
    ]
    delivery = DeliveryTable(first_wait_s=60, longest_wait_s=600, attempts=2)
    node = NodeTable(data=folder, min_free_bytes=0, network_timeout_s=300)
    settings = Settings(node=node, peers=tuple(peers), routes=(ROUTE, *FOLLOWED), delivery=delivery)
    engine = database.connect(f"sqlite:///{folder / 'catalog.sqlite'}")
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=100"))
    database.migrate(engine)
    ledger, reader, clock = Ledger(engine), Reader(), Clock()
    jobs = Jobs(Stations(settings, Catalog(engine), ledger, Courier(settings, ledger), reader, clock.now))
    jobs.launch()
    yield Bench(jobs, settings, ledger, reader, clock)
    jobs.stop()
    engine.dispose()


@pytest.fixture
def bench(launched: Bench) -> Iterator[Bench]:
    """Return the bench with a reader that was asked nothing yet."""
    launched.reader.studies.clear()
    launched.reader.gates.clear()
    launched.reader.answers = [reading()]
    launched.reader.free.set()
    yield launched
    launched.reader.free.set()
    launched.clock.stopped_at = None
    # A job that is read later would take the answers of a later test.
    launched.wait(lambda: not launched.ledger.jobs(states=(JobState.WAITING, JobState.READING)))


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
    assert job.reading_at
    assert job.finished_at
    assert job.reading_at <= job.finished_at


def test_a_study_that_cannot_be_read_ends_at_once_with_its_reason_and_spares_the_next(bench: Bench) -> None:
    bench.reader.answers = [BrokenSeries("series 1.2.3: a slice is missing"), reading()]
    bench.jobs.open(a_job("broken"))
    bench.jobs.open(a_job("next"))
    bench.until("next", JobState.REPORTED)
    job = bench.ledger.job("broken")
    assert (job.state, job.attempts, job.reason) == (JobState.FAILED, 1, "series 1.2.3: a slice is missing")
    assert job.finished_at


def test_of_the_studies_that_wait_the_most_urgent_is_read_first_and_one_at_a_time(bench: Bench) -> None:
    bench.reader.free.clear()
    bench.jobs.open(a_job("first", "1.2.1"))
    bench.wait(lambda: len(bench.reader.studies) == 1)
    bench.jobs.open(a_job("routine", "1.2.2", priority=200))
    bench.jobs.open(a_job("urgent", "1.2.3", priority=10))
    bench.jobs.open(a_job("ordinary", "1.2.4"))
    bench.wait(lambda: {"routine:read:", "urgent:read:", "ordinary:read:"} <= engine.Activity("ainode").turns().keys())
    assert bench.reader.studies == ["1.2.1"]
    bench.reader.free.set()
    bench.until("routine", JobState.REPORTED)
    assert bench.reader.studies == ["1.2.1", "1.2.3", "1.2.4", "1.2.2"]


def test_the_next_study_is_read_while_the_documents_of_the_one_before_are_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, keep = threading.Event(), Readings._kept

    def keep_slowly(readings: Readings, job: Job, answer: Reading) -> tuple[KeptDocument, ...]:
        if job.id == "kept slowly":
            assert kept.wait(300)
        return keep(readings, job, answer)

    monkeypatch.setattr(Readings, "_kept", keep_slowly)
    bench.reader.free.set()
    bench.reader.answers = [reading()]
    try:
        bench.jobs.open(a_job("kept slowly", "1.2.5"))
        bench.wait(lambda: bench.reader.studies == ["1.2.5"])
        bench.jobs.open(a_job("next"))
        bench.until("next", JobState.REPORTED)
        assert bench.ledger.job("kept slowly").state is JobState.READING
    finally:
        kept.set()
    bench.until("kept slowly", JobState.REPORTED)


def test_a_queued_job_is_read_first_once_it_is_prioritized_and_never_once_it_is_cancelled(bench: Bench) -> None:
    bench.reader.free.clear()
    bench.jobs.open(a_job("before", "1.6.1"))
    bench.wait(lambda: len(bench.reader.studies) == 1)
    names = ("early", "unwanted", "preferred")
    for number, name in enumerate(names):
        bench.jobs.open(a_job(name, f"1.6.{number + 2}"))
    activity = engine.Activity("ainode")
    bench.wait(lambda: {f"{name}:read:" for name in names} <= activity.turns().keys())
    turn = activity.turns()["preferred:read:"]
    assert bench.ledger.prioritize("preferred", 1)
    assert bench.ledger.move("unwanted", JobState.CANCELLED, reason="sent by mistake")
    bench.wait(lambda: activity.turns()["preferred:read:"] > turn)
    bench.reader.free.set()
    bench.until("early", JobState.REPORTED)
    assert bench.reader.studies == ["1.6.1", "1.6.4", "1.6.2"]
    assert bench.ledger.job("unwanted").state is JobState.CANCELLED


def test_a_workflow_that_is_about_to_begin_is_not_ended_by_two_looks_in_one_moment(bench: Bench) -> None:
    bench.reader.free.clear()
    bench.jobs.open(a_job("begun", "1.6.1"))
    bench.wait(lambda: len(bench.reader.studies) == 1)
    # As in the moment between the queue and the thread: the engine calls it pending, and no thread works at it yet.
    activity = engine.Activity("ainode")
    assert "begun:read:" in activity.turns()
    assert activity.end_abandoned() == 0
    assert activity.end_abandoned() == 1, "the second look of the same caller"
    bench.reader.free.set()
    bench.until("begun", JobState.REPORTED)


def test_a_study_that_killed_a_reader_comes_after_all_that_wait_and_is_given_up_after_the_second_time(
    bench: Bench,
) -> None:
    killed = ReaderTimeout("killed after 600 s")
    bench.reader.answers = [killed, reading(), reading(), reading(), killed]
    bench.reader.free.clear()
    gate = bench.reader.gates["1.5.2"] = threading.Event()
    bench.jobs.open(a_job("hangs", "1.5.1", priority=1))
    bench.wait(lambda: len(bench.reader.studies) == 1)
    for name, study in (("second", "1.5.2"), ("third", "1.5.3")):
        bench.jobs.open(a_job(name, study))
    bench.reader.free.set()
    bench.wait(lambda: len(bench.reader.studies) == 2)
    bench.clock.ahead += timedelta(seconds=10)
    bench.wait(lambda: bench.ledger.tasks.attempts(Task("hangs", TaskKind.READ)) == 1)
    bench.wait(lambda: "hangs:read:" in engine.Activity("ainode").turns())
    bench.jobs.open(a_job("late", "1.5.4", priority=200))
    bench.wait(lambda: "late:read:" in engine.Activity("ainode").turns())
    gate.set()
    assert bench.until("hangs", JobState.FAILED).reason == "killed after 600 s"
    assert bench.reader.studies == ["1.5.1", "1.5.2", "1.5.3", "1.5.4", "1.5.1"]
    bench.reader.answers = [reading()]
    bench.clock.ahead += timedelta(minutes=10)
    bench.jobs.open(a_job("after", "1.5.5"))
    bench.until("after", JobState.REPORTED)
    assert bench.reader.studies[5:] == ["1.5.5"]


def test_a_known_job_is_not_read_again_and_a_superseded_job_is_not_read_at_all(bench: Bench) -> None:
    bench.reader.free.clear()
    bench.jobs.open(a_job("blocks the reader", "1.3.1"))
    bench.wait(lambda: len(bench.reader.studies) == 1)
    for job in (a_job("older", "1.3.2"), a_job("newer", "1.3.2"), a_job("newer", "1.3.2")):
        bench.jobs.open(job)
    bench.jobs.open(a_job("last", "1.3.3", priority=200))
    bench.wait(lambda: {"newer:read:", "last:read:"} <= engine.Activity("ainode").turns().keys())
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
        bench.wait(lambda: bench.ledger.tasks.attempts(Task("a", TaskKind.SEND, "gone")) == 1)
        bench.clock.ahead += timedelta(seconds=70)
        bench.wait(lambda: bench.ledger.deliveries("a", "gone")[0].state is DeliveryState.FAILED)
        bench.wait(lambda: bench.ledger.deliveries("a", "archive")[0].state is DeliveryState.SENT)
    assert archive.stored == [document.ref.sop_instance_uid]
    assert bench.ledger.deliveries("a", "gone")[0].error.startswith("gone: ")


def test_the_saliency_of_a_reading_is_kept_beside_its_documents(bench: Bench) -> None:
    document = a_document()
    capture = Capture(document.ref, "Chest", (), Saliency(1, 3, b"\0\x7f\xff"))
    answer = replace(ANSWER, captures=(capture, replace(capture, saliency=None)))
    bench.reader.answers = [replace(reading(document), answer=answer)]
    bench.jobs.open(a_job("salient"))
    bench.until("salient", JobState.REPORTED)
    path = bench.settings.data / "documents" / "salient" / FILE_NAME
    (entry,) = saliency_entries(path)
    assert entry == {"image": document.ref.sop_instance_uid, "title": "Chest", "rows": 1, "columns": 3}
    assert saliency_values(path, 0) == b"\0\x7f\xff"
    assert [kept.ref for kept in bench.ledger.documents("salient")] == [document.ref]


def test_a_start_goes_on_with_the_job_that_a_dead_process_left_in_the_reader(bench: Bench) -> None:
    bench.jobs.stop()
    bench.reader.answers = [Reading(OutOfScope("no chest", "wrong-body-part"), (), "{}", 0.0)]
    bench.ledger.open(a_job("left"))
    assert bench.ledger.move("left", JobState.READING)
    bench.jobs.launch()
    job = bench.until("left", JobState.OUT_OF_SCOPE)
    assert (job.attempts, job.reason) == (2, "no chest")


def test_a_full_disk_is_waited_out_and_costs_no_attempt(bench: Bench) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    bench.reader.answers = [full, OutOfResources("disk has less free space"), full, full, reading()]
    bench.clock.stopped_at = datetime.now(UTC)
    bench.jobs.open(a_job("no room"))
    for attempt in range(1, 5):
        bench.wait(lambda attempt=attempt: len(bench.reader.studies) == attempt)  # type: ignore[misc]
        job = bench.until("no room", JobState.WAITING)
        assert "disk of the node is full" in job.reason
        bench.clock.ahead += timedelta(seconds=20)
    assert bench.until("no room", JobState.REPORTED).reason == ""


def test_jobs_that_an_archive_never_confirms_do_not_hold_back_the_next(bench: Bench) -> None:
    names = [f"silent {number}" for number in range(10)]
    with silent_archive(bench.settings.peer("silent").port) as stored:
        for name in names:
            bench.reader.answers = [reading(a_document())]
            bench.jobs.open(a_job(name, destinations=("silent",)))
            bench.until(name, JobState.REPORTED)
        bench.wait(lambda: len(stored) == len(names))
        bench.wait(lambda: all(bench.ledger.deliveries(name, "silent")[0].error for name in names))
    assert {bench.ledger.deliveries(name, "silent")[0].state for name in names} <= {
        DeliveryState.SENT,
        DeliveryState.FAILED,
    }


def test_documents_that_an_archive_has_no_room_for_do_not_hold_back_the_next(bench: Bench) -> None:
    names = [f"no room {number}" for number in range(8)]
    documents = [a_document() for _ in names]
    refused = {document.ref.sop_instance_uid for document in documents}
    with silent_archive(bench.settings.peer("archive").port, refused) as stored:
        for name, document in zip(names, documents, strict=True):
            bench.reader.answers = [reading(document)]
            bench.jobs.open(a_job(name, destinations=("archive",)))
            bench.until(name, JobState.REPORTED)
        bench.wait(lambda: all(bench.ledger.deliveries(name)[0].archive_status == 0xA700 for name in names))
        ninth = a_document()
        bench.reader.answers = [reading(ninth)]
        bench.jobs.open(a_job("ninth", destinations=("archive",)))
        bench.wait(lambda: ninth.ref.sop_instance_uid in stored)
        assert {bench.ledger.deliveries(name)[0].state for name in names} == {DeliveryState.WAITING}
        attempts = [Task(name, TaskKind.SEND, "archive") for name in names]
        bench.wait(lambda: all(bench.ledger.tasks.attempts(task) == 1 for task in attempts))
        refused.clear()
        bench.clock.ahead += timedelta(seconds=70)
        bench.wait(lambda: {document.ref.sop_instance_uid for document in documents} <= set(stored))


@contextmanager
def silent_archive(port: int, refused: Collection[str] = ()) -> Iterator[list[str]]:
    """Store what comes, less what is out of resources, and answer no query."""
    stored: list[str] = []

    def store(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID in refused:
            return 0xA700
        stored.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    entity = AE("ARCHIVE")
    entity.supported_contexts = AllStoragePresentationContexts
    with served(entity, (evt.EVT_C_STORE, store), port=port):
        yield stored


@contextmanager
def slow_archive(port: int, slow: int) -> Iterator[list[socket.socket]]:
    """Keep so many connections without a word, and close the others at once."""
    kept: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                if len(kept) < slow:
                    kept.append(connection)
                else:
                    connection.close()

    with socket.create_server(("127.0.0.1", port)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@pytest.mark.parametrize(("count", "source"), [(4, "slow"), (8, "gone")])
def test_slow_searches_for_priors_hold_back_neither_a_few_others_nor_those_of_another_archive(
    bench: Bench, tmp_path: Path, count: int, source: str
) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(
        a_file_of(study="1.6", PatientID="7", PatientBirthDate="19500101", StudyDate="20260101", StudyTime="1010")
    )
    names = [f"search {source} {number}" for number in range(count)]
    with slow_archive(bench.settings.peer("slow").port, count) as kept:
        for name in names:
            open_followed(bench, name, path, "slow")
        bench.wait(lambda: len(kept) == count)
        open_followed(bench, f"beside {source}", path, source)
        bench.until(f"beside {source}", JobState.REPORTED)
        assert len(kept) == count
    for name in names:
        bench.until(name, JobState.REPORTED)


def open_followed(bench: Bench, name: str, path: Path, source: str) -> None:
    job = a_job(name, f"1.6.{sum(name.encode())}", route=f"with priors of {source}", destinations=())
    (uid,) = job.content
    ref = InstanceRef(job.study_instance_uid, UID("1.7"), UID("1.8"), uid)
    Catalog(bench.ledger._engine).index([StoredInstance(ref, UID("1.9"), "00", 1, path, "CT", NOW)])
    bench.jobs.open(job)


def test_an_attempt_that_the_database_broke_off_is_made_again_when_the_database_is_back(bench: Bench) -> None:
    bench.reader.free.clear()
    bench.jobs.open(a_job("cut off"))
    bench.wait(lambda: bool(bench.reader.studies))
    path = bench.settings.data / "catalog.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as other_process:
        other_process.execute("BEGIN EXCLUSIVE")
        bench.reader.free.set()
        bench.wait(lambda: "cut off:read:" not in engine.Activity("ainode").turns())
        other_process.execute("ROLLBACK")
    assert bench.until("cut off", JobState.REPORTED).attempts > 1


def test_a_job_is_no_dead_letter_because_the_node_was_restarted_a_hundred_times(bench: Bench) -> None:
    bench.reader.free.clear()
    bench.jobs.open(a_job("restarted"))
    bench.wait(lambda: bool(bench.reader.studies))
    bench.jobs.stop()
    with closing(sqlite3.connect(bench.settings.data / "workflows.sqlite", timeout=60)) as workflows, workflows:
        workflows.execute("UPDATE workflow_status SET recovery_attempts = 1000 WHERE status = 'PENDING'")
    bench.reader.free.set()
    bench.jobs.launch()
    assert bench.until("restarted", JobState.REPORTED, JobState.FAILED).state is JobState.REPORTED


@contextmanager
def outcomes_refused(bench: Bench) -> Iterator[None]:
    """Let the engine's database refuse what the engine writes at the end of a workflow, as a full disk does."""
    path = bench.settings.data / "workflows.sqlite"
    refusal = (
        "CREATE TRIGGER refusal BEFORE UPDATE ON workflow_status WHEN NEW.status IN ('SUCCESS', 'ERROR') "
        "BEGIN SELECT RAISE(ABORT, 'no room'); END"
    )
    with closing(sqlite3.connect(path, timeout=30)) as workflows:
        with workflows:
            workflows.execute(refusal)
        try:
            yield
        finally:
            with workflows:
                workflows.execute("DROP TRIGGER refusal")


def test_a_workflow_whose_end_the_engine_could_not_write_down_does_not_hold_back_the_next_attempt(bench: Bench) -> None:
    bench.reader.answers = [OutOfResources("busy"), reading()]
    with outcomes_refused(bench):
        bench.jobs.open(a_job("unwritten"))
        bench.wait(lambda: bool(bench.ledger.job("unwritten").reason))
    bench.clock.ahead += timedelta(minutes=2)  # so that a sweep comes before the next attempt

    def is_reported_some_time() -> bool:
        bench.clock.ahead += timedelta(seconds=1)
        return bench.ledger.job("unwritten").state is JobState.REPORTED

    bench.wait(is_reported_some_time)
    assert bench.ledger.job("unwritten").attempts == 2


def test_a_clock_that_is_set_back_by_a_day_does_not_delay_the_next_attempt_by_a_day(bench: Bench) -> None:
    bench.reader.answers = [OutOfResources("busy"), reading()]
    bench.clock.ahead += timedelta(days=1)
    try:
        bench.jobs.open(a_job("ahead"))
        bench.wait(lambda: bool(bench.ledger.job("ahead").reason))
    finally:
        bench.clock.ahead -= timedelta(days=1)
    bench.until("ahead", JobState.REPORTED)


def test_a_job_whose_route_has_another_handler_now_fails_with_the_reason(bench: Bench) -> None:
    bench.jobs.open(a_job("moved", handler="former_handler"))
    job = bench.until("moved", JobState.FAILED)
    assert "'former_handler'" in job.reason
    assert "'reader'" in job.reason


def test_a_delivery_to_a_peer_that_is_gone_from_the_configuration_is_a_dead_letter(bench: Bench) -> None:
    bench.reader.answers = [reading(a_document())]
    bench.jobs.open(a_job("nowhere", destinations=("removed",)))
    bench.until("nowhere", JobState.REPORTED)
    bench.wait(lambda: bench.ledger.deliveries("nowhere")[0].state is DeliveryState.FAILED)
    assert "removed" in bench.ledger.deliveries("nowhere")[0].error


def test_an_unforeseen_error_of_a_job_is_its_dead_letter_and_spares_the_next(bench: Bench) -> None:
    bench.reader.answers = [RuntimeError("a fault of ours, with SMITH^JOHN in it"), reading()]
    bench.jobs.open(a_job("unforeseen"))
    bench.jobs.open(a_job("spared"))
    bench.until("spared", JobState.REPORTED)
    job = bench.ledger.job("unforeseen")
    assert job.state is JobState.FAILED
    assert job.reason.startswith("RuntimeError in the node")
    assert "SMITH" not in job.reason


def test_the_rows_of_old_workflows_are_removed(bench: Bench) -> None:
    bench.jobs.open(a_job("old"))
    bench.until("old", JobState.REPORTED)
    bench.wait(lambda: "old:read:" not in engine.Activity("ainode").turns())
    assert engine.remove_finished(NOW) == 0
    assert engine.remove_finished(datetime.now(UTC) + timedelta(days=1)) > 0
