"""What the intake takes: events of the receiver, counts of senders, announcements."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from ainode.node.domain import UID
from ainode.node.receiving.event_queue import EventQueue
from ainode.node.receiving.events import Event

# About two batches of the intake. More events wait in the receiver, and then its callers wait.
_QUEUED_EVENTS: Final = 2_000


@dataclass(frozen=True, slots=True)
class CountAnswered:
    """A sender answered how many instances a study has; None if the sender could not."""

    study_instance_uid: UID
    count: int | None


@dataclass(frozen=True, slots=True)
class StudyAnnounced:
    """The announcement of a study is new or has changed: somebody announced the study, or the study was pulled."""

    study_instance_uid: UID


@dataclass(frozen=True, slots=True)
class HandlerKnown:
    """A handler has told its weights, or failed to: a study that waits for the handler can be routed."""

    handler: str


@dataclass(frozen=True, slots=True)
class ReceiverLost:
    """A receiver ended, and another takes its place here: what it stored and could tell nobody lies in the spool."""


IntakeEvent: TypeAlias = Event | CountAnswered | StudyAnnounced | HandlerKnown | ReceiverLost


def intake_queue() -> EventQueue[IntakeEvent]:
    """Return the queue from which the intake takes its events."""
    return EventQueue(_QUEUED_EVENTS)
