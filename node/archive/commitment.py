"""Storage commitment, Push Model (PS3.4 annex J): the promise of an archive to keep objects, and the node's promise.

An archive sends its report on the association of the request or, more often, on a new association to the receiver of
the node.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import build_role, evt
from pynetdicom.presentation import build_context

from ainode.node.archive.comments import error_comment
from ainode.node.archive.dimse import SOP_CLASS_NOT_SUPPORTED, Link
from ainode.node.domain import UID
from ainode.node.errors import ArchiveRefused

REPORT_WAIT_S = 2.0
"""how long a request waits for its report on its own association; most archives report on another one"""
# PS3.6 table A-1, Storage Commitment Push Model SOP Class and its well-known instance.
_PUSH_MODEL, _PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
_CONTEXTS = (build_context(_PUSH_MODEL),)
# PS3.4 J.3.2, Action Type ID.
_REQUEST = 1
# PS3.4 J.3.3, Event Type ID.
_ALL_COMMITTED, _SOME_FAILED = 1, 2
# PS3.3 C.14.1.1, PS3.7 annex C: Processing failure; the reason of a failed item that states none.
_PROCESSING_FAILURE = 0x0110


class SopReference(NamedTuple):
    """The SOP class and the SOP instance of an object that a commitment is about."""

    sop_class_uid: UID
    sop_instance_uid: UID


@dataclass(frozen=True, slots=True)
class Commitment:
    """The answer to one request: the objects that are kept for good, and the objects that are not."""

    transaction_uid: UID
    committed: tuple[SopReference, ...]
    failed: tuple[tuple[SopReference, int], ...] = ()
    """each object with its Failure Reason (0008,1197)"""

    @classmethod
    def of_event(cls, information: Dataset) -> "Commitment":
        """Return the commitment in the Event Information of an N-EVENT-REPORT."""
        return cls(
            UID(str(information.get("TransactionUID", ""))),
            tuple(_reference(item) for item in information.get("ReferencedSOPSequence") or ()),
            tuple(
                (_reference(item), int(item.get("FailureReason") or _PROCESSING_FAILURE))
                for item in information.get("FailedSOPSequence") or ()
            ),
        )

    def event_information(self) -> Dataset:
        """Return the Event Information of an N-EVENT-REPORT (PS3.4 table J.3-2)."""
        information = action_information(self.transaction_uid, self.committed)
        if not self.committed:
            del information.ReferencedSOPSequence
        if self.failed:
            information.FailedSOPSequence = Items([_item(reference, reason) for reference, reason in self.failed])
        return information


def action_information(transaction_uid: UID, references: Sequence[SopReference]) -> Dataset:
    """Return the Action Information of an N-ACTION (PS3.4 table J.3-1)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = Items([_item(reference) for reference in references])
    return information


def _keep_nothing(_report: Commitment, /) -> None:
    """Do nothing."""


def request_commitment(
    link: Link,
    references: Sequence[SopReference],
    *,
    transaction_uid: UID,
    keep: Callable[[Commitment], None] = _keep_nothing,
    wait_s: float = REPORT_WAIT_S,
) -> Commitment | None:
    """Ask the archive to keep `references`; return its report if the report comes on this association in `wait_s`.

    `keep` makes the report durable before the archive is answered; where it raises, the answer is a failure.
    None means pending: the archive will send the report to the receiver of the node, with the same Transaction UID. A
    report of another transaction is refused on this association, so that the archive sends that report to the
    receiver too.

    Raises: ArchiveUnreachable; ArchiveRefused if the archive offers no storage commitment.
    """
    reports: list[Commitment] = []
    arrived = threading.Event()

    def answer_report(event: evt.Event) -> tuple[int, None]:
        report = Commitment.of_event(event.event_information)
        if report.transaction_uid != transaction_uid:
            return _PROCESSING_FAILURE, None
        keep(report)
        reports.append(report)
        arrived.set()
        return 0x0000, None

    with link.associate(_CONTEXTS, handlers=[(evt.EVT_N_EVENT_REPORT, answer_report)]) as association:
        status, _ = association.send_n_action(
            action_information(transaction_uid, references), _REQUEST, _PUSH_MODEL, _PUSH_MODEL_INSTANCE
        )
        request = f"the storage commitment request {transaction_uid}"
        link.check(status.get("Status"), request, error_comment(status))
        arrived.wait(wait_s)
    return reports[0] if reports else None


def report_commitment(link: Link, commitment: Commitment) -> None:
    """Send a commitment to the peer that requested it, on a new association with the roles reversed.

    Raises: ArchiveUnreachable; ArchiveRefused if the peer takes no report.
    """
    role = build_role(_PUSH_MODEL, scp_role=True)
    with link.associate(_CONTEXTS, roles=[role]) as association:
        if not association.accepted_contexts[0].as_scp:
            message = f"{link.peer.name}: takes no storage commitment report; let it accept the node as SCP"
            raise ArchiveRefused(message, archive_status=SOP_CLASS_NOT_SUPPORTED)
        status, _ = association.send_n_event_report(
            commitment.event_information(),
            _SOME_FAILED if commitment.failed else _ALL_COMMITTED,
            _PUSH_MODEL,
            _PUSH_MODEL_INSTANCE,
        )
        request = f"the storage commitment report {commitment.transaction_uid}"
        link.check(status.get("Status"), request, error_comment(status))


def _item(reference: SopReference, failure_reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference
    if failure_reason is not None:
        item.FailureReason = failure_reason
    return item


def _reference(item: Dataset) -> SopReference:
    return SopReference(
        UID(str(item.get("ReferencedSOPClassUID", ""))), UID(str(item.get("ReferencedSOPInstanceUID", "")))
    )
