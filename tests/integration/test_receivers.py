"""A node with two receivers at its address, of which one is killed within a study, or cannot start."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from pydicom import dcmread
from pynetdicom.association import Association
from support import free_port
from support.node import RunningNode, configured, running
from support.processes import suspend
from support.studies import WrittenStudy, associate, written

from ainode.node.domain import JobState


def with_two_receivers(folder: Path, more: str = "") -> RunningNode:
    node = configured(folder, silence_s=3.0, more=more)
    node.config.write_text(node.config.read_text().replace("[node]", "[node]\nreceivers = 2", 1))
    return node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    with running(with_two_receivers(tmp_path / "node")) as node:
        yield node


def associate_with(receiver: psutil.Process, node: RunningNode, study: WrittenStudy) -> Association:
    """Open an association with one receiver: the other stands still meanwhile."""
    (other,) = (each for each in node.receivers if each != receiver)
    suspend(other)
    try:
        return associate(node, study.paths[0])
    finally:
        other.resume()


def store(association: Association, path: Path) -> int:
    return int(association.send_c_store(dcmread(path)).Status)


def test_a_study_over_two_receivers_is_read_once_and_whole_though_one_of_them_is_killed(
    node: RunningNode, tmp_path: Path
) -> None:
    study = written(tmp_path, "both", instances=5)
    killed, survivor = node.receivers
    first, second = (associate_with(receiver, node, study) for receiver in (killed, survivor))
    assert [store(first, path) for path in study.paths[:2]] == [0, 0]
    assert [store(second, path) for path in study.paths[1:3]] == [0, 0]
    killed.send_signal(signal.SIGKILL)
    assert store(second, study.paths[3]) == 0
    node.until(lambda: "receiver_lost" in node.log.read_text(), within_s=120)
    assert store(second, study.paths[4]) == 0
    node.until(lambda: node.log.read_text().count("ready:") == 2, within_s=120)
    assert survivor in node.receivers
    assert len(node.receivers) == 2
    second.release()
    first.abort()

    job, _ = node.read(study.uid)
    assert job.state is JobState.REPORTED
    assert len(job.content) == 5
    assert len(node.ledger.jobs()) == 1
    assert len(node.catalog.instances(job.study_instance_uid)) == 5
    third = associate_with(next(each for each in node.receivers if each != survivor), node, study)
    assert store(third, study.paths[0]) == 0
    third.release()


def test_a_node_whose_files_are_refused_goes_on_when_a_receiver_is_lost_and_says_so(
    node: RunningNode, tmp_path: Path
) -> None:
    study = written(tmp_path, "refused", instances=3)
    killed, survivor = node.receivers
    routes = node.config.with_name("routes.toml")
    good = routes.read_text()
    routes.write_text(f"{good}\nmistyped = 1\n")
    first = associate_with(killed, node, study)
    assert [store(first, path) for path in study.paths[:2]] == [0, 0]
    killed.send_signal(signal.SIGKILL)
    node.until(lambda: "receiver_replaced" in node.log.read_text(), within_s=120)
    assert "unknown key" in node.log.read_text()
    node.until(lambda: len(node.receivers) == 2 and killed not in node.receivers, within_s=120)
    assert survivor in node.receivers
    first.abort()
    second = associate(node, study.paths[0])
    assert store(second, study.paths[2]) == 0
    second.release()
    job, _ = node.read(study.uid)
    assert job.state is JobState.REPORTED
    assert len(job.content) == 3
    assert node.log.read_text().count("ready:") == 1


def test_a_node_whose_second_receiver_cannot_start_works_with_the_first_and_says_so(tmp_path: Path) -> None:
    port = free_port()
    node = with_two_receivers(tmp_path / "node", f"[web]\nenabled = true\nport = {port}")
    obstacle = node.folder / "data" / "spool" / "tmp-1"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("a file where the second receiver has its folder")

    def ready() -> requests.Response:
        return requests.get(f"http://127.0.0.1:{port}/ready", timeout=10)

    with running(node):
        node.until(lambda: "2 times in a row" in node.log.read_text(), within_s=60)
        answer = ready()
        assert answer.status_code == 200
        assert "receiver 2 of 2 ended with exit status 1" in answer.json()["attention"]
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=10).status_code == 200
        study = written(tmp_path, "first", instances=2)
        with_first = associate(node, study.paths[0])
        assert [store(with_first, path) for path in study.paths] == [0, 0]
        with_first.release()
        assert node.read(study.uid)[0].state is JobState.REPORTED
        obstacle.unlink()
        node.until(lambda: not ready().json()["attention"] and len(node.receivers) == 2, within_s=60)
        assert "receiver_lost" not in node.log.read_text()
        assert node.log.read_text().count("ready:") == 1
