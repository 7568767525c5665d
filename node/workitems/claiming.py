"""Claims workitems: each claim is written with its Transaction UID before it is sent.

The answer to a claim may be lost. No worklist tells whose an item is (PS3.18 11.5.2), but only the owner may update it:
so an item that is in progress after such a claim is the node's own if an update with the Transaction UID is taken.
"""

import logging
from dataclasses import replace

from pydicom.uid import generate_uid

from ainode.node.archive import ups, workitem
from ainode.node.archive.workitem import IN_PROGRESS, SCHEDULED, Workitem
from ainode.node.domain import UID
from ainode.node.keeping.workitems import KeptWorkitem, WorkitemState
from ainode.node.workitems.inputs import Unreachable, images_of
from ainode.node.workitems.parts import Parts, Worklist, note, note_absent
from ainode.node.workitems.performing import performance


class Claiming:
    """Looks at items of one worklist and claims those that the node can perform."""

    def __init__(self, worklist: Worklist, parts: Parts) -> None:
        self._worklist, self._parts = worklist, parts

    def take_up(self, candidate: Workitem) -> WorkitemState | None:
        """Look at an item of a search, and claim it if its images can be fetched; None: it is not for the node now.

        Raises: ArchiveError; DatabaseUnavailable.
        """
        item = ups.retrieve(self._worklist.link, candidate.uid)
        if isinstance(item, ups.Absent) or not ups.is_for_node(item, self._worklist.table, self._worklist.ae_title):
            return None
        images = images_of(item, self._worklist.link.peer, self._parts.settings.peers)
        row = KeptWorkitem(self._worklist.name, candidate.uid, self._parts.now())
        if isinstance(images, Unreachable):
            left = replace(row, state=WorkitemState.LEFT, reason=images.reason)
            self._parts.workitems.add(left)
            note(left, "workitem_left", "left to others: %s", images.reason, level=logging.WARNING)
            return WorkitemState.LEFT
        lock = UID(generate_uid(prefix=None))
        claim = replace(row, study_instance_uid=images.study_instance_uid, source=images.source, transaction_uid=lock)
        return self._send(claim) if self._parts.workitems.add(claim) else None

    def resume(self, claim: KeptWorkitem) -> None:
        """Find out what became of a claim whose answer did not come, and claim the item if it is free still.

        Raises: ArchiveError; DatabaseUnavailable.
        """
        item = ups.retrieve(self._worklist.link, claim.uid)
        if isinstance(item, ups.Absent):
            note_absent(self._parts, claim, item)
        elif item.state == SCHEDULED:
            self._send(claim)
        elif item.state == IN_PROGRESS and self._is_own(claim, item):
            self._note_claimed(claim)
        else:
            self._note_taken(claim)

    def _send(self, claim: KeptWorkitem) -> WorkitemState:
        """Send a claim; a worklist that refuses it clearly has given the item to another performer, or to nobody."""
        answer = self._worklist.change_state(claim, IN_PROGRESS)
        if answer.is_performed:
            return self._note_claimed(claim)
        item = ups.retrieve(self._worklist.link, claim.uid)
        if isinstance(item, ups.Absent):
            note_absent(self._parts, claim, item)
            return WorkitemState.GONE
        if item.state == SCHEDULED:
            reason = f"the worklist refuses the claim (HTTP {answer.status}), and has it scheduled still"
            self._parts.workitems.move(claim, WorkitemState.LEFT, reason=reason)
            note(claim, "workitem_left", "left to others: %s", reason, level=logging.ERROR)
            return WorkitemState.LEFT
        return self._note_taken(claim)

    def _is_own(self, claim: KeptWorkitem, item: Workitem) -> bool:
        """Return whether the worklist takes an update with the Transaction UID of the claim."""
        performed = performance(item, self._worklist, self._parts, self._parts.now())
        answer = self._worklist.update(claim, workitem.progress(0, "claimed", performed))
        if answer.is_absent:
            note_absent(self._parts, claim, ups.Absent(is_deleted=False))
        return answer.is_performed

    def _note_taken(self, claim: KeptWorkitem) -> WorkitemState:
        self._parts.workitems.move(claim, WorkitemState.TAKEN, ended_at=self._parts.now())
        note(claim, "workitem_taken", "is another performer's")
        return WorkitemState.TAKEN

    def _note_claimed(self, claim: KeptWorkitem) -> WorkitemState:
        self._parts.workitems.move(claim, WorkitemState.CLAIMED, claimed_at=self._parts.now())
        note(claim, "workitem_claimed", "claimed")
        return WorkitemState.CLAIMED
