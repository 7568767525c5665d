"""Sends the documents of a job to a destination and proves that they arrived."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from pydicom.uid import generate_uid

from ainode.node.archive import commitment
from ainode.node.archive.audited import transfers_to
from ainode.node.archive.delivery import Transport, transport
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, SendOutcome, always
from ainode.node.audit.messages import Message
from ainode.node.audit.recorder import drop
from ainode.node.disk import sha256_of
from ainode.node.domain import UID, DeliveryState, DocumentKind
from ainode.node.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnreachable,
    ConfigError,
    DatabaseUnavailable,
    NodeError,
    NotSent,
)
from ainode.node.identity import correction_uid, message_kind
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, KeptDocument
from ainode.node.settings import Peer, Settings

log = logging.getLogger(__name__)
_UNREPORTED: Final = (
    "the archive took it and the request to commit it, and has not reported; a report that comes is taken, "
    "`ainode retry` asks again"
)
_MADE_FOR: Final = {DocumentKind.MESSAGE: "a listener for HL7 messages", DocumentKind.BUNDLE: "a FHIR server"}
_CONTAINED: Final = "not sent any more: a later transaction of the job, which says the same and more, was done"
_REPLACED: Final = "not sent any more: a later message of the job has its place"
_CHANGED: Final = "the archive does not list it, by its own UID neither; it is not sent again"


class Courier:
    """Sends, confirms, gives up; the ledger holds every outcome before a method returns."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        record: Callable[[Message], None] = drop,
        may_leave: Callable[[], None] = always,
        *,
        report_wait_s: float = commitment.REPORT_WAIT_S,
    ) -> None:
        """Keep the arguments; `record` writes into the audit trail, `may_leave` is asked before each document.

        A request for storage commitment waits `report_wait_s` for its report on the same association.
        """
        self._report_wait_s = report_wait_s
        self._settings, self._record, self._may_leave = settings, record, may_leave
        self._ledger, self._outbox = ledger, ledger.outbox
        self.unconfirmed = settings.unconfirmed
        """destinations without confirmation: a sent document is settled"""

    def send(self, job: str, destination: str, now: datetime) -> bool:
        """Send the waiting documents of a job; return False if some wait for another attempt.

        A failure of the whole becomes the error of each document that waits.

        Raises: ConfigError if node.toml has no such peer any more; DatabaseUnavailable.
        """
        peer = self._settings.peer(destination)
        waiting = self._outbox.claim(job, destination, now)
        try:
            is_done = not waiting or self._send(peer, waiting, now)
        except (ConfigError, DatabaseUnavailable):
            raise
        except (NodeError, OSError) as error:
            self._note(job, destination, DeliveryState.WAITING, error)
            return False
        if waiting and is_done and destination in self.unconfirmed:
            self._log_arrivals(job, destination)
        return is_done

    def confirm(self, job: str, destination: str, now: datetime) -> bool:
        """Ask for a proof that the sent documents of a job arrived; return False if some are to be asked for again.

        Raises: ConfigError if node.toml has no such peer any more; DatabaseUnavailable.
        """
        peer = self._settings.peer(destination)
        try:
            if unconfirmed := self._outbox.unconfirmed(job, destination):
                (self._query if peer.confirm == "query" else self._commit)(peer, unconfirmed, now)
        except (ConfigError, DatabaseUnavailable):
            raise
        except (NodeError, OSError) as error:
            self._note(job, destination, DeliveryState.SENT, error)
        is_done = not self._outbox.unconfirmed(job, destination)
        if is_done:
            self._log_arrivals(job, destination)
        return is_done

    def check(self, job: str, destination: str, now: datetime) -> bool:
        """Ask a destination which documents of a job it still has, and let the others be sent again.

        All are sent again to a destination that cannot be asked. Return False if the destination is to be asked again.

        Raises: ConfigError if node.toml has no such peer any more; DatabaseUnavailable.
        """
        checking = self._outbox.checking(job, destination)
        refs = [delivery.document.ref for delivery in checking]
        present: frozenset[UID] = frozenset()
        error = "the archive does not have it any more; it is sent again"
        try:
            present = self._transport(self._settings.peer(destination)).confirm_by_query(refs)
        except (ConfigError, DatabaseUnavailable):
            raise
        except ArchiveRefused:
            error = "the archive does not answer what it has; it is sent again"
        except (NodeError, OSError) as failure:
            self._note(job, destination, DeliveryState.CHECKING, failure)
            return False
        for delivery in checking:
            if delivery.document.ref.sop_instance_uid in present:
                self._outbox.confirmed(delivery, proof="query", at=now)
            else:
                self._outbox.missing(delivery, error=error)
        about = {"action": "checked", "job": job, "peer": destination}
        log.info("documents still there: %d of %d", len(present), len(checking), extra=about)
        return True

    def give_up(self, job: str, destination: str, state: DeliveryState, now: datetime, *, reason: str = "") -> None:
        """Make dead letters of the documents in a state; a `reason` replaces their last error.

        A document that an archive was asked to commit stays sent, for its report may come at any time; so does a
        document that the archive changed, for nobody can ask for the document.
        """
        if state is DeliveryState.SENT and not reason:
            sent = self._outbox.unconfirmed(job, destination)
            changed = [delivery for delivery in sent if delivery.is_taken_with_warning]
            unreported = [delivery for delivery in sent if delivery.transaction_uid and delivery not in changed]
            self._outbox.settle_unproven(changed, error=_CHANGED)
            self._outbox.settle_unproven(unreported, error=_UNREPORTED)
            if unreported:
                about = {"action": "not_committed", "job": job, "peer": destination}
                log.warning("documents not committed so far: %d", len(unreported), extra=about)
        for delivery in self._outbox.give_up(job, destination, state, at=now, error=reason):
            _log_dead_letter(delivery, delivery.error)

    def _note(self, job: str, destination: str, state: DeliveryState, error: NodeError | OSError) -> None:
        _log_failure(job, destination, str(error))
        words = error.comment if isinstance(error, ArchiveError) else ""
        self._outbox.failed_for_now(job, destination, state, error=str(error), comment=words)

    def _log_arrivals(self, job: str, destination: str) -> None:
        deliveries = [delivery for delivery in self._outbox.of(job, destination) if not delivery.is_replaced]
        count = sum(delivery.state in {DeliveryState.CONFIRMED, DeliveryState.SENT} for delivery in deliveries)
        about = {"action": "delivered", "job": job, "peer": destination}
        log.info("documents delivered: %d of %d", count, len(deliveries), extra=about)

    def _link(self, peer: Peer) -> Link:
        return Link(peer, self._settings.node.ae_title, self._settings.node.network_timeout_s)

    def _transport(self, peer: Peer) -> Transport:
        node = self._settings.node
        return transport(peer, node.ae_title, node.network_timeout_s, self._may_leave)

    def _send(self, peer: Peer, waiting: Sequence[Delivery], now: datetime) -> bool:
        """Send documents whose bytes are those that were composed; return whether each has a final answer."""
        fit = [item for item in waiting if self._is_fit(peer, item, now) and self._is_whole(item, now)]
        whole = [delivery for delivery in fit if self._is_needed(delivery, now)]
        answers = self._answers(peer, [_outgoing(delivery.document) for delivery in whole])
        reasons: dict[str, None] = {}
        taken: dict[tuple[int | None, str], list[Delivery]] = {}
        for delivery, answer in zip(whole, answers, strict=True):
            error = answer.error or _refusal_of_unproven(peer, answer)
            status, words = answer.status, answer.comment
            if error is None and peer.is_listener:
                self._outbox.acknowledged(delivery, comment=words, at=now)
            elif error is None:
                taken.setdefault((status, words), []).append(delivery)
            elif error.retry:
                reasons[str(error)] = None
                self._postpone(delivery, answer, error, now)
            else:
                self._outbox.refused(delivery, status=status, error=str(error), comment=words, at=now)
                _log_dead_letter(delivery, str(error) if status is None else f"refused with status 0x{status:04X}")
        for (status, words), group in taken.items():
            # What was sent without a proof stays so where a proof is configured later.
            self._outbox.sent(*group, status=status, comment=words, at=now, settled=peer.name in self.unconfirmed)
        refs = (delivery.document.ref for delivery in whole)
        sent = ((ref.study_instance_uid, ref.sop_class_uid, answer) for ref, answer in zip(refs, answers, strict=True))
        for message in transfers_to(peer, sent):
            self._record(message)
        for reason in reasons:
            _log_failure(waiting[0].document.job, peer.name, reason)
        return not reasons

    def _postpone(self, delivery: Delivery, answer: SendOutcome, error: ArchiveError, now: datetime) -> None:
        """Note why a document did not arrive at this attempt, and whether any of it left."""
        self._outbox.refused_for_now(delivery, status=answer.status, error=str(error), comment=answer.comment)
        if isinstance(error, NotSent):
            self._outbox.not_sent(delivery, now)

    def _answers(self, peer: Peer, documents: Sequence[Outgoing]) -> Sequence[SendOutcome]:
        """Send documents; to a listener one after the other, for a later message changes what an earlier one says."""
        transport = self._transport(peer)
        if not peer.is_listener:
            return transport.send(documents)
        answers: list[SendOutcome] = []
        for document in documents:
            answers += transport.send([document])
            if (error := answers[-1].error) and error.retry:
                not_sent = NotSent(str(error), comment=error.comment)
                return [*answers, *(SendOutcome.failed(later, not_sent) for later in documents[len(answers) :])]
        return answers

    def _is_needed(self, delivery: Delivery, now: datetime) -> bool:
        """Return whether no later message of the job has the place of this one, or holds what this one says, and more.

        A transaction that was done holds what those before it say.
        """
        document = delivery.document
        if not document.kind.is_message:
            return True
        of_job = self._outbox.of(document.job, delivery.destination)
        uids = [item.document.ref.sop_instance_uid for item in of_job]
        if correction_uid(document.ref.sop_instance_uid) in uids:
            self._outbox.replaced(delivery, reason=_REPLACED, at=now)
            return False
        if document.kind is not DocumentKind.BUNDLE:
            return True
        later = of_job[uids.index(document.ref.sop_instance_uid) + 1 :]
        if not any(item.state is DeliveryState.CONFIRMED and not item.is_replaced for item in later):
            return True
        self._outbox.replaced(delivery, reason=_CONTAINED, at=now)
        return False

    def _is_fit(self, peer: Peer, delivery: Delivery, now: datetime) -> bool:
        """Return whether a document is a message in the language of the peer, or none where the peer takes none."""
        kind = delivery.document.kind
        if kind is message_kind(peer) if peer.is_listener else not kind.is_message:
            return True
        was = _MADE_FOR.get(kind, "an archive")
        error = f"the document was made for {was}, and {peer.name} is none any more: `deliver` of the [[peer]] changed"
        self._outbox.refused(delivery, status=None, error=error, at=now)
        _log_dead_letter(delivery, error)
        return False

    def _is_whole(self, delivery: Delivery, now: datetime) -> bool:
        """Return whether the bytes of a document are those that were composed; a changed document never leaves."""
        document = delivery.document
        if document.path.exists() and sha256_of(document.path) == document.sha256:
            return True
        error = "the document on disk is gone or changed and is not sent; `ainode replay` makes it anew"
        self._outbox.refused(delivery, status=None, error=error, at=now)
        _log_dead_letter(delivery, error)
        return False

    def _query(self, peer: Peer, sent: Sequence[Delivery], now: datetime) -> None:
        confirmed = self._transport(peer).confirm_by_query([delivery.document.ref for delivery in sent])
        proved = [delivery for delivery in sent if delivery.document.ref.sop_instance_uid in confirmed]
        self._outbox.confirmed(*proved, proof="query", at=now)
        for delivery in [delivery for delivery in sent if delivery not in proved]:
            if self._overdue(delivery, now) and delivery.is_taken_with_warning:
                self._outbox.settle_unproven([delivery], error=_CHANGED)
            elif self._overdue(delivery, now):
                is_named = delivery.archive_status is not None
                statement = "took it" if is_named else "reports success without naming it"
                self._outbox.missing(delivery, error=f"the archive {statement}, but does not list it")

    def _commit(self, peer: Peer, sent: Sequence[Delivery], now: datetime) -> None:
        """Request storage commitment; the archive reports now, or later on an association to our receiver."""
        uncommitted = [delivery for delivery in sent if not delivery.transaction_uid or self._overdue(delivery, now)]
        if not uncommitted:
            return
        transaction_uid = UID(generate_uid(prefix=None))
        # Written before the request: the report may arrive before this process goes on.
        self._outbox.note_request(uncommitted, transaction_uid, now)
        refs = [delivery.document.ref for delivery in uncommitted]
        references = [commitment.SopReference(ref.sop_class_uid, ref.sop_instance_uid) for ref in refs]
        keep = partial(self.settle, now=now)
        try:
            commitment.request_commitment(
                self._link(peer), references, transaction_uid=transaction_uid, keep=keep, wait_s=self._report_wait_s
            )
        except NodeError:
            self._outbox.drop_request(uncommitted, transaction_uid)
            raise

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


