"""The metrics of a node of which every kind of thing happened once, without a node."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from ainode.node.deciding.liveness import Liveness
from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.keeping.backlog import Backlog
from ainode.node.keeping.dead_letters import DeadLetters
from ainode.node.keeping.executors import Departure, Executor, ExecutorKind, Executors
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.readership import Readership
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.metrics.course import Course
from ainode.node.metrics.families import Metrics, Sources
from ainode.node.reading.reader import ReaderState
from ainode.node.receiving.pulse import COUNTED
from ainode.node.receiving.receptions import Receptions
from ainode.node.routes import Route
from ainode.node.settings import NodeTable, Peer, Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RESULT = '{"algorithm": {"name": "spine"}, "verdict": {"presence": "present", "probability": 0.81}}'


def settings_in(folder: Path) -> Settings:
    return Settings(
        node=NodeTable(data=folder),
        peers=(Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=1),),
        routes=(Route(name="spine", handler="spine_radiograph"),),
    )


def a_job(number: int) -> Job:
    return Job(
        id=f"job{number}",
        study_instance_uid=UID(f"1.2.{number}"),
        route="spine",
        handler="spine_radiograph",
        content={UID(f"1.2.{number}.1"): "00"},
        created_at=NOW,
        queued_at=NOW,
        destinations=("archive",),
    )


def read_and_sent(ledger: Ledger, number: int = 1) -> Job:
    """Read one study, of which the archive takes a document three seconds after the answer."""
    job = a_job(number)
    ledger.open(job)
    ledger.move(job.id, JobState.READING, at=NOW + timedelta(seconds=4))
    job = ledger.job(job.id)
    ref = InstanceRef(UID(f"1.2.{number}"), UID("1.2.9"), UID("1.2.840.10008.5.1.4.1.1.88.34"), UID(f"1.2.{number}.9"))
    document = KeptDocument(job.id, ref, DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")
    read_at = NOW + timedelta(seconds=6)
    ledger.report(job, [document], Outcome(JobState.REPORTED, RESULT, "", 1.5, {"compose": 0.5}, read_at))
    (delivery,) = ledger.deliveries(job.id)
    assert delivery.state is DeliveryState.WAITING
    ledger.outbox.sent(delivery, status=0, comment="", at=read_at + timedelta(seconds=3))
    return job


class NodeAndLostWorker(Executors):
    """The processes of a node whose worker was lost, without a PostgreSQL."""

    def all(self) -> tuple[Executor, ...]:
        handlers = ("spine_radiograph",)
        node = Executor("node:1", "node", ExecutorKind.NODE, "here", handlers)
        lost = {"is_dead": True, "departure": Departure.SILENT}
        return node, Executor("worker:1", "worker", ExecutorKind.WORKER, "there", handlers, **lost)


def metrics_of(
    engine: sa.Engine,
    course: Course,
    folder: Path,
    *,
    counts: Mapping[str, int] | None = None,
    liveness: Liveness | None = None,
    executors: Executors | None = None,
) -> Metrics:
    readers = (ReaderState("spine_radiograph", "study 1.2.3", 1.0, 7), ReaderState("spine_radiograph", "", 1.0, 0))
    return Metrics(
        Sources(
            settings_in(folder),
            Backlog(engine),
            DeadLetters(engine),
            executors or Executors(engine),
            Readership(engine),
            course,
            Receptions(),
            lambda: dict.fromkeys(COUNTED, 0) | dict(counts or {}),
            lambda: readers,
            liveness or Liveness(str, str, str),
        )
    )
