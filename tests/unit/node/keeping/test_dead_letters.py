"""What was given up, what of it is tried again, and the events that tell of both afterwards."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState, Judgement, Opinion
from ainode.node.keeping.backlog import Backlog
from ainode.node.keeping.dead_letters import DeadLetters
from ainode.node.keeping.job_events import Instruction, JobEventKind, JobEvents, Subject
from ainode.node.keeping.judgements import Judgements
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.keeping.schema import job_events, tasks
from ainode.node.keeping.tasks import Task, TaskKind

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
REPORT, CAPTURE, ADDENDUM = (
    DocumentKind.STRUCTURED_REPORT,
    DocumentKind.SECONDARY_CAPTURE,
    DocumentKind.ASSESSMENT,
)


def after(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


def open_job(engine: sa.Engine, name: str, minute: int = 0) -> Job:
    job = Job(name, UID(f"1.2.{minute}"), "chest", "any", {}, after(minute), after(minute), ("pacs",))
    Ledger(engine).open(job)
    return job


def a_document(job: Job, kind: DocumentKind, number: int) -> KeptDocument:
    ref = InstanceRef(job.study_instance_uid, UID("1"), UID("1"), UID(f"{job.study_instance_uid}.{number}"))
    return KeptDocument(job.id, ref, kind, Path("x"), "ff")


def read(engine: sa.Engine, name: str, minute: int = 0) -> Job:
    """Read a study: a report and two captures wait."""
    ledger, job = Ledger(engine), open_job(engine, name, minute)
    ledger.move(name, JobState.READING)
    kept = [a_document(job, kind, number) for number, kind in enumerate((REPORT, CAPTURE, CAPTURE))]
    assert ledger.report(job, kept, Outcome(JobState.REPORTED, "{}", "", 1.0))
    return job


def add_addendum(engine: sa.Engine, job: Job, *, number: int = 9, at: datetime = NOW) -> None:
    judgement = Judgement(job.id, "", Opinion.ACCEPT, "ada")
    entry = Judgements(engine).keep(judgement, at, statement="", presence="", has_addendum=True)
    assert Ledger(engine).append([a_document(job, ADDENDUM, number)], entry)


def give_up(engine: sa.Engine, job: Job, minute: int, error: str = "no association") -> None:
    Ledger(engine).outbox.give_up(job.id, "pacs", DeliveryState.WAITING, at=after(minute), error=error)


def confirm_all(engine: sa.Engine, job: Job) -> None:
    outbox = Ledger(engine).outbox
    for delivery in outbox.of(job.id):
        outbox.sent(delivery, status=0, comment="", at=NOW)
        outbox.confirmed(delivery, proof="query", at=NOW)


def test_a_dead_letter_names_the_documents_when_they_were_given_up_and_after_how_many_attempts(
    engine: sa.Engine,
) -> None:
    job = read(engine, "a")
    tasks_of = Ledger(engine).tasks
    task = Task("a", TaskKind.SEND, "pacs", 0)
    tasks_of.begin(task)
    tasks_of.postpone(task, after(2), attempts=4)
    give_up(engine, job, 3)
    (letter,) = DeadLetters(engine).page(count=10)
    assert (letter.job, letter.destination, letter.reason) == ("a", "pacs", "no association")
    assert letter.documents == {REPORT: 1, CAPTURE: 2}
    assert (letter.given_up_at, letter.attempts, letter.is_report_there) == (after(3), 5, False)


def test_dead_letters_are_failed_readings_and_failed_documents_what_was_given_up_last_first(
    engine: sa.Engine,
) -> None:
    ledger = Ledger(engine)
    give_up(engine, read(engine, "b", 1), 60)
    open_job(engine, "a", 2)
    ledger.move("a", JobState.READING)
    ledger.move("a", JobState.FAILED, reason="weights missing", at=after(30))
    letters = DeadLetters(engine).page(count=10)
    assert [(letter.job, letter.destination, letter.reason) for letter in letters] == [
        ("b", "pacs", "no association"),
        ("a", "", "weights missing"),
    ]
    assert (letters[1].documents, letters[1].given_up_at, letters[1].attempts) == ({}, after(30), 1)
    assert DeadLetters(engine).count() == 2
    assert [letter.job for letter in DeadLetters(engine).page(count=1, offset=1)] == ["a"]


def test_a_dead_letter_of_an_addendum_alone_says_that_the_report_is_there(engine: sa.Engine) -> None:
    job = read(engine, "a")
    confirm_all(engine, job)
    add_addendum(engine, job)
    give_up(engine, job, 5)
    (letter,) = DeadLetters(engine).page(count=10)
    assert (letter.documents, letter.is_report_there) == ({ADDENDUM: 1}, True)


def test_what_an_earlier_version_gave_up_has_no_time(engine: sa.Engine) -> None:
    give_up(engine, read(engine, "a"), 5)
    with engine.begin() as connection:
        connection.execute(sa.delete(job_events))
    (letter,) = DeadLetters(engine).page(count=10)
    assert (letter.given_up_at, letter.attempts) == (None, 0)


def test_what_is_tried_again_is_no_dead_letter_and_stands_apart_until_it_is_over(engine: sa.Engine) -> None:
    job, ledger, letters = read(engine, "a"), Ledger(engine), DeadLetters(engine)
    give_up(engine, job, 5)
    assert letters.retries(count=10) == ()
    ledger.revive("a", Instruction(after(6), "ada"))
    assert letters.page(count=10) == ()
    (retry,) = letters.retries(count=10)
    assert (retry.destination, retry.person, retry.at, retry.error) == ("pacs", "ada", after(6), "")
    assert retry.documents == {REPORT: 1, CAPTURE: 2}
    ledger.outbox.failed_for_now("a", "pacs", DeliveryState.WAITING, error="still dead")
    assert letters.retries(count=10)[0].error == "still dead"
    give_up(engine, job, 7)
    assert letters.retries(count=10) == ()
    ledger.revive("a", Instruction(after(8), "ada"))
    confirm_all(engine, job)
    assert letters.retries(count=10) == ()


def test_an_addendum_that_waits_for_the_first_time_is_no_retry_of_the_report(engine: sa.Engine) -> None:
    job = read(engine, "a")
    give_up(engine, job, 5)
    Ledger(engine).revive("a", Instruction(after(6)))
    confirm_all(engine, job)
    add_addendum(engine, job)
    assert DeadLetters(engine).retries(count=10) == ()


def test_a_later_addendum_is_no_retry_of_an_earlier_one_whose_retry_is_over(engine: sa.Engine) -> None:
    job = read(engine, "a")
    confirm_all(engine, job)
    add_addendum(engine, job)
    give_up(engine, job, 5)
    Ledger(engine).revive("a", Instruction(after(6), "ada"))
    assert [retry.documents for retry in DeadLetters(engine).retries(count=10)] == [{ADDENDUM: 1}]
    confirm_all(engine, job)
    add_addendum(engine, job, number=10, at=after(7))
    assert DeadLetters(engine).retries(count=10) == ()


def test_what_goes_again_after_a_question_is_of_who_asked_and_not_of_an_earlier_retry(engine: sa.Engine) -> None:
    job, ledger = read(engine, "a"), Ledger(engine)
    give_up(engine, job, 5)
    ledger.revive("a", Instruction(after(6), "ada"))
    confirm_all(engine, job)
    ledger.outbox.recheck("a", instruction=Instruction(after(8), "bob"))
    ledger.outbox.missing(ledger.deliveries("a")[0], error="deleted there")
    (retry,) = DeadLetters(engine).retries(count=10)
    assert (retry.person, retry.at, retry.documents) == ("bob", after(8), {REPORT: 1})


def test_what_is_asked_for_no_more_is_not_listed_beside_an_addendum_that_goes_again(engine: sa.Engine) -> None:
    job, ledger = read(engine, "a"), Ledger(engine)
    for delivery in ledger.deliveries("a"):
        ledger.outbox.sent(delivery, status=0, comment="", at=NOW, settled=True)
    add_addendum(engine, job)
    give_up(engine, job, 5)
    ledger.revive("a", Instruction(after(6), "ada"), unconfirmed=("pacs",))
    (retry,) = DeadLetters(engine).retries(count=10)
    assert retry.documents == {ADDENDUM: 1}


def test_the_time_of_a_letter_of_results_is_not_that_of_an_addendum(engine: sa.Engine) -> None:
    job, ledger = read(engine, "a"), Ledger(engine)
    give_up(engine, job, 3)
    add_addendum(engine, job)
    give_up(engine, job, 20)
    ledger.outbox.confirmed(ledger.deliveries("a")[-1], proof="query", at=after(21))
    (letter,) = DeadLetters(engine).page(count=10)
    assert (letter.documents, letter.given_up_at) == ({REPORT: 1, CAPTURE: 2}, after(3))


def test_a_reading_that_is_repeated_stands_among_what_is_tried_again(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    open_job(engine, "a")
    ledger.move("a", JobState.FAILED, reason="no weights", at=after(1))
    ledger.revive("a", Instruction(after(2), "ada"))
    (retry,) = DeadLetters(engine).retries(count=10)
    assert (retry.job, retry.destination, retry.person) == ("a", "", "ada")


def test_each_end_and_each_wish_is_an_event_of_the_job_in_their_order(engine: sa.Engine) -> None:
    ledger, job = Ledger(engine), read(engine, "a")
    give_up(engine, job, 1)
    ledger.revive("a", Instruction(after(2), "ada"))
    ledger.outbox.refused(ledger.deliveries("a")[0], status=0xA700, error="refused", comment="P-17", at=after(3))
    confirm_all(engine, job)
    ledger.outbox.recheck("a", instruction=Instruction(after(4)))
    ledger.outbox.recheck("a")
    events = JobEvents(engine).of(["a"])["a"]
    assert [(event.kind, event.count, event.at, event.person) for event in events] == [
        (JobEventKind.GIVEN_UP, 3, after(1), ""),
        (JobEventKind.TRIED_AGAIN, 3, after(2), "ada"),
        (JobEventKind.GIVEN_UP, 1, after(3), ""),
        (JobEventKind.CHECKED_AGAIN, 3, after(4), ""),
    ]
    assert {event.subject for event in events} == {Subject.RESULTS}
    assert "P-17" not in str(events), "the archive's own words may name the patient"


def test_a_cancelled_reading_that_is_read_after_all_keeps_who_cancelled_it(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    open_job(engine, "a")
    ledger.move("a", JobState.CANCELLED, reason="cancelled by ada: not needed", at=after(1))
    ledger.revive("a", Instruction(after(2), "bob"))
    cancelled, again = JobEvents(engine).of(["a"])["a"]
    assert (cancelled.kind, cancelled.error) == (JobEventKind.CANCELLED, "cancelled by ada: not needed")
    assert (again.kind, again.subject, again.person) == (JobEventKind.TRIED_AGAIN, Subject.READING, "bob")


def test_the_events_of_a_job_are_removed_with_it(engine: sa.Engine) -> None:
    ledger, job = Ledger(engine), read(engine, "a")
    give_up(engine, job, 1)
    assert ledger.archive("a", NOW + timedelta(days=90), NOW + timedelta(days=91))
    assert JobEvents(engine).of(["a"]) == {}


def test_an_addendum_has_all_its_attempts_after_a_report_that_needed_some(engine: sa.Engine) -> None:
    job, ledger = read(engine, "a"), Ledger(engine)
    task = Task("a", TaskKind.SEND, "pacs", 0)
    task = replace(task, turn=ledger.tasks.begin(task))
    ledger.tasks.postpone(task, after(2), attempts=4)
    confirm_all(engine, job)
    add_addendum(engine, job)
    assert ledger.tasks.attempts(task) == 0


def test_an_addendum_that_joins_a_report_under_way_changes_no_schedule(engine: sa.Engine) -> None:
    job, ledger = read(engine, "a"), Ledger(engine)
    task = Task("a", TaskKind.SEND, "pacs", 0)
    ledger.tasks.begin(task)
    ledger.tasks.postpone(task, after(2), attempts=4)
    add_addendum(engine, job)
    with engine.connect() as connection:
        assert connection.execute(sa.select(tasks.c.attempts)).scalar_one() == 4


def test_an_addendum_that_has_not_arrived_is_no_document_of_the_report_for_the_system_page(engine: sa.Engine) -> None:
    job, ledger = read(engine, "a"), Ledger(engine)
    confirm_all(engine, job)
    add_addendum(engine, job)
    ledger.outbox.failed_for_now("a", "pacs", DeliveryState.WAITING, error="no association")
    (trouble,) = Backlog(engine).troubles()
    assert trouble.words.startswith("1 addendum has not reached pacs: ")
    other = read(engine, "b", 1)
    ledger.outbox.failed_for_now(other.id, "pacs", DeliveryState.WAITING, error="no association")
    (trouble,) = Backlog(engine).troubles()
    assert trouble.words.startswith("3 documents and 1 addendum have not reached pacs: ")
