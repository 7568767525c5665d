"""DICOM objects that a program made, held against the study that it read, before one of them may leave.

An object is of the same patient and study, of a kind that its model may make, new, whole, refers to these images, and
has nothing in it that its kind has no place for. What does not fit ends the job: a result without the object would be
half an answer. The node adds itself to an object as equipment that says "research use only", and says by its Series
Description that a program made it; texts that quote the patient are left out; all else is the program's.
"""

import hashlib
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Final

from pydicom import Dataset, dcmread

from ainode.node.domain import (
    RESEARCH_USE_ONLY,
    SECONDARY_CAPTURES,
    UID,
    Attachment,
    Document,
    DocumentContext,
    DocumentKind,
    Instance,
    InstanceRef,
    Result,
    is_uid,
)
from ainode.node.encoding.elements import DEFLATED, Plain, encoding_of, walk
from ainode.node.encoding.part10 import Origin, head, parse
from ainode.node.errors import CannotUnderstand, HandlerError
from ainode.node.imaging.decoding import BROKEN_FILE
from ainode.node.reading.free_texts import StatesAnother, leave_out_quotes
from ainode.node.reading.references import foreign_reference
from ainode.node.reading.statements import false_statement, plain, unheld
from ainode.node.reports.series import program_series_description
from ainode.node.reports.source_header import node_equipment

MOST_BYTES: Final = 1 << 30
"""of all objects of a reading together"""
# PS3.4 B.5. A program makes these, and further ones that its description names.
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "SR": (
        "1.2.840.10008.5.1.4.1.1.88.11",
        "1.2.840.10008.5.1.4.1.1.88.22",
        "1.2.840.10008.5.1.4.1.1.88.33",
        "1.2.840.10008.5.1.4.1.1.88.34",
    ),
    "SC": SECONDARY_CAPTURES,
    "SEG": ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"),
    "GSPS": ("1.2.840.10008.5.1.4.1.1.11.1",),
    "PDF": ("1.2.840.10008.5.1.4.1.1.104.1",),
}
_WITHOUT_PIXELS: Final = frozenset((*KINDS["SR"], *KINDS["GSPS"], *KINDS["PDF"]))
_PIXEL_KEYWORDS: Final = frozenset({"PixelData", "FloatPixelData", "DoubleFloatPixelData"})
# What two objects of one patient may not state differently (PS3.3 C.7.1.1).
_OF_THE_PATIENT: Final = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
_PDF: Final = b"%PDF-"
_UIDS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")


def attached_documents(result: Result, sources: Sequence[Instance], context: DocumentContext) -> tuple[Document, ...]:
    """Return the objects of a result as documents, marked for research, with a meta group of the node's own.

    `sources` are the instances of the study.

    Raises: HandlerError that names the object by its number, and what of it does not fit.
    """
    attachments = result.attachments
    if not attachments:
        return ()
    if sum(len(attachment.content) for attachment in attachments) > MOST_BYTES:
        raise HandlerError(f"the program's objects have more than {MOST_BYTES} bytes together; nothing was sent")
    patient = dcmread(sources[0].path, stop_before_pixels=True)
    mark = node_equipment(patient, context, RESEARCH_USE_ONLY)
    documents = []
    for number, attachment in enumerate(attachments, start=1):
        try:
            documents.append(_document(attachment, patient, sources, mark, result))
        except _Unfit as error:
            raise _refusal(number, len(attachments), str(error)) from error
        except CannotUnderstand as error:
            raise _refusal(number, len(attachments), "it is no whole DICOM object") from error
        except (*BROKEN_FILE, RecursionError) as error:
            words = f"it cannot be read ({type(error).__name__})"
            raise _refusal(number, len(attachments), words) from error
    _refuse_foreign_references(documents, sources)
    return tuple(documents)


class _Unfit(Exception):
    """What of an object does not fit, without a value of the object."""


def _refusal(number: int, count: int, words: str) -> HandlerError:
    return HandlerError(f"object {number} of {count} that the program made: {words}; nothing was sent")


def _refuse_foreign_references(documents: Sequence[Document], sources: Sequence[Instance]) -> None:
    """Return if the objects have different UIDs, and refer to nothing but the images and each other.

    Raises: HandlerError.
    """
    objects = [document.ref for document in documents]
    if len({ref.sop_instance_uid for ref in objects}) < len(objects):
        raise HandlerError("two of the program's objects have one SOP Instance UID; nothing was sent")
    for number, document in enumerate(documents, start=1):
        others = [ref for ref in objects if ref is not document.ref]
        if words := foreign_reference(dcmread(BytesIO(document.content)), sources, others):
            raise _refusal(number, len(documents), words)


