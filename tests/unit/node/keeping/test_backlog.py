"""What the system page asks the database: queues, troubles, traffic of peers."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.keeping.backlog import Backlog
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import REPLACED, Job, KeptDocument, Outcome
from ainode.node.keeping.schema import deliveries

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def open_job(engine: sa.Engine, name: str, minute: int = 0, destinations: tuple[str, ...] = ()) -> Job:
    at = NOW + timedelta(minutes=minute)
    job = Job(name, UID(f"1.2.{minute}"), "chest", "any", {}, at, at, destinations)
    Ledger(engine).open(job)
    return job


def report(engine: sa.Engine, job: Job, documents: int) -> None:
    ledger = Ledger(engine)
    ledger.move(job.id, JobState.READING)
    kept = [
        KeptDocument(
            job.id,
            InstanceRef(job.study_instance_uid, UID("1"), UID("1"), UID(f"{job.study_instance_uid}.{number}")),
            DocumentKind.STRUCTURED_REPORT,
            Path("x"),
            "ff",
        )
        for number in range(documents)
    ]
    assert ledger.report(job, kept, Outcome(JobState.REPORTED, "{}", "", 1.0))


def set_state(engine: sa.Engine, state: DeliveryState, **values: object) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(deliveries).values(state=state, **values))


def test_each_queue_tells_how_many_wait_and_since_when(engine: sa.Engine) -> None:
    assert {queue.count for queue in Backlog(engine).queues()} == {0}
    open_job(engine, "a", 2)
    open_job(engine, "b", 1)
    report(engine, open_job(engine, "c", 3, ("PACS",)), 2)
    queues = {queue.name: (queue.count, queue.oldest) for queue in Backlog(engine).queues()}
    assert queues["readings that wait"] == (2, NOW + timedelta(minutes=1))
    assert queues["documents to be sent"] == (2, NOW + timedelta(minutes=3))
    assert queues["readings that run"] == (0, None)


def test_the_traffic_of_a_destination_counts_what_was_confirmed_in_the_period(engine: sa.Engine) -> None:
    report(engine, open_job(engine, "a", 1, ("PACS",)), 2)
    set_state(engine, DeliveryState.CONFIRMED, confirmed_at=NOW)
    (traffic,) = Backlog(engine).traffic(NOW - timedelta(hours=1))
    assert (traffic.destination, traffic.confirmed, traffic.last_confirmed_at) == ("PACS", 2, NOW)
    (traffic,) = Backlog(engine).traffic(NOW + timedelta(hours=1))
    assert (traffic.confirmed, traffic.waiting, traffic.failed) == (0, 0, 0)


def test_what_waits_of_a_superseded_job_is_missed_by_no_destination(engine: sa.Engine) -> None:
    report(engine, open_job(engine, "a", 1, ("PACS",)), 2)
    (traffic,) = Backlog(engine).traffic(NOW)
    assert traffic.waiting == 2
    Ledger(engine).move("a", JobState.SUPERSEDED)
    (traffic,) = Backlog(engine).traffic(NOW)
    assert traffic.waiting == 0


def test_a_message_that_a_later_one_replaced_is_no_traffic(engine: sa.Engine) -> None:
    report(engine, open_job(engine, "a", 1, ("PACS",)), 2)
    set_state(engine, DeliveryState.CONFIRMED, confirmed_at=NOW, proof=REPLACED)
    (traffic,) = Backlog(engine).traffic(NOW - timedelta(hours=1))
    assert (traffic.confirmed, traffic.last_confirmed_at) == (0, None)


def test_a_source_counts_studies_instances_and_bytes_of_the_period(engine: sa.Engine) -> None:
    rows = [
        StoredInstance(
            InstanceRef(UID(f"1.{number // 2}"), UID("1"), UID("1"), UID(f"1.9.{number}")),
            UID("1"),
            "ff",
            100,
            Path("x"),
            "CT1",
            NOW + timedelta(days=number),
        )
        for number in range(4)
    ]
    for row in rows:
        Catalog(engine).index([row])
    (source,) = Backlog(engine).sources(NOW + timedelta(days=1))
    assert (source.ae_title, source.study_count, source.instance_count, source.size_bytes) == ("CT1", 2, 3, 300)


def test_the_readings_that_failed_in_a_period_are_counted_with_the_last_reason(engine: sa.Engine) -> None:
    assert Backlog(engine).failures(NOW).count == 0
    ledger = Ledger(engine)
    for minute, name in enumerate(("old", "first", "last")):
        open_job(engine, name, minute)
        ledger.move(name, JobState.READING)
        ledger.move(name, JobState.FAILED, reason=f"{name} broke", at=NOW + timedelta(hours=minute))
    failures = Backlog(engine).failures(NOW + timedelta(minutes=30))
    assert (failures.count, failures.last_reason) == (2, "last broke")
    assert failures.first_queued_at == NOW + timedelta(minutes=1)


def test_documents_that_were_given_up_are_counted_from_their_last_try_on(engine: sa.Engine) -> None:
    report(engine, open_job(engine, "a", destinations=("pacs",)), documents=2)
    set_state(engine, DeliveryState.FAILED, tried_at=NOW + timedelta(hours=1))
    assert Backlog(engine).undelivered_count(NOW) == 2
    assert Backlog(engine).undelivered_count(NOW + timedelta(hours=2)) == 0


def test_a_document_of_which_nobody_asks_a_proof_does_not_wait(engine: sa.Engine) -> None:
    report(engine, open_job(engine, "a", destinations=("pacs",)), documents=1)
    set_state(engine, DeliveryState.SENT)
    assert sum(queue.count for queue in Backlog(engine).queues()) == 1
    set_state(engine, DeliveryState.SENT, settled=True)
    assert sum(queue.count for queue in Backlog(engine).queues()) == 0


def test_a_handler_has_work_while_a_study_waits_for_it_or_is_read(engine: sa.Engine) -> None:
    assert Backlog(engine).handlers() == frozenset()
    job = open_job(engine, "a")
    assert Backlog(engine).handlers() == {"any"}
    Ledger(engine).move(job.id, JobState.READING)
    assert Backlog(engine).handlers() == {"any"}
    Ledger(engine).move(job.id, JobState.FAILED)
    assert Backlog(engine).handlers() == frozenset()
