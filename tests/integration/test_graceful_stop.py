"""What SIGTERM leaves: associations and deliveries under way end in time, and the node does."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE, AllStoragePresentationContexts, evt
from support import free_port
from support.faults import HANG, write_handler
from support.node import SPINE, RunningNode, configured
from support.postgresql import postgresql_server
from support.studies import associate, statuses, stored, written

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.settings import Peer


@contextmanager
def stopping(node: RunningNode, limit_s: float) -> Iterator[RunningNode]:
    """Start a node with a limit for its stop; its process has ended at the end."""
    text = node.config.read_text()
    node.config.write_text(text.replace("stop_limit_s = 2.0", f"stop_limit_s = {limit_s}"))
    node.start()
    try:
        yield node
    finally:
        node.stop()


def terminate(node: RunningNode) -> float:
    """Send SIGTERM, and return the time."""
    assert node.process
    node.process.send_signal(signal.SIGTERM)
    return time.monotonic()


def is_refused(node: RunningNode) -> bool:
    """Return whether the node refuses a new caller."""
    caller = AE("MODALITY")
    caller.add_requested_context("1.2.840.10008.1.1")
    association = caller.associate("127.0.0.1", node.port, ae_title="AINODE")
    if not association.is_established:
        return True
    association.release()
    return False


def test_an_association_in_use_is_finished_and_new_callers_are_refused(tmp_path: Path) -> None:
    study = written(tmp_path, "long", instances=8)
    with stopping(configured(tmp_path / "node"), 60) as node:
        association = associate(node, study.paths[0])
        assert association.send_c_store(study.paths[0]).Status == 0
        terminate(node)
        node.until(lambda: "action=stopping" in node.log.read_text(), within_s=60)
        for path in study.paths[1:]:
            time.sleep(0.3)
            assert association.send_c_store(path).Status == 0
        node.until(lambda: is_refused(node), within_s=60)
        association.release()
        assert node.process
        assert node.process.wait(60) == 0
    node.start()
    node.read(study.uid)
    (job,) = node.ledger.jobs(study=UID(study.uid))
    assert len(job.content) == 8
    node.stop()


def test_a_delivery_under_way_is_finished(tmp_path: Path) -> None:
    began: list[float] = []
    is_stopping = threading.Event()

    def store(_: evt.Event) -> int:
        began.append(time.monotonic())
        assert is_stopping.wait(120)
        return 0

    archive, port = AE("SLOW"), free_port()
    archive.supported_contexts = AllStoragePresentationContexts
    server = archive.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        slow = Peer(name="slow", ae_title="SLOW", host="127.0.0.1", port=port, confirm="none")
        study = written(tmp_path, "slow")
        with stopping(configured(tmp_path / "node", peers=[slow]), 120) as node:
            assert statuses(node, study.paths) == [0]
            node.until(lambda: bool(began), within_s=120)
            terminate(node)
            node.until(lambda: "action=stopping" in node.log.read_text(), within_s=60)
            is_stopping.set()
            assert node.process
            assert node.process.wait(120) == 0
        (job,) = node.ledger.jobs(study=UID(study.uid))
        assert {one.state for one in node.ledger.deliveries(job.id)} == {DeliveryState.SENT}
        assert len(began) == len(node.ledger.deliveries(job.id))
    finally:
        server.shutdown()


@pytest.mark.parametrize("order", ["silent association", "reading"])
def test_neither_a_silent_association_nor_a_reading_holds_the_node_up(tmp_path: Path, order: str) -> None:
    study, begun = written(tmp_path, order), tmp_path / "site_handlers" / "begun"
    handler = write_handler(tmp_path, "hanging", read=f"Path(__file__).with_name('begun').touch()\n{HANG}")
    node = configured(tmp_path / "node", routes=SPINE.replace("support.handler", handler))
    node.before = tmp_path
    with stopping(node, 3600):
        if order == "reading":
            assert statuses(node, study.paths) == [0]
            # The job is READING before a process is: the node counts the processes.
            node.until(begun.exists, within_s=120)
            assert node.ledger.jobs(states=(JobState.READING,))
        else:
            association = associate(node, study.paths[0])
            assert association.send_c_store(study.paths[0]).Status == 0
        terminate(node)
        assert node.process
        assert node.process.wait(120) == 0
        if order == "reading":
            assert "1 reading under way, done again at the next start" in node.log.read_text()


def test_at_the_limit_the_node_ends_whatever_is_under_way(tmp_path: Path) -> None:
    study = written(tmp_path, "endless", instances=2)
    with stopping(configured(tmp_path / "node"), 5) as node:
        association = associate(node, study.paths[0])
        assert association.send_c_store(study.paths[0]).Status == 0
        terminate(node)
        assert node.process
        sent = 1
        while node.process.poll() is None and association.is_established:
            answer = association.send_c_store(study.paths[0])
            sent += "Status" in answer
            time.sleep(0.1)
        assert node.process.wait(60) == 0
        assert sent > 3


def test_a_node_whose_database_answers_nothing_as_it_is_stopped_ends_in_time(tmp_path: Path) -> None:
    with postgresql_server() as server:
        url = server.create("leaving")
        node = configured(tmp_path / "node", more=f'[database]\nurl = "{url}"')
        node.database = url
        study = written(tmp_path, "read", order="told")
        with stopping(node, 2):
            stored(node, study)
            node.until(lambda: node.ledger.jobs(states=[JobState.READING]), within_s=120)
            node.engine.dispose()
            with server.hanging():
                terminate(node)
                assert node.process
                assert node.process.wait(60) == 0
            assert "action=stop_overdue" in node.log.read_text()
            node.start()
            (node.folder / "told").touch()
            assert node.read(study.uid)[0].state is JobState.REPORTED
