"""DICOMweb as a client: STOW-RS out, QIDO-RS to find and to confirm, WADO-RS to fetch (PS3.18).

Searching is dicomweb-client's, page by page. Storing and retrieving are ours: its `store_instances` encodes every data
set anew and joins them in memory, its `iter_series` decodes each instance and holds several copies of it. Here both are
a stream between socket and disk, byte for byte. Measured with Orthanc 1.10 on loopback, growth of resident memory:
300 CT images (150 MiB) stored with 306 MiB by the library and 1 MiB here; a multi-frame image of 400 MiB stored with
1200 and 0, fetched with 2004 and 0.
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

from ainode.node.archive.dimse import judgment
from ainode.node.archive.multipart import Body, boundary_of, parts
from ainode.node.archive.search import (
    MOST_SERIES,
    MOST_STUDIES,
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

_PAGE = 500
_BLOCK_BYTES = 65_536
# Of one study; a dynamic CT has some ten thousand.
_MOST_INSTANCES = 100_000
# Every transfer syntax, as it is stored (PS3.18 8.7.3.5.2): encoding anew costs time, and changes the bytes.
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
# PS3.6: keyword to the tag that names an element in DICOM JSON (PS3.18 F.2).
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
Item: TypeAlias = Mapping[str, object]
"""One data set of an answer in DICOM JSON."""


# Storing


def send(link: WebLink, documents: Sequence[Outgoing]) -> tuple[SendOutcome, ...]:
    """Store the documents in one request and return what became of each, in their order: the web's `store.send`.

    Raises: OSError if a file cannot be read; what the archive does is in the answer.
    """
    body = Body(tuple(one.content for one in documents), secrets.token_hex(16))
    headers = {"Content-Type": body.content_type, "Accept": "application/dicom+json"}
    try:
        with link.session("STOW-RS") as session:
            response = session.post(f"{link.peer.dicomweb.rstrip('/')}/studies", data=body, headers=headers)
            said = _said(response)
    except ArchiveError as error:
        status = error.archive_status if isinstance(error, ArchiveRefused) else None
        return tuple(SendOutcome(one.sop_instance_uid, status, error) for one in documents)
    return tuple(_sent(link, one, response.status_code, said) for one in documents)


def _said(response: requests.Response) -> Item:
    """Return the archive's list of what it stored and what not, {} where it gives none (PS3.18 10.5.3)."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    first = answer[0] if isinstance(answer, list) and answer else answer
    return first if isinstance(first, dict) else {}


def _sent(link: WebLink, document: Outgoing, http_status: int, said: Item) -> SendOutcome:
    """Return what an answer says of one document; `archive_status` is its Failure Reason, a C-STORE status."""
    uid, name = document.sop_instance_uid, link.peer.name
    failed = {_text(one, "ReferencedSOPInstanceUID"): one for one in _items(said, "FailedSOPSequence")}
    stored = {_text(one, "ReferencedSOPInstanceUID") for one in _items(said, "ReferencedSOPSequence")}
    if uid in failed:
        reason = _text(failed[uid], "FailureReason")
        status = int(reason) if reason.isdecimal() else 0x0110
        error = judgment(status)
        if error is ArchiveRefused:
            message = f"{name}: refused {document} with reason 0x{status:04X}; enable that there, or see its log"
            return SendOutcome(uid, status, ArchiveRefused(message, archive_status=status))
        again = f"{name}: cannot take {document} now (reason 0x{status:04X}); it will be tried again"
        return SendOutcome(uid, status, ArchiveUnreachable(again) if error else None)
    if uid in stored or http_status in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}:
        return SendOutcome(uid, 0x0000)
    if http_status == HTTPStatus.ACCEPTED:
        return SendOutcome(
            uid, None, ArchiveUnreachable(f"{name}: took some objects, but does not say which; tried again")
        )
    return SendOutcome(uid, http_status, link.refusal(http_status, "STOW-RS"))


# Searching


def confirm_by_query(link: WebLink, references: Sequence[InstanceRef]) -> frozenset[UID]:
    """Return the SOP Instance UIDs of `references` that the archive finds: one search per series.

    Raises: ArchiveUnreachable; ArchiveRefused if it has no QIDO-RS, then set `confirm` of the [[peer]] to another.
    """
    series = dict.fromkeys((one.study_instance_uid, one.series_instance_uid) for one in references)
    found = {uid for _, uid in chain.from_iterable(instances(link, *one) for one in series)}
    return frozenset(one.sop_instance_uid for one in references if one.sop_instance_uid in found)


def echo(link: WebLink) -> None:
    """Ask whether the service is there and lets us in: a search for a study that nobody has.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    with link.session("QIDO-RS") as session:
        address = f"{link.peer.dicomweb.rstrip('/')}/studies"
        session.get(address, params={"StudyInstanceUID": "2.25.0", "limit": "1"}).raise_for_status()


def instances(
    link: WebLink, study: UID, series: UID | None = None, *, deadline: Deadline | None = None
) -> Iterator[tuple[str, str]]:
    """Yield Series and SOP Instance UID of each instance of a study or series, '' where the archive does not say it.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    fields = ["SeriesInstanceUID", "SOPInstanceUID"]

    def page(client: DICOMwebClient, limit: int, offset: int) -> Sequence[Item]:
        return client.search_for_instances(study, series, fields=fields, limit=limit, offset=offset)

    what = "QIDO-RS for instances"
    for item in _pages(link, what, page, by="SOPInstanceUID", most=_MOST_INSTANCES, deadline=deadline):
        yield _text(item, "SeriesInstanceUID"), _text(item, "SOPInstanceUID")


