"""Kills between any two statements of what changes the ledger: what the rows say, and what the next start makes."""

import hashlib
import itertools
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support import a_file, free_port, installed, instance_ref
from support.killed import KINDS, NOW, TRANSACTION, World, a_job, killed, restored, started
from support.rows import put_delivery, put_job, read

from ainode.node import testing
from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.keeping import transitions
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.receiving.commitment_files import CommitmentReport

# Each query lists rows that the ledger does not allow.
FORBIDDEN = {
    "two jobs of one study and route, of which none is superseded": """
        SELECT study_instance_uid, route FROM jobs WHERE state != 'superseded' GROUP BY 1, 2 HAVING count(*) > 1""",
    "a report without documents": """
        SELECT id FROM jobs WHERE state = 'reported' AND id NOT IN (SELECT job FROM documents)""",
    "documents of a job that was never read": """
        SELECT job FROM documents JOIN jobs ON jobs.id = job
        WHERE jobs.state IN ('waiting', 'reading') AND documents.kind != 'message'""",
    "a document on no way": """
        SELECT sop_instance_uid FROM documents JOIN jobs ON jobs.id = job
        WHERE jobs.state = 'reported' AND withheld = '' AND destinations != '[]'
        AND sop_instance_uid NOT IN (SELECT sop_instance_uid FROM deliveries)""",
    "a withheld document on its way": """
        SELECT sop_instance_uid FROM deliveries JOIN documents USING (sop_instance_uid) JOIN jobs ON jobs.id = job
        WHERE withheld != ''""",
    "a document that was sent, but never claimed": """
        SELECT sop_instance_uid FROM deliveries WHERE state IN ('sent', 'confirmed') AND tried_at IS NULL""",
    "a confirmation without proof": """
        SELECT sop_instance_uid FROM deliveries WHERE state = 'confirmed' AND (proof = '' OR confirmed_at IS NULL)""",
}
# What must be the same, with a kill and without.
OUTCOME = (
    "SELECT id, state, reason, destinations, withheld, predecessors, result FROM jobs ORDER BY id",
    "SELECT sop_instance_uid, job, position, kind, path, sha256 FROM documents ORDER BY sop_instance_uid",
    "SELECT sop_instance_uid, destination, state, error, proof FROM deliveries ORDER BY sop_instance_uid",
    "SELECT id, state FROM history ORDER BY id",
)
LEAST_KILLS = 5
LOG = "CREATE TABLE changes (kind TEXT, earlier TEXT, later TEXT)"
TRIGGER = """
    CREATE TRIGGER changes_of_{table} AFTER UPDATE OF state ON {table} WHEN old.state != new.state
    BEGIN INSERT INTO changes VALUES ('{table}', old.state, new.state); END"""
ALLOWED = {
    (table, earlier.value, later.value)
    for table, states in (("jobs", transitions.JOB), ("deliveries", transitions.DELIVERY))
    for earlier, followers in states.items()
    for later in followers
}


def rows(world: World, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(world.data / "catalog.sqlite")) as connection:
        return connection.execute(query).fetchall()


