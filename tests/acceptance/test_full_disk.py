"""The whole node with its data on a small disk that fills: what it answers, what waits, and how it goes on."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Orthanc, orthanc
from support.disks import SmallDisk, fillable_disk
from support.node import RunningNode, configured, running
from support.studies import WrittenStudy, statuses, stored, written

from ainode.node.domain import DeliveryState, JobState
from ainode.node.keeping.tasks import Task, TaskKind

DELIVERY = "[delivery]\nfirst_wait_s = 0.5\nlongest_wait_s = 2.0\nattempts = 60"
SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
MIB = 1 << 20
FULL_S = 10
"""longer than three attempts with their pauses, 1 s and 2 s"""
ROOM_S = 90
"""within this time after there is room everything has gone on"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with fillable_disk(tmp_path / "node" / "data", names=3000) as mounted:
        yield mounted


def node_on(disk: SmallDisk, archive: Orthanc, *, min_free_bytes: int = 0) -> RunningNode:
    node = configured(disk.folder.parent, peers=[archive.peer], more=DELIVERY)
    text = node.config.read_text().replace("min_free_bytes = 0", f"min_free_bytes = {min_free_bytes}")
    node.config.write_text(text)
    return node


def send_again(node: RunningNode, paths: list[Path]) -> bool:
    """Send once more what was refused; return whether nothing is refused any more."""
    answers = statuses(node, paths)
    assert set(answers) <= {SUCCESS, OUT_OF_RESOURCES}
    paths[:] = [path for path, status in zip(paths, answers, strict=True) if status != SUCCESS]
    return not paths


def stays_full(node: RunningNode) -> None:
    until = time.monotonic() + FULL_S
    node.until(lambda: time.monotonic() >= until, within_s=FULL_S + 10)


def assert_goes_on(node: RunningNode, archive: Orthanc, *studies: WrittenStudy) -> None:
    for study in studies:
        job, deliveries = node.read(study.uid, within_s=ROOM_S)
        assert job.state is JobState.REPORTED, job
        assert {delivery.state for delivery in deliveries} == {DeliveryState.CONFIRMED}
        assert sorted(archive.instances_of(study.uid)) == sorted(
            str(delivery.document.ref.sop_instance_uid) for delivery in deliveries
        )
    assert not node.ledger.jobs(states=[JobState.WAITING, JobState.READING, JobState.FAILED])
    assert node.log.read_text().count("ready:") == 1


def test_a_disk_that_fills_while_studies_arrive_refuses_them_until_there_is_room_and_loses_none(
    disk: SmallDisk, archive: Orthanc, tmp_path: Path
) -> None:
    studies = [written(tmp_path / "sent", f"arriving {number}", instances=3, side=1024) for number in range(5)]
    with running(node_on(disk, archive, min_free_bytes=4 * MIB)) as node:
        disk.load(24 * MIB)
        unsent = [path for study in studies for path in study.paths]
        assert not send_again(node, unsent)
        assert len(unsent) < 15
        disk.fill_bytes()
        stays_full(node)
        assert set(statuses(node, unsent)) == {OUT_OF_RESOURCES}
        disk.make_room()
        node.until(lambda: send_again(node, unsent), within_s=120)
        assert_goes_on(node, archive, *studies)


def test_a_disk_that_another_program_fills_while_a_study_is_read_ends_no_job_and_spends_no_attempt(
    disk: SmallDisk, archive: Orthanc, tmp_path: Path
) -> None:
    reading, waiting, *arriving = (
        written(tmp_path / "sent", name, order="told" if name == "reading" else "read")
        for name in ("reading", "waiting", "first", "second", "third")
    )
    unsent = [path for study in arriving for path in study.paths]
    with running(node_on(disk, archive)) as node:
        assert set(stored(node, reading)) == {SUCCESS}
        node.until(lambda: bool(node.ledger.jobs(states=[JobState.READING])), within_s=120)
        assert set(stored(node, waiting)) == {SUCCESS}
        node.until(lambda: bool(node.ledger.jobs(states=[JobState.WAITING])), within_s=120)
        disk.fill_bytes()
        (node.folder / "told").touch()
        assert not send_again(node, unsent)  # though the node itself may have removed a file in the meantime
        stays_full(node)
        disk.make_room()
        node.until(lambda: send_again(node, unsent), within_s=120)
        assert_goes_on(node, archive, reading, waiting, *arriving)
        assert [node.ledger.tasks.attempts(Task(job.id, TaskKind.READ)) for job in node.ledger.jobs()] == [0] * 5
