"""DICOMweb as a client: STOW-RS stores, QIDO-RS searches and confirms, WADO-RS fetches (PS3.18).

The package dicomweb-client searches, page by page. This module stores and fetches, as a stream between socket and disk:
`store_instances` of the package encodes every data set anew and joins the data sets in memory, and `iter_series` holds
several decoded copies of each instance. Growth of resident memory, measured with Orthanc 1.10 on loopback: 306 MiB with
the package and 1 MiB with this module to store 300 CT images (150 MiB); 1200 and 0 MiB to store a multi-frame image of
400 MiB; 2004 and 0 MiB to fetch the image.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import requests
from dicomweb_client import DICOMwebClient

from ainode.node.archive.dimse import error_type
from ainode.node.archive.multipart import Body, boundary_of, parts
from ainode.node.archive.search import (
    MAX_SERIES,
    MAX_STUDIES,
    Deadline,
    SeriesEntry,
    StudyEntry,
    StudyQuery,
    series_entry,
    study_entry,
)
from ainode.node.archive.store import Outgoing, SendOutcome
from ainode.node.archive.web import WebLink
from ainode.node.disk import refuse_full
from ainode.node.domain import UID, InstanceRef, is_uid
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable

_PAGE_SIZE = 500
_BLOCK_BYTES = 65_536
# The limit of one study; a dynamic CT has some ten thousand instances.
_MAX_INSTANCES = 100_000
# The stored transfer syntax (PS3.18 8.7.3.5.2): a new encoding costs time, and changes the bytes.
_ACCEPT_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
# PS3.6: the tag of each keyword; DICOM JSON names an element by its tag (PS3.18 F.2).
_TAGS = {
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "SOPInstanceUID": "00080018",
    "Modality": "00080060",
    "ModalitiesInStudy": "00080061",
    "StudyDescription": "00081030",
    "SeriesDescription": "0008103E",
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "PatientBirthDate": "00100030",
    "BodyPartExamined": "00180015",
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "NumberOfSeriesRelatedInstances": "00201209",
    "FailureReason": "00081197",
    "FailedSOPSequence": "00081198",
    "ReferencedSOPSequence": "00081199",
    "ReferencedSOPInstanceUID": "00081155",
}
JsonDataset: TypeAlias = Mapping[str, object]
"""A data set in DICOM JSON (PS3.18 annex F)."""


# Storing


def send(link: WebLink, documents: Sequence[Outgoing]) -> tuple[SendOutcome, ...]:
    """Store the documents in one request and return the outcome of each, in their order, as `store.send` does.

    Raises: OSError if a file cannot be read. A failure of the archive is an outcome.
    """
    body = Body(tuple(document.content for document in documents), secrets.token_hex(16))
    headers = {"Content-Type": body.content_type, "Accept": "application/dicom+json"}
    try:
        with link.session("STOW-RS") as session:
            response = session.post(f"{link.peer.dicomweb.rstrip('/')}/studies", data=body, headers=headers)
            stored = _store_response(response)
    except ArchiveError as error:
        status = error.archive_status if isinstance(error, ArchiveRefused) else None
        return tuple(SendOutcome(document.sop_instance_uid, status, error) for document in documents)
    return tuple(_outcome(link, document, response.status_code, stored) for document in documents)


def _store_response(response: requests.Response) -> JsonDataset:
    """Return the data set with the stored and the failed instances (PS3.18 10.5.3), {} if the archive sent none."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    first = answer[0] if isinstance(answer, list) and answer else answer
    return first if isinstance(first, dict) else {}