def _outgoing(document: KeptDocument) -> Outgoing:
    """Return what leaves.

    Raises: CannotUnderstand if a file is no DICOM file and no message; OSError.
    """
    if document.kind.is_message:
        return Outgoing.message(document.ref.sop_instance_uid, document.path)
    return Outgoing.of(document.path)


def _refusal_of_unproven(peer: Peer, answer: SendOutcome) -> ArchiveUnreachable | None:
    """Return the error of a document that no answer proves, where nobody asks the archive for a proof later."""
    if answer.is_proven or peer.confirm != "none":
        return None
    return ArchiveUnreachable(
        f'{peer.name}: reports success, and does not name what it stored: set confirm = "query" for this [[peer]], or '
        "correct its address `dicomweb` (a proxy or a sign-in page answers so)"
    )


def _log_failure(job: str, destination: str, reason: str) -> None:
    log.warning("delivery failed: %s", reason, extra={"action": "delivery_failed", "job": job, "peer": destination})


def _log_dead_letter(delivery: Delivery, reason: str) -> None:
    uid = delivery.document.ref.sop_instance_uid
    about = {"action": "dead_letter", "job": delivery.document.job, "peer": delivery.destination}
    log.error("delivery given up: %s", reason, extra={**about, "sop_instance_uid": uid})
