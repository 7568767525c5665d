"""The answers to DIMSE requests: verification, storage, and storage commitment in both directions."""

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
# Enough for 100,000 references.
_MAX_COMMITMENT_BYTES: Final = 16 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and for a failure the comment that explains the status."""

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
        """Return the answer to a request, None for a request that gets no answer."""
        field = message.command.number(Tag.COMMAND_FIELD)
        match field, message.context.abstract_syntax:
            case CommandField.C_CANCEL, _:
                return None
            case CommandField.C_ECHO, _:
                return Answer(SUCCESS)
            case CommandField.N_ACTION, sop_class if sop_class == STORAGE_COMMITMENT:
                return self._emit_event_of(message, self._commitment_request)
            case CommandField.N_EVENT_REPORT, sop_class if sop_class == STORAGE_COMMITMENT:
                return self._emit_event_of(message, self._commitment_report)
            case CommandField.C_STORE, sop_class if sop_class not in (STORAGE_COMMITMENT, VERIFICATION):
                return self._store(message)
        return Answer(_SOP_CLASS_NOT_SUPPORTED if field in list(CommandField) else _UNRECOGNIZED_OPERATION)

    def _store(self, message: Message) -> Answer:
        """Put the instance on disk; after Success the instance is on disk even after a crash."""
        try:
            event = self._write_to_spool(message)
        except ReceiveError as error:
            _log_refusal(message, error)
            return Answer(error.status, str(error))
        self.on_event(event)
        return Answer(SUCCESS)

    def _write_to_spool(self, message: Message) -> InstanceStored:
        """Write the instance of a C-STORE into the spool, and return the event of its storage."""
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

    def _emit_event_of(self, message: Message, event_of: Callable[["Dataset"], Event]) -> Answer:
        """Decode the data set of a message, emit the event that `event_of` makes of it, and return the answer."""
        try:
            self.on_event(event_of(_dataset(message)))
        except ReceiveError as error:
            _log_refusal(message, error)
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
    """Return the decoded data set of a storage commitment message."""
    from pydicom import dcmread  # noqa: PLC0415 - pydicom takes three quarters of the memory, and few receivers need it

    encoded = bytearray()
    for fragment in message.fragments:
        encoded += fragment
        if len(encoded) > _MAX_COMMITMENT_BYTES:
            raise OutOfResources("storage commitment data set is too long; request fewer instances")
    meta = head(Origin(UID(STORAGE_COMMITMENT), UID("2.25.0"), message.context.transfer_syntax, ""))
    return dcmread(BytesIO(meta + encoded))


def _uid(dataset: "Dataset", keyword: str) -> UID:
    return valid_uid(str(dataset.get(keyword, "")).encode("ascii", "replace"), keyword)


def _log_refusal(message: Message, error: ReceiveError) -> None:
    value = message.command.uid(Tag.AFFECTED_SOP_INSTANCE_UID).decode("ascii", "replace")
    uid = value if value.replace(".", "").isdigit() else "(no UID)"
    extra = {"action": "object_refused", "status": f"{error.status:04X}", "sop_instance_uid": uid}
    _log.warning("refused: %s", error, extra=extra)
