"""Sends the documents of a job to a destination and proves that they arrived."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydicom.uid import generate_uid

from ainode.node.archive import commitment
from ainode.node.archive.delivery import Transport, transport
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, SendOutcome
from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.errors import ConfigError, NodeError
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery
from ainode.node.settings import Peer, Settings

log = logging.getLogger(__name__)


class Courier:
    """Sends, confirms, gives up; the ledger holds every outcome before a method returns."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self.unconfirmed = tuple(peer.name for peer in settings.peers if peer.confirm == "none")
        """destinations without confirmation: a sent document is settled"""

    def deliver(self, job: str, destination: str, now: datetime) -> bool:
        """Send waiting documents, confirm sent documents; return whether every document is settled.

        A failure becomes the error of each unsettled document.

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
            for delivery in self._unsettled(job, destination):
                self._ledger.update(delivery, error=str(error))
        unsettled = self._unsettled(job, destination)
        if not unsettled:
            self._log_arrivals(job, peer)
        return not unsettled

    def _log_arrivals(self, job: str, peer: Peer) -> None:
        deliveries = self._ledger.deliveries(job, peer.name)
        count = sum(delivery.state in {DeliveryState.CONFIRMED, DeliveryState.SENT} for delivery in deliveries)
        about = {"action": "delivered", "job": job, "peer": peer.name}
        log.info("documents delivered: %d of %d", count, len(deliveries), extra=about)

    def give_up(self, job: str, destination: str, *, reason: str) -> None:
        """Make dead letters of the unsettled documents; a `reason` replaces their last error."""
        for delivery in self._unsettled(job, destination):
            error = reason or delivery.error or "sent, but the archive never confirmed it"
            self._ledger.update(delivery, state=DeliveryState.FAILED, error=error)
            log.error("delivery given up: %s", error, extra={"action": "dead_letter", "job": job, "peer": destination})

    def _in_state(self, job: str, destination: str, state: DeliveryState) -> tuple[Delivery, ...]:
        return tuple(delivery for delivery in self._ledger.deliveries(job, destination) if delivery.state is state)

    def _unsettled(self, job: str, destination: str) -> tuple[Delivery, ...]:
        """Return the deliveries to send or to confirm; a superseded job sends nothing more."""
        done = {DeliveryState.CONFIRMED, DeliveryState.FAILED}
        if destination in self.unconfirmed:
            done.add(DeliveryState.SENT)
        if self._ledger.job(job).state is JobState.SUPERSEDED:
            done.add(DeliveryState.WAITING)
        return tuple(delivery for delivery in self._ledger.deliveries(job, destination) if delivery.state not in done)

    def _link(self, peer: Peer) -> Link:
        return Link(peer, self._settings.node.ae_title, self._settings.node.network_timeout_s)

    def _transport(self, peer: Peer) -> Transport:
        return transport(peer, self._settings.node.ae_title, self._settings.node.network_timeout_s)

    def _send(self, peer: Peer, waiting: Sequence[Delivery], now: datetime) -> None:
        answers = self._transport(peer).send([Outgoing.of(delivery.document.path) for delivery in waiting])
        for delivery, answer in zip(waiting, answers, strict=True):
            values: dict[str, object] = {"archive_status": answer.status, "error": str(answer.error or "")}
            if answer.error is None:
                values |= {"state": DeliveryState.SENT, "sent_at": now, "transaction_uid": ""}
            elif not answer.error.retry:
                values |= {"state": DeliveryState.FAILED}
            self._ledger.update(delivery, **values)
        _log_refusals(peer, waiting[0].document.job, answers)

    def _query(self, peer: Peer, sent: Sequence[Delivery], now: datetime) -> None:
        confirmed = self._transport(peer).confirm_by_query([delivery.document.ref for delivery in sent])
        for delivery in sent:
            if delivery.document.ref.sop_instance_uid in confirmed:
                self._ledger.update(delivery, state=DeliveryState.CONFIRMED, proof="query", confirmed_at=now, error="")
            elif self._overdue(delivery, now):
                self._ledger.update(
                    delivery, state=DeliveryState.WAITING, error="the archive took it, but does not list it"
                )

    def _commit(self, peer: Peer, sent: Sequence[Delivery], now: datetime) -> None:
        """Request storage commitment; the archive reports now, or later on an association to our receiver."""
        uncommitted = [delivery for delivery in sent if not delivery.transaction_uid or self._overdue(delivery, now)]
        if not uncommitted:
            return
        transaction_uid = UID(generate_uid(prefix=None))
        # Written before the request: the report may arrive before this process goes on.
        for delivery in uncommitted:
            self._ledger.update(delivery, transaction_uid=transaction_uid, sent_at=now)
        refs = [delivery.document.ref for delivery in uncommitted]
        references = [commitment.SopReference(ref.sop_class_uid, ref.sop_instance_uid) for ref in refs]
        report = commitment.request_commitment(self._link(peer), references, transaction_uid=transaction_uid)
        if report is not None:
            self.settle(report, now)

    def settle(self, report: commitment.Commitment, now: datetime) -> None:
        """Write the storage commitment report of an archive into the ledger."""
        self._ledger.settle(
            report.transaction_uid,
            [reference.sop_instance_uid for reference in report.committed],
            {reference.sop_instance_uid: f"0x{reason:04X}" for reference, reason in report.failed},
            now,
        )

    def _overdue(self, delivery: Delivery, now: datetime) -> bool:
        wait = timedelta(seconds=self._settings.delivery.commitment_wait_s)
        return delivery.sent_at is None or now - delivery.sent_at > wait


def _log_refusals(peer: Peer, job: str, answers: Sequence[SendOutcome]) -> None:
    """Log why documents did not arrive: a line for each reason, not for each document."""
    reasons = {str(answer.error): answer.error.retry for answer in answers if answer.error}
    for reason, is_tried_again in reasons.items():
        if is_tried_again:
            log.warning(
                "delivery failed: %s", reason, extra={"action": "delivery_failed", "job": job, "peer": peer.name}
            )
        else:
            log.error("delivery given up: %s", reason, extra={"action": "dead_letter", "job": job, "peer": peer.name})
