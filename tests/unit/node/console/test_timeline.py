from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ainode.node.console.answers import score_tables
from ainode.node.console.judgements.judging import Panel
from ainode.node.console.judgements.judging import Subject as Judged
from ainode.node.console.study.events import Event
from ainode.node.console.study.judged import judged_events
from ainode.node.console.study.meanings import match_reasons
from ainode.node.console.study.timeline import JobCourse, timeline
from ainode.node.console.study.workitems import workitem_events
from ainode.node.domain import (
    UID,
    Code,
    Correction,
    DeliveryState,
    DocumentKind,
    InstanceRef,
    JobState,
    Judgement,
    Opinion,
    Presence,
)
from ainode.node.keeping.job_events import JobEvent, JobEventKind, Subject
from ainode.node.keeping.judgements import KeptJudgement
from ainode.node.keeping.records import Delivery, Job, KeptDocument
from ainode.node.keeping.study_records import KeptCompletion, Reception
from ainode.node.keeping.workitems import KeptWorkitem, WorkitemState
from ainode.node.routes import NOT_KEPT

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


COMPLETE = KeptCompletion(after(12), "no instance for 10 s", 3, NOW, after(2))
JOB = Job("a", UID("1"), "spine", "reader", {}, NOW, after(12), ("pacs",), state=JobState.READING, reading_at=after(20))
READ = replace(
    JOB, state=JobState.REPORTED, finished_at=after(30), result="{}", seconds=9.0, overheads={"compose": 1.0}
)
DOCUMENT = KeptDocument(
    "a", InstanceRef(UID("1"), UID("2"), UID("3"), UID("4")), DocumentKind.STRUCTURED_REPORT, Path(), ""
)
WAITING = Delivery(DOCUMENT, "pacs", DeliveryState.WAITING, None, "no route to host", "", "", None, None)
SENT = replace(WAITING, state=DeliveryState.SENT, error="", archive_status=0, tried_at=after(31), sent_at=after(33))
CONFIRMED = replace(SENT, state=DeliveryState.CONFIRMED, confirmed_at=after(40), proof="query")


ADDENDUM = replace(DOCUMENT, kind=DocumentKind.ASSESSMENT, ref=replace(DOCUMENT.ref, sop_instance_uid=UID("9")))
ADDED = replace(CONFIRMED, document=ADDENDUM, tried_at=after(900), sent_at=after(901), confirmed_at=after(905))


def given_up(at: float, subject: Subject = Subject.RESULTS, count: int = 1) -> JobEvent:
    return JobEvent("a", after(at), JobEventKind.GIVEN_UP, subject, "pacs", count, 5, "pacs: no association")


def tried_again(at: float, subject: Subject = Subject.RESULTS, count: int = 1) -> JobEvent:
    return JobEvent("a", after(at), JobEventKind.TRIED_AGAIN, subject, "pacs", count, person="ada")


def events(
    *jobs: Job,
    completions: Sequence[KeptCompletion] = (COMPLETE,),
    reception: Reception | None = None,
    deliveries: Sequence[Delivery] = (),
    happened: Sequence[JobEvent] = (),
) -> tuple[Event, ...]:
    course = JobCourse(JOB, deliveries, happened, "pneumonia: absent, 0.1")
    courses = [replace(course, job=job) if job.id == "a" else JobCourse(job) for job in jobs]
    return timeline(completions, reception, courses)


def named(shown: Sequence[Event]) -> dict[str, Event]:
    return {event.title: event for event in shown}


def test_a_look_at_a_study_that_opens_no_job_says_that_nothing_changed_since_it_was_read() -> None:
    again = replace(COMPLETE, at=after(50))
    event = named(events(READ, completions=[COMPLETE, again]))["Nothing read again"]
    assert (event.at, event.kind) == (after(50), "warn")
    assert "images, routes, configuration and weights are those of a reading" in event.detail


def test_a_look_that_opens_a_job_or_is_repeated_until_it_succeeds_is_not_fruitless() -> None:
    again = replace(COMPLETE, at=after(50))
    # the first try of the second look opened the job, the second try wrote the look down
    later = replace(READ, id="b", queued_at=after(45))
    assert "Nothing read again" not in named(events(READ, later, completions=[COMPLETE, again]))
    assert "Nothing read again" not in named(events(replace(READ, queued_at=after(11))))
    withdrawn = replace(READ, withdrawn_at=after(49), reason="withdrawn: its images are rejected")
    assert "Nothing read again" not in named(events(withdrawn, completions=[COMPLETE, again]))


