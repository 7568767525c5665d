from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.databases import migrated
from support.rows import put_delivery, put_job, read

from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState, Judgement, Opinion
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.judgements import Judgements
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.keeping.report_search import ReportSearch
from ainode.node.routes import RouteMode

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
READ = Outcome(JobState.REPORTED, "{}", "", 1.5)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """The same suite holds on both databases."""
    on_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}" if on_sqlite else request.getfixturevalue("server")
    engine = migrated(url)
    yield Ledger(engine)
    if not on_sqlite:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    engine.dispose()


def a_job(identity: str = "a", **changes: object) -> Job:
    job = Job(
        id=identity,
        study_instance_uid=UID("1.2"),
        route="spine",
        handler="spine_radiograph",
        content={UID("1.2.3"): "00"},
        created_at=NOW,
        queued_at=NOW,
        destinations=("archive",),
    )
    return replace(job, **changes)


def a_document(job: str, uid: str, kind: DocumentKind = DocumentKind.STRUCTURED_REPORT) -> KeptDocument:
    ref = InstanceRef(UID("1.2"), UID("1.2.9"), UID("1.2.840.10008.5.1.4.1.1.88.34"), UID(uid))
    return KeptDocument(job, ref, kind, Path(f"{uid}.dcm"), "ff")


def test_a_job_is_opened_once(ledger: Ledger) -> None:
    assert ledger.open(a_job()) == a_job()
    assert ledger.open(a_job()) is None


def test_a_newer_job_of_the_route_supersedes_the_elder_and_leaves_other_routes_alone(ledger: Ledger) -> None:
    ledger.open(a_job("elder"))
    ledger.open(a_job("other", route="chest"))
    ledger.open(a_job("newer"))
    states = {job.id: job.state for job in ledger.jobs()}
    assert states == {"elder": JobState.SUPERSEDED, "other": JobState.WAITING, "newer": JobState.WAITING}


def test_each_listener_gets_its_own_message_and_nothing_that_an_archive_gets(ledger: Ledger) -> None:
    message = DocumentKind.MESSAGE
    wishes = {"archive": (), "his": (message,), "ris": (message,)}
    kept = [
        a_document("a", "1.2.9.1"),
        *(replace(a_document("a", f"1.2.9.{name}", message), destination=name) for name in ("his", "ris")),
    ]
    ledger.open(a_job(destinations=("archive", "his", "ris")))
    read(ledger, a_job(destinations=("archive", "his", "ris")), kept, READ, wishes=wishes)
    assert ledger.documents("a") == tuple(kept)
    sent = {(item.destination, item.document.ref.sop_instance_uid) for item in ledger.deliveries("a")}
    assert sent == {("archive", "1.2.9.1"), ("his", "1.2.9.his"), ("ris", "1.2.9.ris")}


def test_the_document_of_a_judgement_goes_to_no_listener(ledger: Ledger) -> None:
    ledger.open(a_job(destinations=("archive", "his")))
    read(ledger, a_job(destinations=("archive", "his")), [], READ)
    judgement = Judgement("a", "", Opinion.ACCEPT, "jdoe")
    number = Judgements(ledger._engine).keep(judgement, NOW, statement="", presence="", has_addendum=True)
    addendum = a_document("a", "1.2.9.5", DocumentKind.ASSESSMENT)
    assert ledger.append([addendum], number, wishes={"archive": (), "his": (DocumentKind.MESSAGE,)})
    assert [item.destination for item in ledger.deliveries("a")] == ["archive"]


def test_what_a_destination_that_cannot_be_asked_has_is_checked_only_where_it_is_named(ledger: Ledger) -> None:
    ledger.open(a_job(destinations=("archive", "his")))
    read(ledger, a_job(destinations=("archive", "his")), [a_document("a", "1.2.9.1")], READ)
    for delivery in ledger.deliveries("a"):
        ledger.outbox.acknowledged(delivery, comment="", at=NOW)
    ledger.outbox.recheck("a", unasked=("his",))
    states = {item.destination: item.state for item in ledger.deliveries("a")}
    assert states == {"archive": DeliveryState.CHECKING, "his": DeliveryState.CONFIRMED}
    ledger.outbox.recheck("a", "his", unasked=("his",))
    assert {item.state for item in ledger.deliveries("a")} == {DeliveryState.CHECKING}


