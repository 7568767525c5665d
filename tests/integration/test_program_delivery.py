"""A site's program in a whole node: what it writes arrives at a real archive beside the report, or nothing does."""

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from support.node import configured, running
from support.programs import ct, mercure_module, write_program
from support.servers import orthanc

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import JobState
from ainode.node.reading import confinement

CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.34"
ROUTES = """
[[route]]
name = "derived"
handler = "module"
modality = ["CT"]
destinations = DESTINATIONS

[[route]]
name = "hostile"
handler = "hostile"
modality = ["CT"]
destinations = DESTINATIONS
"""
# It writes an image of the study as its own, under the name of another patient.
HOSTILE = mercure_module().replace("image.SeriesNumber =", "image.PatientID, image.SeriesNumber = 'other',")


@pytest.mark.skipif(bool(confinement.missing()), reason="; ".join(confinement.missing()))
def test_a_derived_series_arrives_with_the_report_and_another_patient_s_does_not(tmp_path: Path) -> None:
    with orthanc(tmp_path / "archive") as archive:
        node = configured(tmp_path / "node", peers=[archive.peer], routes=ROUTES)
        program = f'layout = "mercure"\nobjects = ["{CT}"]\n[program.settings]\noffset = 5'
        models = tmp_path / "node" / "data" / "models"
        write_program(models, mercure_module(), name="module", program=program)
        write_program(models, HOSTILE, name="hostile", program=program)
        images = ct()
        paths = testing.write(images, tmp_path / "sent", study="delivered")
        study = testing.uid("delivered")
        with running(node):
            assert not any(answer.error for answer in send(Link(node.peer, "MODALITY"), map(Outgoing.of, paths)))
            node.until(lambda: len(node.ledger.jobs()) == 2, within_s=120)
            node.read(study)
            jobs = {job.route: job for job in node.ledger.jobs()}
            arrived = [dcmread(BytesIO(archive.download(item))) for item in archive.instances_of(study).values()]
    assert sorted(item.SOPClassUID for item in arrived) == [CT, CT, CT, SR]
    assert {item.PatientID for item in arrived} == {dcmread(paths[0]).PatientID}
    assert jobs["derived"].state is JobState.REPORTED
    assert jobs["hostile"].state is JobState.FAILED
    assert "object 1 of 3 that the program made: its PatientID is not that of the images" in jobs["hostile"].reason
