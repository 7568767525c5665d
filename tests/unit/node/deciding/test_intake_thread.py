import os
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.caller import CT, IMPLICIT, data_set
from support.databases import migrated
from support.intake_bench import IntakeBench, intake_bench
from support.waiting import until

from ainode.node import testing
from ainode.node.deciding import intake_thread, leftovers
from ainode.node.deciding.events import IntakeEvent, intake_queue
from ainode.node.deciding.intake import Doors, Intake
from ainode.node.deciding.intake_thread import Duties, Errands, IntakeThread
from ainode.node.deciding.leftovers import Recovery
from ainode.node.deciding.liveness import Liveness
from ainode.node.domain import UID
from ainode.node.encoding.part10 import Origin
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.reading.weights import HandlerWeights
from ainode.node.receiving.event_queue import EventQueue
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, CommitmentSaved, InstanceStored
from ainode.node.settings import NodeTable, Settings

ODD = "SECRET"


def errand() -> None:
    raise KeyError(ODD)


def test_what_breaks_an_errand_is_logged_without_the_value_it_broke_on(caplog: pytest.LogCaptureFixture) -> None:
    errands = Errands()
    errands.run(errand)
    errands._threads.shutdown(wait=True)
    assert "KeyError" in caplog.text
    assert "SECRET" not in caplog.text


def test_an_intake_that_waits_for_a_locked_database_is_behind_until_the_lock_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(intake_thread, "_LONGEST_DELAY_S", 1.0)
    caplog.set_level("INFO")
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    spool = Spool(tmp_path / "spool", Limits(0, 1 << 20))
    announcements = Announcements(engine)
    doors = Doors(lambda _: None, lambda *_: None, lambda _: HandlerWeights(digest="ff"), announcements, lambda _: ())
    intake = Intake(Settings(node=NodeTable(data=tmp_path)), spool, Catalog(engine), doors)
    events = intake_queue()
    duties = Duties(lambda _: None, lambda _: None, lambda _: None, lambda: datetime.now(UTC))
    thread = IntakeThread(events, intake, duties)
    thread.start()
    live = Liveness(lambda: "", thread.fault, lambda: "")
    lock = sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with spool.incoming(Origin(UID(CT), UID("1.3.1"), UID(IMPLICIT), "PACS")) as incoming:
        incoming.write(memoryview(data_set()))
        ref, path = incoming.ref(), incoming.commit()
    now = datetime.now(UTC)
    assert live.fault() == ""
    events.put(AssociationOpened("a", "PACS", "127.0.0.1", now))
    events.put(InstanceStored("a", path, ref, UID(IMPLICIT), incoming.size_bytes, now))
    until(lambda: bool(live.fault()))
    assert "behind" in live.fault()
    live.watch()
    live.watch()
    lock.execute("ROLLBACK")
    lock.close()
    until(lambda: not live.fault())
    live.watch()
    assert [record.levelname for record in caplog.records if "liveness" in record.name] == ["ERROR", "INFO"]
    thread.stop()
    assert "ended" in live.fault()
    engine.dispose()


def started(bench: IntakeBench, **duties: Callable[..., None]) -> tuple[IntakeThread, EventQueue[IntakeEvent]]:
    """Start the thread of a bench's intake."""
    events = intake_queue()
    given = {name: duties.get(name, lambda *_: None) for name in ("recovered", "take_commitment", "sweep")}
    thread = IntakeThread(events, bench.intake, Duties(**given, now=lambda: datetime.now(UTC)))
    thread.start()
    return thread, events


def test_the_intake_of_a_node_that_gives_way_to_others_gives_way_as_much(tmp_path: Path) -> None:
    niceness: list[int] = []

    def note(*_: object) -> None:
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    def start() -> None:  # in a thread of its own, whose niceness the intake inherits
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        thread, _ = started(intake_bench(tmp_path, silence_s=0.2), recovered=note)
        until(lambda: bool(niceness))
        thread.stop()

    starter = threading.Thread(target=start)
    starter.start()
    starter.join()
    assert niceness == [19]


def test_an_outage_of_the_database_costs_no_event_and_two_lines_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(intake_thread, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(intake_thread, "_LONGEST_PAUSE_S", 0.1)
    caplog.set_level("INFO")
    bench = intake_bench(tmp_path, silence_s=0.2)
    thread, events = started(bench)
    until(lambda: bench.intake.recovery is not None)
    now = datetime.now(UTC)
    with bench.locked():
        events.put(AssociationOpened("a", "PACS", "127.0.0.1", now))
        events.put(bench.stored("a", 1, now))
        until(lambda: thread._failures > 3)
        events.put(bench.stored("a", 2, now))
        events.put(AssociationEnded("a", now, is_released=True))
        until(lambda: thread._failures > 6)
    until(lambda: bool(bench.opened))
    thread.stop()
    assert {len(job.content) for job in bench.opened} == {2}
    lines = [record.message for record in caplog.records if "intake_thread" in record.name]
    assert lines == ["the intake waits and tries again: database: database is locked", "the intake goes on"]


def test_whatever_a_duty_raises_does_not_end_the_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def duty(*_: object) -> None:
        raise KeyError(ODD)

    bench = intake_bench(tmp_path, silence_s=0.2)
    thread, events = started(bench, recovered=duty, take_commitment=duty, sweep=duty)
    now = datetime.now(UTC)
    events.put(CommitmentSaved(tmp_path / "commitment", "PACS"))
    events.put(AssociationOpened("a", "PACS", "127.0.0.1", now))
    events.put(bench.stored("a", 1, now))
    events.put(AssociationEnded("a", now, is_released=True))
    until(lambda: bool(bench.opened))
    thread.stop()
    assert "KeyError" in caplog.text
    assert ODD not in caplog.text


def test_what_arrives_is_taken_while_leftovers_are_indexed_and_a_commitment_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_BATCH", 1)
    bench = intake_bench(tmp_path, silence_s=0.05)
    lost_uids = {bench.stored("lost", number, datetime.now(UTC)).ref.sop_instance_uid for number in range(100)}
    other = testing.uid("other")
    event = bench.stored("a", 200, datetime.now(UTC), StudyInstanceUID=other)
    known: list[int] = []
    recoveries: list[Recovery] = []
    opened_before: list[UID] = []

    def recovered(recovery: Recovery) -> None:
        recoveries.append(recovery)
        opened_before.extend(job.study_instance_uid for job in bench.opened)

    thread, events = started(
        bench,
        recovered=recovered,
        take_commitment=lambda _: known.append(len(bench.catalog.existing(lost_uids))),
    )
    events.put(CommitmentSaved(tmp_path / "commitment", "PACS"))
    events.put(AssociationOpened("a", "PACS", "127.0.0.1", event.time))
    events.put(event)
    events.put(AssociationEnded("a", event.time, is_released=True))
    until(lambda: bool(known))
    thread.stop()
    assert opened_before == [other]
    assert known == [100]
    assert [(recovery.studies, recovery.set_aside) for recovery in recoveries] == [(1, 0)]
