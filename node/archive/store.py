"""C-STORE to an archive: stored bytes are sent unchanged, over one association for all documents."""

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pydicom.uid
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import VR
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext, build_context

from ainode.node.archive.comments import error_comment
from ainode.node.archive.dimse import SOP_CLASS_NOT_SUPPORTED, Link, connection_of
from ainode.node.domain import NO_UID, UID
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable, CannotUnderstand, NotSent

# PS3.10 7.1: the group of the File Meta Information, and the elements of the group that a C-STORE needs.
_FILE_META_GROUP = 0x0002
_META_KEYWORDS = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
# The errors of pydicom for bytes that are not DICOM.
_DECODE_ERRORS = (InvalidDicomError, BytesLengthException, EOFError, NotImplementedError, ValueError, struct.error)
# PS3.8 9.3.2.2: context IDs are the odd numbers 1 to 255.
_MAX_CONTEXTS = 128
# The limit of the node, for a peer with a larger limit or with none (0): a PDU is one write to the socket.
_MAX_PDU_BYTES = 131_072
# PS3.8 9.3.5.1: length (4), context ID (1) and message control header (1) before each fragment.
_PDV_HEADER_BYTES = 6
# So many losses of the association, with no answer between them, are no fault of a document.
_MOST_LOSSES = 3
# PS3.8 E.2, message control header.
_COMMAND, _LAST = 0b01, 0b10


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A DICOM file to send, its File Meta Information, and the offset of its data set in bytes.

    A message has a UID and its content alone.
    """

    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    content: Path | bytes = field(repr=False)
    offset: int

    @classmethod
    def of(cls, content: Path | bytes) -> "Outgoing":
        """Return the document of a file (PS3.10 7.1); the data set is not read.

        Raises: CannotUnderstand if the file is no DICOM file or names no instance; OSError.
        """
        name = content.name if isinstance(content, Path) else f"{len(content)} bytes"
        with _stream(content) as stream:
            try:
                read_preamble(stream, force=False)
                meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_is_behind_file_meta)
                sop_class_uid, sop_instance_uid, syntax = (_uid(meta, keyword) for keyword in _META_KEYWORDS)
            except _DECODE_ERRORS as error:
                raise CannotUnderstand(f"{name}: is no DICOM file; leave the file out") from error
            offset = stream.tell()
        if not (sop_class_uid and sop_instance_uid and syntax):
            raise CannotUnderstand(
                f"{name}: its File Meta Information lacks one of {', '.join(_META_KEYWORDS)}; leave the file out"
            )
        return cls(sop_class_uid, sop_instance_uid, syntax, content, offset)

    @classmethod
    def message(cls, uid: UID, content: Path | bytes) -> "Outgoing":
        """Return a message, which only a listener takes."""
        return cls(NO_UID, uid, NO_UID, content, 0)

    def read(self) -> bytes:
        """Return the whole content.

        Raises: OSError.
        """
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content

    def __str__(self) -> str:
        """Return the SOP Instance UID and the names of the SOP class and the transfer syntax, for a message."""
        names = (pydicom.uid.UID(uid).name for uid in (self.sop_class_uid, self.transfer_syntax_uid))
        return f"{self.sop_instance_uid} ({' in '.join(names)})"

    def contexts(self) -> tuple[tuple[UID, UID], ...]:
        """Return the presentation contexts to negotiate, as SOP class and transfer syntax, best first.

        The first has the transfer syntax of the file. A file in Explicit VR Little Endian also has a context with
        Implicit VR Little Endian, which every AE must know (PS3.5 10.1).
        """
        own = (self.sop_class_uid, self.transfer_syntax_uid)
        if self.transfer_syntax_uid == UID(ExplicitVRLittleEndian):
            return own, (self.sop_class_uid, UID(ImplicitVRLittleEndian))
        return (own,)


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """The answer to one document, and the error if the archive did not take the document."""

    sop_instance_uid: UID
    status: int | None
    """the status of the answer; 0x0122 if the archive accepted no presentation context

    None without an answer, and where the archive reports success without naming the document: only a query can prove
    that the archive has the document.
    """
    error: ArchiveError | None = None
    """None if the archive has, or may have, the document; otherwise `error.retry` tells whether the node tries again"""
    comment: str = ""
    """the archive's own words, which may quote a Patient ID: never in a log"""

    @classmethod
    def failed(cls, document: "Outgoing", error: ArchiveError) -> "SendOutcome":
        """Return the outcome of a document whose request failed."""
        status = error.archive_status if isinstance(error, ArchiveRefused) else None
        return cls(document.sop_instance_uid, status, error, error.comment)

    @property
    def is_proven(self) -> bool:
        """Return whether the archive answered that it has the document."""
        return self.error is None and self.status is not None