def test_a_study_that_was_sent_again_unchanged_says_when_and_that_nothing_was_read() -> None:
    reception = Reception(NOW, COMPLETE.last_received_at, 3, 100, ("PACS",), is_routed=True)
    assert "Came again unchanged" not in named(events(READ, reception=reception))
    event = named(events(READ, reception=replace(reception, last_received_at=after(60))))["Came again unchanged"]
    assert (event.at, event.detail) == (after(60), "the node had these images or objects, so nothing was read again")


def test_each_step_has_the_seconds_that_it_took_or_waited() -> None:
    shown = named(events(READ, deliveries=[CONFIRMED]))
    seconds = {title: event.seconds for title, event in shown.items()}
    assert seconds == {
        "First image or object received": None,
        "Last image or object received": 2,
        "Complete": 10,
        "Matched by route spine": None,
        "Reading began": 8,
        "Read": 8,
        "Documents made": 1,
        "Sent to pacs": 2,
        "Confirmed by pacs": 7,
    }
    assert shown["Read"].detail == "pneumonia: absent, 0.1"


def test_a_route_says_why_it_matched() -> None:
    check = {"attribute": "Modality", "expected": "CT", "found": "CT", "passed": True}
    view = {**check, "attribute": "ViewPosition", "expected": "AP", "found": "AP"}
    matched = {"route": "spine", "checks": [check, {**check, "attribute": "KVP", "found": "120"}, view]}
    missed = {"route": "other", "checks": [check, {**check, "passed": False}]}
    reasons = match_reasons([missed, matched])
    assert reasons == {"spine": "modality CT, view AP, KVP 120"}
    shown = named(timeline([COMPLETE], None, [JobCourse(READ, reason=reasons["spine"])]))
    assert shown["Matched by route spine"].detail == "by modality CT, view AP, KVP 120"


def test_nothing_is_green_before_the_archive_confirmed_every_document() -> None:
    for deliveries in ([WAITING], [SENT], [CONFIRMED, SENT], [replace(SENT, state=DeliveryState.FAILED), CONFIRMED]):
        assert "good" not in {event.kind for event in events(READ, deliveries=deliveries)}
    assert named(events(READ, deliveries=[CONFIRMED, CONFIRMED]))["Confirmed by pacs"].kind == "good"


def test_an_archive_that_was_asked_again_and_still_has_the_documents_is_told_beside_its_first_proof() -> None:
    checked = replace(CONFIRMED, checked_at=after(70))
    shown = named(events(READ, deliveries=[checked, checked]))
    assert shown["Confirmed by pacs"].at == after(40)
    assert shown["Asked pacs again"].at == after(70)
    assert shown["Asked pacs again"].detail == "it still has 2 of 2 documents; none of these was sent again"


def test_what_is_awaited_stands_last_with_its_reason() -> None:
    *_, last = events(READ, deliveries=[WAITING])
    assert (last.at, last.title) == (None, "Waiting to be sent to pacs")
    assert "no route to host" in last.detail
    assert events(JOB)[-1].title == "Being read"
    assert events(replace(JOB, state=JobState.WAITING))[-1].title == "Waiting to be read"


def test_late_slices_and_the_reading_that_they_replace_are_told() -> None:
    late = KeptCompletion(after(100), "no instance for 10 s", 5, NOW, after(90))
    later = replace(READ, id="b", queued_at=after(100), reading_at=after(101), finished_at=after(105))
    shown = events(replace(READ, state=JobState.SUPERSEDED), later, completions=(COMPLETE, late))
    titles = [event.title for event in shown]
    assert titles.index("Late images or objects received") < titles.index("Complete again") < titles.index("Replaced")
    assert named(shown)["Late images or objects received"].detail == "2 more images or objects"
    assert named(shown)["Replaced"].at == after(100)


