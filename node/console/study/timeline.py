"""What happened to a study, event by event, with the duration of each step and the words of the archive. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from ainode.node.domain import DeliveryState, JobState, counted
from ainode.node.keeping.answers import answer_values
from ainode.node.keeping.records import Delivery, Job
from ainode.node.keeping.study_records import KeptCompletion, Reception

_UNCHANGED: Final = "images, routes, configuration and weights are those of a reading that is here"
_UNFINISHED: Final = frozenset({JobState.WAITING, JobState.READING})


@dataclass(frozen=True, slots=True)
class Event:
    """A step in the course of a study."""

    at: datetime | None
    """None for what still has to happen"""
    title: str
    detail: str = ""
    seconds: float | None = None
    """how long the step took, or what came before it was waited for"""
    kind: str = "plain"
    """the color of its mark: good, busy, sent, warn, bad or plain"""
    route: str = ""
    """which reads the study in this step"""


def timeline(
    completions: Sequence[KeptCompletion],
    reception: Reception | None,
    jobs: Sequence[Job],
    deliveries: Mapping[str, Sequence[Delivery]],
    headlines: Mapping[str, str],
    matches: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Event, ...]:
    """Return the events of a study, oldest first; what is awaited comes last.

    `deliveries` and `headlines` are by job; `matches` is by route, why the route matched.
    """
    events = [*_received(completions, reception)]
    if check := fruitless_check(completions, jobs):
        events.append(Event(check.at, "Nothing read again", _UNCHANGED, None, "warn"))
    for job in jobs:
        steps = _of_job(job, jobs, deliveries.get(job.id, ()), headlines.get(job.id, ""), matches.get(job.route, ""))
        events += (replace(step, route=job.route) for step in steps)
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
    *_, previous, last = completions
    newest = max(jobs, key=lambda job: job.queued_at)
    # A look opens its jobs before it is written down, and one that fails is repeated: a job of the last look is newer
    # than the look before.
    return FruitlessCheck(last.at, newest.finished_at or newest.queued_at) if newest.queued_at <= previous.at else None


def _of_job(
    job: Job, jobs: Sequence[Job], deliveries: Sequence[Delivery], headline: str, reason: str
) -> Iterator[Event]:
    words = f"because {reason}" if reason else "the job was queued"
    yield Event(job.queued_at, f"Matched by route {job.route}", words)
    yield from _read(job, headline)
    yield from _superseded(job, jobs)
    yield from _delivered(job, deliveries)


def _has_happened(event: Event) -> bool:
    return event.at is not None


def _time(event: Event) -> datetime:
    return event.at or datetime.max.replace(tzinfo=UTC)


def _received(completions: Sequence[KeptCompletion], reception: Reception | None) -> Iterator[Event]:
    senders = f"from {', '.join(reception.senders)}" if reception else ""
    times = [item.first_received_at for item in completions] + ([reception.first_received_at] if reception else [])
    first = min(times, default=None)
    if first:
        yield Event(first, "First instance received", senders)
    count, last = 0, first
    for completion in completions:
        arrivals = completion.instance_count - count
        if completion.last_received_at != last or not count:
            yield _last_received(completion, arrivals, is_late=bool(count), since=last)
        pause_s = (completion.at - completion.last_received_at).total_seconds()
        words = f"{counted(completion.instance_count, 'instance')}; {completion.reason}"
        yield Event(completion.at, "Complete" if not count else "Complete again", words, max(pause_s, 0.0))
        count, last = completion.instance_count, completion.last_received_at
    if reception and not reception.is_routed:
        is_late = bool(count)
        title = "Late instance received" if is_late else "Last instance so far received"
        yield Event(reception.last_received_at, title, f"{counted(reception.instance_count, 'instance')} here now")
        yield Event(None, "Waiting until the study is complete", "", None, "busy")


def _last_received(completion: KeptCompletion, arrivals: int, *, is_late: bool, since: datetime | None) -> Event:
    duration_s = (completion.last_received_at - since).total_seconds() if since else None
    if not is_late:
        return Event(completion.last_received_at, "Last instance received", counted(arrivals, "instance"), duration_s)
    words = (
        f"{counted(arrivals, 'more instance')}"
        if arrivals > 0
        else "instances came again, or others under the same UIDs"
    )
    return Event(completion.last_received_at, "Late instances received", words, duration_s, "warn")


def _read(job: Job, headline: str) -> Iterator[Event]:
    if job.state is JobState.WAITING:
        yield Event(None, "Waiting to be read", job.reason, None, "busy")
        return
    if job.reading_at:
        words = f"attempt {job.attempts}" if job.attempts > 1 else f"handler {job.handler}"
        waited_s = (job.reading_at - job.queued_at).total_seconds()
        yield Event(job.reading_at, "Reading began", words, waited_s)
    if job.state is JobState.READING:
        yield Event(None, "Being read", "", None, "busy")
        return
    yield from _answered(job, headline)


def _answered(job: Job, headline: str) -> Iterator[Event]:
    """Yield the end of a reading: the answer and the documents, the refusal or the failure."""
    if job.finished_at is None:
        return
    compose_s = job.overheads.get("compose", 0.0)
    if job.result:
        read_at = job.finished_at - timedelta(seconds=compose_s)
        is_refusal = bool(answer_values(job.result)["code"])
        title, words = ("Declined", headline or job.reason) if is_refusal else ("Read", headline)
        yield Event(read_at, title, words, max(job.seconds - compose_s, 0.0))
        if compose_s and not is_refusal:
            yield Event(job.finished_at, "Documents composed", job.withheld, compose_s)
    elif job.reason:
        is_cancelled = job.state is JobState.CANCELLED
        title, kind = ("Cancelled", "warn") if is_cancelled else ("Reading failed", "bad")
        yield Event(job.finished_at, title, job.reason, None, kind)


def _superseded(job: Job, jobs: Sequence[Job]) -> Iterator[Event]:
    if job.state is not JobState.SUPERSEDED:
        return
    later = [other for other in jobs if other.route == job.route and other.queued_at > job.queued_at]
    if later:
        words = f"a later reading by route {job.route} takes its place"
        yield Event(min(other.queued_at for other in later), "Replaced", words, None, "warn")


def _delivered(job: Job, deliveries: Iterable[Delivery]) -> Iterator[Event]:
    by_destination: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        by_destination.setdefault(delivery.destination, []).append(delivery)
    for destination, group in by_destination.items():
        yield from _sent(destination, group)
        yield from _confirmed(destination, group)
        yield from _checked(destination, group)
        if job.state is not JobState.SUPERSEDED:
            yield from _open(destination, group)


def _sent(destination: str, group: Sequence[Delivery]) -> Iterator[Event]:
    sent = [delivery for delivery in group if delivery.sent_at]
    if not sent:
        return
    tried = min((delivery.tried_at for delivery in sent if delivery.tried_at), default=None)
    last = max(delivery.sent_at for delivery in sent if delivery.sent_at)
    statuses = sorted({delivery.archive_status for delivery in sent if delivery.archive_status is not None})
    comments = dict.fromkeys(delivery.archive_comment for delivery in sent if delivery.archive_comment)
    words = [
        f"{len(sent)} of {len(group)} documents",
        *(f"status 0x{status:04X}" for status in statuses),
        *(f'the archive says: "{comment}"' for comment in comments),
    ]
    duration_s = (last - tried).total_seconds() if tried else None
    yield Event(last, f"Sent to {destination}", "; ".join(words), duration_s, "sent")


def _confirmed(destination: str, group: Sequence[Delivery]) -> Iterator[Event]:
    confirmed = [delivery for delivery in group if delivery.confirmed_at and delivery.state is DeliveryState.CONFIRMED]
    if not confirmed:
        return
    last = max(delivery.confirmed_at for delivery in confirmed if delivery.confirmed_at)
    sent = max((delivery.sent_at for delivery in confirmed if delivery.sent_at), default=None)
    proofs = ", ".join(sorted({delivery.proof for delivery in confirmed if delivery.proof}))
    is_whole = len(confirmed) == len(group)
    words = f"{len(confirmed)} of {len(group)} documents" + (f", by {proofs}" if proofs else "")
    duration_s = (last - sent).total_seconds() if sent else None
    title = f"Confirmed by {destination}" if is_whole else f"Confirmed by {destination} in part"
    yield Event(last, title, words, duration_s, "good" if is_whole else "warn")


def _checked(destination: str, group: Sequence[Delivery]) -> Iterator[Event]:
    """Yield that the archive was asked again and still had documents."""
    checked = [delivery.checked_at for delivery in group if delivery.checked_at]
    if checked:
        words = f"it still has {len(checked)} of {len(group)} documents; none of these was sent again"
        yield Event(max(checked), f"Asked {destination} again", words, None, "good")


def _open(destination: str, group: Sequence[Delivery]) -> Iterator[Event]:
    """Yield what has not arrived."""
    titles = {
        DeliveryState.WAITING: ("Waiting to be sent to", "busy"),
        DeliveryState.SENT: ("Sent, not confirmed by", "sent"),
        DeliveryState.CHECKING: ("Asked again whether it has the documents:", "busy"),
        DeliveryState.FAILED: ("Not delivered to", "bad"),
    }
    for state, (title, kind) in titles.items():
        unfinished = [delivery for delivery in group if delivery.state is state]
        if unfinished:
            reasons = dict.fromkeys(delivery.explanation for delivery in unfinished if delivery.explanation)
            words = "; ".join((f"{len(unfinished)} of {len(group)} documents", *reasons))
            yield Event(None, f"{title} {destination}", words, None, kind)
