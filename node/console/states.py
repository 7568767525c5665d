"""The state of a study or a reading in words, the same on every page."""

from typing import Final

from ainode.node.keeping.worklist import EntryState

STATE_WORDS: Final = {
    EntryState.ANNOUNCED: "announced",
    EntryState.RECEIVING: "receiving",
    EntryState.NO_ROUTE: "no route matched",
    EntryState.SET_ASIDE: "files unusable",
    EntryState.REJECTED: "rejected by a note",
    EntryState.WAITING: "waiting",
    EntryState.READING: "being read",
    EntryState.REPORTED: "read",
    EntryState.OUT_OF_SCOPE: "declined: not for the model",
    EntryState.FAILED: "failed",
    EntryState.CANCELLED: "cancelled",
    EntryState.WITHDRAWN: "withdrawn",
    EntryState.SUPERSEDED: "replaced by a later reading",
}
"""in the order in which a study goes through them"""


def state_words(state: str) -> str:
    """Return a state in words."""
    return STATE_WORDS[EntryState(state)]