def test_a_reading_in_whose_place_another_route_is_names_that_route() -> None:
    new = replace(READ, id="b", route="spine 2", queued_at=after(100))
    shown = events(replace(READ, state=JobState.SUPERSEDED, successor="b"), new)
    assert named(shown)["Replaced"].detail == "a later reading by route spine 2 takes its place"


def test_a_study_that_is_asked_for_again_has_no_late_instances() -> None:
    again = replace(COMPLETE, at=after(500), reason="asked to be read now")
    titles = [event.title for event in events(READ, completions=(COMPLETE, again))]
    assert "Late images or objects received" not in titles
    assert titles.count("Last image or object received") == 1
    assert "Complete again" in titles


def test_a_study_that_is_still_arriving_says_that_it_is_awaited() -> None:
    reception = Reception(NOW, after(3), 7, 10, ("MODALITY",), is_routed=False)
    shown = events(completions=(), reception=reception)
    assert [event.title for event in shown] == [
        "First image or object received",
        "Latest image or object received",
        "Waiting until the study is complete",
    ]


def test_a_failed_reading_shows_its_reason() -> None:
    failed = replace(JOB, state=JobState.FAILED, reason="a slice is missing", finished_at=after(21))
    assert named(events(failed))["Reading failed"].detail == "a slice is missing"


def test_scores_of_several_readings_of_a_route_stand_side_by_side() -> None:
    first = replace(READ, result='{"scores": {"probability": 0.2, "old": 1.0}}')
    second = replace(READ, id="b", queued_at=after(500), result='{"scores": {"probability": 0.3}}')
    (table,) = score_tables([second, first])
    assert table.rows == (("probability", (0.2, 0.3)), ("old", (1.0, None)))
    assert score_tables([first]) == ()


def test_each_step_of_a_reading_names_its_route_and_a_step_of_the_study_names_none() -> None:
    other = replace(READ, id="b", route="other")
    courses = [JobCourse(READ), JobCourse(other)]
    routes = {(event.title, event.route) for event in timeline([COMPLETE], None, courses) if event.at}
    assert {("Reading began", READ.route), ("Reading began", "other"), ("Complete", "")} <= routes


def test_an_addendum_that_is_sent_later_changes_no_time_and_no_count_of_the_report() -> None:
    before = events(READ, deliveries=[CONFIRMED, CONFIRMED])
    shown = events(READ, deliveries=[CONFIRMED, CONFIRMED, ADDED])
    assert [event for event in shown if "Addendum" not in event.title] == list(before)
    sent, confirmed = named(shown)["Addendum sent to pacs"], named(shown)["Addendum confirmed by pacs"]
    assert (sent.at, sent.seconds, confirmed.at, confirmed.seconds) == (after(901), 1, after(905), 4)
    assert (sent.detail, confirmed.detail) == ("the archive accepted it", "found there when the node asked")


def test_each_addendum_has_its_own_times() -> None:
    document = replace(ADDENDUM, ref=replace(ADDENDUM.ref, sop_instance_uid=UID("10")))
    later = replace(ADDED, document=document, confirmed_at=after(2_000))
    shown = events(READ, deliveries=[CONFIRMED, ADDED, later])
    assert [event.at for event in shown if event.title == "Addendum confirmed by pacs"] == [after(905), after(2_000)]


def test_an_archive_that_was_asked_again_still_has_the_documents_of_the_report_and_the_addendum_apart() -> None:
    checked = [replace(delivery, checked_at=after(3_000)) for delivery in (CONFIRMED, ADDED)]
    shown = named(events(READ, deliveries=checked))
    assert shown["Asked pacs again"].detail == "it still has 1 of 1 documents; none of these was sent again"
    assert shown["Asked pacs again for the addendum"].at == after(3_000)


def test_a_report_that_is_confirmed_stays_so_where_its_addendum_is_not_delivered() -> None:
    failed = replace(ADDED, state=DeliveryState.FAILED, error="refused", sent_at=None, confirmed_at=None)
    shown = named(events(READ, deliveries=[CONFIRMED, failed]))
    assert shown["Confirmed by pacs"].kind == "good"
    assert "Not delivered to pacs" not in shown
    assert (shown["Addendum not delivered to pacs"].detail, shown["Addendum not delivered to pacs"].kind) == (
        "refused",
        "bad",
    )


