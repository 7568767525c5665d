"""The whole node as performer of a worklist: images and results in a real Orthanc, killed in the middle too."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import Result
from support import Orthanc, installed
from support.node import SPINE, RunningNode, configured, running
from support.web_archives import dicomweb_orthanc
from typer.testing import CliRunner

installed("uvicorn", "starlette", "websockets")

from support.worklists import (  # noqa: E402
    CANCELED,
    COMPLETED,
    IN_PROGRESS,
    SCHEDULED,
    Server,
    a_workitem,
    an_input,
    worklist,
)

from ainode.node import testing  # noqa: E402
from ainode.node.commands.cli import app  # noqa: E402
from ainode.node.domain import UID, JobState  # noqa: E402
from ainode.node.keeping.workitems import Workitems, WorkitemState  # noqa: E402


@dataclass
class Department:
    """A node, the worklist that it performs, and the archive that has the images."""

    node: RunningNode
    server: Server
    archive: Orthanc

    def study(self, order: str, folder: Path) -> str:
        """Put a radiograph into the archive that tells the handler what to do; return its Study Instance UID."""
        name = f"workitem {order}"
        images = [testing.noise(512, 512, seed=1, SeriesDescription=order, BodyPartExamined="SPINE")]
        for path in testing.write(images, folder / order, study=name):
            self.archive.call("POST", "/instances", path.read_bytes())
        return str(testing.uid(name))

    def item(self, uid: str) -> WorkitemState | None:
        found = Workitems(self.node.engine).of("web", uid)
        return found.state if found else None

    def until(self, uid: str, *states: WorkitemState, within_s: float = 90) -> None:
        self.node.until(lambda: self.item(uid) in states, within_s=within_s)

    def command(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(self.node.config)])


@pytest.fixture(scope="module")
def department(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Department]:
    folder = tmp_path_factory.mktemp("department")
    with worklist() as server, dicomweb_orthanc(folder / "archive") as (archive, peer):
        peers = [peer, server.peer(subscribe=True, poll_s=1.0)]
        routes = SPINE.replace("DESTINATIONS", '["orthanc"]')
        node = configured(folder / "node", peers=peers, routes=routes)
        with running(node):
            yield Department(node, server, archive)


def scheduled(department: Department, study: str) -> str:
    item = a_workitem(study)
    address = f"http://127.0.0.1:{department.archive.http_port}/dicom-web/studies/{study}"
    item.InputInformationSequence = [an_input(study, url=address)]
    return department.server.add(item)


def test_an_item_is_read_from_the_archive_and_completed_with_what_the_archive_has(
    department: Department, tmp_path: Path
) -> None:
    study = department.study("read", tmp_path)
    uid = scheduled(department, study)
    department.until(uid, WorkitemState.COMPLETED)
    kept = department.server.items[uid]
    assert kept.states == [SCHEDULED, IN_PROGRESS, COMPLETED]
    performed = kept.dataset.UnifiedProcedureStepPerformedProcedureSequence[0]
    outputs = {
        str(ref.ReferencedSOPInstanceUID)
        for item in performed.OutputInformationSequence
        for ref in item.ReferencedSOPSequence
    }
    job, deliveries = department.node.read(study)
    assert outputs == {delivery.document.ref.sop_instance_uid for delivery in deliveries}
    assert outputs < department.archive.instances_of(study).keys()
    assert job.state is JobState.REPORTED
    for item in performed.OutputInformationSequence:
        address = f"http://127.0.0.1:{department.archive.http_port}/dicom-web/studies/{study}/series/"
        assert item.WADORSRetrievalSequence[0].RetrieveURL == f"{address}{item.SeriesInstanceUID}"
        assert item.DICOMRetrievalSequence[0].RetrieveAETitle == "ORTHANC"
    assert department.server.refusals == []


def test_a_study_that_the_model_declines_cancels_its_item(department: Department, tmp_path: Path) -> None:
    uid = scheduled(department, department.study("decline", tmp_path))
    department.until(uid, WorkitemState.CANCELED)
    progress = department.server.items[uid].dataset.ProcedureStepProgressInformationSequence[0]
    assert "this study asks to be declined" in progress.ReasonForCancellation


def test_a_node_that_is_killed_while_it_reads_completes_the_item_after_its_next_start(
    department: Department, tmp_path: Path
) -> None:
    study = department.study("told", tmp_path)
    uid = scheduled(department, study)
    node = department.node
    node.until(lambda: bool(node.ledger.jobs(study=UID(study), states=(JobState.READING,))), within_s=240)
    node.kill()
    (node.folder / "told").touch()
    node.start()
    department.until(uid, WorkitemState.COMPLETED)
    kept = department.server.items[uid]
    assert kept.states == [SCHEDULED, IN_PROGRESS, COMPLETED]
    assert len(kept.locks) == 1
    assert len(node.ledger.jobs(study=UID(study))) == 1


def test_the_commands_say_what_became_of_items_and_whether_the_worklist_answers(department: Department) -> None:
    listed = department.command("workitems")
    assert listed.exit_code == 0
    assert {"completed", "canceled"} <= set(listed.stdout.split())
    assert "this study asks to be declined" in listed.stdout
    assert "workitem" in department.command("jobs").stdout
    check = department.command("check").stdout
    (line,) = [line for line in check.splitlines() if line.startswith("worklist web")]
    assert "ready" in line
    doctor = department.command("doctor", "web")
    assert "UPS-RS event channel" in doctor.stdout, doctor.stderr
    assert doctor.exit_code == 0, doctor.output
    assert department.server.subscriptions.keys() == {"AINODE"}
    department.server.refuse = lambda _: 404
    try:
        refused = department.command("doctor", "web")
    finally:
        department.server.refuse = lambda _: 0
    assert refused.exit_code == 1
    assert "[peer.worklist] does not work there" in refused.stderr


def test_an_item_whose_images_do_not_come_is_canceled_on_request(department: Department) -> None:
    absent = "1.2.3.4.5.6"  # its images never come
    uid = scheduled(department, absent)
    department.until(uid, WorkitemState.READING)
    department.server.request_cancel(uid)
    department.until(uid, WorkitemState.CANCELED)
    progress = department.server.items[uid].dataset.ProcedureStepProgressInformationSequence[0]
    assert "request to cancel" in progress.ReasonForCancellation
    assert department.server.state(uid) == CANCELED
