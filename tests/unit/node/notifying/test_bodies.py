"""What people are told: of which answers, in which words, and nothing of a patient unless that is configured."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ainode.node.domain import (
    UID,
    Algorithm,
    Code,
    Finding,
    InstanceRef,
    Measurement,
    Occasion,
    OutOfScope,
    Reading,
    Result,
    Verdict,
    WeightsStatus,
)
from ainode.node.keeping.job_events import JobEvent, JobEventKind, Subject
from ainode.node.keeping.records import Job
from ainode.node.notifying.bodies import (
    alert_notices,
    answer_notices,
    event_notices,
    queue_ending,
    queue_notice,
    trial_notice,
)
from ainode.node.notifying.mail import message_of
from ainode.node.settings import ConsoleTable, NodeTable, Settings, Subscription, WebTable

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STUDY = UID("1.2.3")
IMAGE = InstanceRef(STUDY, UID("1.2.3.1"), UID("1.2"), UID("1.2.3.1.1"))
JOB = Job("j" * 32, STUDY, "chest", "reader", {IMAGE.sop_instance_uid: "ff"}, NOW, NOW, ())
CODE = Code("1", "99", "Lesion")
NEWS = tuple(occasion for occasion in Occasion if occasion is not Occasion.TEST)


def subscription(*on: Occasion, **values: object) -> Subscription:
    return Subscription(name="pager", to="folder", folder="/drop", on=on, **values)  # type: ignore[arg-type]


def settings_with(*subscriptions: Subscription, **tables: object) -> Settings:
    return Settings(node=NodeTable(name="node 1"), subscriptions=subscriptions, **tables)  # type: ignore[arg-type]


def reading(probability: float | None = 0.9) -> Reading:
    measurement = Measurement(CODE, 90.0, CODE, (IMAGE,))
    verdict = None if probability is None else Verdict.of(probability, 0.5)
    finding = Finding("lesion", CODE, CODE, (measurement,), (IMAGE,), verdict=verdict)
    algorithm = Algorithm("model", "1", "ff", WeightsStatus.SITE)
    return Reading(Result(STUDY, algorithm, "Task", CODE, (finding,), (), (IMAGE,), (IMAGE,)), (), "{}", 1.0)


def nothing(_: Job, keywords: Sequence[str]) -> dict[str, str]:
    raise AssertionError(keywords)


def told(each: Subscription, read: Reading, **tables: object) -> list[dict[str, object]]:
    notices = answer_notices(settings_with(each, **tables), JOB, read, nothing, at=NOW)
    return [json.loads(notice.body) for notice in notices]


def test_an_answer_is_told_by_its_verdict_its_probability_and_the_page_of_its_study() -> None:
    web = WebTable(enabled=True, port=8080)
    (body,) = told(subscription(Occasion.PRESENT), reading(), web=web, console=ConsoleTable())
    assert {key: body[key] for key in ("occasion", "verdict", "probability", "threshold", "route", "study")} == {
        "occasion": "present",
        "verdict": "present",
        "probability": 0.9,
        "threshold": 0.5,
        "route": "chest",
        "study": STUDY,
    }
    assert body["words"] == "lesion: present, 0.90, threshold 0.50"
    assert body["link"] == f"http://127.0.0.1:8080/console/studies/{STUDY}"
    assert body["node"] == "node 1"


@pytest.mark.parametrize(
    ("each", "probability", "count"),
    [
        (subscription(Occasion.PRESENT), 0.9, 1),
        (subscription(Occasion.PRESENT), 0.2, 0),
        (subscription(Occasion.ABSENT), 0.2, 1),
        (subscription(Occasion.PRESENT, min_probability=0.95), 0.9, 0),
        (subscription(Occasion.PRESENT, min_probability=0.9), 0.9, 1),
        (subscription(Occasion.PRESENT, routes=("spine",)), 0.9, 0),
        (subscription(Occasion.PRESENT, routes=("spine", "chest")), 0.9, 1),
        (subscription(Occasion.PRESENT), None, 0),
    ],
)
def test_an_answer_is_told_where_verdict_probability_and_route_fit(
    each: Subscription, probability: float | None, count: int
) -> None:
    assert len(told(each, reading(probability))) == count


def test_a_refusal_is_no_answer_to_tell() -> None:
    refusal = replace(reading(), answer=OutOfScope("no", "no", (IMAGE,)))
    assert told(subscription(*NEWS), refusal) == []


def test_the_patient_is_named_by_the_configured_attributes_alone() -> None:
    header = {"PatientID": "4711", "AccessionNumber": "A1", "PatientName": "DOE"}

    def attributes(_: Job, keywords: Sequence[str]) -> dict[str, str]:
        return {keyword: header[keyword] for keyword in keywords}

    each = subscription(Occasion.PRESENT, include=("PatientID", "AccessionNumber"))
    (notice,) = answer_notices(settings_with(each), JOB, reading(), attributes, at=NOW)
    assert json.loads(notice.body)["patient"] == {"PatientID": "4711", "AccessionNumber": "A1"}


def test_the_same_news_have_the_same_id_and_other_news_another() -> None:
    settings = settings_with(subscription(*NEWS))
    later = NOW + timedelta(hours=1)
    first, again = (answer_notices(settings, JOB, reading(), nothing, at=time)[0] for time in (NOW, later))
    assert first.id == again.id
    event = JobEvent(JOB.id, NOW, JobEventKind.GIVEN_UP, Subject.RESULTS, "archive", error="refused")
    others = [
        *event_notices(settings, JOB, event),
        *event_notices(settings, JOB, replace(event, at=later)),
        *event_notices(settings, JOB, replace(event, destination="other")),
        *event_notices(settings, JOB, replace(event, subject=Subject.READING, destination="")),
        *alert_notices(settings, "self_test", "the answer changed", NOW),
        *alert_notices(settings, "self_test", "the answer changed", later),
    ]
    assert len({first.id, *(notice.id for notice in others)}) == 1 + len(others)


def test_what_was_given_up_is_told_as_a_failure_or_as_a_dead_letter_with_its_reason() -> None:
    settings = settings_with(subscription(*NEWS))
    event = JobEvent(JOB.id, NOW, JobEventKind.GIVEN_UP, Subject.RESULTS, "archive", count=3, error="refused")
    (letter,) = event_notices(settings, JOB, event)
    (failure,) = event_notices(settings, JOB, replace(event, subject=Subject.READING, destination=""))
    assert (letter.occasion, failure.occasion) == (Occasion.DEAD_LETTER, Occasion.FAILURE)
    assert json.loads(letter.body) | {"words": "refused", "destination": "archive", "documents": 3} == json.loads(
        letter.body
    )
    assert "destination" not in json.loads(failure.body)


def test_a_queue_is_raised_and_its_end_names_what_was_raised() -> None:
    each = subscription(Occasion.QUEUE, queue_minutes=30)
    settings = settings_with(each)
    raised = queue_notice(settings, each, "readings", NOW - timedelta(minutes=45), NOW)
    assert raised.is_open
    assert json.loads(raised.body)["words"] == ("readings: the oldest has waited for 45 minutes; 30 are configured")
    ending = queue_ending(settings, each, raised, NOW)
    assert (json.loads(ending.body)["raised"], ending.is_open) == (raised.id, False)
    assert ending.id != raised.id


def test_a_test_says_by_its_occasion_that_it_is_none_of_the_news_and_so_does_the_subject_of_its_mail() -> None:
    each = subscription(*NEWS)
    test = trial_notice(settings_with(each), each, NOW)
    (news,) = alert_notices(settings_with(each), "self_test", "the answer changed", NOW)
    assert [json.loads(notice.body)["occasion"] for notice in (test, news)] == ["test", "alert"]
    assert message_of(each, test)["Subject"] == "ainode: test: nothing has happened"
    assert "nothing has happened" in json.loads(test.body)["words"]


def test_nobody_subscribes_to_tests() -> None:
    with pytest.raises(ValueError, match="ainode notify test NAME"):
        subscription(Occasion.ALERT, Occasion.TEST)


@pytest.mark.parametrize(
    ("end", "host"),
    [
        ({"address": "https://pager.example/hooks/TOKEN"}, "pager.example"),
        ({"address": "https://[2001:db8::1]:8443/hooks"}, "[2001:db8::1]:8443"),
    ],
)
def test_the_words_about_a_webhook_have_its_host_and_none_of_its_secrets(end: dict[str, str], host: str) -> None:
    each = Subscription(name="pager", to="webhook", on=(Occasion.ALERT,), key_env="KEY", **end)  # type: ignore[arg-type]
    assert each.remote_host == host