def test_each_time_that_a_delivery_was_given_up_and_asked_for_again_stays_in_the_timeline() -> None:
    happened = [given_up(60, count=4), tried_again(70, count=4), given_up(90, count=4), tried_again(100, count=4)]
    sent = replace(CONFIRMED, sent_at=after(104), confirmed_at=after(110))
    shown = [event for event in events(READ, deliveries=[sent], happened=happened) if "Delivery" in event.title]
    failure, wish = shown[:2]
    assert [event.at for event in shown] == [after(second) for second in (60, 70, 90, 100)]
    assert (failure.title, failure.kind) == ("Delivery to pacs given up", "bad")
    assert failure.detail == "4 documents; after 5 attempts; pacs: no association"
    assert (wish.title, wish.detail) == ("Delivery to pacs asked for again", "by ada; 4 documents")
    assert named(events(READ, deliveries=[sent], happened=happened))["Sent to pacs"].seconds == 4


def test_documents_that_one_attempt_lost_for_the_same_reason_are_one_event() -> None:
    happened = [given_up(60), given_up(60), replace(given_up(60), error="refused")]
    shown = [event for event in events(READ, happened=happened) if "given up" in event.title]
    assert [event.detail.split(";")[0] for event in shown] == ["2 documents", "1 document"]


def test_the_failure_of_an_addendum_is_called_one() -> None:
    happened = [given_up(950, Subject.ADDENDUM), replace(tried_again(960, Subject.ADDENDUM), person="")]
    shown = named(events(READ, happened=happened))
    assert shown["Delivery of an addendum to pacs given up"].detail == "after 5 attempts; pacs: no association"
    assert shown["Delivery of an addendum to pacs asked for again"].detail == "on the command line"


def test_a_reading_that_failed_and_was_repeated_tells_both_and_a_reading_that_failed_is_told_once() -> None:
    failure = JobEvent("a", after(21), JobEventKind.GIVEN_UP, Subject.READING, error="no weights")
    again = JobEvent("a", after(25), JobEventKind.TRIED_AGAIN, Subject.READING, person="ada")
    failed = replace(JOB, state=JobState.FAILED, reason="no weights", finished_at=after(21))
    assert [event.title for event in events(failed, happened=[failure])].count("Reading failed") == 1
    cancelled = replace(failure, kind=JobEventKind.CANCELLED)
    for kept, title in ((failure, "Reading failed"), (cancelled, "Cancelled")):
        titles = [event.title for event in events(replace(failed, state=JobState.SUPERSEDED), happened=[kept])]
        assert [one for one in titles if one in {"Reading failed", "Cancelled"}] == [title]
    shown = named(events(READ, happened=[failure, again]))
    assert (shown["Reading failed"].at, shown["Reading failed"].detail) == (after(21), "no weights")
    assert (shown["Asked to be read again"].at, shown["Asked to be read again"].detail) == (after(25), "by ada")
    assert shown["Read"].at == after(29)


def test_who_judged_an_answer_and_how_is_in_the_timeline() -> None:
    correction = Correction(Presence.ABSENT, "Diameter", 12.5, "scar")
    judgement = Judgement("a", "box 1", Opinion.CHANGE, "ada", correction, "artifact", "never shown here")
    entry = KeptJudgement(
        7, judgement, "nodule: present", "present", after(60), UID("1"), "spine", "reader", "m", "1", is_replaced=True
    )
    subjects = (Judged("box 1", "nodule", "present", (), (entry,)),)
    panel = Panel("a", subjects, [Code("artifact", "99", "Artifact")], may_be_judged=True, has_addendum=True)
    (event,) = judged_events(panel)
    assert (event.at, event.title, event.kind, event.route) == (after(60), "Judged by ada: changed", "warn", "spine")
    assert event.detail == (
        "nodule: present; absent instead; Diameter 12.5 instead; scar instead; artifact; replaced by a later judgement"
    )
    assert event in timeline([COMPLETE], None, [JobCourse(READ)], [event])


