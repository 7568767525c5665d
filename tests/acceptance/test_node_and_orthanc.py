"""The whole node beside a real Orthanc, with a handler that draws known boxes."""

import hashlib
import json
import random
import re
import statistics
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from support import Orthanc, free_port, orthanc
from support.handler import BOX
from support.node import SPINE, RunningNode, configured, running
from support.postgresql import postgresql

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.settings import Peer

SR = "1.2.840.10008.5.1.4.1.1.88.34"


def study_files(folder: Path, name: str, *, instances: int = 1, order: str = "read") -> tuple[str, tuple[Path, ...]]:
    images = [
        testing.noise(512, 512, seed=number, SeriesDescription=order, BodyPartExamined="TSPINE")
        for number in range(instances)
    ]
    return testing.uid(name), testing.write(images, folder / name, study=name)


def deliver(node: RunningNode, *paths: Path, calling: str = "MODALITY") -> None:
    sent = send(Link(node.peer, calling), [Outgoing.of(path) for path in paths])
    assert [one.error for one in sent] == [None] * len(paths)


def reports(archive: Orthanc, study: str) -> list[Dataset]:
    found = (dcmread(BytesIO(archive.download(one))) for one in archive.instances_of(study).values())
    return [one for one in found if one.SOPClassUID == SR]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc) -> Iterator[RunningNode]:
    with running(configured(tmp_path_factory.mktemp("node"), peers=[archive.peer])) as started:
        yield started


def test_a_box_at_known_pixels_comes_back_from_the_archive_at_the_same_pixels(
    node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    study, paths = study_files(tmp_path, "boxes")
    deliver(node, *paths)
    _, deliveries = node.read(study)
    assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}
    node.until(
        lambda: f"documents delivered: {len(deliveries)} of {len(deliveries)}" in node.log.read_text(), within_s=120
    )
    assert re.search(r"study read in \d+\.\d s: \w+", node.log.read_text())
    assert re.search(r"\bread \d+\.\d s; compose \d+\.\d s\n", run_ainode(node, "jobs"))
    (report,) = reports(archive, study)
    drawn = [item.GraphicData for item in walk(report) if item.get("ValueType") == "SCOORD"]
    left, top, right, bottom = BOX
    for shift in (0, 150):
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        assert [value for x, y in corners for value in (x + shift, y)] in drawn
    referenced = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in walk(report)
        if item.get("ValueType") == "IMAGE"
    }
    assert referenced == {dcmread(paths[0]).SOPInstanceUID}


