"""Debian's Orthanc with two patients under one Study Instance UID: each of its studies is pulled by its identifier."""

import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from acceptance.test_orthanc_plugin import Pair, jobs, paired, with_plugin
from pydicom import dcmread
from support import installed
from support.node import running

installed("fastapi", "uvicorn")

from ainode.node import testing  # noqa: E402
from ainode.node.domain import UID, JobState  # noqa: E402
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.imaging.patients import TWO_PATIENTS  # noqa: E402

ANNE, BETH = "ID-ALPHA", "ID-BETA"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with paired(tmp_path_factory.mktemp("patients"), with_plugin) as made, running(made.node):
        yield made


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An Orthanc without the plugin: a test announces."""
    with paired(tmp_path_factory.mktemp("silent"), lambda *_: {}) as made, running(made.node):
        yield made


def images(folder: Path, study: str, patient: str, *numbers: int) -> tuple[Path, ...]:
    """Write images of one patient; a number names the same image for every patient."""
    paths = []
    for number in numbers:
        noise = testing.noise(
            512, 512, seed=number, SeriesDescription="read", BodyPartExamined="TSPINE", PatientID=patient
        )
        (path,) = testing.write([noise], folder / f"{study} {patient} {number}", study=study)
        dataset = dcmread(path)
        dataset.SeriesInstanceUID = testing.uid(study, "series")
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = testing.uid(study, "image", number)
        dataset.save_as(path)
        paths.append(path)
    return tuple(paths)


def announce(pair: Pair, study: str, way: str = "announce", **question: object) -> int:
    """Ask the node by HTTP as a script does, and return the status."""
    headers_of_request = {"Authorization": f"Bearer {pair.token}", "Content-Type": "application/json"}
    body = json.dumps({"peer": "orthanc", **question})
    with closing(HTTPConnection("127.0.0.1", pair.web_port, timeout=60)) as connection:
        connection.request("POST", f"/studies/{testing.uid(study)}/{way}", body, headers_of_request)
        return connection.getresponse().status


def patients(pair: Pair, study: str) -> list[str]:
    """Return the Patient ID of each image that the node holds of a study."""
    stored = pair.node.catalog.instances(UID(testing.uid(study)))
    return sorted(headers.instance(item.path, sha256="").patient.patient_id for item in stored)


def test_the_announced_study_is_pulled_and_the_other_patient_s_is_left(silent: Pair, tmp_path: Path) -> None:
    study = "left alone"
    identifier = silent.upload(*images(tmp_path, study, ANNE, 1, 2))
    other = silent.upload(*images(tmp_path, study, BETH, 3, 4, 5))
    assert identifier != other
    assert announce(silent, study, instances=2, orthanc_study=identifier) == 202
    job, _ = silent.node.read(testing.uid(study))
    assert (job.state, len(job.content), patients(silent, study)) == (JobState.REPORTED, 2, [ANNE] * 2)


def test_read_now_reads_the_announced_patient_alone(silent: Pair, tmp_path: Path) -> None:
    study = "asked for"
    silent.upload(*images(tmp_path, study, BETH, 3, 4, 5))
    identifier = silent.upload(*images(tmp_path, study, ANNE, 1, 2))
    assert announce(silent, study, "read", orthanc_study=identifier) == 202
    job, _ = silent.node.read(testing.uid(study))
    assert (job.state, patients(silent, study)) == (JobState.REPORTED, [ANNE] * 2)


def test_an_announcement_without_an_identifier_pulls_every_study_of_the_uid(silent: Pair, tmp_path: Path) -> None:
    study = "uid alone"
    silent.upload(*images(tmp_path, study, ANNE, 1, 2))
    silent.upload(*images(tmp_path, study, BETH, 3))
    assert announce(silent, study, instances=3) == 202
    job, _ = silent.node.read(testing.uid(study))
    assert (job.state, patients(silent, study)) == (JobState.OUT_OF_SCOPE, [ANNE, ANNE, BETH])


def test_what_is_no_identifier_of_orthanc_is_refused(silent: Pair) -> None:
    assert announce(silent, "strange", instances=1, orthanc_study="../patients") == 422


def test_an_identifier_of_another_study_brings_nothing(silent: Pair, tmp_path: Path) -> None:
    identifier = silent.upload(*images(tmp_path, "another", ANNE, 1))
    assert announce(silent, "wrong", instances=1, orthanc_study=identifier) == 202
    wrong, another = UID(testing.uid("wrong")), UID(testing.uid("another"))
    silent.node.until(lambda: bool((known := silent.announcements.of(wrong)) and known.attempts), within_s=120)
    known = silent.announcements.of(wrong)
    assert known
    assert "has no instance of the study" in known.reason
    assert not silent.node.catalog.content(another)


def test_two_announced_studies_of_one_uid_are_refused_as_two_patients(pair: Pair, tmp_path: Path) -> None:
    study = "two patients"
    pair.upload(*images(tmp_path, study, ANNE, 1, 2))
    pair.node.until(lambda: jobs(pair, testing.uid(study)) == 1, within_s=120)
    first, _ = pair.node.read(testing.uid(study))
    assert (first.state, len(first.content)) == (JobState.REPORTED, 2)
    pair.upload(*images(tmp_path, study, BETH, 3, 4, 5))
    pair.node.until(lambda: jobs(pair, testing.uid(study)) == 2, within_s=120)
    second, _ = pair.node.read(testing.uid(study))
    assert (second.state, len(second.content)) == (JobState.OUT_OF_SCOPE, 5)
    assert json.loads(second.result)["out_of_scope"]["code"] == TWO_PATIENTS
    assert "Patient ID (0010,0020)" in second.reason
    log = pair.node.log.read_text()
    assert not any(patient in text for patient in (ANNE, BETH) for text in (log, second.reason, second.result))


def test_a_patient_that_was_corrected_in_orthanc_is_pulled_again_under_the_same_uids(
    pair: Pair, tmp_path: Path
) -> None:
    study = "corrected"
    wrong = pair.upload(*images(tmp_path, study, ANNE, 1, 2))
    pair.node.until(lambda: jobs(pair, testing.uid(study)) == 1, within_s=120)
    pair.node.read(testing.uid(study))
    pair.archive.call("DELETE", f"/studies/{wrong}")
    pair.upload(*images(tmp_path, study, BETH, 1, 2))
    pair.node.until(lambda: jobs(pair, testing.uid(study)) == 2, within_s=120)
    job, _ = pair.node.read(testing.uid(study))
    assert (job.state, len(job.predecessors), patients(pair, study)) == (JobState.REPORTED, 1, [BETH] * 2)


def test_of_two_versions_that_are_announced_at_once_the_later_stays(tmp_path: Path) -> None:
    study = "at once"
    with paired(tmp_path, lambda *_: {}) as pair:
        former = pair.upload(*images(tmp_path, study, ANNE, 1, 2))
        latter = pair.upload(*images(tmp_path, study, BETH, 1, 2))
        with running(pair.node):
            for identifier in (former, latter):
                assert announce(pair, study, instances=2, orthanc_study=identifier) == 202
            pair.node.until(lambda: patients(pair, study) == [BETH] * 2, within_s=120)
            job, _ = pair.node.read(testing.uid(study))
            assert (job.state, patients(pair, study)) == (JobState.REPORTED, [BETH] * 2)
