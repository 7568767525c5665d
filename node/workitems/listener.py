"""The thread that subscribes to a worklist and listens to its event channel; searches by the clock go on beside it.

A channel that breaks is opened again, with a subscription anew: the worklist may have restarted without it. What was
reported meanwhile is found by a search.
"""

import logging
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from ainode.node.archive import ups
from ainode.node.archive.web import WebLink
from ainode.node.archive.workitem import CANCELED, COMPLETED
from ainode.node.deciding.faults import attempt, reason_of
from ainode.node.domain.pauses import back_off_s
from ainode.node.errors import DatabaseUnavailable, NodeError
from ainode.node.settings import WorklistTable
from ainode.node.threads import NodeThread
from ainode.node.workitems.parts import Parts, words_of
from ainode.node.workitems.performer import Performer

if TYPE_CHECKING:
    from ainode.node.archive.ups_channel import Event

log = logging.getLogger(__name__)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
# How soon a stop is seen, and how long a stop waits for a request that is under way.
_LOOK_S, _STOP_S = 0.5, 10.0


class Listener(NodeThread):
    """Hears of new items and of requests of cancellation; the subscription outlives a stop."""

    def __init__(self, link: WebLink, table: WorklistTable, parts: Parts, performer: Performer) -> None:
        super().__init__(f"events {link.peer.name}", stop_s=_STOP_S)
        self._link, self._table, self._parts, self._performer = link, table, parts, performer
        self._failures = 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                attempt(self.listen, lambda error: self._note_failure(words_of(error)))
            except (NodeError, OSError, MemoryError, SQLAlchemyError) as error:
                self._note_failure(reason_of(error))

    def listen(self) -> None:
        """Subscribe, open the channel, and take its events until it breaks or a stop is wanted.

        Raises: ArchiveError.
        """
        from ainode.node.archive import ups_channel  # noqa: PLC0415 - its library is an extra

        node = self._parts.settings.node
        address = ups.subscribe(self._link, node.ae_title, ups.filters(self._table))
        with ups_channel.channel(self._link, address) as channel:
            log.info(
                "worklist: the event channel is open", extra={"action": "channel_open", "peer": self._link.peer.name}
            )
            self._failures = 0
            self._performer.search_soon()
            for event in channel.events(_LOOK_S):
                if self._stopping.is_set():
                    return
                if event:
                    self._take(event)

    def _take(self, event: "Event") -> None:
        """Note what a report says; it comes once, so a database that is away is waited for."""
        from ainode.node.archive import ups_channel  # noqa: PLC0415 - its library is an extra

        name = self._link.peer.name
        if event.kind == ups_channel.CANCEL_REQUESTED:
            while not self._stopping.is_set():
                try:
                    is_own = self._parts.workitems.request_cancel(name, event.uid)
                except DatabaseUnavailable:
                    self._stopping.wait(_FIRST_PAUSE_S)
                    continue
                if is_own:
                    about = {"action": "cancel_requested", "peer": name, "sop_instance_uid": event.uid}
                    log.info("workitem: somebody requests its cancellation", extra=about)
                    self._performer.wake()
                return
        elif event.kind in {ups_channel.STATE_REPORT, ups_channel.ASSIGNED}:
            is_of_own = event.state in {COMPLETED, CANCELED} and self._parts.workitems.of(name, event.uid) is None
            if not is_of_own:
                self._performer.search_soon()

    def _note_failure(self, reason: str) -> None:
        if not self._failures:
            about = {"action": "channel_broken", "peer": self._link.peer.name}
            log.warning("worklist: %s; searches by the clock go on", reason, extra=about)
        pause_s = back_off_s(self._failures, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
        self._failures += 1
        self._stopping.wait(pause_s)
