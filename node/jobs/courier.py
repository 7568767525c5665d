"""Takes a job's documents to one destination and brings back the proof that they arrived."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydicom.uid import generate_uid

from ainode.node.archive import commitment
from ainode.node.archive.delivery import Transport, transport
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing
from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.errors import ConfigError, NodeError
from ainode.node.keeping.ledger import Delivery, Ledger
from ainode.node.settings import Peer, Settings

log = logging.getLogger(__name__)


class Courier:
    """Sends, confirms, gives up; what it did stands in the ledger before it returns."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self.unconfirmed = tuple(peer.name for peer in settings.peers if peer.confirm == "none")
        """the destinations where a document is done once it is sent"""

    def deliver(self, job: str, destination: str, now: datetime) -> bool:
        """Send what waits, confirm what was sent; return whether nothing is left to do.

        What fails stands as the error of each document that is neither confirmed nor refused.

        Raises: ConfigError.
        """
        peer = self._settings.peer(destination)
        waiting = self._ledger.claim(job, destination, now)
        try:
            if waiting:
                self._send(peer, waiting, now)
            sent = self._in_state(job, destination, DeliveryState.SENT)
            if sent and peer.confirm == "query":
                self._query(peer, sent, now)
            elif sent and peer.confirm == "commitment":
                self._commit(peer, sent, now)
        except ConfigError:
            raise
        except (NodeError, OSError) as error:
            about = {"action": "delivery_failed", "job": job, "peer": destination}
            log.warning("delivery failed: %s", error, extra=about)
            for one in self._unsettled(job, destination):
                self._ledger.update(one, error=str(error))
        return not self._unsettled(job, destination)

    def give_up(self, job: str, destination: str, *, why: str) -> None:
        """Make dead letters of what is neither confirmed nor refused; `why` replaces the last error."""
        for one in self._unsettled(job, destination):
            error = why or one.error or "sent, but the archive never confirmed it"
            self._ledger.update(one, state=DeliveryState.FAILED, error=error)
            log.error("delivery given up: %s", error, extra={"action": "dead_letter", "job": job, "peer": destination})

    def _in_state(self, job: str, destination: str, state: DeliveryState) -> tuple[Delivery, ...]:
        return tuple(one for one in self._ledger.deliveries(job, destination) if one.state is state)

    def _unsettled(self, job: str, destination: str) -> tuple[Delivery, ...]:
        """Return what is still to be sent or confirmed: nothing that only waits of a superseded job."""
        done = {DeliveryState.CONFIRMED, DeliveryState.FAILED}
        if destination in self.unconfirmed:
            done.add(DeliveryState.SENT)
        if self._ledger.job(job).state is JobState.SUPERSEDED:
            done.add(DeliveryState.WAITING)
        return tuple(one for one in self._ledger.deliveries(job, destination) if one.state not in done)

    def _link(self, peer: Peer) -> Link:
        return Link(peer, self._settings.node.ae_title, self._settings.node.network_timeout_s)

    def _transport(self, peer: Peer) -> Transport:
        return transport(peer, self._settings.node.ae_title, self._settings.node.network_timeout_s)

    def _send(self, peer: Peer, waiting: Sequence[Delivery], now: datetime) -> None:
        answers = self._transport(peer).send([Outgoing.of(one.document.path) for one in waiting])
        for one, answer in zip(waiting, answers, strict=True):
            values: dict[str, object] = {"archive_status": answer.status, "error": str(answer.error or "")}
            if answer.error is None:
                values |= {"state": DeliveryState.SENT, "sent_at": now, "transaction_uid": ""}
            elif not answer.error.retry:
                values |= {"state": DeliveryState.FAILED}
            self._ledger.update(one, **values)

    def _query(self, peer: Peer, sent: Sequence[Delivery], now: datetime) -> None:
        found = self._transport(peer).confirm_by_query([one.document.ref for one in sent])
        for one in sent:
            if one.document.ref.sop_instance_uid in found:
                self._ledger.update(one, state=DeliveryState.CONFIRMED, proof="query", confirmed_at=now, error="")
            elif self._overdue(one, now):
                self._ledger.update(one, state=DeliveryState.WAITING, error="the archive took it, but does not list it")

    def _commit(self, peer: Peer, sent: Sequence[Delivery], now: datetime) -> None:
        """Ask for commitment; the report comes now, or later on an association to our receiver."""
        asked = [one for one in sent if not one.transaction_uid or self._overdue(one, now)]
        if not asked:
            return
        transaction_uid = UID(generate_uid(prefix=None))
        # before the request: the report may be faster than this process
        for one in asked:
            self._ledger.update(one, transaction_uid=transaction_uid, sent_at=now)
        refs = [
            commitment.SopReference(one.document.ref.sop_class_uid, one.document.ref.sop_instance_uid) for one in asked
        ]
        report = commitment.request_commitment(self._link(peer), refs, transaction_uid=transaction_uid)
        if report is not None:
            self.settle(report, now)

    def settle(self, report: commitment.Commitment, now: datetime) -> None:
        """Keep an archive's storage commitment report, on whichever association it came."""
        self._ledger.settle(
            report.transaction_uid,
            [one.sop_instance_uid for one in report.committed],
            {one.sop_instance_uid: f"0x{reason:04X}" for one, reason in report.failed},
            now,
        )

    def _overdue(self, one: Delivery, now: datetime) -> bool:
        wait = timedelta(seconds=self._settings.delivery.commitment_wait_s)
        return one.sent_at is None or now - one.sent_at > wait
