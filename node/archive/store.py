"""C-STORE to an archive: persisted bytes out as they are, every status judged, one association for all documents."""

import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pydicom.uid
from pydicom import dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext, build_context

from ainode.node.archive.dimse import SOP_CLASS_NOT_SUPPORTED, Link, connection_of
from ainode.node.domain import UID
from ainode.node.errors import ArchiveError, ArchiveRefused, CannotUnderstand

# PS3.10 7.1: the group of the File Meta Information, and its elements that a C-STORE needs.
_FILE_META_GROUP = 0x0002
_IDENTITY = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
# What pydicom raises for bytes that are none.
_NOT_DICOM = (InvalidDicomError, BytesLengthException, EOFError, NotImplementedError, ValueError, struct.error)
# PS3.8 9.3.2.2: context IDs are the odd numbers 1 to 255.
_MAX_CONTEXTS = 128
# Our own bound where the peer names none (0) or a larger one: one write to the socket.
_MAX_PDU_BYTES = 131_072
# PS3.8 9.3.5.1: length (4), context ID (1) and message control header (1) before each fragment.
_PDV_HEADER_BYTES = 6
# PS3.8 E.2, message control header.
_COMMAND, _LAST = 0b01, 0b10


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A DICOM file to send: its File Meta Information and where its data set begins."""

    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    content: Path | bytes = field(repr=False)
    offset: int

    @classmethod
    def of(cls, content: Path | bytes) -> "Outgoing":
        """Return what is needed to send this file (PS3.10 7.1); the data set is not read.

        Raises: CannotUnderstand if it is no DICOM file or names no instance; OSError.
        """
        name = content.name if isinstance(content, Path) else f"{len(content)} bytes"
        with _opened(content) as stream:
            try:
                read_preamble(stream, force=False)
                meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_is_behind_file_meta)
                sop_class_uid, sop_instance_uid, syntax = (UID(str(meta.get(one, ""))) for one in _IDENTITY)
            except _NOT_DICOM as error:
                raise CannotUnderstand(f"{name}: is no DICOM file; leave it out") from error
            offset = stream.tell()
        if not (sop_class_uid and sop_instance_uid and syntax):
            raise CannotUnderstand(
                f"{name}: its File Meta Information lacks one of {', '.join(_IDENTITY)}; leave it out"
            )
        return cls(sop_class_uid, sop_instance_uid, syntax, content, offset)

    def __str__(self) -> str:
        """Return what an operator needs to know of it."""
        names = (pydicom.uid.UID(uid).name for uid in (self.sop_class_uid, self.transfer_syntax_uid))
        return f"{self.sop_instance_uid} ({' in '.join(names)})"

    def contexts(self) -> tuple[tuple[UID, UID], ...]:
        """Return what to negotiate, SOP class and transfer syntax, best first.

        Its own syntax; for Explicit VR Little Endian also Implicit VR, the one every AE must know (PS3.5 10.1).
        """
        own = (self.sop_class_uid, self.transfer_syntax_uid)
        if self.transfer_syntax_uid == UID(ExplicitVRLittleEndian):
            return own, (self.sop_class_uid, UID(ImplicitVRLittleEndian))
        return (own,)


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """What became of one document."""

    sop_instance_uid: UID
    status: int | None
    """the archive's answer, 0x0122 too where it accepted no presentation context, None if there was none"""
    error: ArchiveError | None = None
    """None: the archive has it; else `error.retry` says whether to try again"""


def send(link: Link, documents: Sequence[Outgoing]) -> tuple[SendOutcome, ...]:
    """Send the documents over one association and return what became of each, in their order.

    Each data set goes out byte for byte, in its own transfer syntax. Only where the peer accepts nothing but Implicit
    VR for an Explicit VR Little Endian document is that one encoded anew. A refusal is final for its document and the
    others still go; a lost association leaves the rest to a retry. More than 128 presentation contexts take more
    associations.

    Raises: OSError, CannotUnderstand if a file cannot be read; what the peer does is in the answer.
    """
    return tuple(sent for batch in _batches(documents) for sent in _send_batch(link, batch))