def _pages(
    link: WebLink,
    what: str,
    page: Callable[[DICOMwebClient, int, int], Sequence[Item]],
    *,
    by: str,
    most: int,
    deadline: Deadline | None = None,
) -> Iterator[Item]:
    """Yield the matches, each once, page by page until one brings nothing new; a server may cap or ignore `limit`.

    Raises: ArchiveUnreachable, ArchiveRefused.
    """
    seen: set[str] = set()
    while True:
        with link.session(what, deadline) as session:
            address = link.peer.dicomweb.rstrip("/")
            client = DICOMwebClient(address, session=session, timeout=link.timeout_s, permissive_uid=True)
            client.set_http_retry_params(retry=False)  # trying again is the caller's
            items = page(client, _PAGE, len(seen))
            if not isinstance(items, list):
                raise ValueError("no list")  # noqa: TRY004 - of the answer, as the session expects it
        fresh = {_text(item, by): item for item in items if _text(item, by) not in seen}
        seen |= fresh.keys()
        yield from fresh.values()
        if not fresh or len(items) > _PAGE:
            return
        if len(seen) > most:
            raise ArchiveUnreachable(f"{link.peer.name}: lists more than {most} matches of {what}")


# Finding and fetching earlier studies


class WebArchive:
    """`search.Archive` over QIDO-RS and WADO-RS."""

    def __init__(self, link: WebLink, *, min_free_bytes: int = 0) -> None:
        self._link = link
        self._min_free_bytes = min_free_bytes

    def studies(self, query: StudyQuery, deadline: Deadline) -> Iterator[StudyEntry]:
        """Yield the patient's studies of the time asked for."""
        filters = {
            "PatientID": query.patient.patient_id,
            "StudyDate": f"{query.first_date:%Y%m%d}-{query.last_date:%Y%m%d}",
        }
        if len(query.modality) == 1:  # several would be several searches; the caller looks at each answer anyway
            filters["ModalitiesInStudy"] = query.modality[0]
        fields = ["ModalitiesInStudy", "StudyDescription", "IssuerOfPatientID", "PatientBirthDate"]

        def page(client: DICOMwebClient, limit: int, offset: int) -> Sequence[Item]:
            return client.search_for_studies(limit=limit, offset=offset, fields=fields, search_filters=filters)

        what = "QIDO-RS for studies"
        for item in _pages(self._link, what, page, by="StudyInstanceUID", most=MOST_STUDIES, deadline=deadline):
            if not is_uid(_text(item, "StudyInstanceUID")):
                continue
            yield study_entry(partial(_text, item), _texts(item, "ModalitiesInStudy"))

    def series(self, study: UID, deadline: Deadline) -> tuple[SeriesEntry, ...]:
        """Return the series of a study."""
        fields = ["BodyPartExamined", "SeriesDescription", "NumberOfSeriesRelatedInstances"]

        def page(client: DICOMwebClient, limit: int, offset: int) -> Sequence[Item]:
            return client.search_for_series(study, limit=limit, offset=offset, fields=fields)

        what = "QIDO-RS for series"
        found = _pages(self._link, what, page, by="SeriesInstanceUID", most=MOST_SERIES, deadline=deadline)
        return tuple(
            series_entry(study, partial(_text, item)) for item in found if is_uid(_text(item, "SeriesInstanceUID"))
        )

    def fetch(self, series: SeriesEntry, folder: Path, deadline: Deadline) -> None:
        """Write the instances of a series as files of `folder`."""
        address = (
            f"{self._link.peer.dicomweb.rstrip('/')}/studies/{series.study_instance_uid}"
            f"/series/{series.series_instance_uid}"
        )
        with self._link.session("WADO-RS for a series", deadline, streamed=True) as session:
            for number, content in enumerate(contents(session, address)):
                refuse_full(folder, self._min_free_bytes)
                with (folder / f"{number:06d}.dcm").open("xb") as file:
                    for block in content:
                        file.write(block)


def contents(session: requests.Session, address: str) -> Iterator[Iterator[bytes]]:
    """Yield the files at an address as blocks, each to be read before the next; WADO-RS within `WebLink.session`.

    Raises: ValueError if the answer ends in the middle, or is none of WADO-RS.
    """
    with session.get(address, headers={"Accept": _AS_STORED}, stream=True) as response:
        response.raise_for_status()
        blocks = response.iter_content(_BLOCK_BYTES)
        boundary = boundary_of(response.headers.get("Content-Type", ""))
        # Some servers send a single instance without multipart.
        yield from parts(blocks, boundary) if boundary else iter([blocks])


def _items(item: Item, keyword: str) -> tuple[Item, ...]:
    return tuple(one for one in _values(item, keyword) if isinstance(one, dict))


def _texts(item: Item, keyword: str) -> tuple[str, ...]:
    return tuple(str(one).strip() for one in _values(item, keyword) if one is not None)


def _text(item: Item, keyword: str) -> str:
    return next(iter(_texts(item, keyword)), "")


def _values(item: Item, keyword: str) -> list[object]:
    """Return the values of an element, [] for whatever is none: an archive may answer anything."""
    element = item.get(_TAGS[keyword]) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
