"""How the documents of a job went to each destination, event by event. Pure.

The documents of the reading are told together, each addendum by itself: an addendum that is composed a month later
changes nothing of what happened to the report.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from ainode.node.console.study.events import Event
from ainode.node.console.study.meanings import proof_words, receipt_words
from ainode.node.domain import DeliveryState, JobState, counted
from ainode.node.keeping.job_events import JobEvent, JobEventKind, Subject, subject_of
from ainode.node.keeping.records import Delivery, Job

_OPEN: Final = {
    DeliveryState.WAITING: ("Waiting to be sent to {}", "Addendum waits to be sent to {}", "busy"),
    DeliveryState.SENT: ("Sent, not confirmed by {}", "Addendum sent, not confirmed by {}", "sent"),
    DeliveryState.CHECKING: (
        "Asked again whether it has the documents: {}",
        "Asked again whether it has the addendum: {}",
        "busy",
    ),
    DeliveryState.FAILED: ("Not delivered to {}", "Addendum not delivered to {}", "bad"),
}
"""the title of documents in a state, that of an addendum, and the color"""


_ASKED: Final = frozenset({JobEventKind.TRIED_AGAIN, JobEventKind.CHECKED_AGAIN})


@dataclass(frozen=True, slots=True)
class _Consignment:
    """Documents that went to a destination together."""

    destination: str
    is_addendum: bool
    deliveries: Sequence[Delivery]
    retried_at: Sequence[datetime]
    """when somebody had them delivered again"""

    def title(self, of_documents: str, of_addendum: str) -> str:
        """Return a title with the destination."""
        return (of_addendum if self.is_addendum else of_documents).format(self.destination)

    def share(self, part: Sequence[Delivery]) -> str:
        """Return how many of the documents something is said of; '' of an addendum, which is a document alone."""
        return "" if self.is_addendum else f"{len(part)} of {len(self.deliveries)} documents"

    def in_state(self, state: DeliveryState) -> list[Delivery]:
        """Return the deliveries in a state."""
        return [delivery for delivery in self.deliveries if delivery.state is state]


def delivered(job: Job, deliveries: Sequence[Delivery], events: Sequence[JobEvent]) -> Iterator[Event]:
    """Yield what happened to the documents of a job at each destination, and what is awaited."""
    for consignment in _consignments(deliveries, events):
        yield from _sent(consignment)
        yield from _replaced(consignment)
        yield from _confirmed(consignment)
        yield from _checked(consignment)
        if job.state is not JobState.SUPERSEDED:
            yield from _open(consignment)
    yield from _setbacks(events)


def asked_by(event: JobEvent) -> str:
    """Return who wanted something done again."""
    return f"by {event.person}" if event.person else "on the command line"


def _consignments(deliveries: Sequence[Delivery], events: Sequence[JobEvent]) -> Iterator[_Consignment]:
    groups: dict[tuple[str, Subject, str], list[Delivery]] = {}
    for delivery in deliveries:
        subject = subject_of(delivery.document.kind)
        name = delivery.document.ref.sop_instance_uid if subject is Subject.ADDENDUM else ""
        groups.setdefault((delivery.destination, subject, name), []).append(delivery)
    for (destination, subject, _), group in groups.items():
        retries = [
            event.at
            for event in events
            if event.kind in _ASKED and (event.destination, event.subject) == (destination, subject)
        ]
        yield _Consignment(destination, subject is Subject.ADDENDUM, group, retries)


def _sent(consignment: _Consignment) -> Iterator[Event]:
    sent = [delivery for delivery in consignment.deliveries if delivery.sent_at]
    if not sent:
        return
    last = max(delivery.sent_at for delivery in sent if delivery.sent_at)
    comments = dict.fromkeys(delivery.archive_comment for delivery in sent if delivery.archive_comment)
    words = [
        consignment.share(sent),
        receipt_words(sent),
        *(f'{sent[0].whom} says: "{comment}"' for comment in comments),
    ]
    tried = [delivery.tried_at for delivery in sent if delivery.tried_at]
    # What was given up is not sent for an hour: the sending begins again when somebody asks for it.
    begun = [min(tried), *(at for at in consignment.retried_at if at <= last)] if tried else []
    duration_s = (last - max(begun)).total_seconds() if begun else None
    yield Event(last, consignment.title("Sent to {}", "Addendum sent to {}"), _joined(*words), duration_s, "sent")


def _replaced(consignment: _Consignment) -> Iterator[Event]:
    """Yield that messages are not sent any more, for later ones have their place."""
    replaced = [delivery for delivery in consignment.deliveries if delivery.is_replaced and delivery.confirmed_at]
    if replaced:
        last = max(delivery.confirmed_at for delivery in replaced if delivery.confirmed_at)
        reasons = dict.fromkeys(delivery.explanation for delivery in replaced)
        title = consignment.title("Replaced before it reached {}", "Addendum replaced before it reached {}")
        yield Event(last, title, _joined(consignment.share(replaced), *reasons))


def _confirmed(consignment: _Consignment) -> Iterator[Event]:
    confirmed = [
        delivery
        for delivery in consignment.in_state(DeliveryState.CONFIRMED)
        if delivery.confirmed_at and not delivery.is_replaced
    ]
    if not confirmed:
        return
    last = max(delivery.confirmed_at for delivery in confirmed if delivery.confirmed_at)
    sent = max((delivery.sent_at for delivery in confirmed if delivery.sent_at), default=None)
    is_whole = len(confirmed) == sum(not delivery.is_replaced for delivery in consignment.deliveries)
    words = ", ".join(filter(None, (consignment.share(confirmed), proof_words(confirmed))))
    duration_s = (last - sent).total_seconds() if sent else None
    title = consignment.title("Confirmed by {}", "Addendum confirmed by {}")
    yield Event(last, title if is_whole else f"{title} in part", words, duration_s, "good" if is_whole else "warn")


def _checked(consignment: _Consignment) -> Iterator[Event]:
    """Yield that the archive was asked again and still had documents."""
    checked = [delivery for delivery in consignment.deliveries if delivery.checked_at]
    if checked:
        last = max(delivery.checked_at for delivery in checked if delivery.checked_at)
        words = f"it still has {consignment.share(checked)}; none of these was sent again"
        if consignment.is_addendum:
            words = "it still has the addendum, which was not sent again"
        title = consignment.title("Asked {} again", "Asked {} again for the addendum")
        yield Event(last, title, words, None, "good")


def _open(consignment: _Consignment) -> Iterator[Event]:
    """Yield what has not arrived."""
    for state, (of_documents, of_addendum, kind) in _OPEN.items():
        if unfinished := consignment.in_state(state):
            reasons = dict.fromkeys(delivery.explanation for delivery in unfinished if delivery.explanation)
            words = _joined(consignment.share(unfinished), *reasons)
            yield Event(None, consignment.title(of_documents, of_addendum), words, None, kind)


def _setbacks(events: Sequence[JobEvent]) -> Iterator[Event]:
    """Yield what was given up, and who wanted it delivered again."""
    for event in _together(events):
        documents = "" if event.subject is Subject.ADDENDUM else counted(event.count, "document")
        if event.subject is Subject.ADDENDUM and event.count > 1:
            documents = f"{event.count} addenda"
        subject = "Delivery of an addendum" if event.subject is Subject.ADDENDUM else "Delivery"
        match event.kind:
            case JobEventKind.GIVEN_UP:
                words = _joined(documents, f"after {counted(event.attempts, 'attempt')}", event.error)
                yield Event(event.at, f"{subject} to {event.destination} given up", words, None, "bad")
            case JobEventKind.TRIED_AGAIN:
                words = _joined(asked_by(event), documents)
                yield Event(event.at, f"{subject} to {event.destination} asked for again", words)
            case JobEventKind.CHECKED_AGAIN:
                words = _joined(asked_by(event), documents, "it is asked what it still has, and gets what it misses")
                yield Event(event.at, f"{subject} to {event.destination} asked for again", words)


def _together(events: Sequence[JobEvent]) -> Sequence[JobEvent]:
    """Return the events of deliveries; documents that one attempt lost for the same reason are one event."""
    counts: dict[JobEvent, int] = {}
    for event in events:
        if event.subject is not Subject.READING:
            alike = replace(event, count=0)
            counts[alike] = counts.get(alike, 0) + event.count
    return [replace(event, count=count) for event, count in counts.items()]


def _joined(*words: str) -> str:
    return "; ".join(filter(None, words))
