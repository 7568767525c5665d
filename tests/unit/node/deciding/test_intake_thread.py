import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.caller import CT, IMPLICIT, data_set

from ainode.node.deciding import intake_thread
from ainode.node.deciding.events import intake_queue
from ainode.node.deciding.intake import Doors, Intake
from ainode.node.deciding.intake_thread import Duties, Errands, IntakeThread
from ainode.node.deciding.liveness import Liveness
from ainode.node.domain import UID
from ainode.node.encoding.part10 import Origin
from ainode.node.keeping import database
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.reading.weights import HandlerWeights
from ainode.node.receiving.events import AssociationOpened, InstanceStored
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


def wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_intake_that_waits_for_a_locked_database_is_behind_until_the_lock_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(intake_thread, "_LONGEST_DELAY_S", 1.0)
    caplog.set_level("INFO")
    engine = database.connect(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    database.migrate(engine)
    spool = Spool(tmp_path / "spool", Limits(0, 1 << 20))
    doors = Doors(lambda _: None, lambda *_: None, lambda _: HandlerWeights(digest="ff"), Announcements(engine))
    intake = Intake(Settings(node=NodeTable(data=tmp_path)), spool, Catalog(engine), doors)
    events = intake_queue()
    duties = Duties(lambda: None, lambda _: None, lambda _: None, lambda: datetime.now(UTC))
    thread = IntakeThread(events, intake, duties)
    thread.start()
    live = Liveness(lambda: "", thread.fault)
    lock = sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with spool.incoming(Origin(UID(CT), UID("1.3.1"), UID(IMPLICIT), "PACS")) as incoming:
        incoming.write(memoryview(data_set()))
        ref, path = incoming.ref(), incoming.commit()
    now = datetime.now(UTC)
    events.put(AssociationOpened("a", "PACS", "127.0.0.1", now))
    events.put(InstanceStored("a", path, ref, UID(IMPLICIT), incoming.size_bytes, now))
    assert live.fault() == ""
    wait(lambda: bool(live.fault()))
    assert "behind" in live.fault()
    live.watch()
    live.watch()
    lock.execute("ROLLBACK")
    lock.close()
    wait(lambda: not live.fault())
    live.watch()
    assert [record.levelname for record in caplog.records if "liveness" in record.name] == ["ERROR", "INFO"]
    thread.stop()
    assert "ended" in live.fault()
    engine.dispose()
