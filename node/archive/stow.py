"""STOW-RS as a client (PS3.18 10.5): stores documents, as a stream from the disk to the socket.

Each data set is sent byte for byte, and no whole object is in memory. An instance counts as stored only where the
answer names the instance: a proxy or a sign-in page also answers HTTP 200.
"""

import secrets
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

import requests

from ainode.node.archive.comments import response_comment, warning_comment
from ainode.node.archive.dicom_json import JsonDataset, datasets_of, items, number, text
from ainode.node.archive.dimse import error_type
from ainode.node.archive.multipart import Body
from ainode.node.archive.store import Outgoing, SendOutcome, always
from ainode.node.archive.web import WebLink
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable

# In this order: some servers know the first alone, some the second.
_ACCEPTED: Final = ("application/dicom+json", "application/dicom+xml")
# How servers refuse, or fail at, a request for the sake of one of its objects.
_REFUSED_AS_A_WHOLE: Final = frozenset({400, 409, 413, 415, 422, 500})
# PS3.7 annex C: Processing failure, Duplicate SOP Instance.
_PROCESSING_FAILURE, _DUPLICATE = 0x0110, 0x0111


def send(
    link: WebLink, documents: Sequence[Outgoing], may_leave: Callable[[], None] = always
) -> tuple[SendOutcome, ...]:
    """Store the documents in one request and return the outcome of each, in their order, as `store.send` does.

    A request that the archive, or a proxy before the archive, refuses as a whole is sent in halves: it may be too
    large, or hold an object that the archive does not take. `may_leave` is called before each request.

    Raises: OSError if a file cannot be read. A failure of the archive is an outcome.
    """
    try:
        with link.session("STOW-RS") as session:
            response = _store(session, link, documents, may_leave)
            answer = _answer(response)
    except ArchiveError as error:
        return tuple(SendOutcome.failed(document, error) for document in documents)
    if len(documents) > 1 and response.status_code in _REFUSED_AS_A_WHOLE and not _names_instances(answer):
        middle = len(documents) // 2
        return send(link, documents[:middle], may_leave) + send(link, documents[middle:], may_leave)
    return tuple(_outcome(link, document, response, answer) for document in documents)


def _store(
    session: requests.Session, link: WebLink, documents: Sequence[Outgoing], may_leave: Callable[[], None]
) -> requests.Response:
    """Send the documents; send them again where the server does not answer in the form that is accepted first."""
    body = Body(tuple(document.content for document in documents), secrets.token_hex(16))
    address = f"{link.peer.dicomweb.rstrip('/')}/studies"
    for media_type in _ACCEPTED:
        may_leave()
        response = session.post(address, data=body, headers={"Content-Type": body.content_type, "Accept": media_type})
        if response.status_code != HTTPStatus.NOT_ACCEPTABLE:
            break
    return response


def _answer(response: requests.Response) -> JsonDataset:
    """Return the data set of an answer, {} if the answer has none: a page of a proxy, or nothing."""
    try:
        datasets = datasets_of(response.content, response.headers.get("Content-Type", ""))
    except ValueError:
        return {}
    return next(iter(datasets), {})


def _names_instances(answer: JsonDataset) -> bool:
    """Return whether an answer says of an instance what became of it."""
    return any(items(answer, sequence) for sequence in ("FailedSOPSequence", "ReferencedSOPSequence"))


def _outcome(link: WebLink, document: Outgoing, response: requests.Response, answer: JsonDataset) -> SendOutcome:
    """Return the outcome of one document.

    The status is the Failure Reason of the document (a C-STORE status, 0x0110 if absent); or its Warning Reason, 0x0000
    if absent, where the archive names the document as stored. If the archive does not name the document, the status is
    that of HTTP, or None where HTTP reports success.
    """
    uid, words = document.sop_instance_uid, warning_comment(response)
    failed_item = _item_of(answer, "FailedSOPSequence", document)
    if failed_item is not None:
        return _failure(link, document, _status(failed_item, "FailureReason", _PROCESSING_FAILURE), words)
    stored_item = _item_of(answer, "ReferencedSOPSequence", document)
    if stored_item is not None:
        return SendOutcome(uid, _status(stored_item, "WarningReason", 0x0000), comment=words)
    words = response_comment(response)
    if response.ok:
        return SendOutcome(uid, None, comment=words)
    http_status = response.status_code
    return SendOutcome(uid, http_status, link.http_error(http_status, "STOW-RS", words), words)


def _failure(link: WebLink, document: Outgoing, status: int, words: str) -> SendOutcome:
    """Return the outcome of a document that the archive names as failed.

    A duplicate is there already. Any other status of a success contradicts the place that the status stands in, and
    proves nothing.
    """
    uid, name = document.sop_instance_uid, link.peer.name
    error = error_type(status)
    if error is None:
        return SendOutcome(uid, status if status == _DUPLICATE else None, comment=words)
    if error is ArchiveRefused:
        message = f"{name}: refused {document} with reason 0x{status:04X}; enable its SOP class, or see its log"
        return SendOutcome(uid, status, ArchiveRefused(message, archive_status=status, comment=words), words)
    message = f"{name}: cannot take {document} now (reason 0x{status:04X}); try again later"
    return SendOutcome(uid, status, ArchiveUnreachable(message, comment=words), words)


def _item_of(answer: JsonDataset, sequence: str, document: Outgoing) -> JsonDataset | None:
    """Return the item of a sequence that names a document, None if no item does."""
    return next((item for item in items(answer, sequence) if _named_uid(item) == document.sop_instance_uid), None)


def _named_uid(item: JsonDataset) -> str:
    """Return the SOP Instance UID of an item; some servers give only the address of the instance."""
    return text(item, "ReferencedSOPInstanceUID") or text(item, "RetrieveURL").partition("/instances/")[2].strip("/")


def _status(item: JsonDataset, keyword: str, default: int) -> int:
    value = number(item, keyword)
    return default if value is None else value