def test_a_study_that_goes_back_to_an_earlier_state_has_a_new_job_that_names_the_live_report(ledger: Ledger) -> None:
    first, second = a_job("first"), a_job("second")
    reported = []
    for number, job in enumerate((first, second, first, second)):
        opened = ledger.open(job)
        assert opened is not None
        read(ledger, opened, [a_document(opened.id, f"1.2.9.{number}")], READ)
        ledger.outbox.claim(opened.id, "archive", NOW)
        reported.append(opened)
        assert ledger.open(job) is None
    assert len({job.id for job in reported}) == len(reported)
    for number, job in enumerate(reported):
        assert {ref.sop_instance_uid for ref in job.predecessors} == {f"1.2.9.{before}" for before in range(number)}
    states = [ledger.job(job.id).state for job in reported]
    assert states == [JobState.SUPERSEDED] * 3 + [JobState.REPORTED]


def sent_report(ledger: Ledger, job: Job, uid: str, former_routes: tuple[str, ...] = ()) -> Job:
    """Open and read a job, whose report leaves where the job has a destination."""
    opened = ledger.open(job, former_routes)
    assert opened is not None
    read(ledger, opened, [a_document(opened.id, uid)], READ)
    for destination in job.destinations:
        ledger.outbox.claim(opened.id, destination, NOW)
    return opened


def test_a_job_takes_over_what_a_former_route_told_and_names_its_report(ledger: Ledger) -> None:
    sent_report(ledger, a_job("old"), "1.2.9.1")
    sent_report(ledger, a_job("silent", route="chest", destinations=()), "1.2.9.2")
    new = sent_report(ledger, a_job("new", route="chest"), "1.2.9.3", ("spine",))
    assert [ref.sop_instance_uid for ref in new.predecessors] == ["1.2.9.1"]
    old = ledger.job("old")
    assert (old.state, old.successor) == (JobState.SUPERSEDED, "new")
    search = ReportSearch(ledger._engine)
    assert (search.successor("old"), search.successor("silent")) == ("new", "new")
    newer = sent_report(ledger, a_job("newer", route="chest"), "1.2.9.4", ("spine",))
    assert {ref.sop_instance_uid for ref in newer.predecessors} == {"1.2.9.1", "1.2.9.3"}
    assert search.successor("old") == "newer"
    back = sent_report(ledger, a_job("back"), "1.2.9.5", ("chest",))
    assert {ref.sop_instance_uid for ref in back.predecessors} == {"1.2.9.1", "1.2.9.3", "1.2.9.4"}
    assert search.successor("newer") == "back"


def test_a_job_whose_route_told_of_the_study_before_takes_over_nothing(ledger: Ledger) -> None:
    sent_report(ledger, a_job("old"), "1.2.9.1")
    sent_report(ledger, a_job("own", route="chest"), "1.2.9.2")
    new = sent_report(ledger, a_job("new", route="chest"), "1.2.9.3", ("spine",))
    assert [ref.sop_instance_uid for ref in new.predecessors] == ["1.2.9.2"]
    assert (ledger.job("old").state, ledger.job("old").successor) == (JobState.REPORTED, "")


def test_a_former_route_that_is_being_read_or_told_nothing_is_left_alone(ledger: Ledger) -> None:
    sent_report(ledger, a_job("silent", destinations=()), "1.2.9.1")
    sent_report(ledger, a_job("told", route="knee"), "1.2.9.2")
    ledger.open(a_job("unread", route="knee", destinations=()))
    new = ledger.open(a_job("new", route="chest"), ("spine", "knee"))
    assert new is not None
    assert new.predecessors == ()
    assert [ledger.job(name).successor for name in ("silent", "told", "unread")] == ["", "", ""]


def test_a_route_whose_job_another_route_took_over_may_read_the_same_images_again(ledger: Ledger) -> None:
    sent_report(ledger, a_job("old"), "1.2.9.1")
    sent_report(ledger, a_job("new", route="chest"), "1.2.9.2", ("spine",))
    again = ledger.open(a_job("old"))
    assert again is not None
    assert again.id != "old"
    assert ledger.open(a_job("old")) is None


