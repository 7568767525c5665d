"""The thread that performs the workitems of one worklist: looks at what is open, and searches for more.

A worklist that is away delays its own items alone, and nothing is given up for it.
"""

import logging
import threading
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from ainode.node.archive import ups
from ainode.node.archive.web import WebLink
from ainode.node.archive.workitem import Workitem
from ainode.node.deciding.faults import attempt, reason_of
from ainode.node.domain import UID
from ainode.node.domain.pauses import back_off_s
from ainode.node.errors import ArchiveRefused, NodeError
from ainode.node.keeping.workitems import KeptWorkitem, WorkitemState
from ainode.node.settings import WorklistTable
from ainode.node.threads import WakeableThread
from ainode.node.workitems.claiming import Claiming
from ainode.node.workitems.ending import Ending
from ainode.node.workitems.following import Following
from ainode.node.workitems.parts import Parts, Refused, Worklist, words_of

log = logging.getLogger(__name__)
# How soon is seen what the node's own jobs did.
_LOOK_S: Final = 1.0
# An item that waits because its worklist is away is tried again after this time at the latest.
_LONGEST_PAUSE_S: Final = 60.0
# No pause is longer than this, or than the time between two searches.
_LONGEST_SEARCH_PAUSE_S: Final = 300.0
# How long a stop waits for a request that is under way.
_STOP_S: Final = 10.0
# Items of a search that are looked at, beside those that were left before.
_MOST_LOOKED_AT: Final = 100
# A search ends after so many items that could not be looked at: the worklist may be away. They come last the next time.
_MOST_FAULTS: Final = 3


class Performer(WakeableThread):
    """Performs the workitems of one worklist; `look` is one round."""

    def __init__(self, link: WebLink, table: WorklistTable, parts: Parts) -> None:
        super().__init__(f"worklist {link.peer.name}", stop_s=_STOP_S)
        worklist = Worklist(link, table, parts.settings.node.ae_title, {})
        self._worklist, self._parts = worklist, parts
        self._claiming, self._following = Claiming(worklist, parts), Following(worklist, parts)
        self._ending = Ending(worklist, parts, self._following)
        self._longest_pause_s = max(table.poll_s, _LONGEST_SEARCH_PAUSE_S)
        self._left: set[UID] = set()
        self._troubled: set[UID] = set()
        self._search_at: datetime | None = None
        self._failed_searches, self._is_away = 0, False
        self._is_search_wanted = threading.Event()

    def search_soon(self) -> None:
        """Search at once: the worklist reported something."""
        self._is_search_wanted.set()
        self.wake()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                attempt(self.look, lambda error: self._note_outage(words_of(error)))
            except (NodeError, OSError, MemoryError, SQLAlchemyError) as error:
                self._note_outage(reason_of(error))
            self._woken.wait(_LOOK_S)

    def look(self) -> None:
        """Do what can be done now for each open item; search for more when a search is due.

        Raises: DatabaseUnavailable; ArchiveError if the search failed.
        """
        now = self._parts.now()
        is_search_due = self._is_search_wanted.is_set() or self._is_over(self._search_at, now)
        for item in self._parts.workitems.open(self._worklist.name):
            if self._stopping.is_set():
                return
            if self._is_over(item.due_at, now):
                attempt(partial(self._step, item, asks=is_search_due), partial(self._postpone, item))
        if is_search_due:
            self._is_search_wanted.clear()
            self._search(now)

    def _is_over(self, due_at: datetime | None, now: datetime) -> bool:
        """Return whether a pause is over; one that is too long is of a clock that was set back."""
        return due_at is None or not now < due_at <= now + timedelta(seconds=self._longest_pause_s)

    def _step(self, item: KeptWorkitem, *, asks: bool) -> None:
        """Do what is next for an item.

        Raises: ArchiveError; DatabaseUnavailable.
        """
        match item.state:
            case WorkitemState.CLAIMING:
                self._claiming.resume(item)
            case WorkitemState.CLAIMED:
                self._following.fetch(item)
            case WorkitemState.READING:
                self._following.follow(item, asks=asks)
            case _:
                self._ending.end(item)

    def _postpone(self, item: KeptWorkitem, error: Exception) -> None:
        """Try again later; give up what the worklist refused often enough, and nothing for a worklist that is away."""
        retries, reason = self._parts.settings.delivery, words_of(error)
        attempts = item.attempts + 1
        if isinstance(error, Refused | ArchiveRefused) and attempts >= retries.attempts:
            self._ending.give_up(item, reason)
            return
        longest_s = min(retries.longest_wait_s, _LONGEST_PAUSE_S)
        pause_s = back_off_s(item.attempts, first_s=min(retries.first_wait_s, longest_s), longest_s=longest_s)
        due_at = self._parts.now() + timedelta(seconds=pause_s)
        self._parts.workitems.note(item, error=reason, attempts=attempts, due_at=due_at)
        if reason != item.error:
            about = {"action": "workitem_waits", "peer": item.peer, "sop_instance_uid": item.uid}
            log.warning("workitem waits: %s", reason, extra=about)

    def _search(self, now: datetime) -> None:
        """Claim what there is room for, the most urgent item first.

        Raises: ArchiveError; DatabaseUnavailable.
        """
        table, name = self._worklist.table, self._worklist.name
        self._failed_searches += 1
        pause_s = back_off_s(self._failed_searches - 1, first_s=table.poll_s, longest_s=self._longest_pause_s)
        self._search_at = now + timedelta(seconds=pause_s)
        room = table.most_claimed - len(self._parts.workitems.open(name))
        items = ups.search(self._worklist.link, table, _MOST_LOOKED_AT + len(self._left))
        recorded_uids = self._parts.workitems.recorded(name, [item.uid for item in items])
        new = [item for item in ups.first_of(items) if item.uid not in recorded_uids and item.uid not in self._left]
        faults: list[Exception] = []
        claimed_count = 0
        for item in sorted(new, key=lambda item: item.uid in self._troubled):
            if claimed_count >= room or len(faults) >= _MOST_FAULTS or self._stopping.is_set():
                break
            self._troubled.add(item.uid)
            claimed_count += attempt(partial(self._take_up, item), faults.append) or 0
        if faults and not claimed_count:
            raise faults[-1]
        self._failed_searches = 0
        self._search_at = now + timedelta(seconds=table.poll_s)
        self._note_outage("")

    def _take_up(self, item: Workitem) -> int:
        """Claim an item if the node can perform it; return how many items were claimed.

        Raises: ArchiveError; DatabaseUnavailable.
        """
        state = self._claiming.take_up(item)
        self._troubled.discard(item.uid)
        if state is WorkitemState.LEFT:
            self._left.add(item.uid)
        return int(state is WorkitemState.CLAIMED)

    def _note_outage(self, reason: str) -> None:
        """Log the begin and the end of an outage."""
        about = {"peer": self._worklist.name}
        if reason and not self._is_away:
            log.warning("worklist: %s", reason, extra={"action": "worklist_away", **about})
        elif self._is_away and not reason:
            log.info("worklist answers again", extra={"action": "worklist_back", **about})
        self._is_away = bool(reason)
