"""A node whose receiver, one of two or the only one, is killed within a study, or cannot start."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from pydicom import dcmread
from pynetdicom.association import Association
from support import free_port
from support.disks import fillable_disk
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


@pytest.fixture
def sole(tmp_path: Path) -> RunningNode:
    return configured(tmp_path / "node", silence_s=3.0)


def test_the_only_receiver_is_started_again_by_a_node_that_begins_anew_and_reads_what_it_stored(
    sole: RunningNode, tmp_path: Path
) -> None:
    study = written(tmp_path, "sole", instances=3)
    with running(sole):
        killed = lose_the_only_receiver(sole, study)
        sole.until(lambda: sole.log.read_text().count("ready:") == 2 and len(sole.receivers) == 1, within_s=120)
        assert killed not in sole.receivers
        assert_goes_on(sole, study)


def test_a_node_whose_files_are_refused_goes_on_when_its_only_receiver_is_lost(
    sole: RunningNode, tmp_path: Path
) -> None:
    study = written(tmp_path, "sole", instances=3)
    with running(sole):
        routes = sole.config.with_name("routes.toml")
        routes.write_text(f"{routes.read_text()}\nmistyped = 1\n")
        lose_the_only_receiver(sole, study)
        sole.until(lambda: "receiver_replaced" in sole.log.read_text(), within_s=120)
        assert "unknown key" in sole.log.read_text()
        assert_goes_on(sole, study)
        assert sole.log.read_text().count("ready:") == 1


def test_a_node_whose_disk_is_full_goes_on_when_its_only_receiver_is_lost(tmp_path: Path) -> None:
    study = written(tmp_path, "sole", instances=3)
    with fillable_disk(tmp_path / "node" / "data", names=3000) as disk:
        node = configured(tmp_path / "node", silence_s=3.0)
        with running(node):
            lose_the_only_receiver(node, study, disk.fill_bytes)
            node.until(lambda: "receiver_replaced" in node.log.read_text(), within_s=120)
            assert "is full, and a start writes there; make room" in node.log.read_text()
            node.until(lambda: len(node.receivers) == 1, within_s=120)
            with associated(node, study) as association:
                assert store(association, study.paths[2]) == 0xA700
            disk.make_room()
            assert_goes_on(node, study)
            assert node.log.read_text().count("ready:") == 1


def test_an_idle_receiver_that_is_the_only_one_is_replaced_without_a_start(sole: RunningNode, tmp_path: Path) -> None:
    study = written(tmp_path, "sole", instances=3)
    with running(sole):
        (killed,) = sole.receivers
        killed.send_signal(signal.SIGKILL)
        sole.until(lambda: "callers wait meanwhile" in sole.log.read_text(), within_s=60)
        with associated(sole, study) as association:
            assert [store(association, path) for path in study.paths] == [0, 0, 0]
        assert sole.read(study.uid)[0].state is JobState.REPORTED
        assert sole.log.read_text().count("ready:") == 1


def lose_the_only_receiver(
    node: RunningNode, study: WrittenStudy, before: Callable[[], None] = lambda: None
) -> psutil.Process:
    """Kill the receiver of a node within an association that has stored two instances."""
    (killed,) = node.receivers
    association = associate(node, study.paths[0])
    assert [store(association, path) for path in study.paths[:2]] == [0, 0]
    before()
    killed.send_signal(signal.SIGKILL)
    node.until(lambda: not association.is_alive(), within_s=60)
    return killed


@contextmanager
def associated(node: RunningNode, study: WrittenStudy) -> Iterator[Association]:
    association = associate(node, study.paths[0])
    yield association
    association.release()


def assert_goes_on(node: RunningNode, study: WrittenStudy) -> None:
    """See that the node takes the rest of the study, and reads all of it once."""
    node.until(lambda: len(node.receivers) == 1, within_s=120)
    with associated(node, study) as association:
        assert store(association, study.paths[2]) == 0
    job, _ = node.read(study.uid)
    assert (job.state, len(job.content), len(node.ledger.jobs())) == (JobState.REPORTED, 3, 1)