def test_only_a_report_that_may_have_left_is_named_as_predecessor(ledger: Ledger) -> None:
    ledger.open(a_job("first"))
    read(ledger, a_job("first"), [a_document("first", "1.2.9.1")], READ)
    second = ledger.open(a_job("second"))
    assert second is not None
    assert second.predecessors == ()
    read(ledger, second, [a_document("second", "1.2.9.2")], READ)
    ledger.outbox.claim("second", "archive", NOW)
    third = ledger.open(a_job("third"))
    assert third is not None
    assert [ref.sop_instance_uid for ref in third.predecessors] == ["1.2.9.2"]


def test_a_superseded_job_gives_nothing_to_send_and_does_not_change_its_state(ledger: Ledger) -> None:
    elder = a_job("elder")
    ledger.open(elder)
    read(ledger, elder, [a_document("elder", "1.2.9.1")], READ)
    ledger.open(a_job("newer"))
    assert ledger.outbox.claim("elder", "archive", NOW) == ()
    assert not ledger.move("elder", JobState.READING)
    assert ledger.job("elder").state is JobState.SUPERSEDED


def test_a_second_report_of_a_job_changes_no_document(ledger: Ledger) -> None:
    job = a_job()
    ledger.open(job)
    first = a_document("a", "1.2.9.1")
    read(ledger, job, [first], READ)
    read(ledger, job, [replace(first, sha256="other")], READ)
    assert ledger.documents("a") == (first,)
    assert len(ledger.deliveries("a")) == 1


def test_documents_are_delivered_in_the_order_in_which_they_were_made(ledger: Ledger) -> None:
    job = a_job(destinations=("b", "a"))
    ledger.open(job)
    made = [a_document("a", "1.2.9.2", DocumentKind.SECONDARY_CAPTURE), a_document("a", "1.2.9.1")]
    read(ledger, job, made, READ)
    assert [one.document for one in ledger.deliveries("a", "b")] == made


def test_an_optional_document_goes_only_where_it_is_asked_for(ledger: Ledger) -> None:
    job = a_job(destinations=("a", "b", "c"))
    ledger.open(job)
    optional = a_document("a", "1.2.9.2", DocumentKind.SEGMENTATION_FRACTIONAL)
    asked = {"a": (DocumentKind.SEGMENTATION_FRACTIONAL,), "b": (DocumentKind.SEGMENTATION_LABELMAP,)}
    read(ledger, job, [optional, a_document("a", "1.2.9.1")], READ, wishes=asked)
    sent = {name: [one.document.ref.sop_instance_uid for one in ledger.deliveries("a", name)] for name in "abc"}
    assert sent == {"a": ["1.2.9.2", "1.2.9.1"], "b": ["1.2.9.1"], "c": ["1.2.9.1"]}


def test_a_commitment_report_confirms_what_it_names_and_sends_the_rest_again(ledger: Ledger) -> None:
    job = a_job()
    ledger.open(job)
    read(ledger, job, [a_document("a", "1.2.9.1"), a_document("a", "1.2.9.2")], READ)
    for one in ledger.outbox.claim("a", "archive", NOW):
        put_delivery(ledger, one, state=DeliveryState.SENT, sent_at=NOW, transaction_uid="1.2.77")
    ledger.outbox.settle("1.2.77", [UID("1.2.9.1")], {UID("1.2.9.2"): "0x0112"}, NOW)
    kept, lost = ledger.deliveries("a")
    assert (kept.state, kept.proof, kept.confirmed_at) == (DeliveryState.CONFIRMED, "storage commitment", NOW)
    assert (lost.state, lost.error) == (DeliveryState.WAITING, "not committed: 0x0112")


