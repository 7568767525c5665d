"""Key Object Selections that say of images of a study that they are not to be used (IHE RAD TF-2 4.66)."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from support import free_port, installed

installed("hl7apy")

from support.key_objects import key_object  # noqa: E402
from support.languages import his  # noqa: E402
from support.listener import Listener, listening  # noqa: E402
from support.node import SPINE, RunningNode, configured, running  # noqa: E402
from support.postgresql import postgresql_server  # noqa: E402
from support.studies import WrittenStudy, statuses, written  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.commands.job_commands import jobs_app  # noqa: E402
from ainode.node.commands.trace import traced  # noqa: E402
from ainode.node.domain import UID, DocumentKind, InstanceRef, JobState, Study  # noqa: E402
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.imaging.rejections import rejection  # noqa: E402
from ainode.node.jobs.retries import retry  # noqa: E402
from ainode.node.keeping.announcements import Announcements  # noqa: E402
from ainode.node.keeping.job_events import Instruction, JobEventKind, JobEvents  # noqa: E402
from ainode.node.keeping.records import Delivery, Job  # noqa: E402
from ainode.node.keeping.unread import UnreadReason, UnreadStudies  # noqa: E402
from ainode.node.keeping.worklist import Criteria, EntryState, Worklist  # noqa: E402
from ainode.node.offline.explanation_lines import stored_explanation  # noqa: E402
from ainode.node.offline.inputs import dicom_studies  # noqa: E402
from ainode.node.settings import Peer, Settings, load  # noqa: E402
from ainode.node.web.state import study_status  # noqa: E402

TITLES = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}


@dataclass(frozen=True)
class Hospital:
    """A node with an archive and a RIS, and a study of three images."""

    node: RunningNode
    archive: testing.EmbeddedArchive
    listener: Listener
    study: WrittenStudy
    folder: Path

    @property
    def uid(self) -> UID:
        """Return the Study Instance UID."""
        return UID(self.study.uid)

    def send(self, *paths: Path) -> None:
        """Send files on one association."""
        assert statuses(self.node, paths) == [0] * len(paths)

    def note(self, title: str, *paths: Path) -> Path:
        """Return the file of a Key Object Selection about images."""
        return key_object(title, paths, self.folder / f"{title}.dcm")

    def until_routed(self, count: int) -> None:
        """Wait until so many instances of the study came and are routed."""
        catalog = self.node.catalog
        self.node.until(lambda: len(catalog.content(self.uid)) == count and catalog.is_routed(self.uid), within_s=120)

    def explanation(self) -> str:
        """Return what `ainode explain` says of the study."""
        return "\n".join(stored_explanation(self.uid, load(self.node.config)))


@contextmanager
def hospital_in(folder: Path, database: str = "") -> Iterator[Hospital]:
    listener, study = Listener(["AA"]), written(folder, "study", instances=3)
    with testing.EmbeddedArchive(folder / "archive", free_port()) as archive, listening(listener) as port:
        peer = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=archive.port)
        more = f'[database]\nurl = "{database}"' if database else ""
        configured_node = configured(folder / "node", peers=[peer, his(port)], routes=SPINE, more=more)
        with running(replace(configured_node, database=database)) as node:
            yield Hospital(node, archive, listener, study, folder)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with hospital_in(tmp_path) as hospital:
        yield hospital


def sop_instance_uids(paths: Sequence[Path]) -> set[str]:
    return {str(dcmread(path).SOPInstanceUID) for path in paths}


def reports(deliveries: Sequence[Delivery]) -> set[InstanceRef]:
    documents = [delivery.document for delivery in deliveries]
    return {document.ref for document in documents if document.kind is DocumentKind.STRUCTURED_REPORT}


def statuses_of(message: bytes) -> set[str]:
    """Return OBR-25 of an HL7 message."""
    return {line.split("|")[25] for line in message.decode().split("\r") if line.startswith("OBR|")}


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("order", ["with the images", "before them"])
def test_what_a_rejection_note_names_is_not_read_and_explained(hospital: Hospital, title: str, order: str) -> None:
    first, *others = hospital.study.paths
    note = hospital.note(title, first)
    if order == "before them":
        hospital.send(note)
        hospital.until_routed(1)
        hospital.send(*hospital.study.paths)
    else:
        hospital.send(*hospital.study.paths, note)
    hospital.until_routed(4)
    job, deliveries = hospital.node.read(hospital.study.uid)
    (live,) = hospital.node.ledger.jobs(study=hospital.uid)
    assert (job.id, job.state, set(job.content)) == (live.id, JobState.REPORTED, sop_instance_uids(others))
    assert deliveries
    words = f"{title} DCM {TITLES[title]}, note {testing.uid('key object', note.name)}"
    problem = f"1 of 3 instances is not read, as rejected by {words}"
    assert hospital.node.catalog.problem(hospital.uid) == problem
    assert problem in hospital.node.log.read_text()
    assert f"rejected by {words}" in hospital.explanation()


def test_an_image_that_is_rejected_after_it_was_read_makes_a_new_report_without_it(hospital: Hospital) -> None:
    first, *others = hospital.study.paths
    hospital.send(*hospital.study.paths)
    earlier_job, earlier = hospital.node.read(hospital.study.uid)
    hospital.send(hospital.note("113001", first))
    hospital.until_routed(4)
    job, deliveries = hospital.node.read(hospital.study.uid)
    assert set(job.content) == sop_instance_uids(others)
    assert hospital.node.ledger.job(earlier_job.id).state is JobState.SUPERSEDED
    assert set(job.predecessors) == reports(earlier)
    assert reports(deliveries)
    first_message, correction = map(statuses_of, hospital.listener.messages)
    assert first_message != correction == {"C"}


def test_a_report_whose_images_are_all_rejected_is_withdrawn_and_no_other_is_made(hospital: Hospital) -> None:
    hospital.send(*hospital.study.paths)
    job, _ = hospital.node.read(hospital.study.uid)
    count = len(hospital.archive.stored)
    hospital.send(hospital.note("113037", *hospital.study.paths))
    hospital.until_routed(4)
    hospital.node.read(hospital.study.uid)
    (withdrawn,) = hospital.node.ledger.jobs(study=hospital.uid)
    assert (withdrawn.id, withdrawn.state) == (job.id, JobState.REPORTED)
    assert withdrawn.withdrawn_at
    assert "113037 DCM Rejected for Patient Safety Reasons" in withdrawn.reason
    hospital.node.until(lambda: len(hospital.listener.messages) == 2, within_s=60)
    assert b"113037 DCM Rejected for Patient Safety Reasons" in hospital.listener.messages[1]
    assert statuses_of(hospital.listener.messages[1]) == {"X"}
    assert len(hospital.archive.stored) == count
    assert_leftovers_told(hospital, job.id)
    (entry,) = UnreadStudies(hospital.node.engine).of_study(hospital.uid)
    assert (entry.attribute, entry.route) == ("rejection notes", "")


def test_images_that_a_note_rejects_before_they_come_are_rejected_and_no_failure(hospital: Hospital) -> None:
    hospital.send(hospital.note("113037", *hospital.study.paths))
    hospital.until_routed(1)
    hospital.send(*hospital.study.paths)
    hospital.until_routed(4)
    assert not hospital.node.ledger.jobs(study=hospital.uid)
    (entry,) = UnreadStudies(hospital.node.engine).of_study(hospital.uid)
    assert entry.reason is UnreadReason.REJECTED
    assert entry.value.startswith("rejected by 113037 DCM Rejected for Patient Safety Reasons")
    (row,) = Worklist(hospital.node.engine).page(Criteria(state=EntryState.REJECTED), count=9)
    assert row.study_instance_uid == hospital.uid
    status = study_status(
        hospital.uid, hospital.node.catalog, hospital.node.ledger, Announcements(hospital.node.engine)
    )
    assert status
    assert (status.state, status.reason) == ("rejected", hospital.node.catalog.problem(hospital.uid))


def assert_leftovers_told(hospital: Hospital, job: str) -> None:
    """See that log and commands say which series are to be deleted in the archive, which nobody else can do."""
    deliveries = [each for each in hospital.node.ledger.deliveries(job) if each.destination == "archive"]
    series = dict.fromkeys(delivery.document.ref.series_instance_uid for delivery in deliveries)
    listed = CliRunner().invoke(jobs_app, ["jobs", hospital.uid, "--config", str(hospital.node.config)]).output
    steps = "\n".join(map(" ".join, traced(hospital.node.engine, hospital.uid, None)))
    for text in (hospital.node.log.read_text(), listed, steps):
        words = re.search(r"archive (?:may )?still ha(?:s|ve) (\d+) documents? of it, to be deleted there: (.+)", text)
        assert words
        assert (int(words[1]), set(re.findall(r"[\d.]{9,}\d", words[2]))) == (len(deliveries), set(series))
    assert re.search(rf"{job} +withdrawn ", listed)
    assert re.search(rf"job {job} .*now withdrawn", steps)


def test_a_note_on_what_was_read_acts_without_the_silence_of_its_sender(tmp_path: Path) -> None:
    with hospital_in(tmp_path) as hospital:
        hospital.send(*hospital.study.paths)
        job, _ = hospital.node.read(hospital.study.uid)
        hospital.node.stop()
        configuration = hospital.node.config.read_text()
        patient, count = re.subn(r"(min|max)_silence_s = [\d.]+", r"\1_silence_s = 300.0", configuration)
        assert count == 2
        hospital.node.config.write_text(patient)
        hospital.node.start()
        hospital.send(hospital.note("113037", *hospital.study.paths))
        hospital.node.until(lambda: bool(hospital.node.ledger.job(job.id).withdrawn_at), within_s=60)


@pytest.mark.parametrize("title", ["113000", "113030"])
def test_a_key_object_selection_that_rejects_nothing_changes_nothing(hospital: Hospital, title: str) -> None:
    hospital.send(*hospital.study.paths)
    job, _ = hospital.node.read(hospital.study.uid)
    hospital.send(hospital.note(title, *hospital.study.paths))
    hospital.until_routed(4)
    (same,) = hospital.node.ledger.jobs(study=hospital.uid)
    assert (same.id, same.state, same.withdrawn_at) == (job.id, JobState.REPORTED, None)
    assert hospital.node.catalog.problem(hospital.uid) == ""


def test_images_that_are_rejected_on_postgresql_are_read_no_more(tmp_path: Path) -> None:
    """What waits, what is read, and what was reported, one after the other."""
    with postgresql_server() as server, hospital_in(tmp_path, server.create("rejections")) as hospital:
        assert_rejected_while_waiting(hospital)
        other = written(tmp_path, "reported", instances=2)
        hospital.send(*other.paths)
        job, _ = hospital.node.read(other.uid)
        hospital.send(hospital.note("113037", *other.paths))
        hospital.node.until(lambda: bool(hospital.node.ledger.job(job.id).withdrawn_at), within_s=120)
        withdrawn = hospital.node.ledger.job(job.id)
        assert (withdrawn.state, "113037 DCM" in withdrawn.reason) == (JobState.REPORTED, True)


def test_images_that_are_rejected_while_they_wait_are_withdrawn_unread_and_no_failure(hospital: Hospital) -> None:
    assert_rejected_while_waiting(hospital)


def assert_rejected_while_waiting(hospital: Hospital) -> None:
    """See what becomes of a job that waits, as another study holds its handler for now."""
    node, slow = hospital.node, written(hospital.folder, "slow study", order="told")
    hospital.send(*slow.paths)
    node.until((node.folder / "begun").exists, within_s=120)
    hospital.send(*hospital.study.paths)
    node.until(lambda: bool(node.ledger.jobs(study=hospital.uid)), within_s=120)
    (waiting,) = node.ledger.jobs(study=hospital.uid)
    assert waiting.state is JobState.WAITING
    hospital.send(hospital.note("113001", *hospital.study.paths))
    node.until(lambda: node.ledger.job(waiting.id).state is not JobState.WAITING, within_s=120)
    assert_rejected(node, waiting.id, "113001 DCM Rejected for Quality Reasons")
    (node.folder / "told").touch()
    node.read(slow.uid)
    assert node.ledger.job(waiting.id).attempts == 0


def assert_rejected(node: RunningNode, job: str, words: str) -> None:
    """See that a job is withdrawn with a reason, that nothing of it failed, and that no retry revives it."""
    rejected = node.ledger.job(job)
    assert (rejected.state, rejected.withdrawn_at) == (JobState.CANCELLED, rejected.finished_at)
    assert rejected.withdrawn_at
    assert rejected.reason.startswith("withdrawn: images that it rests on are not to be used, a rejection note says: ")
    assert words in rejected.reason
    kinds = [event.kind for event in JobEvents(node.engine).of([job]).get(job, ())]
    assert kinds == [JobEventKind.CANCELLED]
    with pytest.raises(LookupError, match="it is not read"):
        retry(load(node.config), node.ledger, job, Instruction(datetime.now(UTC)))


def test_images_that_are_rejected_while_they_are_read_make_no_report_and_no_retry_reads_them(
    hospital: Hospital,
) -> None:
    study = written(hospital.folder, "slow study", order="told")
    node = hospital.node

    def job() -> Job:
        (only,) = node.ledger.jobs(study=UID(study.uid))
        return only

    hospital.send(*study.paths)
    node.until((node.folder / "begun").exists, within_s=120)
    hospital.send(hospital.note("113038", *study.paths))
    node.until(lambda: job().state is JobState.CANCELLED, within_s=120)
    (node.folder / "told").touch()
    other = written(hospital.folder, "other study")
    hospital.send(*other.paths)
    node.read(other.uid)  # the reader is done with the rejected images
    assert_rejected(node, job().id, "113038 DCM Incorrect Modality Worklist Entry")
    assert (node.ledger.documents(job().id), node.ledger.deliveries(job().id)) == ((), ())


def test_a_file_that_a_note_beside_it_rejects_is_not_among_the_images_of_a_folder(tmp_path: Path) -> None:
    study = written(tmp_path, "study", instances=2)
    first, second = study.paths
    key_object("113039", [first], first.parent / "note.dcm")
    (offline,), (unread,) = dicom_studies([first.parent], Settings())
    assert sop_instance_uids([second]) < set(refs_of(offline))
    assert unread.path == first
    assert "113039 DCM Data Retention Policy Expired" in unread.reason


def refs_of(study: Study) -> list[UID]:
    return [instance.ref.sop_instance_uid for instance in study.instances]


def test_every_one_of_a_thousand_slices_that_a_note_names_is_rejected(tmp_path: Path) -> None:
    (path,) = written(tmp_path, "study").paths
    note = key_object("113001", [path], tmp_path / "note.dcm")
    dataset = dcmread(note)
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    (reference,) = series.ReferencedSOPSequence
    references = [deepcopy(reference) for _ in range(1000)]
    for number, item in enumerate(references):
        item.ReferencedSOPInstanceUID = testing.uid("slice", number)
    series.ReferencedSOPSequence = references
    dataset.save_as(note)
    answer = rejection(note, headers.instance(note, sha256="").ref)
    assert answer
    assert {testing.uid("slice", number) for number in range(1000)} < answer.sop_instance_uids