def _batches(documents: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield runs of documents whose presentation contexts fit into one association."""
    batch: list[Outgoing] = []
    contexts: set[tuple[UID, UID]] = set()
    for document in documents:
        if batch and len(contexts | set(document.contexts())) > _MAX_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(document)
        contexts.update(document.contexts())
    if batch:
        yield batch


def _send_batch(link: Link, batch: Sequence[Outgoing]) -> list[SendOutcome]:
    contexts = dict.fromkeys(context for document in batch for context in document.contexts())
    sent: list[SendOutcome] = []
    try:
        with link.associate([build_context(*context) for context in contexts]) as association, _paused(association):
            for document in batch:
                answer = _answer(link, association, document=document, message_id=len(sent) % 0xFFFF + 1)
                sent.append(_sent(link, document, answer))
    except ArchiveError as error:
        status = error.archive_status if isinstance(error, ArchiveRefused) else None
        sent.extend(SendOutcome(document.sop_instance_uid, status, error) for document in batch[len(sent) :])
    return sent


def _sent(link: Link, document: Outgoing, status: int) -> SendOutcome:
    try:
        link.check(status, str(document))
    except ArchiveError as error:
        return SendOutcome(document.sop_instance_uid, status, error)
    return SendOutcome(document.sop_instance_uid, status)


def _answer(link: Link, association: Association, *, document: Outgoing, message_id: int) -> int:
    """Send one C-STORE request and return the status of the response.

    Raises: ArchiveUnreachable if the association is lost.
    """
    context = _accepted(association, document)
    if context is None:
        return SOP_CLASS_NOT_SUPPORTED
    pdu_bytes = min(association.acceptor.maximum_length or _MAX_PDU_BYTES, _MAX_PDU_BYTES)
    with _data_set(document, context.transfer_syntax[0]) as data_set:
        for control, stream in ((_COMMAND, BytesIO(_command(document, message_id))), (0, data_set)):
            for pdu in _pdus(stream, context.context_id or 0, control=control, pdu_bytes=pdu_bytes):
                try:
                    connection_of(association).sendall(pdu)
                except OSError as error:
                    raise link.lost(str(document)) from error
    _, response = association.dimse.get_msg(block=True)
    if response is None or response.Status is None:
        raise link.lost(str(document))
    return response.Status


def _accepted(association: Association, document: Outgoing) -> PresentationContext | None:
    accepted = {(str(one.abstract_syntax), str(one.transfer_syntax[0])): one for one in association.accepted_contexts}
    return next((accepted[wanted] for wanted in document.contexts() if wanted in accepted), None)


def _command(document: Outgoing, message_id: int) -> bytes:
    """Return a C-STORE-RQ command set in Implicit VR Little Endian (PS3.7 6.3.1, 9.3.1.1)."""
    elements = b"".join(
        struct.pack("<HHL", 0x0000, number, len(value)) + value
        for number, value in (
            (0x0002, _padded(document.sop_class_uid)),
            (0x0100, struct.pack("<H", 0x0001)),  # Command Field: C-STORE-RQ
            (0x0110, struct.pack("<H", message_id)),
            (0x0700, struct.pack("<H", 0x0000)),  # Priority: medium
            (0x0800, struct.pack("<H", 0x0001)),  # Command Data Set Type: a data set follows
            (0x1000, _padded(document.sop_instance_uid)),
        )
    )
    return struct.pack("<HHLL", 0x0000, 0x0000, 4, len(elements)) + elements


def _padded(uid: UID) -> bytes:
    """Return the UID in an even number of bytes (PS3.5 9.1)."""
    return uid.encode("ascii") + b"\0" * (len(uid) % 2)


def _pdus(stream: BinaryIO, context_id: int, *, control: int, pdu_bytes: int) -> Iterator[bytes]:
    """Yield P-DATA-TF PDUs (PS3.8 9.3.5) of one fragment each, in the memory of one fragment."""
    fragment_bytes = (pdu_bytes - _PDV_HEADER_BYTES) // 2 * 2  # an even number, as of every value in it
    following = stream.read(fragment_bytes)
    flags = control
    while not flags & _LAST:
        fragment, following = following, stream.read(fragment_bytes)
        flags = control if following else control | _LAST
        yield struct.pack(">BxLLBB", 0x04, len(fragment) + 6, len(fragment) + 2, context_id, flags) + fragment


@contextmanager
def _data_set(document: Outgoing, transfer_syntax_uid: str) -> Iterator[BinaryIO]:
    """Open the data set where it begins, encoded anew only if the syntax is not its own."""
    with _opened(document.content) as stream:
        if transfer_syntax_uid == document.transfer_syntax_uid:
            stream.seek(document.offset)
            yield stream
        else:
            encoded = encode(dcmread(stream), True, True)  # noqa: FBT003 - implicit VR, little endian
            if encoded is None:
                raise CannotUnderstand(f"{document.sop_instance_uid}: cannot be encoded in Implicit VR; leave it out")
            yield BytesIO(encoded)


def _is_behind_file_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != _FILE_META_GROUP


def _opened(content: Path | bytes) -> BinaryIO:
    return content.open("rb") if isinstance(content, Path) else BytesIO(content)


@contextmanager
def _paused(association: Association) -> Iterator[None]:
    """Keep the association's own thread from taking our responses, as pynetdicom's send_c_store does.

    We write the P-DATA ourselves because send_c_store either encodes the data set anew or needs a global switch, and
    queues the whole object in memory.
    """
    association._reactor_checkpoint.clear()  # noqa: SLF001 - pynetdicom has no public way
    while not association._is_paused:  # noqa: SLF001
        time.sleep(0.0001)
    try:
        yield
    finally:
        association._reactor_checkpoint.set()  # noqa: SLF001
