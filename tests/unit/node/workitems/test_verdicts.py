"""How a claimed workitem ends follows from its announcement, jobs and deliveries."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.keeping.announcements import Announcement, Fetching
from ainode.node.keeping.records import Delivery, Job, KeptDocument
from ainode.node.workitems.verdicts import (
    FAILED,
    NOT_FETCHED,
    NOT_SUPPORTED,
    UNSPECIFIED,
    Course,
    Done,
    Stopped,
    UnderWay,
    outputs,
    to_archives,
    verdict,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ROUTED = Announcement(UID("1"), NOW, NOW, state=Fetching.HERE)
JOB = Job("a", UID("1"), "spine", "h", {}, NOW, NOW, ("pacs",), state=JobState.REPORTED)
REFUSED = replace(JOB, state=JobState.OUT_OF_SCOPE, reason="no lung")


def delivery(
    state: DeliveryState, to: str = "pacs", uid: str = "9", *, settled: bool = False, kind: str = "sr", error: str = ""
) -> Delivery:
    document = KeptDocument("a", InstanceRef(UID("1"), UID("2"), UID("3"), UID(uid)), DocumentKind(kind), Path(), "")
    return Delivery(document, to, state, 0, error, "", "", NOW, None, settled=settled)


WAITING, SENT, CONFIRMED = (
    delivery(DeliveryState.WAITING),
    delivery(DeliveryState.SENT),
    delivery(DeliveryState.CONFIRMED),
)
LOST = delivery(DeliveryState.FAILED, error="refused by pacs")


@pytest.mark.parametrize(
    ("announcement", "percent"),
    [
        (replace(ROUTED, state=Fetching.WAITING, read_now=True), 0),
        (replace(ROUTED, read_now=True), 20),
    ],
)
def test_until_the_study_is_routed_its_earlier_jobs_do_not_count(announcement: Announcement, percent: int) -> None:
    progress = verdict(announcement, [Course(JOB, [CONFIRMED])])
    assert isinstance(progress, UnderWay)
    assert progress.percent == percent


@pytest.mark.parametrize(
    ("courses", "end"),
    [
        ([Course(JOB, [CONFIRMED])], Done()),
        ([Course(JOB, [SENT])], 80),
        ([Course(JOB, [WAITING, CONFIRMED])], 80),
        ([Course(JOB, [delivery(DeliveryState.CHECKING)])], 80),
        ([Course(replace(JOB, state=JobState.READING))], 40),
        ([Course(JOB, [CONFIRMED]), Course(replace(JOB, state=JobState.WAITING))], 40),
        # One archive with every document is enough; half of them in each of two is not.
        ([Course(JOB, [CONFIRMED, delivery(DeliveryState.FAILED, "other")])], Done()),
        (
            [
                Course(
                    JOB,
                    [
                        CONFIRMED,
                        delivery(DeliveryState.FAILED, uid="8", error="e"),
                        delivery(DeliveryState.FAILED, "b"),
                    ],
                )
            ],
            Stopped("the results could not be stored: e", FAILED),
        ),
        ([Course(JOB, [LOST])], Stopped("the results could not be stored: refused by pacs", FAILED)),
        (
            [Course(JOB, [delivery(DeliveryState.SENT, settled=True, error="not listed")])],
            Stopped("the results could not be stored: not listed", FAILED),
        ),
        ([Course(REFUSED)], Stopped("the study was not read: route spine: no lung", NOT_SUPPORTED)),
        ([Course(REFUSED, [WAITING])], 80),
        ([Course(REFUSED, [CONFIRMED])], Stopped("the study was not read: route spine: no lung", NOT_SUPPORTED)),
        ([Course(REFUSED), Course(JOB, [CONFIRMED])], Done()),
        (
            [Course(replace(JOB, withheld="demonstration weights"))],
            Stopped("the results stay in the node: demonstration weights", UNSPECIFIED),
        ),
        (
            [Course(JOB, [CONFIRMED]), Course(replace(JOB, state=JobState.FAILED, reason="crash"))],
            Stopped("route spine: the images could not be read: crash", FAILED),
        ),
        ([], Stopped("no route of the node takes the study, so no model read it", NOT_SUPPORTED)),
    ],
)
def test_an_item_ends_with_what_became_of_its_jobs(courses: list[Course], end: object) -> None:
    progress = verdict(ROUTED, courses)
    assert (progress.percent if isinstance(progress, UnderWay) else progress) == end


def test_an_archive_that_nobody_asks_for_a_proof_has_what_it_took() -> None:
    assert verdict(ROUTED, [Course(JOB, [SENT])], unconfirmed=["pacs"]) == Done()


def test_images_that_were_given_up_end_the_item_with_the_reason() -> None:
    given_up = replace(ROUTED, state=Fetching.FAILED, reason="not pulled: 403")
    assert verdict(given_up, []) == Stopped("the images could not be fetched: not pulled: 403", NOT_FETCHED)


def test_the_outputs_are_what_an_archive_has_each_once_and_no_message() -> None:
    twice = [delivery(DeliveryState.CONFIRMED, name, uid) for uid in ("8", "9") for name in ("a", "own")]
    alone = delivery(DeliveryState.CONFIRMED, "a", "7")
    sent = delivery(DeliveryState.SENT, "own", "6")
    message = delivery(DeliveryState.CONFIRMED, "his", "5", kind="message")
    everything = to_archives([*twice, alone, sent, message])
    places = outputs([Course(JOB, everything)], (), "own")
    uids = {name: {ref.sop_instance_uid for ref in refs} for name, refs in places.items()}
    assert uids == {"own": {"8", "9"}, "a": {"7"}}