def walk(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", []):
        yield from walk(child)


def test_a_study_sent_again_makes_no_second_report(node: RunningNode, archive: Orthanc, tmp_path: Path) -> None:
    study, paths = study_files(tmp_path, "again")
    deliver(node, *paths)
    node.read(study)
    deliver(node, *paths)
    later, others = study_files(tmp_path, "later")
    deliver(node, *others)
    node.read(later)  # opened after whatever the repetition opens
    assert len(node.ledger.jobs(study=UID(study))) == len(reports(archive, study)) == 1


def test_a_late_instance_makes_one_new_report_that_names_its_predecessor(
    node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    study, paths = study_files(tmp_path, "late", instances=2)
    deliver(node, paths[0])
    first, (delivery, *_) = node.read(study)
    deliver(node, paths[1])
    node.until(lambda: len(node.ledger.jobs(study=UID(study))) == 2, within_s=120)
    second, _ = node.read(study)
    assert node.ledger.job(first.id).state is JobState.SUPERSEDED
    assert second.predecessors == (delivery.document.ref,)
    newest = next(
        one for one in reports(archive, study) if one.SOPInstanceUID != delivery.document.ref.sop_instance_uid
    )
    named = newest.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == delivery.document.ref.sop_instance_uid


def test_a_declined_study_is_closed_with_its_reason_and_sends_nothing(
    node: RunningNode, archive: Orthanc, tmp_path: Path
) -> None:
    study, paths = study_files(tmp_path, "declined", order="decline")
    deliver(node, *paths)
    job, deliveries = node.read(study)
    assert (job.state, job.reason, deliveries) == (JobState.OUT_OF_SCOPE, "this study asks to be declined", ())
    assert archive.instances_of(study) == {}


def test_a_poison_study_ends_as_a_dead_letter_and_spares_the_next(node: RunningNode, tmp_path: Path) -> None:
    poison, poisoned = study_files(tmp_path, "poison", order="crash")
    healthy, paths = study_files(tmp_path, "healthy")
    deliver(node, *poisoned)
    deliver(node, *paths)
    assert node.read(healthy)[0].state is JobState.REPORTED
    job, _ = node.read(poison)
    assert job.state is JobState.FAILED
    assert "ended with code 7" in job.reason


def test_a_disk_that_takes_no_document_fails_the_job_visibly_and_a_retry_revives_it(tmp_path: Path) -> None:
    node = configured(tmp_path / "node")
    blocked = tmp_path / "node" / "data" / "documents"
    with running(node):
        if blocked.exists():
            blocked.rmdir()
        blocked.write_text("a file where the folder has to be")
        study, paths = study_files(tmp_path, "full disk")
        deliver(node, *paths)
        job, _ = node.read(study)
        assert job.state is JobState.FAILED
        assert "documents" in job.reason
        blocked.unlink()
        run_ainode(node, "retry", job.id)
        assert node.read(study)[0].state is JobState.REPORTED


def test_a_node_that_is_stopped_while_it_reads_goes_on_at_its_next_start(tmp_path: Path) -> None:
    node = configured(tmp_path / "node")
    with running(node):
        study, paths = study_files(tmp_path, "long", order="told")
        deliver(node, *paths)
        # The job is READING before a process is: the node counts the processes.
        node.until((node.folder / "begun").exists, within_s=120)
        node.stop()
        (node.folder / "told").touch()
        assert "stopping; 1 reading under way, done again at the next start" in node.log.read_text()
        node.start()
        job, _ = node.read(study)
        assert (job.state, job.attempts) == (JobState.REPORTED, 2)


def test_a_shadow_route_keeps_its_documents_and_sends_none(tmp_path: Path) -> None:
    archive = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=free_port())
    node = configured(tmp_path / "node", peers=[archive], routes=SPINE + 'mode = "shadow"\n')
    with running(node):
        study, paths = study_files(tmp_path, "shadow")
        deliver(node, *paths)
        job, deliveries = node.read(study)
        assert (job.state, deliveries) == (JobState.REPORTED, ())
        assert [one.path.exists() for one in node.ledger.documents(job.id)] == [True]


def test_the_same_study_read_by_another_installation_of_that_name_gives_the_same_bytes(
    node: RunningNode, tmp_path: Path
) -> None:
    study, paths = study_files(tmp_path, "bytes")
    deliver(node, *paths)
    _job, deliveries = node.read(study)
    replayed = run_ainode(node, "replay", study)
    assert "1 of 1 byte-identical" in replayed
    path = deliveries[0].document.path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == deliveries[0].document.sha256


def run_ainode(node: RunningNode, *arguments: str) -> str:
    import os
    import subprocess
    import sys

    from support.node import ROOT

    environment = os.environ | {"PYTHONPATH": f"{ROOT / '.ns'}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "ainode.node.commands.cli", *arguments, "--config", str(node.config)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_storage_commitment_is_asked_for_and_its_proof_is_kept(tmp_path: Path) -> None:
    port = free_port()
    with orthanc(tmp_path / "archive", modalities={"node": ("AINODE", port)}) as server:
        peer = server.peer.model_copy(update={"confirm": "commitment"})
        node = configured(tmp_path / "node", peers=[peer])
        text = node.config.read_text().replace(f"port = {node.port}", f"port = {port}", 1)
        node.config.write_text(text)
        node.port = port
        with running(node):
            study, paths = study_files(tmp_path, "committed")
            deliver(node, *paths)
            _, deliveries = node.read(study)
            assert {(one.state, one.proof) for one in deliveries} == {(DeliveryState.CONFIRMED, "storage commitment")}


def test_orthanc_forwards_a_study_and_finds_the_report_in_it_and_forwarding_both_reads_nothing_again(
    tmp_path: Path,
) -> None:
    port = free_port()
    with orthanc(tmp_path / "archive", modalities={"ainode": ("AINODE", port)}) as server:
        node = configured(tmp_path / "node", peers=[server.peer], silence_s=600)
        node.config.write_text(node.config.read_text().replace(f"port = {node.port}", f"port = {port}", 1))
        node.port = port
        study, (path,) = study_files(tmp_path, "forwarded")
        stored = json.loads(server.call("POST", "/instances", path.read_bytes()))
        with running(node):
            server.call("POST", "/modalities/ainode/store", stored["ParentStudy"].encode())
            # far earlier than the silence of 600 s: Orthanc said how many instances the study has
            _, deliveries = node.read(study, within_s=120)
            assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}
            assert len(reports(server, study)) == 1
            server.call("POST", "/modalities/ainode/store", stored["ParentStudy"].encode())
            node.until(lambda: len(node.catalog.instances(UID(study))) == 2, within_s=120)
            node.until(lambda: not node.catalog.unrouted(), within_s=120)
            assert len(node.ledger.jobs(study=UID(study))) == 1


@pytest.mark.parametrize("down_s", [3, pytest.param(60, marks=pytest.mark.long)])
def test_an_archive_that_is_down_for_a_while_gets_everything_once_after_it_returns(
    tmp_path: Path, down_s: float
) -> None:
    port = free_port()
    peer = Peer(name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=port)
    node = configured(
        tmp_path / "node", peers=[peer], more="[delivery]\nfirst_wait_s = 1.0\nlongest_wait_s = 5.0\nattempts = 60"
    )
    with running(node):
        studies = []
        for number in range(4):
            study, paths = study_files(tmp_path, f"down {number}")
            deliver(node, *paths)
            studies.append(study)
        node.until(lambda: len(node.ledger.jobs(states=[JobState.REPORTED])) == 4, within_s=240)
        returns_at = time.monotonic() + down_s
        node.until(
            lambda: (
                time.monotonic() > returns_at
                and all(one.error for job in node.ledger.jobs() for one in node.ledger.deliveries(job.id))
            ),
            within_s=down_s + 120,
        )
        assert all(
            one.state is DeliveryState.WAITING for job in node.ledger.jobs() for one in node.ledger.deliveries(job.id)
        )
        with orthanc(tmp_path / "archive", port=port) as server:
            for study in studies:
                _, deliveries = node.read(study)
                assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}
                assert len(server.instances_of(study)) == len(deliveries)


