"""Sends the documents of a job to a destination and proves that they arrived."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from pydicom.uid import generate_uid

from ainode.node.archive import commitment
from ainode.node.archive.delivery import Transport, transport
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, SendOutcome
from ainode.node.disk import sha256_of
from ainode.node.domain import UID, DeliveryState
from ainode.node.errors import ArchiveUnreachable, ConfigError, NodeError
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery
from ainode.node.settings import Peer, Settings

log = logging.getLogger(__name__)


class Courier:
    """Sends, confirms, gives up; the ledger holds every outcome before a method returns."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger, self._outbox = ledger, ledger.outbox
        self.unconfirmed = tuple(peer.name for peer in settings.peers if peer.confirm == "none")
        """destinations without confirmation: a sent document is settled"""

    def send(self, job: str, destination: str, now: datetime) -> bool:
        """Send the waiting documents of a job; return False if some wait for another attempt.

        A failure of the whole becomes the error of each document that waits.

        Raises: ConfigError if node.toml has no such peer any more.
        """
        peer = self._settings.peer(destination)
        waiting = self._outbox.claim(job, destination, now)
        try:
            is_done = not waiting or self._send(peer, waiting, now)
        except ConfigError:
            raise
        except (NodeError, OSError) as error:
            self._note(job, destination, DeliveryState.WAITING, error)
            return False
        if waiting and is_done and destination in self.unconfirmed:
            self._log_arrivals(job, destination)
        return is_done

    def confirm(self, job: str, destination: str, now: datetime) -> bool:
        """Ask for a proof that the sent documents of a job arrived; return False if some are to be asked for again.

        Raises: ConfigError if node.toml has no such peer any more.
        """
        peer = self._settings.peer(destination)
        try:
            if unconfirmed := self._outbox.unconfirmed(job, destination):
                (self._query if peer.confirm == "query" else self._commit)(peer, unconfirmed, now)
        except ConfigError:
            raise
        except (NodeError, OSError) as error:
            self._note(job, destination, DeliveryState.SENT, error)
        is_done = not self._outbox.unconfirmed(job, destination)
        if is_done:
            self._log_arrivals(job, destination)
        return is_done

    def give_up(self, job: str, destination: str, state: DeliveryState, *, reason: str = "") -> None:
        """Make dead letters of the documents in a state; a `reason` replaces their last error."""
        for delivery in self._outbox.give_up(job, destination, state, error=reason):
            _log_dead_letter(delivery, delivery.error)

    def _note(self, job: str, destination: str, state: DeliveryState, error: NodeError | OSError) -> None:
        about = {"action": "delivery_failed", "job": job, "peer": destination}
        log.warning("delivery failed: %s", error, extra=about)
        self._outbox.failed_for_now(job, destination, state, error=str(error))

    def _log_arrivals(self, job: str, destination: str) -> None:
        deliveries = self._outbox.of(job, destination)
        count = sum(delivery.state in {DeliveryState.CONFIRMED, DeliveryState.SENT} for delivery in deliveries)
        about = {"action": "delivered", "job": job, "peer": destination}
        log.info("documents delivered: %d of %d", count, len(deliveries), extra=about)

    def _link(self, peer: Peer) -> Link:
        return Link(peer, self._settings.node.ae_title, self._settings.node.network_timeout_s)

    def _transport(self, peer: Peer) -> Transport:
        return transport(peer, self._settings.node.ae_title, self._settings.node.network_timeout_s)

    def _send(self, peer: Peer, waiting: Sequence[Delivery], now: datetime) -> bool:
        """Send documents whose bytes are those that were composed; return whether each has a final answer."""
        whole = [delivery for delivery in waiting if self._is_whole(delivery)]
        answers = self._transport(peer).send([Outgoing.of(delivery.document.path) for delivery in whole])
        reasons: set[str] = set()
        for delivery, answer in zip(whole, answers, strict=True):
            error = answer.error or _refusal_of_unproven(peer, answer)
            if error is None:
                self._outbox.sent(delivery, status=answer.status, at=now)
            elif error.retry:
                reasons.add(str(error))
            else:
                self._outbox.refused(delivery, status=answer.status, error=str(error))
                _log_dead_letter(delivery, f"refused with status {_hexadecimal(answer.status)}")
        for reason in reasons:
            self._note(waiting[0].document.job, peer.name, DeliveryState.WAITING, ArchiveUnreachable(reason))
        return not reasons

    def _is_whole(self, delivery: Delivery) -> bool:
        """Return whether the bytes of a document are those that were composed; a changed document never leaves."""
        document = delivery.document
        if document.path.exists() and sha256_of(document.path) == document.sha256:
            return True
        error = "the document on disk is gone or changed and is not sent; `ainode replay` makes it anew"
        self._outbox.refused(delivery, status=None, error=error)
        _log_dead_letter(delivery, error)
        return False

    def _query(self, peer: Peer, sent: Sequence[Delivery], now: datetime) -> None:
        confirmed = self._transport(peer).confirm_by_query([delivery.document.ref for delivery in sent])
        for delivery in sent:
            if delivery.document.ref.sop_instance_uid in confirmed:
                self._outbox.confirmed(delivery, proof="query", at=now)
            elif self._overdue(delivery, now):
                self._outbox.missing(delivery, error="the archive took it, but does not list it")

    def _commit(self, peer: Peer, sent: Sequence[Delivery], now: datetime) -> None:
        """Request storage commitment; the archive reports now, or later on an association to our receiver."""
        uncommitted = [delivery for delivery in sent if not delivery.transaction_uid or self._overdue(delivery, now)]
        if not uncommitted:
            return
        transaction_uid = UID(generate_uid(prefix=None))
        # Written before the request: the report may arrive before this process goes on.
        self._outbox.asked(uncommitted, transaction_uid, now)
        refs = [delivery.document.ref for delivery in uncommitted]
        references = [commitment.SopReference(ref.sop_class_uid, ref.sop_instance_uid) for ref in refs]
        commitment.request_commitment(
            self._link(peer), references, transaction_uid=transaction_uid, keep=partial(self.settle, now=now)
        )

    def settle(self, report: commitment.Commitment, now: datetime) -> None:
        """Write the storage commitment report of an archive into the ledger."""
        self._outbox.settle(
            report.transaction_uid,
            [reference.sop_instance_uid for reference in report.committed],
            {reference.sop_instance_uid: f"0x{reason:04X}" for reference, reason in report.failed},
            now,
        )

    def _overdue(self, delivery: Delivery, now: datetime) -> bool:
        wait = timedelta(seconds=self._settings.delivery.commitment_wait_s)
        return delivery.sent_at is None or now - delivery.sent_at > wait


def _refusal_of_unproven(peer: Peer, answer: SendOutcome) -> ArchiveUnreachable | None:
    """Return the error of a document that no answer proves, where nobody asks the archive for a proof later."""
    if answer.is_proven or peer.confirm != "none":
        return None
    return ArchiveUnreachable(
        f'{peer.name}: reports success, and does not name what it stored: set confirm = "query" for this [[peer]], or '
        "correct its address `dicomweb` (a proxy or a sign-in page answers so); the documents will be tried again"
    )


def _log_dead_letter(delivery: Delivery, reason: str) -> None:
    uid = delivery.document.ref.sop_instance_uid
    about = {"action": "dead_letter", "job": delivery.document.job, "peer": delivery.destination}
    log.error("delivery given up: %s", reason, extra={**about, "sop_instance_uid": uid})


def _hexadecimal(status: int | None) -> str:
    return "none" if status is None else f"0x{status:04X}"
