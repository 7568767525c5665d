"""Storage commitment in both directions (PS3.4 annex J), behind the receiver.

An archive reports on documents that the node sent: the ledger keeps the report. A sender asks for instances that the
node received: the node answers on an association of its own.
"""

import logging
from datetime import datetime

from ainode.node.archive import commitment
from ainode.node.archive.dimse import Link
from ainode.node.domain import UID
from ainode.node.errors import ArchiveError
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.receiving.events import CommitmentReported, CommitmentRequested
from ainode.node.settings import Settings

log = logging.getLogger(__name__)
# PS3.3 C.14.1.1: no such object instance.
_NO_SUCH_INSTANCE = 0x0112


class Commitments:
    """Settles the reports of archives, answers the requests of senders."""

    def __init__(self, settings: Settings, catalog: Catalog, ledger: Ledger) -> None:
        self._settings, self._catalog, self._ledger = settings, catalog, ledger

    def settle(self, event: CommitmentReported, now: datetime) -> None:
        """Write the report of an archive into the ledger."""
        reasons = {uid: f"0x{reason:04X}" for uid, reason in event.failed}
        self._ledger.outbox.settle(event.transaction_uid, event.committed, reasons, now)

    def answer(self, event: CommitmentRequested) -> None:
        """Tell a sender which of its instances are on disk and indexed."""
        report = self._report(event.transaction_uid, [commitment.SopReference(*pair) for pair in event.references])
        peer = self._settings.peer_of_title(event.calling_ae_title)
        if peer is None:
            return
        try:
            node = self._settings.node
            commitment.report_commitment(Link(peer, node.ae_title, node.network_timeout_s), report)
        except ArchiveError as error:
            log.warning("commitment: %s", error, extra={"action": "commitment_unreported", "peer": peer.name})

    def _report(self, transaction_uid: UID, references: list[commitment.SopReference]) -> commitment.Commitment:
        stored = self._catalog.existing(reference.sop_instance_uid for reference in references)
        return commitment.Commitment(
            transaction_uid,
            tuple(reference for reference in references if reference.sop_instance_uid in stored),
            tuple(
                (reference, _NO_SUCH_INSTANCE) for reference in references if reference.sop_instance_uid not in stored
            ),
        )