def _document(
    attachment: Attachment, patient: Dataset, sources: Sequence[Instance], mark: Dataset, result: Result
) -> Document:
    """Return an object as a document.

    Raises: _Unfit, CannotUnderstand, and what pydicom raises.
    """
    origin, begin = parse(attachment.content)
    _refuse_cut_off(attachment.content, begin, origin)
    dataset = dcmread(BytesIO(attachment.content))
    _refuse_identity(dataset, patient, sources)
    allowed = {uid for kind in attachment.kinds for uid in KINDS.get(kind, (kind,))}
    if str(dataset.SOPClassUID) not in allowed:
        raise _Unfit(f"SOP Class {dataset.SOPClassUID.name} is none that its model.toml allows in [program] objects")
    if words := unheld(dataset, may_overlay=str(dataset.SOPClassUID) in KINDS["GSPS"]):
        raise _Unfit(words)
    _refuse_content(dataset, sources)
    ref = InstanceRef(*(UID(str(dataset[keyword].value)) for keyword in _UIDS))
    has_private = any(element.tag.is_private for element in dataset.iterall())
    try:
        is_changed = leave_out_quotes(dataset, sources)
    except StatesAnother as error:
        raise _Unfit(f"its {error} states a patient who is not that of the images") from error
    # Elements that nobody looked at are written as they were read.
    written = dataset if is_changed else dcmread(BytesIO(attachment.content))
    description = str(written.get("SeriesDescription") or "")
    written.SeriesDescription = program_series_description(description, result.title, result.algorithm)
    return Document(DocumentKind.OBJECT, ref, _content(written, origin, mark, has_private=has_private))


def _refuse_cut_off(content: bytes, begin: int, origin: Origin) -> None:
    """Return if the data set is whole.

    Raises: _Unfit, CannotUnderstand.
    """
    if not is_uid(origin.transfer_syntax_uid) or origin.transfer_syntax_uid in DEFLATED:
        raise _Unfit("it names no Transfer Syntax, or a deflated one")
    source = Plain(content, begin)
    for _ in walk(source, encoding_of(source, origin.transfer_syntax_uid)):
        pass


def _refuse_identity(dataset: Dataset, patient: Dataset, sources: Sequence[Instance]) -> None:
    """Return if an object is a new one of the study and of its patient.

    Raises: _Unfit.
    """
    if not all(is_uid(str(dataset.get(keyword, ""))) for keyword in _UIDS):
        raise _Unfit("one of its UIDs is missing or no UID")
    if dataset.StudyInstanceUID != sources[0].ref.study_instance_uid:
        raise _Unfit("it is of another study")
    for keyword in _OF_THE_PATIENT:
        if plain(dataset.get(keyword)) != plain(patient.get(keyword)):
            raise _Unfit(f"its {keyword} is not that of the images: it is of another patient")
    if keyword := false_statement(dataset, sources):
        raise _Unfit(f"its {keyword} is not that of the images: it is of another patient or study")
    if str(dataset.SOPInstanceUID) in {source.ref.sop_instance_uid for source in sources}:
        raise _Unfit("it has the SOP Instance UID of an image that was read; an object needs one of its own")
    if str(dataset.SeriesInstanceUID) in {source.ref.series_instance_uid for source in sources}:
        raise _Unfit("it is in a series of the images that were read; an object needs a series of its own")


def _refuse_content(dataset: Dataset, sources: Iterable[Instance]) -> None:
    """Return if an object has nothing in it that its kind has no place for.

    Raises: _Unfit.
    """
    is_without_pixels = str(dataset.SOPClassUID) in _WITHOUT_PIXELS
    for element in dataset.iterall():
        if is_without_pixels and element.keyword in _PIXEL_KEYWORDS:
            raise _Unfit("it has pixels, which its kind has no place for")
    if "EncapsulatedDocument" in dataset:
        document = bytes(dataset.EncapsulatedDocument)
        if dataset.get("MIMETypeOfEncapsulatedDocument") != "application/pdf" or not document.startswith(_PDF):
            raise _Unfit("its document is no PDF")
    if "PixelData" in dataset and not is_without_pixels:
        pixels = hashlib.sha256(dataset.PixelData).digest()
        for source in sources:
            # An image of the same size in bytes, or smaller, cannot hold the pixels otherwise.
            if source.size_bytes >= len(dataset.PixelData) and _pixels_of(source) == pixels:
                raise _Unfit("it holds the pixels of an image that was read, unchanged")


def _pixels_of(source: Instance) -> bytes:
    return hashlib.sha256(dcmread(source.path, specific_tags=["PixelData"]).get("PixelData", b"")).digest()


def _content(dataset: Dataset, origin: Origin, mark: Dataset, *, has_private: bool) -> bytes:
    """Return the file of an object: marked, without private elements, with the node's own preamble and meta group."""
    if has_private:
        dataset.remove_private_tags()
    dataset.ContributingEquipmentSequence = [*(dataset.get("ContributingEquipmentSequence") or ()), mark]
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    _, begin = parse(file.getvalue())
    # Modules that change the UID of an image often leave that of its meta group as it was.
    own = Origin(UID(str(dataset.SOPClassUID)), UID(str(dataset.SOPInstanceUID)), origin.transfer_syntax_uid, "")
    return head(own) + file.getvalue()[begin:]
