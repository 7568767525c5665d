"""The shelf of fetched series: whole and of the right patient, or not there; what jobs share, and what is swept."""

import os
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from support import a_file

from ainode.node.archive.search import SeriesEntry
from ainode.node.domain import UID, File, Patient
from ainode.node.errors import ArchiveUnreachable, CannotUnderstand, OutOfResources
from ainode.node.priors.rules import StudyIdentity
from ainode.node.priors.shelf import PriorRecord, Shelf

ADA, BOB = Patient("7", "HOSPITAL", "19500101"), Patient("8", "HOSPITAL", "19500101")
STUDY, SERIES = "1.2.3", "1.2.3.1"
LISTED = SeriesEntry(UID(STUDY), UID(SERIES), "CT", instance_count=2)
Fetch = Callable[[Path], None]


def of(patient: Patient) -> StudyIdentity:
    return StudyIdentity(UID("1.2.9"), patient, "20260101", "101010")


def instance(patient: Patient = ADA, *, study: str = STUDY, series: str = SERIES) -> bytes:
    dataset = dcmread(BytesIO(a_file(study=study, series=series)))
    dataset.PatientID, dataset.IssuerOfPatientID = patient.patient_id, patient.issuer
    dataset.PatientBirthDate, dataset.StudyDate = patient.birth_date, "20250101"
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def giving(*contents: bytes) -> Fetch:
    """Return a fetch that writes these files."""

    def fetch(folder: Path) -> None:
        for number, content in enumerate(contents):
            (folder / f"{number}.dcm").write_bytes(content)

    return fetch


def never(_: Path) -> None:
    pytest.fail("the series was fetched again")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "priors", 0)


def taken(shelf: Shelf, fetch: Fetch, *, patient: Patient = ADA, listed: SeriesEntry = LISTED) -> Sequence[File]:
    return shelf.series_files(listed, of(patient), fetch, allow_missing_birth_date=False)


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_whole_series_is_fetched_once_and_once_more_after_it_has_grown(shelf: Shelf) -> None:
    contents = instance(), instance(), instance()
    first = taken(shelf, giving(*contents[:2]))
    assert sorted(file.path.read_bytes() for file in first) == sorted(contents[:2])
    assert taken(shelf, never) == first
    grown = taken(shelf, giving(*contents), listed=SeriesEntry(UID(STUDY), UID(SERIES), "CT", instance_count=3))
    assert len(grown) == 3
    assert taken(shelf, never) == first


def test_of_two_patients_a_shelf_gives_neither_the_files_of_the_other(shelf: Shelf, tmp_path: Path) -> None:
    """An archive that answers with Bob's files in Ada's series, and a series of Ada that is wanted for Bob."""
    with pytest.raises(CannotUnderstand, match="another Patient ID"):
        taken(shelf, giving(instance(ADA), instance(BOB)))
    assert files_under(tmp_path) == []
    record = PriorRecord(tuple(taken(shelf, giving(instance(ADA), instance(ADA)))))
    shelf.write_record("job of Ada", record)
    with pytest.raises(CannotUnderstand, match="another Patient ID"):
        taken(shelf, never, patient=BOB)
    assert shelf.usable(record) == record


