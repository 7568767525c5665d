"""What leaves before the rest of its reading: kept once, sent first, and taken over by the job that makes it again."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState, Occasion
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.notices import Notice, Notices
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.keeping.tasks import TaskKind

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def kept(job: Job, uid: str, kind: DocumentKind, destination: str = "") -> KeptDocument:
    ref = InstanceRef(job.study_instance_uid, UID(""), UID(""), UID(uid))
    return KeptDocument(job.id, ref, kind, Path(uid), "ff", destination)


def test_what_is_kept_early_is_sent_before_all_else_and_known_when_the_rest_comes(engine: sa.Engine) -> None:
    ledger, notices = Ledger(engine), Notices(engine)
    job = Job("j", UID("1.2"), "spine", "any", {}, NOW, NOW, ("archive", "his"))
    notice = Notice("n", "pager", Occasion.PRESENT, "j", "{}", NOW)
    message = kept(job, "1.2.9", DocumentKind.MESSAGE, "his")
    report = kept(job, "1.2.8", DocumentKind.STRUCTURED_REPORT)
    wishes = {"his": (DocumentKind.MESSAGE,)}
    assert ledger.open(job)
    assert not ledger.report_early(job, [message], wishes=wishes, notices=[notice])  # nobody reads the job
    assert (ledger.deliveries("j"), notices.due("pager", NOW, count=9)) == ((), ())
    assert ledger.move("j", JobState.READING)
    for _ in range(2):  # after a kill the same is kept again
        assert ledger.report_early(job, [message], wishes=wishes, notices=[notice])
    tasks = {waiting.task.kind: waiting for waiting in ledger.tasks.waiting(["his"])}
    assert tasks[TaskKind.SEND].priority == 1
    assert tasks[TaskKind.READ].priority == job.priority
    (delivery,) = ledger.outbox.claim("j", "his", NOW)
    ledger.outbox.acknowledged(delivery, comment="", at=NOW)
    outcome = Outcome(JobState.REPORTED, "{}", "", 1.0, {}, NOW)
    assert ledger.report(job, [report, message], outcome, wishes=wishes, notices=[notice])
    states = {(item.destination, item.document.ref.sop_instance_uid): item.state for item in ledger.deliveries("j")}
    assert states == {("archive", "1.2.8"): DeliveryState.WAITING, ("his", "1.2.9"): DeliveryState.CONFIRMED}
    assert [item.id for item in notices.due("pager", NOW, count=9)] == ["n"]


def test_nothing_early_is_kept_of_a_job_that_a_later_one_superseded(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    job = Job("j", UID("1.2"), "spine", "any", {UID("1"): "a"}, NOW, NOW, ("his",))
    assert ledger.open(job)
    assert ledger.move("j", JobState.READING)
    assert ledger.open(replace(job, id="later", content={UID("1"): "b"}))
    message = kept(job, "1.2.9", DocumentKind.MESSAGE, "his")
    assert not ledger.report_early(job, [message], wishes={"his": (DocumentKind.MESSAGE,)})
    assert ledger.documents("j") == ()


def test_a_message_that_had_not_left_when_its_job_was_superseded_leaves_with_the_job_that_makes_it_again(
    engine: sa.Engine,
) -> None:
    ledger = Ledger(engine)
    job = Job("j", UID("1.2"), "spine", "any", {UID("1"): "a"}, NOW, NOW, ("his",))
    later = replace(job, id="later", content={UID("1"): "b"})
    wishes = {"his": (DocumentKind.MESSAGE,)}
    assert ledger.open(job)
    assert ledger.move("j", JobState.READING)
    assert ledger.report_early(job, [kept(job, "1.2.9", DocumentKind.MESSAGE, "his")], wishes=wishes)
    assert ledger.open(later)
    assert ledger.outbox.claim("j", "his", NOW) == ()
    assert ledger.move("later", JobState.READING)
    message = kept(later, "1.2.9", DocumentKind.MESSAGE, "his")
    assert ledger.report(later, [message], Outcome(JobState.REPORTED, "{}", "", 1.0, {}, NOW), wishes=wishes)
    (delivery,) = ledger.outbox.claim("later", "his", NOW)
    assert delivery.document == message
    assert ledger.documents("j") == ()
