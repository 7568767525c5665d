"""How far a claimed workitem is, and how it ends: from the announcement of its study, the jobs and deliveries. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ainode.node.domain import Code, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.keeping.announcements import Announcement, Fetching
from ainode.node.keeping.records import Delivery, Job

# PS3.16 CID 9300.
NOT_SUPPORTED: Final = Code("110522", "DCM", "Object Types not supported")
NOT_FETCHED: Final = Code("110523", "DCM", "Object Set incomplete")
FAILED: Final = Code("110501", "DCM", "Equipment failure")
UNSPECIFIED: Final = Code("110513", "DCM", "Discontinued for unspecified reason")
EXPIRED: Final = Code("110533", "DCM", "Workitem expired")
REASON_CODES: Final = {code.value: code for code in (NOT_SUPPORTED, NOT_FETCHED, FAILED, UNSPECIFIED, EXPIRED)}
_UNFINISHED: Final = frozenset({JobState.WAITING, JobState.READING})
_UNREAD: Final = {
    JobState.FAILED: ("the images could not be read", FAILED),
    JobState.CANCELLED: ("the reading was cancelled", UNSPECIFIED),
}


@dataclass(frozen=True, slots=True)
class UnderWay:
    """How far the item is; the words are for the worklist."""

    percent: int
    description: str


@dataclass(frozen=True, slots=True)
class Done:
    """Every result of the item is stored."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why the item is canceled; the words are for the worklist, and say nothing of the patient."""

    reason: str
    code: Code


@dataclass(frozen=True, slots=True)
class Course:
    """A job of the item, and the deliveries of its documents to archives."""

    job: Job
    deliveries: Sequence[Delivery] = ()


def verdict(
    announcement: Announcement, courses: Sequence[Course], unconfirmed: Sequence[str] = ()
) -> UnderWay | Done | Stopped:
    """Return how far an item is whose study was announced; nobody asks an `unconfirmed` archive for a proof."""
    if announcement.state is Fetching.FAILED:
        return Stopped(f"the images could not be fetched: {announcement.reason}", NOT_FETCHED)
    if announcement.state is Fetching.WAITING:
        return UnderWay(0, "the images are being fetched")
    if announcement.read_now:
        return UnderWay(20, "the images are here")
    if not courses:
        return Stopped("no route of the node takes the study, so no model read it", NOT_SUPPORTED)
    return _of_jobs(courses, unconfirmed)


def _of_jobs(courses: Sequence[Course], unconfirmed: Sequence[str]) -> UnderWay | Done | Stopped:
    jobs = [course.job for course in courses]
    if any(job.state in _UNFINISHED for job in jobs):
        return UnderWay(40, "the images are being read")
    for job in jobs:
        if job.state in _UNREAD:
            words, code = _UNREAD[job.state]
            return Stopped(f"route {job.route}: {words}: {job.reason}", code)
    deliveries = [item for course in courses for item in course.deliveries]
    if not all(_is_settled(item, unconfirmed) for item in deliveries):
        return UnderWay(80, "the results are being stored")
    if not all(_has_archive(course, unconfirmed) for course in courses if course.deliveries):
        errors = (item.error for item in deliveries if not _is_stored(item, unconfirmed))
        return Stopped(f"the results could not be stored: {next(errors)}", FAILED)
    return _of_answers(courses)


def _of_answers(courses: Sequence[Course]) -> Done | Stopped:
    reported = [course for course in courses if course.job.state is JobState.REPORTED]
    if not reported:
        jobs = [course.job for course in courses]
        reasons = "; ".join(dict.fromkeys(f"route {job.route}: {job.reason}" for job in jobs))
        return Stopped(f"the study was not read: {reasons}", NOT_SUPPORTED)
    if not any(course.deliveries for course in reported):
        reasons = "; ".join(
            dict.fromkeys(course.job.withheld or "the route sends them to no archive" for course in reported)
        )
        return Stopped(f"the results stay in the node: {reasons}", UNSPECIFIED)
    return Done()


def outputs(
    courses: Sequence[Course], unconfirmed: Sequence[str], preferred: str
) -> Mapping[str, tuple[InstanceRef, ...]]:
    """Return the stored documents by the archive that has them; a document in several is in the preferred one."""
    stored = [item for course in courses for item in course.deliveries if _is_stored(item, unconfirmed)]
    places: dict[InstanceRef, str] = {}
    for item in sorted(stored, key=lambda item: item.destination != preferred):
        places.setdefault(item.document.ref, item.destination)
    return {name: tuple(ref for ref in places if places[ref] == name) for name in dict.fromkeys(places.values())}


def to_archives(deliveries: Sequence[Delivery]) -> tuple[Delivery, ...]:
    """Return the deliveries of results, less messages for listeners and what a person added later."""
    kinds = ((delivery, delivery.document.kind) for delivery in deliveries)
    return tuple(item for item, kind in kinds if not kind.is_message and kind is not DocumentKind.ASSESSMENT)


def _has_archive(course: Course, unconfirmed: Sequence[str]) -> bool:
    """Return whether one archive has all documents of a job that are meant for it."""
    lacking = {item.destination for item in course.deliveries if not _is_stored(item, unconfirmed)}
    return any(item.destination not in lacking for item in course.deliveries)


def _is_stored(delivery: Delivery, unconfirmed: Sequence[str]) -> bool:
    is_trusted = delivery.state is DeliveryState.SENT and delivery.destination in unconfirmed
    return delivery.state is DeliveryState.CONFIRMED or is_trusted


def _is_settled(delivery: Delivery, unconfirmed: Sequence[str]) -> bool:
    """Return whether nothing more is done for a document, stored or not."""
    is_unproven = delivery.state is DeliveryState.SENT and delivery.settled
    return delivery.state is DeliveryState.FAILED or is_unproven or _is_stored(delivery, unconfirmed)
