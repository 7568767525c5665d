"""Images of two patients under one Study Instance UID are taken, read by nobody, and read once they agree."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from support import free_port
from support.node import RunningNode, configured, running

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import JobState
from ainode.node.imaging.patients import TWO_PATIENTS
from ainode.node.settings import Peer

# The second image is in a series of its own that the route does not take: the study is still of two patients.
REPORTING = """
[[route]]
name = "spine"
handler = "support.handler"
modality = ["DX"]
body_part = ["SPINE"]
tags = {Rows = ">=256", Columns = ">=256", SeriesDescription = "read"}
report_out_of_scope = true
destinations = DESTINATIONS
"""


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[testing.EmbeddedArchive]:
    with testing.EmbeddedArchive(tmp_path / "archive", free_port()) as started:
        yield started


def image(folder: Path, description: str, patient: str) -> Path:
    """Return the file of an image of the study, whose Patient ID is `patient`."""
    made = testing.noise(512, 512, seed=len(description), SeriesDescription=description, BodyPartExamined="TSPINE")
    (path,) = testing.write([made], folder / f"{description} {patient}", study="two patients")
    dataset = dcmread(path)
    dataset.PatientID = patient
    dataset.SeriesInstanceUID = testing.uid(description)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = testing.uid(f"image {description}")
    dataset.save_as(path)
    return path


def stored(node: RunningNode, *paths: Path) -> None:
    assert all(answer.status == 0 for answer in send(Link(node.peer, "CR1"), [Outgoing.of(path) for path in paths]))


def test_a_study_of_two_patients_is_read_by_nobody_until_its_images_agree(
    tmp_path: Path, archive: testing.EmbeddedArchive
) -> None:
    peer = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=archive.port)
    with running(configured(tmp_path / "node", peers=[peer], routes=REPORTING)) as node:
        stored(node, image(tmp_path, "read", "ID-ALPHA"), image(tmp_path, "other", "ID-BETA"))
        study = testing.uid("two patients")
        refused, deliveries = node.read(study)
        assert (refused.state, deliveries, archive.stored) == (JobState.OUT_OF_SCOPE, (), [])
        assert json.loads(refused.result)["out_of_scope"]["code"] == TWO_PATIENTS
        assert "Patient ID (0010,0020)" in refused.reason

        stored(node, image(tmp_path, "other", "ID-ALPHA"))
        node.until(lambda: len(node.ledger.jobs(study=study)) == 2, within_s=120)
        job, deliveries = node.read(study)
        assert job.state is JobState.REPORTED
        assert len(archive.stored) == len(deliveries) > 0
        assert node.ledger.job(refused.id).state is JobState.SUPERSEDED
        log = node.log.read_text()
    assert not any(patient in text for patient in ("ALPHA", "BETA") for text in (log, refused.reason, refused.result))
