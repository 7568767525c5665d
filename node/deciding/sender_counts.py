"""Asks the sender of a study how many instances the study has (PS3.4 C.4.1), without holding up the intake."""

from collections.abc import Callable
from functools import partial

from ainode.node.archive import query
from ainode.node.archive.audited import query_of
from ainode.node.archive.dimse import Link
from ainode.node.audit.messages import Message
from ainode.node.audit.recorder import drop
from ainode.node.deciding.events import CountAnswered
from ainode.node.deciding.intake_thread import Errands
from ainode.node.domain import UID, InstanceRef
from ainode.node.keeping.ledger import Ledger
from ainode.node.settings import Peer, Settings


def own_documents(ledger: Ledger, study: UID) -> tuple[InstanceRef, ...]:
    """Return the node's own documents of a study: an archive counts and lists them, and does not owe them."""
    return tuple(document.ref for job in ledger.jobs(study=study) for document in ledger.documents(job.id))


class SenderCounts:
    """Asks the senders that are peers of the node; each count comes back as an event of the intake."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        errands: Errands,
        put: Callable[[CountAnswered], None],
        record: Callable[[Message], None] = drop,
    ) -> None:
        self._settings, self._ledger, self._errands, self._put, self._record = settings, ledger, errands, put, record

    def ask(self, ae_title: str, study: UID) -> None:
        """Ask the peer of that AE title for the count of a study; do nothing if no peer has the title."""
        peer = self._settings.peer_of_title(ae_title)
        if peer:
            self._errands.run(partial(self._ask_peer, peer, study))

    def _ask_peer(self, peer: Peer, study: UID) -> None:
        node = self._settings.node
        self._record(query_of(peer))
        link = Link(peer, node.ae_title, node.network_timeout_s)
        self._put(CountAnswered(study, query.expected_count(link, study, own_documents(self._ledger, study))))
