from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ainode.node.console.answers import score_tables
from ainode.node.console.study.page import match_reasons
from ainode.node.console.study.timeline import Event, timeline
from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.keeping.records import Delivery, Job, KeptDocument
from ainode.node.keeping.study_records import KeptCompletion, Reception

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


def events(
    *jobs: Job,
    completions: Sequence[KeptCompletion] = (COMPLETE,),
    reception: Reception | None = None,
    deliveries: Sequence[Delivery] = (),
) -> tuple[Event, ...]:
    return timeline(completions, reception, jobs, {"a": deliveries}, {"a": "pneumonia: absent, 0.1"})


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


def test_each_step_has_the_seconds_that_it_took_or_waited() -> None:
    shown = named(events(READ, deliveries=[CONFIRMED]))
    seconds = {title: event.seconds for title, event in shown.items()}
    assert seconds == {
        "First instance received": None,
        "Last instance received": 2,
        "Complete": 10,
        "Matched by route spine": None,
        "Reading began": 8,
        "Read": 8,
        "Documents composed": 1,
        "Sent to pacs": 2,
        "Confirmed by pacs": 7,
    }
    assert shown["Read"].detail == "pneumonia: absent, 0.1"


def test_a_route_says_why_it_matched() -> None:
    check = {"attribute": "Modality", "expected": "CT", "found": "CT", "passed": True}
    matched = {"route": "spine", "checks": [check, {**check, "attribute": "Rows", "found": "512"}]}
    missed = {"route": "other", "checks": [check, {**check, "passed": False}]}
    reasons = match_reasons([missed, matched])
    assert reasons == {"spine": "Modality is CT, Rows is 512"}
    shown = named(timeline([COMPLETE], None, [READ], {}, {}, reasons))
    assert shown["Matched by route spine"].detail == "because Modality is CT, Rows is 512"


def test_an_attribute_that_two_conditions_look_at_is_one_reason() -> None:
    check = {"attribute": "ImageType", "expected": "no localizer", "found": "absent", "passed": True}
    decision = {"route": "spine", "series_instance_uid": "1", "checks": [check, {**check, "expected": "no picture"}]}
    assert match_reasons([decision]) == {"spine": "ImageType is absent"}


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
    assert titles.index("Late instances received") < titles.index("Complete again") < titles.index("Replaced")
    assert named(shown)["Late instances received"].detail == "2 more instances"
    assert named(shown)["Replaced"].at == after(100)


def test_a_study_that_is_asked_for_again_has_no_late_instances() -> None:
    again = replace(COMPLETE, at=after(500), reason="asked to be read now")
    titles = [event.title for event in events(READ, completions=(COMPLETE, again))]
    assert "Late instances received" not in titles
    assert titles.count("Last instance received") == 1
    assert "Complete again" in titles


def test_a_study_that_is_still_arriving_says_that_it_is_awaited() -> None:
    reception = Reception(NOW, after(3), 7, 10, ("MODALITY",), is_routed=False)
    shown = events(completions=(), reception=reception)
    assert [event.title for event in shown] == [
        "First instance received",
        "Last instance so far received",
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
    routes = {(event.title, event.route) for event in timeline([COMPLETE], None, [READ, other], {}, {}) if event.at}
    assert {("Reading began", READ.route), ("Reading began", "other"), ("Complete", "")} <= routes
