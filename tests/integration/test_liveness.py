"""What a supervisor sees of a node that is suspended, deaf or behind, and how such a node is stopped."""

import json
import os
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import free_port, installed
from support.caller import Caller, data_set, status
from support.node import RunningNode, configured, running
from support.studies import stored, written

from ainode.node.domain import JobState

installed("fastapi", "uvicorn")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    port = free_port()
    with running(configured(tmp_path / "node", more=f"[web]\nenabled = true\nport = {port}")) as started:
        started.web_port = port  # type: ignore[attr-defined]
        yield started


def answer(node: RunningNode, path: str) -> tuple[int, dict[str, object]]:
    """Return status and content of an answer of the web interface."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}{path}", timeout=60) as response:  # type: ignore[attr-defined]
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_suspended_receiver_shows_in_health_and_log_soon_and_so_does_its_end(
    node: RunningNode,
) -> None:
    assert answer(node, "/health")[0] == 200
    (child,) = node.receivers
    child.suspend()
    suspended_at = time.monotonic()
    try:
        node.until(lambda: answer(node, "/health")[0] == 503 and "receiver_down" in node.log.read_text(), within_s=60)
        assert time.monotonic() - suspended_at < 45
        assert "suspended" in str(answer(node, "/health")[1]["status"])
        status, ready = answer(node, "/ready")
        assert status == 503
        assert "suspended" in ready["parts"]["receiver"]["reason"]  # type: ignore[index]
        assert ready["parts"]["intake"] == {"status": "ready", "reason": ""}  # type: ignore[index]
    finally:
        child.resume()
    node.until(lambda: "receiver_up" in node.log.read_text(), within_s=120)
    assert answer(node, "/health")[0] == 200
    assert node.log.read_text().count("receiver_down") == 1


def test_a_node_whose_intake_stands_and_whose_queue_is_full_can_be_stopped(node: RunningNode) -> None:
    lock = sqlite3.connect(node.folder / "data" / "catalog.sqlite", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    for _ in range(3_000):
        with Caller(node.port) as caller:
            assert caller.release() == 6
    assert node.process
    os.kill(node.process.pid, signal.SIGTERM)
    time.sleep(1)
    lock.execute("ROLLBACK")
    lock.close()
    assert node.process.wait(120) == 0


@pytest.mark.long
def test_an_intake_that_a_locked_database_holds_for_a_minute_shows_in_health_and_log_until_it_goes_on(
    node: RunningNode,
) -> None:
    lock = sqlite3.connect(node.folder / "data" / "catalog.sqlite", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with Caller(node.port) as caller:
        assert status(caller.store(data_set())) == 0
        stored_at = time.monotonic()
        assert caller.release() == 6
    assert answer(node, "/health")[0] == 200
    node.until(lambda: answer(node, "/health")[0] == 503 and "intake_down" in node.log.read_text(), within_s=120)
    assert 59 < time.monotonic() - stored_at < 90
    assert "behind" in str(answer(node, "/health")[1]["status"])
    lock.execute("ROLLBACK")
    lock.close()
    node.until(lambda: "intake_up" in node.log.read_text(), within_s=120)
    assert answer(node, "/health")[0] == 200
    assert node.log.read_text().count("intake_down") == 1


@pytest.mark.long
def test_a_file_of_the_workflows_that_is_damaged_under_the_node_shows_in_health_and_the_next_start_mends_it(
    node: RunningNode, tmp_path: Path
) -> None:
    with (node.folder / "data" / "workflows.sqlite").open("r+b") as file:
        file.write(b"no database" * 1000)
    node.until(lambda: answer(node, "/health")[0] == 503 and "jobs_down" in node.log.read_text(), within_s=240)
    assert "stand still" in str(answer(node, "/health")[1]["status"])
    node.kill()
    node.start()
    study = written(tmp_path, "study")
    assert stored(node, study) == [0]
    node.until(lambda: any(job.state is JobState.REPORTED for job in node.ledger.jobs()), within_s=120)
    assert answer(node, "/health")[0] == 200
