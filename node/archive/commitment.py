"""Storage commitment, Push Model (PS3.4 annex J): an archive's promise to keep what we sent, and ours to a sender.

The report of an archive comes on the association of the request or, more often, on a new one to our receiver.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import build_role, evt
from pynetdicom.presentation import build_context

from ainode.node.archive.dimse import Link
from ainode.node.domain import UID

# PS3.6 table A-1, Storage Commitment Push Model SOP Class and its well-known instance.
_PUSH_MODEL, _PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
_CONTEXTS = (build_context(_PUSH_MODEL),)
# PS3.4 J.3.2, Action Type ID.
_REQUEST = 1
# PS3.4 J.3.3, Event Type ID.
_ALL_COMMITTED, _SOME_FAILED = 1, 2
# PS3.3 C.14.1.1, PS3.7 annex C: Processing failure, the reason where none is given.
_PROCESSING_FAILURE = 0x0110


class SopReference(NamedTuple):
    """SOP class and instance, all that storage commitment knows of an object."""

    sop_class_uid: UID
    sop_instance_uid: UID


@dataclass(frozen=True, slots=True)
class Commitment:
    """What is kept for good and what is not, for one request."""

    transaction_uid: UID
    committed: tuple[SopReference, ...]
    failed: tuple[tuple[SopReference, int], ...] = ()
    """with the Failure Reason (0008,1197)"""

    @classmethod
    def decoded(cls, information: Dataset) -> "Commitment":
        """Return the commitment that an N-EVENT-REPORT's Event Information says."""
        return cls(
            UID(str(information.get("TransactionUID", ""))),
            tuple(_reference(item) for item in information.get("ReferencedSOPSequence") or ()),
            tuple(
                (_reference(item), int(item.get("FailureReason", _PROCESSING_FAILURE)))
                for item in information.get("FailedSOPSequence") or ()
            ),
        )

    def encoded(self) -> Dataset:
        """Return the Event Information of an N-EVENT-REPORT (PS3.4 table J.3-2)."""
        information = requested(self.transaction_uid, self.committed)
        if not self.committed:
            del information.ReferencedSOPSequence
        if self.failed:
            information.FailedSOPSequence = Items([_item(one, reason) for one, reason in self.failed])
        return information


def requested(transaction_uid: UID, references: Sequence[SopReference]) -> Dataset:
    """Return the Action Information of an N-ACTION (PS3.4 table J.3-1)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = Items([_item(one) for one in references])
    return information


def request_commitment(
    link: Link, references: Sequence[SopReference], *, transaction_uid: UID, wait_s: float = 2.0
) -> Commitment | None:
    """Ask the archive to keep `references`; None if its report did not come within `wait_s` on this association.

    Then it is pending: the report will call our receiver, with the same Transaction UID. A report of another
    transaction is not acknowledged here, so that it comes there too.

    Raises: ArchiveUnreachable; ArchiveRefused if it offers no storage commitment.
    """
    reports: list[Commitment] = []
    arrived = threading.Event()

    def take(event: evt.Event) -> tuple[int, None]:
        report = Commitment.decoded(event.event_information)
        if report.transaction_uid != transaction_uid:
            return _PROCESSING_FAILURE, None
        reports.append(report)
        arrived.set()
        return 0x0000, None

    with link.associate(_CONTEXTS, handlers=[(evt.EVT_N_EVENT_REPORT, take)]) as association:
        status, _ = association.send_n_action(
            requested(transaction_uid, references), _REQUEST, _PUSH_MODEL, _PUSH_MODEL_INSTANCE
        )
        link.check(status.get("Status"), f"the storage commitment request {transaction_uid}")
        arrived.wait(wait_s)
    return reports[0] if reports else None


def report_commitment(link: Link, commitment: Commitment) -> None:
    """Report to a sender what we keep of what it asked us to, on a new association with the roles turned round.

    Raises: ArchiveUnreachable; ArchiveRefused if it takes no such report.
    """
    role = build_role(_PUSH_MODEL, scp_role=True)
    with link.associate(_CONTEXTS, roles=[role]) as association:
        status, _ = association.send_n_event_report(
            commitment.encoded(),
            _SOME_FAILED if commitment.failed else _ALL_COMMITTED,
            _PUSH_MODEL,
            _PUSH_MODEL_INSTANCE,
        )
        link.check(status.get("Status"), f"the storage commitment report {commitment.transaction_uid}")


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
