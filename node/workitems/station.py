"""The performers of all worklists as one station of the node."""

import logging

from ainode.node.archive.web import WebLink
from ainode.node.workitems.listener import Listener
from ainode.node.workitems.parts import Parts
from ainode.node.workitems.performer import Performer

log = logging.getLogger(__name__)


class Performers:
    """A performer for each worklist, and a listener where the worklist reports events."""

    def __init__(self, parts: Parts) -> None:
        self._threads: list[Performer | Listener] = []
        self._orphans = parts.workitems.open_elsewhere([peer.name for peer in parts.settings.peers if peer.worklist])
        for peer in parts.settings.peers:
            if peer.worklist:
                link = WebLink(peer, parts.settings.node.network_timeout_s)
                performer = Performer(link, peer.worklist, parts)
                self._threads.append(performer)
                if peer.worklist.subscribe:
                    self._threads.append(Listener(link, peer.worklist, parts, performer))

    def start(self) -> None:
        """Go on with what a kill left, and look for more."""
        for name, count in self._orphans.items():
            message = "worklist: %d claimed items are performed by nobody: restore [peer.worklist] of this [[peer]]"
            log.error(message, count, extra={"action": "workitems_orphaned", "peer": name})
        for thread in self._threads:
            thread.start()

    def is_alive(self) -> bool:
        """Return whether every thread runs."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """End after the requests that are under way."""
        for thread in reversed(self._threads):
            thread.stop()
