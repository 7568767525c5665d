"""What happened to a study, event by event, with the duration of each step and the words of the archive. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from ainode.node.console.study.deliveries import asked_by, delivered
from ainode.node.console.study.events import Event
from ainode.node.domain import JobState, counted
from ainode.node.keeping.answers import answer_values
from ainode.node.keeping.job_events import JobEvent, JobEventKind, Subject
from ainode.node.keeping.records import Delivery, Job
from ainode.node.keeping.study_records import KeptCompletion, Reception

_UNCHANGED: Final = "images, routes, configuration and weights are those of a reading that is here"
_SAME: Final = "the node had these images or objects, so nothing was read again"
_WITHHELD: Final = "they stay in the node: its demonstration weights are not ready for patients"
_ENDED: Final = frozenset({JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True)
class JobCourse:
    """A job, and what is known of its way."""

    job: Job
    deliveries: Sequence[Delivery] = ()
    events: Sequence[JobEvent] = ()
    headline: str = ""
    reason: str = ""
    """why the route matched"""
    leftovers: str = ""
    """what archives still have of a withdrawn result"""


def timeline(
    completions: Sequence[KeptCompletion],
    reception: Reception | None,
    courses: Sequence[JobCourse],
    others: Sequence[Event] = (),
) -> tuple[Event, ...]:
    """Return the events of a study with `others`, as of judgements, oldest first; what is awaited comes last."""
    events = [*_received(completions, reception), *others]
    jobs = [course.job for course in courses]
    if check := fruitless_check(completions, jobs):
        events.append(Event(check.at, "Nothing read again", _UNCHANGED, None, "warn"))
    for course in courses:
        events += (replace(step, route=course.job.route) for step in _of_job(course, jobs))
    return (*sorted(filter(_has_happened, events), key=_time), *(event for event in events if event.at is None))


@dataclass(frozen=True, slots=True)
class FruitlessCheck:
    """The last look of the routes at a study, which opened no job because nothing had changed."""

    at: datetime
    reading_at: datetime
    """when the last reading of the study ended; where it has not ended, when its job was opened"""


def fruitless_check(completions: Sequence[KeptCompletion], jobs: Sequence[Job]) -> FruitlessCheck | None:
    """Return the last look of the routes at a study, None if the look opened a job, or there is no reading yet."""
    if len(completions) < 2 or not jobs:  # noqa: PLR2004 - the first look has no reading before it
        return None
    if any(job.withdrawn_at for job in jobs):  # then the images are others, or no route reads them any more
        return None
    *_, previous, last = completions
    newest = max(jobs, key=lambda job: job.queued_at)
    # A look opens its jobs before it is written down, and one that fails is repeated: a job of the last look is newer
    # than the look before.
    return FruitlessCheck(last.at, newest.finished_at or newest.queued_at) if newest.queued_at <= previous.at else None


def _of_job(course: JobCourse, jobs: Sequence[Job]) -> Iterator[Event]:
    job = course.job
    words = f"by {course.reason}" if course.reason else "the reading was queued"
    yield Event(job.queued_at, f"Matched by route {job.route}", words)
    yield from _earlier_attempts(job, course.events)
    yield from _read(course)
    yield from _superseded(job, jobs)
    yield from delivered(job, course.deliveries, course.events)


def _has_happened(event: Event) -> bool:
    return event.at is not None


def _time(event: Event) -> datetime:
    return event.at or datetime.max.replace(tzinfo=UTC)


def _received(completions: Sequence[KeptCompletion], reception: Reception | None) -> Iterator[Event]:
    senders = f"from {', '.join(reception.senders)}" if reception else ""
    times = [item.first_received_at for item in completions] + ([reception.first_received_at] if reception else [])
    first = min(times, default=None)
    if first:
        yield Event(first, "First image or object received", senders)
    count, last = 0, first
    for completion in completions:
        arrivals = completion.instance_count - count
        if completion.last_received_at != last or not count:
            yield _last_received(completion, arrivals, is_late=bool(count), since=last)
        pause_s = (completion.at - completion.last_received_at).total_seconds()
        words = f"{_counted(completion.instance_count)}; {completion.reason}"
        yield Event(completion.at, "Complete" if not count else "Complete again", words, max(pause_s, 0.0))
        count, last = completion.instance_count, completion.last_received_at
    if reception and reception.is_routed and last and reception.last_received_at > last:
        yield Event(reception.last_received_at, "Came again unchanged", _SAME, None, "warn")
    if reception and not reception.is_routed:
        is_late = bool(count)
        title = "Late image or object received" if is_late else "Latest image or object received"
        yield Event(reception.last_received_at, title, f"{_counted(reception.instance_count)} here now")
        yield Event(None, "Waiting until the study is complete", "", None, "busy")


def _last_received(completion: KeptCompletion, arrivals: int, *, is_late: bool, since: datetime | None) -> Event:
    duration_s = (completion.last_received_at - since).total_seconds() if since else None
    if not is_late:
        return Event(completion.last_received_at, "Last image or object received", _counted(arrivals), duration_s)
    words = (
        counted(arrivals, "more image or object", "more images or objects")
        if arrivals > 0
        else "some came again, or others with the same identifiers (UIDs)"
    )
    return Event(completion.last_received_at, "Late images or objects received", words, duration_s, "warn")


def _counted(count: int) -> str:
    """Return a number of instances in words; an instance may be a report or a mark, too."""
    return counted(count, "image or object", "images or objects")


def _read(course: JobCourse) -> Iterator[Event]:
    job = course.job
    if job.state is JobState.WAITING:
        yield Event(None, "Waiting to be read", job.reason, None, "busy")
        return
    if job.reading_at:
        words = f"attempt {job.attempts}" if job.attempts > 1 else f"by the handler {job.handler}"
        waited_s = (job.reading_at - job.queued_at).total_seconds()
        yield Event(job.reading_at, "Reading began", words, waited_s)
    if job.state is JobState.READING:
        yield Event(None, "Being read", "", None, "busy")
        return
    yield from _answered(course)


def _answered(course: JobCourse) -> Iterator[Event]:
    """Yield the end of a reading: the answer and the documents, the refusal or the failure."""
    job, headline, events = course.job, course.headline, course.events
    if job.finished_at is None:
        return
    compose_s = job.overheads.get("compose", 0.0)
    if job.result:
        read_at = job.finished_at - timedelta(seconds=compose_s)
        is_refusal = bool(answer_values(job.result)["code"])
        title, words = ("Declined", headline or job.reason) if is_refusal else ("Read", headline)
        yield Event(read_at, title, words, max(job.seconds - compose_s, 0.0))
        if compose_s and not is_refusal:
            yield Event(job.finished_at, "Documents made", _WITHHELD if job.withheld else "", compose_s)
    if job.withdrawn_at:
        words = "; ".join(filter(None, (job.reason.removeprefix("withdrawn: "), course.leftovers)))
        yield Event(job.withdrawn_at, "Withdrawn", words, None, "warn")
    elif (
        not job.result and job.reason and (job.state in _ENDED or all(event.at != job.finished_at for event in events))
    ):
        # Of a superseded job, the kept event knows whether the reading failed or was cancelled.
        yield _ending(job.finished_at, job.reason, is_cancelled=job.state is JobState.CANCELLED)


def _earlier_attempts(job: Job, events: Sequence[JobEvent]) -> Iterator[Event]:
    """Yield the ends of a reading that somebody had repeated, and who; the last end is told with the reading."""
    for event in events:
        if event.subject is not Subject.READING:
            continue
        if event.kind is JobEventKind.TRIED_AGAIN:
            yield Event(event.at, "Asked to be read again", asked_by(event))
        elif event.at != job.finished_at or job.state not in _ENDED:
            yield _ending(event.at, event.error, is_cancelled=event.kind is JobEventKind.CANCELLED)


def _ending(at: datetime, reason: str, *, is_cancelled: bool) -> Event:
    title, kind = ("Cancelled", "warn") if is_cancelled else ("Reading failed", "bad")
    return Event(at, title, reason, None, kind)


def _superseded(job: Job, jobs: Sequence[Job]) -> Iterator[Event]:
    if job.state is not JobState.SUPERSEDED:
        return
    later = [other for other in jobs if other.route == job.route and other.queued_at > job.queued_at]
    if later := [other for other in jobs if other.id == job.successor] or later:
        words = f"a later reading by route {later[0].route} takes its place"
        yield Event(min(other.queued_at for other in later), "Replaced", words, None, "warn")
