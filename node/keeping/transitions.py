"""Which state may follow which, of a job and of a delivery; the ledger changes a state by these tables alone."""

from collections.abc import Mapping
from typing import Final, TypeVar

from ainode.node.domain import DeliveryState, JobState

State = TypeVar("State", JobState, DeliveryState)

JOB: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.WAITING: frozenset(JobState) - {JobState.REPORTED, JobState.OUT_OF_SCOPE},
    # A reading that a kill cut off is begun again; a reading that failed for now waits for its next attempt.
    JobState.READING: frozenset(JobState) - {JobState.CANCELLED},
    JobState.FAILED: frozenset({JobState.WAITING, JobState.SUPERSEDED}),
    JobState.CANCELLED: frozenset({JobState.WAITING, JobState.SUPERSEDED}),
    JobState.REPORTED: frozenset({JobState.SUPERSEDED}),
    JobState.OUT_OF_SCOPE: frozenset({JobState.SUPERSEDED}),
    JobState.SUPERSEDED: frozenset(),
}
DELIVERY: Final[Mapping[DeliveryState, frozenset[DeliveryState]]] = {
    # An archive may confirm late, when the document waits again or was given up: the archive has the document.
    DeliveryState.WAITING: frozenset({DeliveryState.SENT, DeliveryState.FAILED, DeliveryState.CONFIRMED}),
    # A document that the archive does not list, or did not commit, is sent again.
    DeliveryState.SENT: frozenset(
        {DeliveryState.CONFIRMED, DeliveryState.WAITING, DeliveryState.FAILED, DeliveryState.CHECKING}
    ),
    # A person may send what the node gave up.
    DeliveryState.FAILED: frozenset(
        {DeliveryState.WAITING, DeliveryState.SENT, DeliveryState.CONFIRMED, DeliveryState.CHECKING}
    ),
    # Somebody may have deleted the document in the archive.
    DeliveryState.CONFIRMED: frozenset({DeliveryState.CHECKING}),
    DeliveryState.CHECKING: frozenset({DeliveryState.CONFIRMED, DeliveryState.WAITING, DeliveryState.FAILED}),
}


def before(state: State, table: Mapping[State, frozenset[State]]) -> tuple[State, ...]:
    """Return the states that `state` may follow."""
    return tuple(earlier for earlier, later in table.items() if state in later)
