"""The REST interface of Orthanc: pull the files of a study, store documents, confirm that Orthanc holds documents.

A pulled file has the bytes that Orthanc stores; C-MOVE or WADO-RS may encode the file anew.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import requests
from requests import Response, Session

from ainode.node.archive.comments import response_comment
from ainode.node.archive.dicom_json import refuse_large
from ainode.node.archive.dimse import error_type
from ainode.node.archive.search import Deadline
from ainode.node.archive.store import Outgoing, SendOutcome, always
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID, Instance, InstanceRef, is_uid
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable

# The time limit of one whole pull; the link has the time limit of each step.
_MAX_PULL_S: Final = 3600.0
# The Status in an answer to POST /instances with HTTP 200, and the C-STORE status with its meaning (PS3.7 annex C).
_DIMSE_STATUSES: Final = {"Success": 0x0000, "AlreadyStored": 0x0111, "FilteredOut": 0x0124}
_PROCESSING_FAILURE: Final = 0x0110


class Orthanc:
    """An Orthanc with an open session; several threads may use the session at once."""

    def __init__(self, link: WebLink, session: Session) -> None:
        self._link, self._session = link, session

    def instances(self, study_instance_uid: UID, orthanc_studies: Sequence[str] = ()) -> tuple[dict[UID, str], ...]:
        """Return the identifier for `file` of each instance by SOP Instance UID, one dictionary for each Orthanc study.

        Without `orthanc_studies` the only dictionary is of every study of the Study Instance UID, whoever the patient
        is. A study that Orthanc does not have, or has with another Study Instance UID, gives an empty dictionary.

        Raises: ValueError if the answer is not an answer of Orthanc.
        """
        if not orthanc_studies:
            query = {"Level": "Instance", "Expand": True, "Query": {"StudyInstanceUID": study_instance_uid}}
            return (_identifiers(self._json("POST", "/tools/find", json=query)),)
        return tuple(self._of_study(study_instance_uid, orthanc_study) for orthanc_study in orthanc_studies)

    def _of_study(self, study_instance_uid: UID, orthanc_study: str) -> dict[UID, str]:
        path = f"/studies/{orthanc_study}"
        try:
            study, entries = self._json("GET", path), self._json("GET", f"{path}/instances")
        except requests.HTTPError as error:
            if error.response.status_code == HTTPStatus.NOT_FOUND:
                return {}
            raise
        try:
            uid = study["MainDicomTags"]["StudyInstanceUID"]
        except (TypeError, KeyError) as error:
            raise ValueError("no study") from error
        return _identifiers(entries) if uid == study_instance_uid else {}

    def file(self, identifier: str) -> Iterator[bytes]:
        """Yield the file of an instance."""
        answer = self._call("GET", f"/instances/{identifier}/file", stream=True)
        blocks: Iterator[bytes] = answer.iter_content(None)
        return blocks

    def store(self, document: Outgoing) -> SendOutcome:
        """Store a document from a stream and return the outcome; an HTTP error is an outcome.

        Raises: ValueError if the answer is not an answer of Orthanc; OSError if the file cannot be read.
        """
        content, uid = document.content, document.sop_instance_uid
        with content.open("rb") if isinstance(content, Path) else BytesIO(content) as stream:
            try:
                answer = self._json("POST", "/instances", data=stream)
            except requests.HTTPError as error:
                status, words = error.response.status_code, response_comment(error.response)
                http_error = self._link.http_error(status, f"POST /instances of {document}", words)
                return SendOutcome(uid, status, http_error, words)
        try:
            orthanc_status = str(answer["Status"])
        except (TypeError, KeyError) as error:
            raise ValueError("no status of an instance") from error
        return self._outcome(document, orthanc_status)

    def _outcome(self, document: Outgoing, orthanc_status: str) -> SendOutcome:
        """Return the outcome of a document that Orthanc answered with a status word."""
        uid, status = document.sop_instance_uid, _DIMSE_STATUSES.get(orthanc_status, _PROCESSING_FAILURE)
        error = error_type(status)
        name = self._link.peer.name
        word = orthanc_status if orthanc_status in _DIMSE_STATUSES else "an unknown status"
        if error is ArchiveRefused:
            message = f"{name}: did not keep {document} ({word}); look at its filters and its log"
            return SendOutcome(uid, status, ArchiveRefused(message, archive_status=status))
        message = f"{name}: cannot take {document} now ({word}); try again later"
        return SendOutcome(uid, status, ArchiveUnreachable(message) if error else None)

    def holds(self, uid: UID) -> bool:
        """Return whether Orthanc has an instance of a SOP Instance UID.

        Raises: ValueError if the answer is not an answer of Orthanc.
        """
        return bool(self._paths(uid, "Instance"))

    def remove(self, study_instance_uid: UID) -> None:
        """Delete a study; a Study Instance UID that Orthanc does not have is no error.

        Raises: ValueError if the answer is not an answer of Orthanc.
        """
        for path in self._paths(study_instance_uid, "Study"):
            self._call("DELETE", path)

    def _paths(self, uid: UID, level: str) -> tuple[str, ...]:
        """Return the REST paths of the resources of a level (Study, Instance) that have a UID."""
        entries = self._json("POST", "/tools/lookup", data=uid)
        try:
            return tuple(str(entry["Path"]) for entry in entries if entry["Type"] == level)
        except (TypeError, KeyError) as error:
            raise ValueError("no list of resources") from error

    def version(self) -> str:
        """Return the version of Orthanc.

        Raises: ValueError if the answer is not an answer of Orthanc.
        """
        try:
            return str(self._json("GET", "/system")["Version"])
        except (TypeError, KeyError) as error:
            raise ValueError("no Orthanc") from error

    def _json(self, method: str, path: str, **content: Any) -> Any:  # noqa: ANN401 - parsed JSON
        """Return the document of an answer, which may be anything.

        Raises: ValueError if the answer is no JSON, or too large.
        """
        answer = self._call(method, path, **content)
        refuse_large(answer.content)
        return answer.json()

    def _call(self, method: str, path: str, **content: Any) -> Response:  # noqa: ANN401 - the keywords of requests
        """Send a request to a path of Orthanc and return the answer; an HTTP error is raised.

        Raises: ValueError if the path, which may come from an answer, would lead to another server.
        """
        if not path.startswith("/"):
            raise ValueError("no path")
        answer = self._session.request(method, f"{self._link.peer.orthanc.rstrip('/')}{path}", **content)
        answer.raise_for_status()
        return answer


def instance_identifier(instance: Instance) -> str:
    """Return Orthanc's identifier of an instance: another patient's version of the instance has another identifier.

    Source: DicomInstanceHasher of Orthanc: SHA-1 of Patient ID, Study, Series and SOP Instance UID, in groups of 8.
    """
    ref = instance.ref
    uids = (ref.study_instance_uid, ref.series_instance_uid, ref.sop_instance_uid)
    digest = sha1("|".join((instance.patient.patient_id, *uids)).encode(), usedforsecurity=False).hexdigest()
    return "-".join(digest[begin : begin + 8] for begin in range(0, len(digest), 8))


def _identifiers(entries: Any) -> dict[UID, str]:  # noqa: ANN401 - parsed JSON
    """Return the identifier of each instance of a list of Orthanc.

    Raises: ValueError if there is no list of instances.
    """
    try:
        identifiers = {str(entry["MainDicomTags"]["SOPInstanceUID"]): str(entry["ID"]) for entry in entries}
    except (TypeError, KeyError) as error:
        raise ValueError("no list of instances") from error
    return {UID(uid): identifier for uid, identifier in identifiers.items() if is_uid(uid)}


@contextmanager
def pull_session(link: WebLink) -> Iterator[Orthanc]:
    """Open a session to pull a study from the Orthanc of a peer, and close it at the end.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError if the credentials are missing.
    """
    deadline = Deadline.within(_MAX_PULL_S)
    with link.session("pulling a study", deadline, streamed=True) as session:
        yield Orthanc(link, session)


def send(
    link: WebLink, documents: Sequence[Outgoing], may_leave: Callable[[], None] = always
) -> tuple[SendOutcome, ...]:
    """Store each document and return its outcome, in the order of the documents; the counterpart of `store.send`.

    `may_leave` is called before each document leaves. After a refused document the other documents are still stored.
    After a failed request the remaining documents get the error of the request, for a later retry.

    Raises: OSError if a file cannot be read; ConfigError if the credentials are missing.
    """
    outcomes: list[SendOutcome] = []
    try:
        with link.session("POST /instances") as session:
            orthanc = Orthanc(link, session)
            for document in documents:
                may_leave()
                outcomes.append(orthanc.store(document))
    except ArchiveError as error:
        remaining = documents[len(outcomes) :]
        outcomes.extend(SendOutcome.failed(document, error) for document in remaining)
    return tuple(outcomes)


def confirm_by_query(link: WebLink, references: Sequence[InstanceRef]) -> frozenset[UID]:
    """Return the SOP Instance UIDs of `references` that Orthanc holds; each UID is one lookup.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError if the credentials are missing.
    """
    with link.session("POST /tools/lookup") as session:
        orthanc = Orthanc(link, session)
        return frozenset(ref.sop_instance_uid for ref in references if orthanc.holds(ref.sop_instance_uid))


def echo(link: WebLink) -> None:
    """Verify the address and the credentials of an Orthanc.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError if the credentials are missing.
    """
    with link.session("GET /system") as session:
        Orthanc(link, session).version()