def test_a_workitem_s_claim_and_end_stand_among_the_steps_and_what_is_awaited_last() -> None:
    ended = KeptWorkitem("pacs", UID("9"), NOW, WorkitemState.COMPLETED, UID("1"), claimed_at=NOW, ended_at=after(60))
    stopped = replace(
        ended, uid=UID("8"), state=WorkitemState.CANCELED, reason="no lung", decided_at=after(70), ended_at=after(71)
    )
    under_way = replace(ended, uid=UID("7"), state=WorkitemState.READING, ended_at=None, is_cancel_requested=True)
    events = timeline([COMPLETE], None, [JobCourse(READ, [CONFIRMED])], [*workitem_events([ended, stopped, under_way])])
    titles = [event.title for event in events]
    assert [title for title in titles if "orkitem" in title] == [
        *["Workitem claimed"] * 3,
        "Workitem completed",
        "Workitem to be canceled",
        "Workitem canceled",
        "Workitem in progress",
    ]
    assert titles[-1] == "Workitem in progress"
    assert events[-1].detail == "cancellation was requested"


def test_a_condition_on_a_value_that_is_not_kept_is_told_by_what_the_route_asks_for() -> None:
    maker = {"attribute": "ManufacturerModelName", "expected": "*CT*", "found": NOT_KEPT, "passed": True}
    part = {**maker, "attribute": "BodyPartExamined", "expected": "CHEST", "found": "CHEST (BodyPartExamined: CHEST)"}
    seen = {**part, "found": "CHEST (StudyDescription: thorax)"}
    reasons = match_reasons(
        [{"route": name, "checks": [check]} for name, check in (("a", maker), ("b", part), ("c", seen))]
    )
    assert reasons == {
        "a": 'Manufacturer\'s Model Name fits "*CT*" (its own words are not kept: they may name a person)',
        "b": "body part CHEST",
        "c": "body part CHEST (by Study Description: thorax)",
    }


def test_what_an_archive_answered_is_told_in_words_and_a_number_only_beside_what_it_changed() -> None:
    assert named(events(READ, deliveries=[CONFIRMED]))["Sent to pacs"].detail == (
        "1 of 1 documents; the archive accepted it"
    )
    warned = replace(CONFIRMED, archive_status=0xB006)
    assert named(events(READ, deliveries=[CONFIRMED, warned]))["Sent to pacs"].detail == (
        "2 of 2 documents; the archive accepted them with a warning: "
        "it left out a part of the document (elements discarded) (0xB006)"
    )
    refused = replace(CONFIRMED, state=DeliveryState.FAILED, archive_status=0xA700, error="refused")
    assert "accepted" not in named(events(READ, deliveries=[refused]))["Sent to pacs"].detail


def test_a_message_that_a_later_one_replaced_counts_as_no_arrival() -> None:
    message = replace(DOCUMENT, kind=DocumentKind.MESSAGE)
    taken = replace(CONFIRMED, document=message, archive_status=None, proof="acknowledgment")
    words = "not sent any more: a later message of the job has its place"
    former = replace(taken, proof="replaced", sent_at=None, archive_comment=words)
    shown = {event.title: event.detail for event in events(READ, deliveries=[former, taken])}
    assert shown["Confirmed by pacs"] == "1 of 2 documents, by its acknowledgment"
    assert shown["Replaced before it reached pacs"] == f"1 of 2 documents; {words}"


def test_no_event_of_a_reading_shows_a_status_without_words_or_a_word_of_the_program_alone() -> None:
    withheld = replace(READ, withheld="not ready for patients: the weights a/b are for demonstration; set allow")
    listener = replace(CONFIRMED, archive_status=None, proof="acknowledgment")
    commitment = replace(CONFIRMED, proof="storage commitment")
    asked = [replace(COMPLETE, reason="somebody asked for it")]
    shown = [
        *events(withheld, completions=asked, deliveries=[CONFIRMED]),
        *events(READ, completions=asked, deliveries=[listener]),
        *events(READ, completions=asked, deliveries=[commitment]),
    ]
    words = " ".join(f"{event.title} {event.detail}" for event in shown)
    assert "by its acknowledgment" in words
    assert "by its promise to keep them (storage commitment)" in words
    assert "demonstration weights are not ready for patients" in words
    for foreign in ("0x0000", "by query", "instance", "job", "set allow", NOT_KEPT):
        assert foreign not in words
