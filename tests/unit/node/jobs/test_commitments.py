"""What becomes of a saved report of an archive, with a real ledger whose database another process holds."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.rows import put_delivery, read
from support.waiting import until

from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.jobs.commitments import Commitments
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.receiving.commitment_files import CommitmentFiles, CommitmentReport
from ainode.node.receiving.events import CommitmentSaved
from ainode.node.settings import NodeTable, Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TRANSACTION = UID("1.2.77")
DOCUMENT = InstanceRef(UID("1.2"), UID("1.2.9"), UID("1.2.840.10008.5.1.4.1.1.88.34"), UID("1.2.9.1"))


@dataclass
class Bench:
    """A ledger with one document that was sent, and the folder of reports."""

    folder: Path

    def __post_init__(self) -> None:
        self.engine = database.connect(f"sqlite:///{self.folder / 'catalog.sqlite'}")
        sa.event.listen(self.engine, "connect", be_impatient)
        database.migrate(self.engine)
        self.ledger = Ledger(self.engine)
        job = Job(
            id="a",
            study_instance_uid=UID("1.2"),
            route="spine",
            handler="spine_radiograph",
            content={UID("1.2.3"): "00"},
            created_at=NOW,
            queued_at=NOW,
            destinations=("archive",),
        )
        self.ledger.open(job)
        document = KeptDocument("a", DOCUMENT, DocumentKind.STRUCTURED_REPORT, Path("a.dcm"), "ff")
        read(self.ledger, job, [document], Outcome(JobState.REPORTED, "{}", "", 1.5))
        for delivery in self.ledger.deliveries("a"):
            put_delivery(self.ledger, delivery, state=DeliveryState.SENT, sent_at=NOW, transaction_uid=TRANSACTION)
        self.files = CommitmentFiles(self.folder / "commitments")
        self.commitments = self.restarted()

    def restarted(self) -> Commitments:
        settings = Settings(node=NodeTable(data=self.folder))
        return Commitments(settings, Catalog(self.engine), self.ledger, lambda: NOW)

    def saved(self, transaction: UID = TRANSACTION) -> CommitmentSaved:
        path = self.files.save(CommitmentReport(transaction, (DOCUMENT.sop_instance_uid,), ()))
        return CommitmentSaved(path, "")

    def state(self) -> DeliveryState:
        (delivery,) = self.ledger.deliveries("a")
        return delivery.state


def be_impatient(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own connection
    connection.execute("PRAGMA busy_timeout=50")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    started = Bench(tmp_path)
    yield started
    started.commitments.stop()
    started.engine.dispose()


def test_the_file_of_a_report_is_removed_once_the_report_is_in_the_ledger(bench: Bench) -> None:
    bench.commitments.take(bench.saved())
    until(lambda: not bench.files.paths())
    assert bench.state() is DeliveryState.CONFIRMED


def test_a_report_that_a_crash_left_is_in_the_ledger_after_the_next_start(bench: Bench) -> None:
    bench.saved()
    commitments = bench.restarted()
    commitments.recover()
    until(lambda: not bench.files.paths())
    assert bench.state() is DeliveryState.CONFIRMED
    commitments.stop()


def test_a_report_waits_while_the_database_is_locked_however_often_it_is_tried(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ainode.node.jobs.commitments._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("ainode.node.jobs.commitments._LONGEST_PAUSE_S", 0.01)
    lock = sqlite3.connect(bench.folder / "catalog.sqlite", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    bench.commitments.take(bench.saved())
    until(lambda: caplog.text.count("commitment waits") > 20)
    assert len(bench.files.paths()) == 1
    lock.execute("ROLLBACK")
    lock.close()
    until(lambda: not bench.files.paths())
    assert bench.state() is DeliveryState.CONFIRMED
    assert "given up" not in caplog.text


def test_a_damaged_file_is_named_and_delays_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    damaged = bench.folder / "commitments" / "00-damaged.json"
    damaged.write_bytes(b"{")
    bench.saved()
    commitments = bench.restarted()
    commitments.recover()
    until(lambda: bench.state() is DeliveryState.CONFIRMED)
    assert bench.files.paths() == (damaged,)
    assert str(damaged) in caplog.text
    commitments.stop()


def test_a_report_about_an_unknown_transaction_changes_nothing(bench: Bench) -> None:
    bench.commitments.take(bench.saved(UID("1.2.78")))
    until(lambda: not bench.files.paths())
    assert bench.state() is DeliveryState.SENT