def _outcome(link: WebLink, document: Outgoing, http_status: int, response: JsonDataset) -> SendOutcome:
    """Return the outcome of one document.

    The status is the Failure Reason of the document (a C-STORE status, 0x0110 if absent), or 0x0000 if the archive
    stored the document. If the archive names no document, the status is the HTTP status, or None after HTTP 202.
    """
    uid, name = document.sop_instance_uid, link.peer.name
    failed = {_text(item, "ReferencedSOPInstanceUID"): item for item in _items(response, "FailedSOPSequence")}
    stored = {_text(item, "ReferencedSOPInstanceUID") for item in _items(response, "ReferencedSOPSequence")}
    if uid in failed:
        reason = _text(failed[uid], "FailureReason")
        status = int(reason) if reason.isdecimal() else 0x0110
        error = error_type(status)
        if error is ArchiveRefused:
            message = f"{name}: refused {document} with reason 0x{status:04X}; enable its SOP class, or see its log"
            return SendOutcome(uid, status, ArchiveRefused(message, archive_status=status))
        message = f"{name}: cannot take {document} now (reason 0x{status:04X}); the document will be tried again"
        return SendOutcome(uid, status, ArchiveUnreachable(message) if error else None)
    if uid in stored or http_status in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}:
        return SendOutcome(uid, 0x0000)
    if http_status == HTTPStatus.ACCEPTED:
        return SendOutcome(
            uid, None, ArchiveUnreachable(f"{name}: does not say which objects it took; all will be tried again")
        )
    return SendOutcome(uid, http_status, link.http_error(http_status, "STOW-RS"))


# Searching


def confirm_by_query(link: WebLink, references: Sequence[InstanceRef]) -> frozenset[UID]:
    """Return the SOP Instance UIDs of `references` that the archive lists; each series is one search.

    Raises: ArchiveUnreachable; ArchiveRefused if the archive has no QIDO-RS: change `confirm` of the [[peer]].
    """
    series = dict.fromkeys((ref.study_instance_uid, ref.series_instance_uid) for ref in references)
    listed = chain.from_iterable(instance_uids(link, *series_uids) for series_uids in series)
    listed_uids = {sop_instance_uid for _, sop_instance_uid in listed}
    return frozenset(ref.sop_instance_uid for ref in references if ref.sop_instance_uid in listed_uids)


