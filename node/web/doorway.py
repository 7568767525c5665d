"""How Part 10 files (sent by STOW-RS or pulled from an archive) reach the spool, with the checks of C-STORE.

For the intake a visit is an association: the visit opens, stores instances on disk, and ends.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from ainode.node.archive.store import Outgoing
from ainode.node.domain import UID, InstanceRef
from ainode.node.encoding.dataset_scan import valid_uid
from ainode.node.encoding.part10 import Origin
from ainode.node.errors import DataSetMismatch, ReceiveError
from ainode.node.keeping.spool import Incoming, Spool
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, Event, InstanceStored, ObjectRefused
from ainode.node.receiving.negotiation import STORAGE_COMMITMENT, VERIFICATION, Policy, is_served

# The File Meta Information has a few hundred bytes, or more with private information (PS3.10 7.1).
_HEAD_BYTES: Final = 1 << 16


class NotSupported(ReceiveError):
    """The node stores no instances of the SOP Class."""

    status = 0x0122


class SyntaxNotSupported(ReceiveError):
    """The node does not read the transfer syntax (PS3.18 10.5.3, failure reasons)."""

    status = 0xC122


@dataclass(frozen=True, slots=True)
class Doorway:
    """What every visit needs: the spool, the policy of acceptance, and the receiver of events."""

    spool: Spool
    policy: Policy
    on_event: Callable[[Event], None]

    def visit(self, sender: str, address: str = "") -> "Visit":
        """Return a visit; `sender` takes the place of the calling AE title."""
        return Visit(self, sender, address)


class Visit:
    """The files that one sender sends together, in sequence or in parallel."""

    def __init__(self, doorway: Doorway, sender: str, address: str) -> None:
        self._doorway, self._sender, self._address = doorway, sender, address
        self._name = uuid.uuid4().hex

    def __enter__(self) -> Self:
        self._emit(AssociationOpened(self._name, self._sender, self._address, datetime.now(UTC)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._emit(AssociationEnded(self._name, datetime.now(UTC), is_released=error is None))

    def file(self) -> "ArrivingFile":
        """Return a file to write the sender's bytes into."""
        return ArrivingFile(self._doorway, self._sender)

    def store(self, file: "ArrivingFile", *, of_study: UID | None = None) -> InstanceRef:
        """Put a complete file on disk and return its instance, which is on disk after any crash.

        Raises: ReceiveError; DataSetMismatch if the instance belongs to another study than `of_study`.
        """
        incoming, syntax = file.complete()
        ref = incoming.ref()
        if of_study not in (None, ref.study_instance_uid):
            raise DataSetMismatch("the Study Instance UID differs from the UID in the request")
        path = incoming.commit()
        file.close()
        self._emit(InstanceStored(self._name, path, ref, syntax, incoming.size_bytes, datetime.now(UTC)))
        return ref

    def note_refusal(self) -> None:
        """Tell that the node refused a file of the visit, which its studies may lack."""
        self._emit(ObjectRefused(self._name, datetime.now(UTC)))

    def _emit(self, event: Event) -> None:
        self._doorway.on_event(event)


class ArrivingFile:
    """A Part 10 file that arrives in pieces of any size; memory holds only its beginning."""

    def __init__(self, doorway: Doorway, sender: str) -> None:
        self._doorway, self._sender = doorway, sender
        self._head = bytearray()
        self._incoming: Incoming | None = None
        self.meta: Outgoing | None = None
        """the File Meta Information, None until it is read"""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, piece: memoryview) -> None:
        """Append the next bytes of the file.

        Raises: ReceiveError if the node cannot store the file, or the file is too large.
        """
        if self._incoming is not None:
            self._incoming.write(piece)
            return
        self._head += piece
        if len(self._head) >= _HEAD_BYTES:
            self._open_spool_file()

    def complete(self) -> tuple[Incoming, UID]:
        """Return the file in the spool and its transfer syntax; call after the last byte.

        Raises: ReceiveError as `write`.
        """
        incoming = self._incoming or self._open_spool_file()
        return incoming, UID(self.meta.transfer_syntax_uid if self.meta else "")

    def close(self) -> None:
        """Remove the bytes from the spool, unless the file was committed."""
        if self._incoming is not None:
            self._incoming.__exit__(None, None, None)
            self._incoming = None

    def _open_spool_file(self) -> Incoming:
        """Read the File Meta Information and open a file in the spool."""
        content = bytes(self._head)
        self._head.clear()
        self.meta = meta = Outgoing.of(content)
        self._refuse_unsupported(meta)
        origin = Origin(
            sop_class_uid=valid_uid(meta.sop_class_uid.encode(), "Media Storage SOP Class UID"),
            sop_instance_uid=valid_uid(meta.sop_instance_uid.encode(), "Media Storage SOP Instance UID"),
            transfer_syntax_uid=meta.transfer_syntax_uid,
            calling_ae_title=self._sender,
        )
        self._incoming = self._doorway.spool.incoming(origin)
        self._incoming.write(memoryview(content)[meta.offset :])
        return self._incoming

    def _refuse_unsupported(self, meta: Outgoing) -> None:
        policy = self._doorway.policy
        is_storage_class = meta.sop_class_uid not in (VERIFICATION, STORAGE_COMMITMENT)
        if not (is_storage_class and is_served(meta.sop_class_uid, policy)):
            raise NotSupported("the node stores no instances of the SOP Class; leave the instance out")
        if meta.transfer_syntax_uid not in policy.transfer_syntaxes:
            raise SyntaxNotSupported("the node does not read the transfer syntax; send another encoding")
