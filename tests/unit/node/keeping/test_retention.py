"""Old jobs lose their documents and keep their answers, whenever a sweep is cut off."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from support import a_file, instance_ref
from support.databases import migrated
from support.rows import put_delivery, read

from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog, Completion, StoredInstance
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.keeping.retention import JobRetention, StudyRetention, remove_abandoned
from ainode.node.keeping.saliency import FILE_NAME
from ainode.node.keeping.schema import completions, mismatches
from ainode.node.keeping.spool import Limits, Spool
from ainode.node.keeping.unread import Mismatch, UnreadReason

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RESULT = '{"scores": {"spine": 0.75}}'


def reported(ledger: Ledger, folder: Path, name: str, *, queued_at: datetime, **delivery: object) -> Path:
    """Return the path of the document of a reported job, whose delivery has these values."""
    content = a_file()
    path = folder / name / "1.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    study = UID(f"1.2.{sum(name.encode())}")
    job = Job(name, study, "chest", "reader", {UID("1.2.3"): "00"}, queued_at, queued_at, ("archive",))
    ledger.open(job)
    document = KeptDocument(name, instance_ref(content), DocumentKind.STRUCTURED_REPORT, path, "ff")
    read(ledger, job, [document], Outcome(JobState.REPORTED, RESULT, "", 1.0))
    put_delivery(ledger, ledger.deliveries(name)[0], **delivery)
    os.utime(path.parent, (queued_at.timestamp(), queued_at.timestamp()))
    return path


def retention(ledger: Ledger, folder: Path, days: int = 90) -> JobRetention:
    catalog = Catalog(ledger._engine)
    return JobRetention(days, documents=folder, ledger=ledger, catalog=catalog, remove_workflows=lambda _: None)


def test_a_job_is_removed_when_its_last_delivery_was_confirmed_long_ago_and_its_answer_stays(
    ledger: Ledger, tmp_path: Path
) -> None:
    confirmed = {"state": DeliveryState.CONFIRMED, "tried_at": NOW - 100 * DAY, "sent_at": NOW - 100 * DAY}
    old = reported(ledger, tmp_path, "old", queued_at=NOW - 100 * DAY, confirmed_at=NOW - 91 * DAY, **confirmed)
    new = reported(ledger, tmp_path, "new", queued_at=NOW - 100 * DAY, confirmed_at=NOW - 89 * DAY, **confirmed)
    retention(ledger, tmp_path).sweep(NOW)
    assert [job.id for job in ledger.jobs()] == ["new"]
    assert (old.parent.exists(), new.exists()) == (False, True)
    (past,) = ledger.history()
    assert (past.id, past.state, past.result, past.removed_at) == ("old", JobState.REPORTED, RESULT, NOW)


def test_the_saliency_of_a_reading_goes_with_the_documents_of_its_job(ledger: Ledger, tmp_path: Path) -> None:
    path = reported(ledger, tmp_path, "old", queued_at=NOW - 100 * DAY, state=DeliveryState.CONFIRMED)
    saliency = path.with_name(FILE_NAME)
    saliency.write_bytes(b"1")
    os.utime(path.parent, ((NOW - 100 * DAY).timestamp(),) * 2)
    retention(ledger, tmp_path, days=101).sweep(NOW)
    assert saliency.exists()
    retention(ledger, tmp_path).sweep(NOW)
    assert list(tmp_path.rglob("*.zip")) == []


def test_a_job_with_a_document_that_still_has_to_leave_is_not_removed(ledger: Ledger, tmp_path: Path) -> None:
    path = reported(ledger, tmp_path, "waits", queued_at=NOW - 100 * DAY, state=DeliveryState.WAITING)
    retention(ledger, tmp_path).sweep(NOW)
    assert path.exists()
    assert ledger.history() == ()


def test_nothing_is_removed_where_the_retention_is_0(ledger: Ledger, tmp_path: Path) -> None:
    path = reported(ledger, tmp_path, "kept", queued_at=NOW - 9999 * DAY, state=DeliveryState.FAILED)
    retention(ledger, tmp_path, days=0).sweep(NOW)
    assert path.exists()


def test_a_sweep_that_a_kill_cut_off_after_the_rows_is_completed_by_the_next(ledger: Ledger, tmp_path: Path) -> None:
    path = reported(ledger, tmp_path, "cut off", queued_at=NOW - 100 * DAY, state=DeliveryState.FAILED)
    assert ledger.archive("cut off", NOW - 90 * DAY, NOW)
    assert path.exists()
    retention(ledger, tmp_path).sweep(NOW)
    assert not path.parent.exists()
    assert [past.id for past in ledger.history()] == ["cut off"]


def test_a_job_that_somebody_revived_after_it_was_listed_as_old_is_not_removed(ledger: Ledger, tmp_path: Path) -> None:
    reported(ledger, tmp_path, "revived", queued_at=NOW - 100 * DAY, state=DeliveryState.FAILED)
    assert ledger.expired(NOW - 90 * DAY) == ("revived",)
    assert ledger.revive("revived", Instruction(NOW)) == ("archive",)
    assert not ledger.archive("revived", NOW - 90 * DAY, NOW)
    assert [delivery.state for delivery in ledger.deliveries("revived")] == [DeliveryState.WAITING]


def test_a_young_folder_that_no_job_names_stays(ledger: Ledger, tmp_path: Path) -> None:
    """After the loss of a database, documents that were not delivered are there alone."""
    folder = tmp_path / "nobody's"
    folder.mkdir()
    os.utime(folder, ((NOW - DAY).timestamp(), (NOW - DAY).timestamp()))
    retention(ledger, tmp_path).sweep(NOW)
    assert folder.exists()


def test_a_study_that_comes_again_after_its_job_was_removed_is_read_again(ledger: Ledger, tmp_path: Path) -> None:
    reported(ledger, tmp_path, "again", queued_at=NOW - 100 * DAY, state=DeliveryState.CONFIRMED)
    job = ledger.job("again")
    retention(ledger, tmp_path).sweep(NOW)
    assert ledger.open(job) is not None
    assert [waiting.task.job for waiting in ledger.tasks.waiting([])] == ["again"]


def test_a_folder_of_documents_that_cannot_be_removed_keeps_no_other_folder(ledger: Ledger, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    stays = reported(ledger, documents, "stays", queued_at=NOW - 101 * DAY, state=DeliveryState.CONFIRMED)
    leaves = reported(ledger, documents, "leaves", queued_at=NOW - 100 * DAY, state=DeliveryState.CONFIRMED)
    stays.parent.rename(tmp_path / "elsewhere")
    stays.parent.symlink_to(tmp_path / "elsewhere")  # which rmtree refuses
    os.utime(stays.parent, ((NOW - 101 * DAY).timestamp(),) * 2, follow_symlinks=False)
    retention(ledger, documents).sweep(NOW)
    assert (stays.exists(), leaves.parent.exists()) == (True, False)
    stays.parent.unlink()
    (tmp_path / "elsewhere").rename(stays.parent)
    retention(ledger, documents).sweep(NOW)
    assert list(documents.iterdir()) == []


def indexed(catalog: Catalog, spool: Spool, study: UID, *, routed: bool) -> Path:
    """Index an old instance of a study; return its folder."""
    ref = InstanceRef(study, UID(f"{study}.1"), UID("1.2.840.10008.5.1.4.1.1.2"), UID(f"{study}.1.1"))
    path = spool.kept_path(ref, "ff")
    path.parent.mkdir()
    path.write_bytes(a_file())
    at = NOW - 40 * DAY
    catalog.index([StoredInstance(ref, UID("1.2.840.10008.1.2"), "ff", 1, path, "PACS", at)])
    if routed:
        catalog.mark_routed(study, content=catalog.content(study), explanation=[])
    return path.parent


def study_retention(ledger: Ledger, engine: sa.Engine, spool: Spool) -> StudyRetention:
    return StudyRetention(30, spool=spool, catalog=Catalog(engine), ledger=ledger, announcements=Announcements(engine))


def test_a_folder_of_a_study_that_cannot_be_removed_keeps_no_other_study(tmp_path: Path) -> None:
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    spool, catalog = Spool(tmp_path / "spool", Limits(0, 1 << 20)), Catalog(engine)
    stays = indexed(catalog, spool, UID("1.2.1"), routed=True)
    leaves = indexed(catalog, spool, UID("1.2.2"), routed=True)
    stays.rename(tmp_path / "elsewhere")
    stays.symlink_to(tmp_path / "elsewhere")
    study_retention(Ledger(engine), engine, spool).sweep(NOW)
    assert catalog.studies() == {"1.2.1"}
    assert not leaves.exists()
    engine.dispose()


def test_why_a_study_was_not_read_goes_with_the_jobs_of_its_time_once_its_images_are_gone(
    ledger: Ledger, tmp_path: Path
) -> None:
    engine = ledger._engine
    spool, catalog = Spool(tmp_path / "spool", Limits(0, 1 << 20)), Catalog(engine)
    mismatch = Mismatch(UnreadReason.NO_ROUTE, "spine", UID("1.2.3"), "Modality", "DX", "MR")
    for study in (UID("1.2.1"), UID("1.2.2")):
        indexed(catalog, spool, study, routed=False)
        completion, content = Completion(NOW - 40 * DAY, "silence"), catalog.content(study)
        catalog.mark_routed(study, content=content, explanation=[], completion=completion, mismatch=mismatch)
    catalog.forget(UID("1.2.2"))

    def kept(days: int) -> list[list[str]]:
        retention(ledger, tmp_path / "documents", days).sweep(NOW)
        with engine.connect() as connection:
            tables = (completions, mismatches)
            return [sorted(connection.execute(sa.select(table.c.study_instance_uid)).scalars()) for table in tables]

    assert kept(days=0) == kept(days=41) == [["1.2.1", "1.2.2"]] * 2
    assert kept(days=39) == [["1.2.1"]] * 2


def test_a_study_that_was_never_routed_is_not_removed_however_old(tmp_path: Path) -> None:
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    spool, catalog = Spool(tmp_path / "spool", Limits(0, 1 << 20)), Catalog(engine)
    folder = indexed(catalog, spool, UID("1.2.1"), routed=False)
    indexed(catalog, spool, UID("1.2.2"), routed=True)
    study_retention(Ledger(engine), engine, spool).sweep(NOW)
    assert catalog.studies() == {"1.2.1"}
    assert folder.exists()
    engine.dispose()


def test_what_a_writer_left_in_the_spool_goes_after_an_hour_and_what_is_written_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits(0, 1000))
    Spool(tmp_path, Limits(0, 1000), writing="tmp-web")
    names = ("tmp/left", "tmp-web/left", "tmp/written", "new/left", "kept/left")
    for name in names:
        (tmp_path / name).write_bytes(b"1")
        if name.endswith("left"):
            os.utime(tmp_path / name, (0, 3600))
    remove_abandoned(spool.root, datetime.fromtimestamp(7201, UTC))
    assert [name for name in names if (tmp_path / name).exists()] == ["tmp/written", "new/left", "kept/left"]