def test_no_attribute_of_a_patient_is_in_a_name_of_the_shelf(shelf: Shelf, tmp_path: Path) -> None:
    patient = Patient("SECRET", "CLINIC", "19610203")
    files = taken(shelf, giving(instance(patient), instance(patient)), patient=patient)
    shelf.write_record("SECRET job", PriorRecord(tuple(files)))
    names = " ".join(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert not any(text in names for text in ("SECRET", "CLINIC", "19610203", STUDY))


REFUSED = {
    "too few": (lambda: [instance()], "the archive sent 1 of 2 instances"),
    "the same twice": (lambda: [instance()] * 2, "the archive sent 1 of 2 instances"),
    "another series": (lambda: [instance(), instance(series="1.2.3.2")], "instances of another series"),
    "nothing": (list, "the archive sent 0 of 2 instances"),
    "no DICOM": (lambda: [instance(), b"no DICOM"], "not DICOM Part 10"),
}


@pytest.mark.parametrize("content", REFUSED)
def test_what_is_not_the_whole_series_leaves_nothing_and_may_be_fetched_again(
    shelf: Shelf, tmp_path: Path, content: str
) -> None:
    contents, reason = REFUSED[content]
    with pytest.raises(CannotUnderstand, match=reason):
        taken(shelf, giving(*contents()))
    assert files_under(tmp_path) == []
    assert len(taken(shelf, giving(instance(), instance()))) == 2


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _alter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize("damage", [_truncate, _zero, _alter, Path.unlink])
def test_a_study_with_a_damaged_file_is_not_read_and_fetched_again_for_the_next_job(
    shelf: Shelf, damage: Callable[[Path], None]
) -> None:
    contents = instance(), instance()
    other = instance(series="1.2.4.1", study="1.2.4")
    listed = SeriesEntry(UID("1.2.4"), UID("1.2.4.1"), "CT", instance_count=1)
    study, other_study = taken(shelf, giving(*contents)), taken(shelf, giving(other), listed=listed)
    record = PriorRecord((*study, *other_study), ("a note",))
    damage(study[0].path)
    usable = shelf.usable(record)
    assert usable.files == tuple(other_study)
    assert usable.notes == ("a note", "Earlier studies: the node no longer keeps them all as they were fetched.")
    assert taken(shelf, giving(*reversed(contents))) == study
    assert shelf.usable(record) == record


def test_a_fetch_that_breaks_off_leaves_nothing_and_its_error_is_the_archives(shelf: Shelf, tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        (folder / "0.dcm").write_bytes(instance())
        raise ArchiveUnreachable("archive: the connection was lost")

    with pytest.raises(ArchiveUnreachable, match="the connection was lost"):
        taken(shelf, broken)
    assert files_under(tmp_path) == []
    with pytest.raises(OutOfResources):
        taken(Shelf(tmp_path / "full", 1 << 60), never)


def test_two_jobs_that_fetch_one_series_at_once_both_have_it(shelf: Shelf, tmp_path: Path) -> None:
    contents, both_fetch = (instance(), instance()), threading.Barrier(2, timeout=30)

    def fetch(folder: Path) -> None:
        giving(*contents)(folder)
        both_fetch.wait()

    answers: list[Sequence[File]] = []
    threads = [threading.Thread(target=lambda: answers.append(taken(shelf, fetch))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert len(files_under(tmp_path)) == 2


def test_a_record_is_what_was_written_until_its_series_is_swept_and_then_says_so(shelf: Shelf, tmp_path: Path) -> None:
    record = PriorRecord(tuple(taken(shelf, giving(instance(), instance()))), ("a note",), 1.5, 2.5)
    assert shelf.record("job") is None
    shelf.write_record("job", record)
    assert shelf.record("job") == shelf.usable(record) == record
    now = datetime.now(UTC)
    shelf.sweep(now - timedelta(hours=1), [])
    assert shelf.usable(record) == record
    (study,) = (tmp_path / "priors" / "series").iterdir()
    os.utime(study, times=(0, 0))
    shelf.sweep(now - timedelta(hours=1), [])
    assert shelf.record("job") == record
    lost = shelf.usable(record)
    assert (lost.files, lost.query_s, lost.retrieve_s) == ((), 1.5, 2.5)
    assert lost.notes == ("a note", "Earlier studies: the node no longer keeps them all as they were fetched.")
    os.utime(next((tmp_path / "priors" / "jobs").iterdir()), times=(0, 0))
    shelf.sweep(now - timedelta(hours=1), [])
    assert shelf.record("job") is None


def test_what_an_unfinished_job_has_on_record_is_not_swept(shelf: Shelf, tmp_path: Path) -> None:
    record = PriorRecord(tuple(taken(shelf, giving(instance(), instance()))))
    for job in ("finished", "unfinished"):
        shelf.write_record(job, record)
    for path in (tmp_path / "priors").glob("*/*"):
        os.utime(path, times=(0, 0))
    shelf.sweep(datetime.now(UTC), ["unfinished", "without a record"])
    assert shelf.record("finished") is None
    assert shelf.record("unfinished") == shelf.usable(record) == record


def test_a_series_that_is_used_again_is_not_swept(shelf: Shelf, tmp_path: Path) -> None:
    taken(shelf, giving(instance(), instance()))
    (study,) = (tmp_path / "priors" / "series").iterdir()
    os.utime(study, times=(0, 0))
    files = taken(shelf, never)
    shelf.sweep(datetime.now(UTC) - timedelta(hours=1), [])
    assert all(file.path.exists() for file in files)
