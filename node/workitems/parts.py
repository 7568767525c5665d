"""What the performer of workitems uses of the node, and what it says of them in the log."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ainode.node import logs
from ainode.node.archive import ups
from ainode.node.archive.ups import Absent, Answer, Form, Lock
from ainode.node.archive.web import WebLink
from ainode.node.deciding.faults import reason_of
from ainode.node.errors import ArchiveUnreachable, NodeError
from ainode.node.keeping.announcements import Announcement, Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.workitems import KeptWorkitem, Workitems, WorkitemState
from ainode.node.settings import Settings, WorklistTable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the node that a performer uses."""

    settings: Settings
    workitems: Workitems
    announcements: Announcements
    catalog: Catalog
    ledger: Ledger
    on_announced: Callable[[Announcement], None]
    """called after the announcement of a study is committed"""
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Worklist:
    """The worklist of one peer."""

    link: WebLink
    table: WorklistTable
    ae_title: str
    """of the node"""
    forms: dict[str, Form]
    """the forms of a Transaction UID that the worklist has taken, by request; what is forgotten is tried again"""

    @property
    def name(self) -> str:
        """Return the name of the peer."""
        return self.link.peer.name

    def change_state(self, item: KeptWorkitem, state: str) -> Answer:
        """Ask for a state of an item, in the form that worked before.

        Raises: ArchiveError: the worklist may have changed the state all the same.
        """
        return self._remembered("state", ups.change_state(self.link, self._lock(item), state, self._form("state")))

    def update(self, item: KeptWorkitem, dataset: Mapping[str, Any]) -> Answer:
        """Change attributes of an item, in the form that worked before.

        Raises: ArchiveError.
        """
        return self._remembered("update", ups.update(self.link, self._lock(item), dataset, self._form("update")))

    def _lock(self, item: KeptWorkitem) -> Lock:
        return Lock(item.uid, item.transaction_uid, self.ae_title)

    def _form(self, request: str) -> Form:
        return self.forms.get(request, Form.BOTH)

    def _remembered(self, request: str, answer: Answer) -> Answer:
        if answer.is_performed:
            self.forms[request] = answer.form
        return answer


class Refused(ArchiveUnreachable):
    """The worklist refuses what it has to take, or has lost the item: tried again some times, then given up."""


def words_of(error: Exception) -> str:
    """Return why something failed; of a fault of the code the places in the code, and no word of a library."""
    return reason_of(error) if isinstance(error, NodeError | OSError) else logs.raised_at(error)


def note_absent(parts: Parts, item: KeptWorkitem, absent: Absent) -> None:
    """Write down that the worklist deleted an item.

    Raises: Refused if the worklist does not know the item, which it may while it starts; DatabaseUnavailable.
    """
    if not absent.is_deleted:
        raise Refused(f"{item.peer}: the worklist does not know the workitem (any more)")
    parts.workitems.move(item, WorkitemState.GONE, reason="the worklist deleted it", ended_at=parts.now())
    note(item, "workitem_gone", "was deleted")


def note(item: KeptWorkitem, action: str, words: str, *values: object, level: int = logging.INFO) -> None:
    """Log what became of an item."""
    about: dict[str, str] = {"action": action, "peer": item.peer, "sop_instance_uid": item.uid}
    if item.study_instance_uid:
        about["study_instance_uid"] = item.study_instance_uid
    log.log(level, f"workitem {words}", *values, extra=about)  # noqa: G004 - constant words of the callers