def change(world: World, *statements: str) -> None:
    with closing(sqlite3.connect(world.data / "catalog.sqlite")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def outcome(world: World) -> list[list[tuple[object, ...]]]:
    return [rows(world, query) for query in OUTCOME]


def assert_allowed(world: World) -> None:
    assert not {name: offenders for name, query in FORBIDDEN.items() if (offenders := rows(world, query))}
    assert set(rows(world, "SELECT DISTINCT kind, earlier, later FROM changes")) <= ALLOWED


def assert_documents_are_whole(world: World) -> None:
    for path, sha256 in rows(world, "SELECT path, sha256 FROM documents JOIN jobs ON jobs.id = job"):
        assert hashlib.sha256(Path(str(path)).read_bytes()).hexdigest() == sha256


def assert_no_folder_is_left_behind(world: World) -> None:
    identifiers = {str(identifier) for (identifier,) in rows(world, "SELECT id FROM jobs")}
    assert {folder.name for folder in (world.data / "documents").glob("*")} <= identifiers


# The rows before an operation


def read_job(world: World, ledger: Ledger, job: Job) -> None:
    ledger.open(job)
    documents = []
    for kind in KINDS:
        content = a_file(study=job.study_instance_uid)
        ref = instance_ref(content)
        path = world.data / "documents" / job.id / f"{ref.sop_instance_uid}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        documents.append(KeptDocument(job.id, ref, kind, path, hashlib.sha256(content).hexdigest()))
    read(ledger, job, documents, Outcome(JobState.REPORTED, "{}", "", 1.0))


def put_deliveries(world: World, ledger: Ledger, job: str, **values: object) -> None:
    """Bring the deliveries of a job into a state; the archive has what left."""
    for delivery in ledger.deliveries(job):
        put_delivery(ledger, delivery, tried_at=NOW, sent_at=NOW, **values)
        shutil.copy(delivery.document.path, world.archive)


def waiting(_: World, ledger: Ledger) -> None:
    ledger.open(a_job("job"))


def urgent(_: World, ledger: Ledger) -> None:
    ledger.open(replace(a_job("job"), destinations=("archive", "his")))


def failed_reading(world: World, ledger: Ledger) -> None:
    content = world.document.read_bytes()
    world.document.unlink()
    waiting(world, ledger)
    started(world)
    world.document.write_bytes(content)


def failed_delivery(world: World, ledger: Ledger) -> None:
    read_job(world, ledger, a_job("job"))
    put_deliveries(world, ledger, "job", state=DeliveryState.FAILED, error="the archive is full")


def withheld(world: World, ledger: Ledger) -> None:
    read_job(world, ledger, replace(a_job("job"), destinations=(), withheld="demonstration weights"))


def sent(world: World, ledger: Ledger) -> None:
    read_job(world, ledger, a_job("job"))
    put_deliveries(world, ledger, "job", state=DeliveryState.SENT, transaction_uid=TRANSACTION)


def reported_by_the_archive(world: World, ledger: Ledger) -> None:
    sent(world, ledger)
    committed, failed = (delivery.document.ref.sop_instance_uid for delivery in ledger.deliveries("job"))
    world.commitments.save(CommitmentReport(TRANSACTION, (committed,), ((failed, 0x0110),)))


def superseded_and_sent(world: World, ledger: Ledger) -> None:
    read_job(world, ledger, a_job("oldest"))
    put_job(ledger, "oldest", state=JobState.SUPERSEDED)
    sent(world, ledger)


def everything_open(world: World, ledger: Ledger) -> None:
    """In each state in which something remains to be done, one job on a study of its own."""
    unread = [replace(a_job(name), study_instance_uid=UID(f"1.2.{name}")) for name in ("1", "2")]
    reported = [replace(a_job(name), study_instance_uid=UID(f"1.2.{name}")) for name in ("3", "4")]
    for job in unread:
        ledger.open(job)
    for job in reported:
        read_job(world, ledger, job)
    put_job(ledger, "2", state=JobState.READING)
    put_deliveries(world, ledger, "4", state=DeliveryState.SENT)


def confirmed(world: World, ledger: Ledger) -> None:
    for name in ("1", "2"):
        read_job(world, ledger, replace(a_job(name), study_instance_uid=UID(f"1.2.{name}")))
        put_deliveries(world, ledger, name, state=DeliveryState.CONFIRMED, proof="query", confirmed_at=NOW)


@pytest.fixture
def world(tmp_path: Path, prepare: Callable[[World, Ledger], None]) -> Iterator[World]:
    if prepare is not urgent:
        port = free_port()
        with testing.EmbeddedArchive(tmp_path / "archive", port):
            yield World(tmp_path / "data", port)
        return
    installed("hl7apy")
    from support.listener import Listener, listening

    port, listener = free_port(), Listener(["AA"])
    with testing.EmbeddedArchive(tmp_path / "archive", port), listening(listener) as listener_port:
        yield World(tmp_path / "data", port, listener_port)
    assert len(set(listener.control_ids)) == 1  # after a kill before the acknowledgment was noted, the same again


def prepared(world: World, prepare: Callable[[World, Ledger], None]) -> Path:
    """Bring rows, documents and archive into a state; return a copy of all."""
    world.data.mkdir()
    world.document.write_bytes(a_file())
    engine = world.engine()
    change(world, LOG, *(TRIGGER.format(table=table) for table in ("jobs", "deliveries")))
    started(world)  # the engine of the workflows makes its tables
    prepare(world, Ledger(engine))
    engine.dispose()
    change(world, "DELETE FROM changes")
    template = world.data.with_name("template")
    for folder in (world.data, world.archive):
        shutil.copytree(folder, template / folder.name)
    return template


@pytest.mark.parametrize(
    ("operation", "prepare", "every"),
    [
        ("retry", failed_reading, 1),
        ("retry", failed_delivery, 1),
        ("retry", withheld, 1),
        ("settle", reported_by_the_archive, 1),
        ("supersede", superseded_and_sent, 1),
        ("report", waiting, 12),
        pytest.param("report", waiting, 1, marks=pytest.mark.long),
        ("report", urgent, 9),
        pytest.param("report", urgent, 1, marks=pytest.mark.long),
        ("sweep", everything_open, 16),
        pytest.param("sweep", everything_open, 1, marks=pytest.mark.long),
        ("retain", confirmed, 4),
        pytest.param("retain", confirmed, 1, marks=pytest.mark.long),
    ],
)
@pytest.mark.timeout(900)
def test_a_kill_between_any_two_statements_leaves_rows_that_the_next_start_brings_to_the_same_end(
    world: World, operation: str, prepare: Callable[[World, Ledger], None], every: int
) -> None:
    template = prepared(world, prepare)
    started(world)
    outcomes = [outcome(world)]  # of rows on which the operation never began
    for step in itertools.count(1, every):
        restored(world, template)
        was_killed = killed(world, operation, step)
        assert_allowed(world)
        assert_documents_are_whole(world)
        started(world, operation)
        assert_allowed(world)
        assert_documents_are_whole(world)
        assert_no_folder_is_left_behind(world)
        outcomes.append(outcome(world))
        if not was_killed:
            break
    untouched, *_, completed = outcomes
    assert all(rows_after in (untouched, completed) for rows_after in outcomes)
    assert len(outcomes) > LEAST_KILLS
