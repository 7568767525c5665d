"""The workitems of a study in its course. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from ainode.node.console.study.events import Event
from ainode.node.keeping.workitems import OPEN, KeptWorkitem, WorkitemState

_ENDS: Final = {
    WorkitemState.TAKEN: ("Workitem claimed by another performer", "plain"),
    WorkitemState.COMPLETED: ("Workitem completed", "good"),
    WorkitemState.CANCELED: ("Workitem canceled", "warn"),
    WorkitemState.GONE: ("Workitem gone from the worklist", "warn"),
    WorkitemState.FAILED: ("End of the workitem given up", "bad"),
}
_STEPS: Final = {
    WorkitemState.CLAIMING: "Workitem being claimed",
    WorkitemState.CLAIMED: "Workitem in progress",
    WorkitemState.READING: "Workitem in progress",
    WorkitemState.COMPLETING: "Worklist to be told that the workitem is completed",
    WorkitemState.CANCELING: "Worklist to be told that the workitem is canceled",
}


def workitem_events(items: Iterable[KeptWorkitem]) -> Iterator[Event]:
    """Yield the claim and the end of each workitem, and what is awaited of an open one."""
    for item in items:
        worklist = f"worklist of {item.peer}"
        if item.claimed_at:
            yield Event(item.claimed_at, "Workitem claimed", worklist)
        if item.decided_at and item.state in {WorkitemState.CANCELING, WorkitemState.CANCELED}:
            yield Event(item.decided_at, "Workitem to be canceled", item.reason, None, "warn")
        if item.ended_at and item.state in _ENDS:
            title, kind = _ENDS[item.state]
            yield Event(item.ended_at, title, item.explanation or worklist, None, kind)
        elif item.state in OPEN:
            yield Event(None, _STEPS[item.state], item.explanation or worklist, None, "busy")