@pytest.mark.parametrize("state", [DeliveryState.FAILED, DeliveryState.CONFIRMED])
def test_a_late_report_of_failure_leaves_what_is_over_as_it_is(ledger: Ledger, state: DeliveryState) -> None:
    ledger.open(a_job())
    read(ledger, a_job(), [a_document("a", "1.2.9.1")], READ)
    (one,) = ledger.outbox.claim("a", "archive", NOW)
    put_delivery(ledger, one, state=state, transaction_uid="1.2.77")
    ledger.outbox.settle("1.2.77", [], {UID("1.2.9.1"): "0x0110"}, NOW)
    (one,) = ledger.deliveries("a")
    assert one.state is state
    assert one.error == ("not committed: 0x0110" if state is DeliveryState.FAILED else "")


def test_what_is_still_to_be_sent_or_confirmed_is_listed_once(ledger: Ledger) -> None:
    for name in ("a", "b"):
        ledger.open(a_job(name, route=name, destinations=("asked", "trusted")))
        documents = [a_document(name, f"1.2.9.{name == 'a':d}.{number}") for number in range(2)]
        read(ledger, a_job(name, route=name, destinations=("asked", "trusted")), documents, READ)
    for one in ledger.deliveries("a"):
        put_delivery(ledger, one, state=DeliveryState.SENT)
    ledger.open(a_job("newer", route="b"))
    names = [waiting.task.name for waiting in ledger.tasks.waiting(["trusted"])]
    assert names == ["newer:read:", "a:confirm:asked"]


def test_a_failed_reading_is_revived_before_any_delivery(ledger: Ledger) -> None:
    ledger.open(a_job())
    ledger.move("a", JobState.FAILED, reason="no weights")
    assert ledger.revive("a", Instruction(NOW)) == ("",)
    assert ledger.job("a").state is JobState.WAITING
    assert ledger.revive("a", Instruction(NOW)) == ()


def test_only_failed_deliveries_are_revived(ledger: Ledger) -> None:
    job = a_job(destinations=("b", "c"))
    ledger.open(job)
    read(ledger, job, [a_document("a", "1.2.9.1")], READ)
    to_b, to_c = ledger.deliveries("a")
    put_delivery(ledger, to_b, state=DeliveryState.FAILED, error="refused")
    put_delivery(ledger, to_c, state=DeliveryState.CONFIRMED)
    assert ledger.revive("a", Instruction(NOW)) == ("b",)
    assert [one.state for one in ledger.deliveries("a")] == [DeliveryState.WAITING, DeliveryState.CONFIRMED]


def test_what_was_sent_without_a_proof_is_asked_for_by_nobody_where_a_proof_is_configured_later(ledger: Ledger) -> None:
    ledger.open(a_job())
    read(ledger, a_job(), [a_document("a", "1.2.9.1")], READ)
    (delivery,) = ledger.outbox.claim("a", "archive", NOW)
    ledger.outbox.sent(delivery, status=0, comment="", at=NOW, settled=True)
    assert ledger.tasks.waiting(unconfirmed=()) == ()
    assert ledger.revive("a", Instruction(NOW), unconfirmed=("archive",)) == ()
    assert ledger.revive("a", Instruction(NOW)) == ("archive",)
    assert [waiting.task.name for waiting in ledger.tasks.waiting(unconfirmed=())] == ["a:confirm:archive"]


def test_an_unknown_job_is_an_error_that_says_where_to_look(ledger: Ledger) -> None:
    with pytest.raises(LookupError, match="ainode jobs"):
        ledger.job("nothing")


def test_what_parts_of_a_reading_took_is_kept_by_name(ledger: Ledger) -> None:
    job = a_job()
    ledger.open(job)
    assert ledger.job(job.id).overheads == {}
    read(ledger, job, [], replace(READ, overheads={"query": 0.5, "register": 1.25}))
    assert ledger.job(job.id).overheads == {"query": 0.5, "register": 1.25}