def echo(link: WebLink) -> None:
    """Verify the address and the credentials of the service: search for a study that does not exist.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    with link.session("QIDO-RS") as session:
        address = f"{link.peer.dicomweb.rstrip('/')}/studies"
        session.get(address, params={"StudyInstanceUID": "2.25.0", "limit": "1"}).raise_for_status()


def instance_uids(
    link: WebLink, study_instance_uid: UID, series_instance_uid: UID | None = None, *, deadline: Deadline | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the Series and the SOP Instance UID of each instance of a study or series; an absent UID is ''.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    fields = ["SeriesInstanceUID", "SOPInstanceUID"]

    def search_page(client: DICOMwebClient, limit: int, offset: int) -> Sequence[JsonDataset]:
        return client.search_for_instances(
            study_instance_uid, series_instance_uid, fields=fields, limit=limit, offset=offset
        )

    request = "QIDO-RS for instances"
    for dataset in _matches(
        link, request, search_page, key="SOPInstanceUID", max_matches=_MAX_INSTANCES, deadline=deadline
    ):
        yield _text(dataset, "SeriesInstanceUID"), _text(dataset, "SOPInstanceUID")


def _matches(
    link: WebLink,
    request: str,
    search_page: Callable[[DICOMwebClient, int, int], Sequence[JsonDataset]],
    *,
    key: str,
    max_matches: int,
    deadline: Deadline | None = None,
) -> Iterator[JsonDataset]:
    """Yield each match of a search once; matches with the same value of `key` are one match.

    The search ends with a page without a new match, since a server may lower or ignore the limit of a page.

    Raises: ArchiveUnreachable, also above `max_matches`; ArchiveRefused.
    """
    keys: set[str] = set()
    while True:
        with link.session(request, deadline) as session:
            address = link.peer.dicomweb.rstrip("/")
            client = DICOMwebClient(address, session=session, timeout=link.timeout_s, permissive_uid=True)
            client.set_http_retry_params(retry=False)  # the caller tries again
            page = search_page(client, _PAGE_SIZE, len(keys))
            if not isinstance(page, list):
                raise ValueError("no list")  # noqa: TRY004 - the session translates ValueError
        matches = {_text(dataset, key): dataset for dataset in page if _text(dataset, key) not in keys}
        keys |= matches.keys()
        yield from matches.values()
        if not matches or len(page) > _PAGE_SIZE:
            return
        if len(keys) > max_matches:
            raise ArchiveUnreachable(f"{link.peer.name}: lists more than {max_matches} matches of {request}")


# Searching and fetching earlier studies


class WebArchive:
    """The `search.Archive` that searches by QIDO-RS and fetches by WADO-RS."""

    def __init__(self, link: WebLink, *, min_free_bytes: int = 0) -> None:
        self._link = link
        self._min_free_bytes = min_free_bytes

    def studies(self, query: StudyQuery, deadline: Deadline) -> Iterator[StudyEntry]:
        """Yield the studies with the Patient ID and a date of the query; the caller checks the rest."""
        filters = {
            "PatientID": query.patient.patient_id,
            "StudyDate": f"{query.first_date:%Y%m%d}-{query.last_date:%Y%m%d}",
        }
        if len(query.modality) == 1:  # Several modalities would be several searches; the caller checks each study.
            filters["ModalitiesInStudy"] = query.modality[0]
        fields = ["ModalitiesInStudy", "StudyDescription", "IssuerOfPatientID", "PatientBirthDate"]

        def search_page(client: DICOMwebClient, limit: int, offset: int) -> Sequence[JsonDataset]:
            return client.search_for_studies(limit=limit, offset=offset, fields=fields, search_filters=filters)

        request = "QIDO-RS for studies"
        for dataset in _matches(
            self._link, request, search_page, key="StudyInstanceUID", max_matches=MAX_STUDIES, deadline=deadline
        ):
            if is_uid(_text(dataset, "StudyInstanceUID")):
                yield study_entry(partial(_text, dataset), _texts(dataset, "ModalitiesInStudy"))

    def series(self, study_instance_uid: UID, deadline: Deadline) -> tuple[SeriesEntry, ...]:
        """Return the series of a study; a series without a valid UID is left out."""
        fields = ["BodyPartExamined", "SeriesDescription", "NumberOfSeriesRelatedInstances"]

        def search_page(client: DICOMwebClient, limit: int, offset: int) -> Sequence[JsonDataset]:
            return client.search_for_series(study_instance_uid, limit=limit, offset=offset, fields=fields)

        request = "QIDO-RS for series"
        matches = _matches(
            self._link, request, search_page, key="SeriesInstanceUID", max_matches=MAX_SERIES, deadline=deadline
        )
        return tuple(
            series_entry(study_instance_uid, partial(_text, dataset))
            for dataset in matches
            if is_uid(_text(dataset, "SeriesInstanceUID"))
        )

    def fetch(self, series: SeriesEntry, folder: Path, deadline: Deadline) -> None:
        """Write the instances of a series into `folder`; the file names are numbers in the order of the answer."""
        address = (
            f"{self._link.peer.dicomweb.rstrip('/')}/studies/{series.study_instance_uid}"
            f"/series/{series.series_instance_uid}"
        )
        with self._link.session("WADO-RS for a series", deadline, streamed=True) as session:
            for number, content in enumerate(instance_files(session, address)):
                refuse_full(folder, self._min_free_bytes)
                with (folder / f"{number:06d}.dcm").open("xb") as file:
                    for block in content:
                        file.write(block)


def instance_files(session: requests.Session, address: str) -> Iterator[Iterator[bytes]]:
    """Yield the file of each instance at a WADO-RS address, as blocks; the session is a session of `WebLink`.

    The caller reads the blocks of a file before the next file. An answer that is not multipart is one file.

    Raises: ValueError if a multipart answer ends early or is malformed; requests.RequestException for other failures.
    """
    with session.get(address, headers={"Accept": _ACCEPT_AS_STORED}, stream=True) as response:
        response.raise_for_status()
        blocks = response.iter_content(_BLOCK_BYTES)
        boundary = boundary_of(response.headers.get("Content-Type", ""))
        # Some servers send one instance without multipart.
        yield from parts(blocks, boundary) if boundary else iter([blocks])


def _items(dataset: JsonDataset, keyword: str) -> tuple[JsonDataset, ...]:
    """Return the items of a sequence, () if the sequence is absent."""
    return tuple(item for item in _values(dataset, keyword) if isinstance(item, dict))


def _texts(dataset: JsonDataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an element as texts, () if the element is absent."""
    return tuple(str(value).strip() for value in _values(dataset, keyword) if value is not None)


def _text(dataset: JsonDataset, keyword: str) -> str:
    """Return the first value of an element as a text, '' if the element is absent."""
    return next(iter(_texts(dataset, keyword)), "")


def _values(dataset: JsonDataset, keyword: str) -> list[object]:
    """Return the values of an element, [] if the element is absent or malformed: an archive may answer anything."""
    element = dataset.get(_TAGS[keyword]) if isinstance(dataset, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
