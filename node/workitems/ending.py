"""Ends a workitem as was decided and written: what its end needs first, then the state, then the row.

A kill between two of them repeats the steps: the worklist has the end already, or takes the same update once more.
"""

import logging
from typing import Any

from ainode.node.archive import ups, workitem
from ainode.node.archive.workitem import CANCELED, COMPLETED, FINAL_STATES, Cancellation, Workitem
from ainode.node.identity import on_clock
from ainode.node.keeping.workitems import KeptWorkitem, WorkitemState
from ainode.node.notifying.bodies import alert_notices
from ainode.node.workitems import verdicts
from ainode.node.workitems.following import Following
from ainode.node.workitems.parts import Parts, Refused, Worklist, note, note_absent
from ainode.node.workitems.performing import outputs_at, performance

_STATES = {COMPLETED: WorkitemState.COMPLETED, CANCELED: WorkitemState.CANCELED}


class Ending:
    """Ends the items of one worklist."""

    def __init__(self, worklist: Worklist, parts: Parts, following: Following) -> None:
        self._worklist, self._parts, self._following = worklist, parts, following

    def end(self, item: KeptWorkitem) -> None:
        """Bring an item to its final state in the worklist, and write that down.

        Raises: ArchiveError, Refused if the worklist does not take it; DatabaseUnavailable.
        """
        state = COMPLETED if item.state is WorkitemState.COMPLETING else CANCELED
        remote_item = ups.retrieve(self._worklist.link, item.uid)
        if isinstance(remote_item, ups.Absent):
            note_absent(self._parts, item, remote_item)
        elif remote_item.state in FINAL_STATES:
            self._note_end(item, remote_item.state, state)
        else:
            answer = self._worklist.update(item, self._dataset(item, remote_item))
            self._refuse(answer, "what the end of the workitem needs")
            self._refuse(self._worklist.change_state(item, state), f"the state {state} of the workitem")
            self._note_end(item, state, state)

    def give_up(self, item: KeptWorkitem, reason: str) -> None:
        """Note that the worklist does not take the end of an item, or knows the item no longer."""
        is_ending = item.state in {WorkitemState.COMPLETING, WorkitemState.CANCELING}
        state = WorkitemState.FAILED if is_ending else WorkitemState.GONE
        parts, now = self._parts, self._parts.now()
        words = f"workitem {item.uid} of {item.peer}: {reason}; `ainode retry {item.uid}` claims it again"
        parts.ledger.notices.keep(alert_notices(parts.settings, "workitem_given_up", words, now))
        parts.workitems.move(item, state, error=reason, ended_at=now)
        note(item, "workitem_given_up", "given up: %s", reason, level=logging.ERROR)

    def _dataset(self, item: KeptWorkitem, remote_item: Workitem) -> dict[str, Any]:
        settings = self._parts.settings
        courses = self._following.courses(item)
        places = verdicts.outputs(courses, settings.unconfirmed, self._worklist.name)
        performed = performance(remote_item, self._worklist, self._parts, item.begun_at)
        ended_at = on_clock(settings, item.decided_at or self._parts.now())
        outputs = outputs_at(places, settings)
        if item.state is WorkitemState.COMPLETING:
            return workitem.completion(outputs, performed, ended_at)
        code = verdicts.REASON_CODES.get(item.reason_code, verdicts.UNSPECIFIED)
        canceled = Cancellation(item.reason, code, ended_at)
        return workitem.cancellation(canceled, max(item.percent, 0), outputs, performed)

    def _refuse(self, answer: ups.Answer, step: str) -> None:
        if not answer.is_performed:
            raise Refused(f"{self._worklist.name}: does not take {step} (HTTP {answer.status})", comment=answer.words)

    def _note_end(self, item: KeptWorkitem, state: str, end_state: str) -> None:
        reason = item.reason if state == end_state else f"the worklist has it as {state}, and the node did not do that"
        self._parts.workitems.move(item, _STATES[state], reason=reason, ended_at=self._parts.now())
        note(item, "workitem_ended", "%s", state.lower())
