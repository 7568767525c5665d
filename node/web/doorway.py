"""The way of whole files (STOW-RS, pulled from an archive) into the spool: the checks and promises of C-STORE.

A visit is to the intake what an association is: opened, instance after instance on disk, ended.
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
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, Event, InstanceStored
from ainode.node.receiving.negotiation import STORAGE_COMMITMENT, VERIFICATION, Policy, is_served

# The meta group of a file is a few hundred bytes; private information may be longer (PS3.10 7.1).
_HEAD_BYTES: Final = 1 << 16


class NotSupported(ReceiveError):
    """The SOP Class is none that is stored."""

    status = 0x0122


class SyntaxNotSupported(ReceiveError):
    """Nothing here reads the transfer syntax (PS3.18 10.5.3, failure reasons)."""

    status = 0xC122


@dataclass(frozen=True, slots=True)
class Doorway:
    """Where visits come in."""

    spool: Spool
    policy: Policy
    on_event: Callable[[Event], None]

    def visit(self, sender: str, address: str = "") -> "Visit":
        """Return one arrival of files; `sender` stands for a calling AE title."""
        return Visit(self, sender, address)


class Visit:
    """One sender's files, one after the other or several at once."""

    def __init__(self, doorway: Doorway, sender: str, address: str) -> None:
        self._doorway, self._sender, self._address = doorway, sender, address
        self._name = uuid.uuid4().hex

    def __enter__(self) -> Self:
        self._tell(AssociationOpened(self._name, self._sender, self._address, datetime.now(UTC)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tell(AssociationEnded(self._name, datetime.now(UTC), released=error is None))

    def file(self) -> "ArrivingFile":
        """Return a file that is about to arrive."""
        return ArrivingFile(self._doorway, self._sender)

    def keep(self, file: "ArrivingFile", *, of_study: UID | None = None) -> InstanceRef:
        """Put the instance on disk; what is returned is a promise that it is found there after any crash.

        Raises: ReceiveError; DataSetMismatch if it is of another study than `of_study`.
        """
        incoming, syntax = file.whole()
        ref = incoming.ref()
        if of_study not in (None, ref.study_instance_uid):
            raise DataSetMismatch("Study Instance UID differs from that of the request")
        path = incoming.commit()
        file.close()
        self._tell(InstanceStored(self._name, path, ref, syntax, incoming.size_bytes, datetime.now(UTC)))
        return ref

    def _tell(self, event: Event) -> None:
        self._doorway.on_event(event)


class ArrivingFile:
    """A Part 10 file that comes in pieces of any size; never the whole of it is in memory."""

    def __init__(self, doorway: Doorway, sender: str) -> None:
        self._doorway, self._sender = doorway, sender
        self._head = bytearray()
        self._incoming: Incoming | None = None
        self.said: Outgoing | None = None
        """what its meta group says it is, once that was read"""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, piece: memoryview) -> None:
        """Take the next bytes.

        Raises: ReceiveError if it is no file that can be stored, or is too large.
        """
        if self._incoming is not None:
            self._incoming.write(piece)
            return
        self._head += piece
        if len(self._head) >= _HEAD_BYTES:
            self._begin()

    def whole(self) -> tuple[Incoming, UID]:
        """Return what was written, after its last byte, and its transfer syntax.

        Raises: ReceiveError as `write`.
        """
        incoming = self._incoming or self._begin()
        return incoming, UID(self.said.transfer_syntax_uid if self.said else "")

    def close(self) -> None:
        """Remove what was written, unless it was committed."""
        if self._incoming is not None:
            self._incoming.__exit__(None, None, None)
            self._incoming = None

    def _begin(self) -> Incoming:
        """Open the spool's file by what the meta group says."""
        content = bytes(self._head)
        self._head.clear()
        self.said = said = Outgoing.of(content)
        self._refuse_unsupported(said)
        origin = Origin(
            sop_class_uid=valid_uid(said.sop_class_uid.encode(), "Media Storage SOP Class UID"),
            sop_instance_uid=valid_uid(said.sop_instance_uid.encode(), "Media Storage SOP Instance UID"),
            transfer_syntax_uid=said.transfer_syntax_uid,
            calling_ae_title=self._sender,
        )
        self._incoming = self._doorway.spool.incoming(origin)
        self._incoming.write(memoryview(content)[said.offset :])
        return self._incoming

    def _refuse_unsupported(self, said: Outgoing) -> None:
        policy = self._doorway.policy
        no_storage = said.sop_class_uid in (VERIFICATION, STORAGE_COMMITMENT)
        if no_storage or not is_served(said.sop_class_uid, policy):
            raise NotSupported("SOP Class is none that is stored; leave the instance out")
        if said.transfer_syntax_uid not in policy.transfer_syntaxes:
            raise SyntaxNotSupported("transfer syntax is not known here; send another encoding")