def always() -> None:
    """Let a document leave: for who shares its work with no other process."""


def send(link: Link, documents: Sequence[Outgoing], may_leave: Callable[[], None] = always) -> tuple[SendOutcome, ...]:
    """Send the documents, over one association if it holds, and return the outcome of each, in their order.

    `may_leave` is called right before each document leaves, and raises what keeps the document and all after it.

    Each data set is sent byte for byte, in its own transfer syntax. Only a data set in Explicit VR Little Endian, to a
    peer that accepts only Implicit VR, is encoded anew. After a refused document, and after one that broke the
    association off, the other documents are still sent; where the archive is away they get the error, for a later
    retry. More than 128 presentation contexts need several associations.

    Raises: OSError, CannotUnderstand if a file cannot be read. A failure of the peer is an outcome.
    """
    return tuple(outcome for batch in _batches(documents) for outcome in _send_batch(link, batch, may_leave))


def _batches(documents: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Yield groups of documents whose presentation contexts fit into one association."""
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


def _send_batch(link: Link, batch: Sequence[Outgoing], may_leave: Callable[[], None]) -> list[SendOutcome]:
    """Send documents and return the outcome of each; a document that breaks the association off stops no other one.

    Some archives abort at an object that they cannot file, and some take one object in each association: what comes
    after it goes over a new association. An archive that is silent, or breaks off again and again, is away.
    """
    outcomes: list[SendOutcome] = []
    losses = 0
    while len(outcomes) < len(batch):
        count = len(outcomes)
        try:
            _send_over_one_association(link, batch[count:], may_leave, outcomes)
        except ArchiveError as error:
            losses = 1 if len(outcomes) > count else losses + 1
            is_away = losses == _MOST_LOSSES or isinstance(error, NotSent | ArchiveRefused | _NoAnswer)
            failed = batch[len(outcomes) :] if is_away else batch[len(outcomes) : len(outcomes) + 1]
            outcomes.extend(SendOutcome.failed(document, error) for document in failed)
    return outcomes


def _send_over_one_association(
    link: Link, documents: Sequence[Outgoing], may_leave: Callable[[], None], outcomes: list[SendOutcome]
) -> None:
    """Send documents over one association, and add the outcome of each that is answered to `outcomes`.

    Raises: ArchiveError if there is no association, or the association is lost.
    """
    contexts = dict.fromkeys(context for document in documents for context in document.contexts())
    with (
        link.associate([build_context(*context) for context in contexts]) as association,
        _reactor_pause(association),
    ):
        for index, document in enumerate(documents):
            may_leave()
            answer = _answer(link, association, document=document, message_id=index % 0xFFFF + 1)
            outcomes.append(_outcome(link, document, *answer))


class _NoAnswer(ArchiveUnreachable):
    """The archive was silent until the time limit."""

    @classmethod
    def of(cls, link: Link, document: Outgoing) -> "_NoAnswer":
        """Return the error of a document that an archive did not take, or did not answer."""
        return cls(f"{link.peer.name}: did not answer {document} in {link.timeout_s:.0f} s; try again later")


def _outcome(link: Link, document: Outgoing, status: int, words: str) -> SendOutcome:
    """Return the outcome of a document that the peer answered with a status and an Error Comment."""
    try:
        link.check(status, str(document), words)
    except ArchiveError as error:
        return SendOutcome(document.sop_instance_uid, status, error, words)
    return SendOutcome(document.sop_instance_uid, status, comment=words)


def _answer(link: Link, association: Association, *, document: Outgoing, message_id: int) -> tuple[int, str]:
    """Send one C-STORE request and return the status and the Error Comment of the response.

    Raises: ArchiveUnreachable if the association was lost, or the answer is that to another request.
    """
    context = _accepted_context(association, document)
    if context is None:
        return SOP_CLASS_NOT_SUPPORTED, ""
    _write(link, association, document, context=context, message_id=message_id)
    sent_at = time.monotonic()
    _, response = association.dimse.get_msg(block=True)
    if response is None and time.monotonic() - sent_at >= link.timeout_s:
        raise _NoAnswer.of(link, document)
    if response is None or response.Status is None:
        raise link.lost_association(str(document))
    if response.MessageIDBeingRespondedTo != message_id:
        raise ArchiveUnreachable(f"{link.peer.name}: answers another request than {document}; see the log of the peer")
    return response.Status, error_comment(response)


def _write(
    link: Link, association: Association, document: Outgoing, *, context: PresentationContext, message_id: int
) -> None:
    """Write one C-STORE request to the connection.

    Raises: ArchiveUnreachable if the association was lost, or the archive reads nothing.
    """
    pdu_bytes = min(association.acceptor.maximum_length or _MAX_PDU_BYTES, _MAX_PDU_BYTES)
    with _dataset_stream(document, context.transfer_syntax[0]) as dataset:
        for control, stream in ((_COMMAND, BytesIO(_command(document, message_id))), (0, dataset)):
            for pdu in _pdus(stream, context.context_id or 0, control=control, pdu_bytes=pdu_bytes):
                try:
                    connection_of(association).sendall(pdu)
                except TimeoutError as error:
                    raise _NoAnswer.of(link, document) from error
                except OSError as error:
                    raise link.lost_association(str(document)) from error


def _accepted_context(association: Association, document: Outgoing) -> PresentationContext | None:
    """Return the best context of a document that the peer accepted, None if the peer accepted no context."""
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0])): context
        for context in association.accepted_contexts
    }
    return next((accepted[syntaxes] for syntaxes in document.contexts() if syntaxes in accepted), None)


def _command(document: Outgoing, message_id: int) -> bytes:
    """Return a C-STORE-RQ command set in Implicit VR Little Endian (PS3.7 6.3.1, 9.3.1.1)."""
    elements = b"".join(
        struct.pack("<HHL", 0x0000, number, len(value)) + value
        for number, value in (
            (0x0002, _padded_uid(document.sop_class_uid)),
            (0x0100, struct.pack("<H", 0x0001)),  # Command Field: C-STORE-RQ
            (0x0110, struct.pack("<H", message_id)),
            (0x0700, struct.pack("<H", 0x0000)),  # Priority: medium
            (0x0800, struct.pack("<H", 0x0001)),  # Command Data Set Type: a data set follows
            (0x1000, _padded_uid(document.sop_instance_uid)),
        )
    )
    return struct.pack("<HHLL", 0x0000, 0x0000, 4, len(elements)) + elements


def _padded_uid(uid: UID) -> bytes:
    """Return the UID in an even number of bytes (PS3.5 9.1)."""
    return uid.encode("ascii") + b"\0" * (len(uid) % 2)


def _pdus(stream: BinaryIO, context_id: int, *, control: int, pdu_bytes: int) -> Iterator[bytes]:
    """Yield a P-DATA-TF PDU (PS3.8 9.3.5) for each fragment of a stream; one fragment at a time is in memory."""
    fragment_bytes = (pdu_bytes - _PDV_HEADER_BYTES) // 2 * 2  # an even number, as the length of every value
    next_fragment = stream.read(fragment_bytes)
    flags = control
    while not flags & _LAST:
        fragment, next_fragment = next_fragment, stream.read(fragment_bytes)
        flags = control if next_fragment else control | _LAST
        yield struct.pack(">BxLLBB", 0x04, len(fragment) + 6, len(fragment) + 2, context_id, flags) + fragment


@contextmanager
def _dataset_stream(document: Outgoing, transfer_syntax_uid: str) -> Iterator[BinaryIO]:
    """Open the data set of a document, encoded anew only if the document has another transfer syntax."""
    with _stream(document.content) as stream:
        if transfer_syntax_uid == document.transfer_syntax_uid:
            stream.seek(document.offset)
            yield stream
        else:
            encoded = encode(dcmread(stream), True, True)  # noqa: FBT003 - implicit VR, little endian
            if encoded is None:
                raise CannotUnderstand(
                    f"{document.sop_instance_uid}: cannot be encoded in Implicit VR; leave the file out"
                )
            yield BytesIO(encoded)


def _is_behind_file_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != _FILE_META_GROUP


def _uid(meta: Dataset, keyword: str) -> UID:
    """Return a UID as the file has the UID, without its padding, '' if absent: pydicom logs a value that is no UID."""
    element = meta.get_item(keyword) if keyword in meta else None
    if isinstance(element, RawDataElement) and element.VR == VR.UI and element.value:
        return UID(element.value.decode("ascii", "replace").strip("\0 "))
    return UID("")


def _stream(content: Path | bytes) -> BinaryIO:
    return content.open("rb") if isinstance(content, Path) else BytesIO(content)


@contextmanager
def _reactor_pause(association: Association) -> Iterator[None]:
    """Keep the thread of the association from taking responses during a block, as send_c_store of pynetdicom does.

    This module writes the P-DATA itself: send_c_store encodes the data set anew, unless a global switch is set, and
    queues the whole object in memory.
    """
    association._reactor_checkpoint.clear()  # noqa: SLF001 - pynetdicom has no public method
    while not association._is_paused:  # noqa: SLF001
        time.sleep(0.0001)
    try:
        yield
    finally:
        association._reactor_checkpoint.set()  # noqa: SLF001
