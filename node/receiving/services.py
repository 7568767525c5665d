"""What the receiver does with each request: verification, storage, storage commitment in both directions."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Final

from ainode.node.domain import UID
from ainode.node.encoding.dataset_scan import valid_uid
from ainode.node.encoding.part10 import Origin, head
from ainode.node.errors import OutOfResources, ReceiveError
from ainode.node.keeping.spool import Spool
from ainode.node.receiving.command_set import CommandField, Tag
from ainode.node.receiving.events import CommitmentReported, CommitmentRequested, Event, InstanceStored
from ainode.node.receiving.negotiation import STORAGE_COMMITMENT, VERIFICATION
from ainode.node.receiving.upper_layer import Message

if TYPE_CHECKING:
    from pydicom import Dataset

# PS3.7 annex C.
SUCCESS: Final = 0x0000
_PROCESSING_FAILURE: Final = 0x0110
_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
_UNRECOGNIZED_OPERATION: Final = 0x0211
# 100,000 references.
_MAX_COMMITMENT_BYTES: Final = 16 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and for a failure the reason in words."""

    status: int
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one association."""

    association: str
    calling_ae_title: str
    address: str
    spool: Spool
    on_event: Callable[[Event], None]

    def answer(self, message: Message) -> Answer | None:
        """Return the answer to the request; None where the standard has none."""
        field = message.command.number(Tag.COMMAND_FIELD)
        match field, message.context.abstract_syntax:
            case CommandField.C_CANCEL, _:
                return None
            case CommandField.C_ECHO, _:
                return Answer(SUCCESS)
            case CommandField.N_ACTION, commitment if commitment == STORAGE_COMMITMENT:
                return self._on_data_set(message, self._commitment_request)
            case CommandField.N_EVENT_REPORT, commitment if commitment == STORAGE_COMMITMENT:
                return self._on_data_set(message, self._commitment_report)
            case CommandField.C_STORE, storage if storage not in (STORAGE_COMMITMENT, VERIFICATION):
                return self._store(message)
        return Answer(_SOP_CLASS_NOT_SUPPORTED if field in list(CommandField) else _UNRECOGNIZED_OPERATION)

    def _store(self, message: Message) -> Answer:
        """Put the instance on disk; success is a promise that it is found there after any crash."""
        try:
            stored = self._spooled(message)
        except ReceiveError as error:
            _refused(message, error)
            return Answer(error.status, str(error))
        self.on_event(stored)
        return Answer(SUCCESS)

    def _spooled(self, message: Message) -> InstanceStored:
        origin = Origin(
            sop_class_uid=valid_uid(message.command.uid(Tag.AFFECTED_SOP_CLASS_UID), "Affected SOP Class UID"),
            sop_instance_uid=valid_uid(message.command.uid(Tag.AFFECTED_SOP_INSTANCE_UID), "Affected SOP Instance UID"),
            transfer_syntax_uid=message.context.transfer_syntax,
            calling_ae_title=self.calling_ae_title,
        )
        with self.spool.incoming(origin) as incoming:
            for fragment in message.fragments:
                incoming.write(fragment)
            ref, path = incoming.ref(), incoming.commit()
        return InstanceStored(
            self.association, path, ref, origin.transfer_syntax_uid, incoming.size_bytes, datetime.now(UTC)
        )

    def _on_data_set(self, message: Message, event: Callable[["Dataset"], Event]) -> Answer:
        try:
            dataset = _dataset(message)
            self.on_event(event(dataset))
        except ReceiveError as error:
            _refused(message, error)
            return Answer(_PROCESSING_FAILURE, str(error))
        return Answer(SUCCESS)

    def _commitment_request(self, dataset: "Dataset") -> Event:
        references = tuple(
            (_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))
            for item in dataset.get("ReferencedSOPSequence", ())
        )
        transaction = _uid(dataset, "TransactionUID")
        return CommitmentRequested(self.calling_ae_title, self.address, transaction, references)

    def _commitment_report(self, dataset: "Dataset") -> Event:
        committed = tuple(_uid(item, "ReferencedSOPInstanceUID") for item in dataset.get("ReferencedSOPSequence", ()))
        failed = tuple(
            (_uid(item, "ReferencedSOPInstanceUID"), int(item.get("FailureReason", 0)))
            for item in dataset.get("FailedSOPSequence", ())
        )
        return CommitmentReported(_uid(dataset, "TransactionUID"), committed, failed)


def _dataset(message: Message) -> "Dataset":
    """Return a commitment's data set, the only one that is decoded here."""
    from pydicom import dcmread  # noqa: PLC0415 - most receivers never need it, and it is three quarters of their memory

    encoded = bytearray()
    for fragment in message.fragments:
        encoded += fragment
        if len(encoded) > _MAX_COMMITMENT_BYTES:
            raise OutOfResources("storage commitment data set is too long; ask for fewer instances at once")
    meta = head(Origin(UID(STORAGE_COMMITMENT), UID("2.25.0"), message.context.transfer_syntax, ""))
    return dcmread(BytesIO(meta + encoded))


def _uid(dataset: "Dataset", keyword: str) -> UID:
    return valid_uid(str(dataset.get(keyword, "")).encode("ascii", "replace"), keyword)


def _refused(message: Message, error: ReceiveError) -> None:
    said = message.command.uid(Tag.AFFECTED_SOP_INSTANCE_UID).decode("ascii", "replace")
    uid = said if said.replace(".", "").isdigit() else "(no UID)"
    about = {"action": "object_refused", "status": f"{error.status:04X}", "sop_instance_uid": uid}
    _log.warning("refused: %s", error, extra=about)
