"""Which rows the worklist has, in which order, and what they show, as SQLite and PostgreSQL answer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import a_file, instance_ref

from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.keeping.unread import Mismatch, UnreadReason
from ainode.node.keeping.worklist import Criteria, DocumentsState, Entry, EntryState, Worklist
from ainode.node.keeping.worklist_rows import Row, WorklistRows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RESULT = (
    '{"verdict": {"presence": "present", "headline": "fracture: present (0.91)", "probability": 0.91},'
    ' "findings": [{"verdict": {"presence": "present", "probability": 0.91, "threshold": 0.5}}]}'
)


def at(minute: int) -> datetime:
    return NOW + timedelta(minutes=minute)


def receive(engine: sa.Engine, study: str, minute: int = 0) -> None:
    ref = InstanceRef(UID(study), UID(f"{study}.1"), UID("1.2"), UID(f"{study}.1.1"))
    Catalog(engine).index([StoredInstance(ref, UID("1.2.840"), "ff", 1, Path("x"), "A", at(minute))])


def route(engine: sa.Engine, study: str, mismatch: Mismatch | None = None) -> None:
    catalog, uid = Catalog(engine), UID(study)
    catalog.mark_routed(uid, content=catalog.content(uid), explanation=[], mismatch=mismatch)


def queue(engine: sa.Engine, study: str, minute: int = 0, *, priority: int = 100, name: str = "spine") -> str:
    identifier = f"{name} {study}"
    job = Job(identifier, UID(study), name, "reader", {}, at(minute), at(minute), ("archive",), priority)
    assert Ledger(engine).open(job)
    return identifier


def read(engine: sa.Engine, job: str, minute: int, *, count: int = 1) -> Ledger:
    ledger = Ledger(engine)
    ledger.move(job, JobState.READING, at=at(minute))
    ref = instance_ref(a_file())
    refs = [replace(ref, sop_instance_uid=UID(f"1.9.{abs(hash(job)) % 10**9}.{number}")) for number in range(count)]
    kind = DocumentKind.STRUCTURED_REPORT
    kept = [KeptDocument(job, ref, kind, Path("a.dcm"), "ff") for ref in refs]
    assert ledger.report(ledger.job(job), kept, Outcome(JobState.REPORTED, RESULT, "", 4.2, {}, at(minute + 1)))
    return ledger


def entries(engine: sa.Engine, criteria: Criteria | None = None) -> list[tuple[str, str]]:
    return [(entry.study_instance_uid, entry.state.value) for entry in page(engine, criteria)]


def page(engine: sa.Engine, criteria: Criteria | None = None) -> tuple[Entry, ...]:
    worklist = Worklist(engine)
    rows = worklist.page(criteria or Criteria(), count=50)
    assert worklist.count(criteria or Criteria()) == len(rows)
    return rows


def row(engine: sa.Engine, study: str) -> Row:
    found = WorklistRows(engine, PatientIndex(engine, Naming.FULL)).of(page(engine, Criteria(study=study)))
    assert len(found) == 1
    return found[0]


@pytest.fixture
def full(engine: sa.Engine) -> sa.Engine:
    """A list with a row of each kind; the minute of a study is its last number."""
    announcement = Announcement(UID("1.1"), at(1), at(1), "pacs", 9, state=Fetching.WAITING)
    Announcements(engine).announce(announcement)
    failed = Announcement(UID("1.2"), at(2), at(2), "pacs", 9, state=Fetching.FAILED, reason="no such peer")
    Announcements(engine).announce(failed)
    receive(engine, "1.3", 3)
    for number, mismatch in ((4, UnreadReason.NO_ROUTE), (5, UnreadReason.SET_ASIDE)):
        receive(engine, f"1.{number}", number)
        route(engine, f"1.{number}", Mismatch(mismatch, "spine", UID("1"), "Modality", "CT", "MR"))
    for number in (6, 7, 8, 9):
        receive(engine, f"1.{number}", number)
        queue(engine, f"1.{number}", number)
        route(engine, f"1.{number}")
    read(engine, "spine 1.7", 8)
    Ledger(engine).move("spine 1.8", JobState.FAILED, reason="the reader ended", at=at(9))
    Ledger(engine).move("spine 1.9", JobState.CANCELLED, reason="cancelled by ada", at=at(9))
    return engine


def test_each_job_and_each_study_without_a_job_has_a_row_and_the_newest_is_first(full: sa.Engine) -> None:
    states = ["cancelled", "failed", "reported", "waiting", "set_aside", "no_route", "receiving", "failed", "announced"]
    assert entries(full) == [(f"1.{9 - number}", state) for number, state in enumerate(states)]


def test_urgent_jobs_come_first_until_they_are_read(full: sa.Engine) -> None:
    queue(full, "1.0", -60, priority=1)
    queue(full, "1.01", -50, priority=99)
    assert [uid for uid, _ in entries(full)][:3] == ["1.01", "1.0", "1.9"]
    assert [entry.is_urgent for entry in page(full)][:3] == [True, True, False]
    read(full, "spine 1.0", 20)
    assert [uid for uid, _ in entries(full)][:2] == ["1.01", "1.9"]
    assert entries(full)[-1] == ("1.0", "reported")


def test_the_rows_of_a_study_stand_together_at_the_place_of_the_newest(full: sa.Engine) -> None:
    queue(full, "1.6", 30, name="chest")
    rows = [(entry.study_instance_uid, entry.route) for entry in page(full)]
    assert rows[:3] == [("1.6", "chest"), ("1.6", "spine"), ("1.9", "spine")]
    queue(full, "1.9", 5, name="abdomen")
    rows = [(entry.study_instance_uid, entry.route) for entry in page(full)]
    assert rows[2:5] == [("1.9", "abdomen"), ("1.9", "spine"), ("1.8", "spine")]
    pages = [Worklist(full).page(Criteria(), count=2, offset=offset) for offset in range(0, 12, 2)]
    assert tuple(entry for part in pages for entry in part) == page(full)


def test_an_urgent_job_brings_the_rows_of_its_study_to_the_top_and_is_alone_called_urgent(full: sa.Engine) -> None:
    queue(full, "1.7", 8, priority=1, name="chest")
    rows = [(entry.study_instance_uid, entry.route, entry.is_urgent) for entry in page(full)][:3]
    assert rows == [("1.7", "chest", True), ("1.7", "spine", False), ("1.9", "spine", False)]


def test_pages_follow_each_other_without_a_gap_and_without_a_row_twice(full: sa.Engine) -> None:
    queue(full, "1.0", -60, priority=1)
    whole = page(full)
    pages = [Worklist(full).page(Criteria(), count=3, offset=offset) for offset in range(0, 12, 3)]
    assert tuple(entry for part in pages for entry in part) == whole
    assert len(whole) == 10


def test_a_superseded_job_is_hidden_unless_asked_for(full: sa.Engine) -> None:
    again = Job("again", UID("1.7"), "spine", "reader", {UID("1"): "ff"}, at(20), at(20), ("archive",))
    Ledger(full).open(again)
    assert [entry for entry in entries(full) if entry[0] == "1.7"] == [("1.7", "waiting")]
    assert entries(full, Criteria(state=EntryState.SUPERSEDED)) == [("1.7", "superseded")]


def test_a_filter_by_state_leaves_the_rows_of_the_state(full: sa.Engine) -> None:
    rows = entries(full)
    for state in EntryState:
        assert entries(full, Criteria(state=state)) == [entry for entry in rows if entry[1] == state], state


def test_filters_by_route_study_and_time_leave_the_rows_that_fit(full: sa.Engine) -> None:
    queue(full, "2.1", 30, name="chest")
    assert entries(full, Criteria(route="chest")) == [("2.1", "waiting")]
    assert [uid for uid, _ in entries(full, Criteria(study="2."))] == ["2.1"]
    assert [uid for uid, _ in entries(full, Criteria(study="%"))] == []
    assert [uid for uid, _ in entries(full, Criteria(since=at(4), before=at(7)))] == ["1.6", "1.5", "1.4"]


def test_a_filter_by_destination_leaves_the_jobs_whose_documents_go_there(full: sa.Engine) -> None:
    assert entries(full, Criteria(destination="archive")) == [("1.7", "reported")]
    assert entries(full, Criteria(destination="arch")) == []
    assert entries(full, Criteria(documents=DocumentsState.OPEN)) == [("1.7", "reported")]
    assert entries(full, Criteria(documents=DocumentsState.FAILED)) == []
    Ledger(full).outbox.give_up("spine 1.7", "archive", DeliveryState.WAITING, at=NOW, error="refused")
    assert entries(full, Criteria(documents=DocumentsState.OPEN)) == []
    assert entries(full, Criteria(documents=DocumentsState.FAILED)) == [("1.7", "reported")]


def test_words_of_the_patient_index_find_the_rows_of_a_study(full: sa.Engine) -> None:
    PatientIndex(full, Naming.FULL).write(UID("1.3"), Labels("Müller^Anna", "4711", "A-17", "Thorax", "", "CT"))
    assert [uid for uid, _ in entries(full, Criteria(text="MÜLLER 4711"))] == ["1.3"]
    assert entries(full, Criteria(text="Meier")) == []
    assert row(full, "1.3").labels.name == "Müller, Anna"


@pytest.mark.parametrize(
    "text", ["2.25.2022", "1293086528", "…93086528", "…1293086528", "2.25.20221293086528", "5.2022"]
)
def test_a_search_finds_a_study_by_any_part_of_its_uid_that_a_page_shows(full: sa.Engine, text: str) -> None:
    queue(full, "2.25.20221293086528", 30)
    assert entries(full, Criteria(text=text)) == [("2.25.20221293086528", "waiting")]
    assert entries(full, Criteria(text=f"{text}7")) == []


def test_a_search_by_a_part_of_a_uid_finds_rows_of_every_kind(full: sa.Engine) -> None:
    assert [entry for entry in entries(full, Criteria(text="1.")) if entry not in entries(full)] == []
    assert len(entries(full, Criteria(text="1."))) == len(entries(full))
    assert [uid for uid, _ in entries(full, Criteria(text="…"))] == []


def test_a_row_says_what_was_answered_and_how_long_it_waited_and_took(full: sa.Engine) -> None:
    reported = row(full, "1.7")
    assert (reported.headline, reported.probability) == ("fracture: present (0.91)", 0.91)
    assert (reported.waited_s, reported.took_s, reported.finished_at) == (115.8, 4.2, at(9))
    assert row(full, "1.8").reason == "the reader ended"
    assert row(full, "1.9").reason == "cancelled by ada"
    assert row(full, "1.6").waited_s is None


def test_a_row_of_a_study_without_a_job_says_why(full: sa.Engine) -> None:
    assert row(full, "1.4").reason == "route spine takes Modality CT, and this is MR"
    assert row(full, "1.2").reason == "no such peer"
    assert row(full, "1.3").instance_count == 1
    assert row(full, "1.3").has_images
    assert not row(full, "1.1").has_images


def test_the_row_of_a_self_test_up_to_the_routes_says_that_it_is_meant_to_match_none(full: sa.Engine) -> None:
    patients = PatientIndex(full, Naming.FULL)
    patients.write(UID("1.4"), Labels(modalities="OT", is_synthetic=True))
    assert row(full, "1.4").reason == "a self-test up to the routes, which is meant to match none"
    patients.write(UID("1.4"), Labels(modalities="OT"))
    assert row(full, "1.4").reason == "route spine takes Modality CT, and this is MR"


def test_documents_are_confirmed_at_a_destination_once_each_of_them_is(engine: sa.Engine) -> None:
    ledger = read(engine, queue(engine, "1.1"), 0, count=2)
    first, second = ledger.deliveries("spine 1.1")
    for delivery in (first, second):
        ledger.outbox.sent(delivery, status=0, comment="", at=at(2))
    ledger.outbox.confirmed(first, proof="query", at=at(3))
    (whereabouts,) = row(engine, "1.1").whereabouts
    assert (whereabouts.state, whereabouts.confirmed_count, whereabouts.count) == (DeliveryState.SENT, 1, 2)
    ledger.outbox.confirmed(second, proof="query", at=at(4))
    (whereabouts,) = row(engine, "1.1").whereabouts
    assert (whereabouts.state, whereabouts.at) == (DeliveryState.CONFIRMED, at(4))


def test_a_message_that_a_later_one_replaced_is_at_no_destination(engine: sa.Engine) -> None:
    ledger = read(engine, queue(engine, "1.1"), 0, count=2)
    first, second = ledger.deliveries("spine 1.1")
    ledger.outbox.replaced(first, reason="not sent any more", at=at(2))
    (whereabouts,) = row(engine, "1.1").whereabouts
    assert (whereabouts.state, whereabouts.count, whereabouts.confirmed_count) == (DeliveryState.WAITING, 1, 0)
    ledger.outbox.replaced(second, reason="not sent any more", at=at(3))
    assert row(engine, "1.1").whereabouts == ()
