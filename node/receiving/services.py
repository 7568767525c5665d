"""The answers to DIMSE requests: verification, storage, and storage commitment in both directions."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ainode.node.encoding.dataset_scan import valid_uid
from ainode.node.encoding.elements import Buffer
from ainode.node.encoding.part10 import Origin
from ainode.node.errors import OutOfResources, ReceiveError
from ainode.node.keeping.spool import Spool
from ainode.node.receiving.allowances import Allowance
from ainode.node.receiving.command_set import CommandField, Tag
from ainode.node.receiving.commitment_data_sets import MAX_BYTES, report_of, request_of
from ainode.node.receiving.commitment_files import CommitmentFiles, CommitmentRecord
from ainode.node.receiving.events import CommitmentSaved, Event, InstanceStored, ObjectRefused
from ainode.node.receiving.negotiation import STORAGE_COMMITMENT, VERIFICATION
from ainode.node.receiving.sparse_log import SparseLog
from ainode.node.receiving.upper_layer import Message

# PS3.7 annex C.
SUCCESS: Final = 0x0000
_PROCESSING_FAILURE: Final = 0x0110
_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
_UNRECOGNIZED_OPERATION: Final = 0x0211
_RESOURCE_LIMITATION: Final = 0x0213


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
    is_peer: bool
    """whether the node can report a storage commitment to the caller"""
    spool: Spool
    commitments: CommitmentFiles
    on_event: Callable[[Event], None]
    refusals: SparseLog
    address: str
    allowance: Allowance | None = None
    """how much the caller may send a minute, None for as much as the caller can"""

    def answer(self, message: Message) -> Answer | None:
        """Return the answer to a request, None for a request that gets no answer."""
        field = message.command.number(Tag.COMMAND_FIELD)
        match field, message.context.abstract_syntax:
            case CommandField.C_CANCEL, _:
                return None
            case CommandField.C_ECHO, _:
                return Answer(SUCCESS)
            case CommandField.N_ACTION, sop_class if sop_class == STORAGE_COMMITMENT:
                return self._save_request(message)
            case CommandField.N_EVENT_REPORT, sop_class if sop_class == STORAGE_COMMITMENT:
                return self._save(message, report_of, requestor="")
            case CommandField.C_STORE, sop_class if sop_class not in (STORAGE_COMMITMENT, VERIFICATION):
                return self._store(message)
        return Answer(_SOP_CLASS_NOT_SUPPORTED if field in list(CommandField) else _UNRECOGNIZED_OPERATION)

    def _store(self, message: Message) -> Answer:
        """Put the instance on disk; after Success the instance is on disk even after a crash."""
        try:
            event = self._write_to_spool(message)
        except ReceiveError as error:
            self._log_refusal(message, error)
            self.on_event(ObjectRefused(self.association, datetime.now(UTC)))
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
            for fragment in self.allowance.paced(message.fragments) if self.allowance else message.fragments:
                incoming.write(fragment)
            ref, path = incoming.ref(), incoming.commit()
        return InstanceStored(
            self.association, path, ref, origin.transfer_syntax_uid, incoming.size_bytes, datetime.now(UTC)
        )

    def _save_request(self, message: Message) -> Answer:
        """Save the request of a peer; refuse a request that the node could not report on."""
        if not self.is_peer:
            remedy = "add your AE title, host and port as [[peer]] to node.toml"
            self._log_refused_commitment(remedy)
            return Answer(_PROCESSING_FAILURE, remedy)
        title = self.calling_ae_title
        return self._save(message, lambda encoded, syntax: request_of(encoded, syntax, title), requestor=title)

    def _save(
        self, message: Message, record_of: Callable[[Buffer, str], CommitmentRecord], *, requestor: str
    ) -> Answer:
        """Save what `record_of` makes of the data set; after Success it is on disk even after a crash."""
        try:
            with self.commitments.data_set(message.fragments, MAX_BYTES) as encoded:
                path = self.commitments.save(record_of(encoded, message.context.transfer_syntax))
        except ReceiveError as error:
            self._log_refused_commitment(str(error))
            is_full = isinstance(error, OutOfResources)
            return Answer(_RESOURCE_LIMITATION if is_full else _PROCESSING_FAILURE, str(error))
        self.on_event(CommitmentSaved(path, requestor))
        return Answer(SUCCESS)

    def _log_refusal(self, message: Message, error: ReceiveError) -> None:
        value = message.command.uid(Tag.AFFECTED_SOP_INSTANCE_UID).decode("ascii", "replace")
        uid = value if value.replace(".", "").isdigit() else "(no UID)"
        status = f"{error.status:04X}"
        fields = {"status": status, "sop_instance_uid": uid, "calling_ae_title": self.calling_ae_title}
        about = {"action": "object_refused", "address": self.address, "reason": status}
        self.refusals.write(logging.WARNING, f"refused: {error}", **about, **fields)

    def _log_refused_commitment(self, reason: str) -> None:
        text = f"commitment of {self.calling_ae_title} refused: {reason}"
        self.refusals.write(logging.WARNING, text, action="commitment_refused", address=self.address)