def test_the_documents_of_a_withheld_job_have_no_delivery_until_the_job_is_released(ledger: Ledger) -> None:
    job = a_job(destinations=(), withheld="demonstration weights")
    ledger.open(job)
    read(ledger, job, [a_document("a", "1.2.9.1")], READ)
    assert ledger.deliveries("a") == ()
    assert ledger.job("a").withheld == "demonstration weights"
    assert ledger.release(ledger.job("a"), ("archive",), {}) == ("archive",)
    assert [delivery.state for delivery in ledger.deliveries("a")] == [DeliveryState.WAITING]
    assert ledger.job("a").withheld == ""
    assert ledger.job("a").destinations == ("archive",)
    with pytest.raises(LookupError):
        ledger.release(ledger.job("a"), ("archive",), {})


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.READING, JobState.SUPERSEDED])
def test_a_job_without_a_finished_reading_is_not_released(ledger: Ledger, state: JobState) -> None:
    ledger.open(a_job(destinations=(), withheld="demonstration weights"))
    ledger.move("a", state)
    with pytest.raises(LookupError, match=state):
        ledger.release(ledger.job("a"), ("archive",), {})


def test_a_job_that_is_withheld_later_loses_its_destinations(ledger: Ledger) -> None:
    ledger.open(a_job())
    job = ledger.address("a", (), RouteMode.LIVE, withheld="its weights were replaced")
    read(ledger, job, [a_document("a", "1.2.9.1")], READ)
    assert ledger.deliveries("a") == ()
    assert job.withheld == "its weights were replaced"


@pytest.mark.parametrize(
    ("mode", "destinations", "withheld", "mark"),
    [
        (RouteMode.SHADOW, (), "", "shadow"),
        (RouteMode.SHADOW, ("the node itself",), "", ""),
        (RouteMode.LIVE, (), "", ""),
        (RouteMode.LIVE, ("archive",), "", ""),
        (None, (), "", "not sent"),
        (None, (), "demonstration weights", ""),
        (None, ("archive",), "", ""),
    ],
)
def test_a_job_is_marked_by_the_mode_that_its_route_had_and_by_where_its_documents_go(
    ledger: Ledger, mode: RouteMode | None, destinations: tuple[str, ...], withheld: str, mark: str
) -> None:
    ledger.open(a_job(mode=mode, destinations=destinations, withheld=withheld))
    job = ledger.job("a")
    assert (job.mode, job.mark) == (mode, mark)


@pytest.mark.parametrize("state", JobState)
def test_a_job_is_rejected_as_long_as_it_has_no_result(ledger: Ledger, state: JobState) -> None:
    ledger.open(a_job())
    put_job(ledger, "a", state=state)
    has_result = state in {JobState.REPORTED, JobState.OUT_OF_SCOPE, JobState.SUPERSEDED}
    assert ledger.reject("a", "withdrawn: rejected", NOW) is not has_result
    job = ledger.job("a")
    assert job.state is (state if has_result else JobState.CANCELLED)
    assert (job.withdrawn_at, job.reason) == ((None, "") if has_result else (NOW, "withdrawn: rejected"))


def test_a_job_that_is_addressed_anew_has_the_mode_of_the_route_of_then(ledger: Ledger) -> None:
    ledger.open(a_job(destinations=(), withheld="demonstration weights", mode=RouteMode.LIVE))
    assert ledger.address("a", (), RouteMode.SHADOW).mark == "shadow"


def test_a_waiting_job_is_cancelled_with_its_reason_and_is_not_read_until_somebody_revives_it(ledger: Ledger) -> None:
    ledger.open(a_job())
    assert ledger.move("a", JobState.CANCELLED, reason="cancelled by ada: sent by mistake", at=NOW)
    assert not ledger.move("a", JobState.READING)
    ledger.searched("a")
    cancelled = ledger.job("a")
    assert (cancelled.state, cancelled.reason) == (JobState.CANCELLED, "cancelled by ada: sent by mistake")
    assert cancelled.finished_at == NOW
    assert ledger.tasks.waiting(()) == ()
    assert ledger.revive("a", Instruction(NOW)) == ("",)
    assert ledger.job("a").state is JobState.WAITING


def test_a_job_that_is_read_is_neither_cancelled_nor_moved_in_its_queue(ledger: Ledger) -> None:
    ledger.open(a_job())
    assert ledger.prioritize("a", 1)
    assert ledger.job("a").priority == 1
    ledger.move("a", JobState.READING)
    assert not ledger.move("a", JobState.CANCELLED, reason="late")
    assert not ledger.prioritize("a", 2)
    assert (ledger.job("a").state, ledger.job("a").priority) == (JobState.READING, 1)