def test_an_archive_that_refuses_one_class_gets_the_others_and_the_refusal_can_be_seen_and_retried(
    tmp_path: Path,
) -> None:
    port = free_port()
    archive = testing.EmbeddedArchive(tmp_path / "archive", port, refuse=[SR])
    peer = Peer(name="picky", ae_title="ARCHIVE", host="127.0.0.1", port=port)
    with archive, running(configured(tmp_path / "node", peers=[peer])) as node:
        study, paths = study_files(tmp_path, "refused")
        deliver(node, *paths)
        job, deliveries = node.read(study)
        states = {one.document.ref.sop_class_uid == SR: one.state for one in deliveries}
        assert states[True] is DeliveryState.FAILED
        assert all(state is DeliveryState.CONFIRMED for refused, state in states.items() if not refused)
        assert "refused" in run_ainode(node, "jobs")
        archive.refuse = []
        run_ainode(node, "retry", job.id)
        _, deliveries = node.read(study)
        assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}


def test_twenty_kills_under_load_lose_nothing_that_was_answered_and_send_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(1)
    port = free_port()
    peer = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port)
    acked: set[str] = set()
    with testing.EmbeddedArchive(tmp_path / "archive", port) as archive:
        node = configured(tmp_path / "node", peers=[peer])
        starts = [node.start()]
        for number in range(20):
            _study, paths = study_files(tmp_path, f"load {number}", instances=6)
            timer = _kill_after(node, chance.uniform(0.05, 1.5))
            sent = send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
            acked |= {one.sop_instance_uid for one in sent if one.error is None}
            timer.join()
            starts.append(node.start())
            send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
        for number in range(20):
            _, deliveries = node.read(testing.uid(f"load {number}"))
            assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}
        node.stop()
        held = {path.name for path in (node.folder / "data" / "spool").rglob("*.dcm")}
        catalog_holds = set(node.catalog.existing(acked))
        reported = [dcmread(path) for path in archive.files()]
    assert catalog_holds == acked
    assert len(held) >= len(acked)
    by_study: dict[str, list[Dataset]] = {}
    for one in reported:
        if one.SOPClassUID == SR:
            by_study.setdefault(one.StudyInstanceUID, []).append(one)
    assert all(_one_chain(found) for found in by_study.values())
    assert len(by_study) == 20
    assert statistics.median(starts) < 60


def _kill_after(node: RunningNode, seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, node.kill)
    timer.start()
    return timer


def _one_chain(found: list[Dataset]) -> bool:
    """Whether all but one of the reports are named as predecessor by another one: none contradicts."""
    named = {
        reference.ReferencedSOPInstanceUID
        for one in found
        for study in one.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    return sum(one.SOPInstanceUID not in named for one in found) == 1


def test_the_node_works_on_postgresql_as_it_does_on_sqlite(tmp_path: Path) -> None:
    with postgresql() as url:
        node = configured(tmp_path / "node", more=f'[database]\nurl = "{url}"')
        node.database = url
        with running(node):
            study, paths = study_files(tmp_path, "postgresql")
            deliver(node, *paths)
            job, _ = node.read(study)
            assert job.state is JobState.REPORTED
            assert len(node.ledger.documents(job.id)) == 1
