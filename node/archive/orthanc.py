"""Orthanc's own REST interface: a study's files as they are stored, documents in, and the proof that they are there.

Files are pulled as Orthanc stores them; C-MOVE or WADO-RS may encode them anew.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import requests
from requests import Response, Session

from ainode.node.archive.dimse import judgment
from ainode.node.archive.search import Deadline
from ainode.node.archive.store import Outgoing, SendOutcome
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID, InstanceRef, is_uid
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable

# Of one whole pull; each step has the link's own time limit.
_LONGEST_S: Final = 3600.0
# What Orthanc answers to POST /instances with HTTP 200, and the C-STORE status that says the same (PS3.7 annex C).
_STATUS: Final = {"Success": 0x0000, "AlreadyStored": 0x0111, "FilteredOut": 0x0124}
_PROCESSING_FAILURE: Final = 0x0110


class Orthanc:
    """One Orthanc while its session is open; several threads may ask at once."""

    def __init__(self, link: WebLink, session: Session) -> None:
        self._link, self._session = link, session

    def instances(self, study: UID) -> dict[UID, str]:
        """Return SOP Instance UID to what `file` takes, of every instance of a study; {} for an unknown study.

        Raises: ValueError if the answer is none that an Orthanc gives.
        """
        query = {"Level": "Instance", "Expand": True, "Query": {"StudyInstanceUID": study}}
        entries = self._call("POST", "/tools/find", json=query).json()
        try:
            listed = {str(entry["MainDicomTags"]["SOPInstanceUID"]): str(entry["ID"]) for entry in entries}
        except (TypeError, KeyError) as error:
            raise ValueError("no list of instances") from error
        return {UID(uid): identifier for uid, identifier in listed.items() if is_uid(uid)}

    def file(self, identifier: str) -> Iterator[bytes]:
        """Yield the file of an instance."""
        answer = self._call("GET", f"/instances/{identifier}/file", stream=True)
        blocks: Iterator[bytes] = answer.iter_content(None)
        return blocks

    def store(self, document: Outgoing) -> SendOutcome:
        """Store a document, streamed, and return what Orthanc answers; an HTTP error is an answer.

        Raises: ValueError if the answer is none that an Orthanc gives; OSError if the file cannot be read.
        """
        content, uid = document.content, document.sop_instance_uid
        with content.open("rb") if isinstance(content, Path) else BytesIO(content) as stream:
            try:
                answer = self._call("POST", "/instances", data=stream).json()
            except requests.HTTPError as error:
                status = error.response.status_code
                return SendOutcome(uid, status, self._link.refusal(status, f"POST /instances of {document}"))
        try:
            word = str(answer["Status"])
        except (TypeError, KeyError) as error:
            raise ValueError("no status of an instance") from error
        return self._sent(document, word)

    def _sent(self, document: Outgoing, word: str) -> SendOutcome:
        uid, status = document.sop_instance_uid, _STATUS.get(word, _PROCESSING_FAILURE)
        error = judgment(status)
        if error is ArchiveRefused:
            refusal = f"{self._link.peer.name}: did not keep {document} ({word}); look at its filters and its log"
            return SendOutcome(uid, status, ArchiveRefused(refusal, archive_status=status))
        again = f"{self._link.peer.name}: cannot take {document} now ({word}); it will be tried again"
        return SendOutcome(uid, status, ArchiveUnreachable(again) if error else None)

    def holds(self, uid: UID) -> bool:
        """Whether there is an instance of this SOP Instance UID.

        Raises: ValueError if the answer is none that an Orthanc gives.
        """
        return bool(self._paths(uid, "Instance"))

    def remove(self, study: UID) -> None:
        """Delete a study, if there is one of this Study Instance UID.

        Raises: ValueError if the answer is none that an Orthanc gives.
        """
        for path in self._paths(study, "Study"):
            self._call("DELETE", path)

    def _paths(self, uid: UID, level: str) -> tuple[str, ...]:
        entries = self._call("POST", "/tools/lookup", data=uid).json()
        try:
            return tuple(str(entry["Path"]) for entry in entries if entry["Type"] == level)
        except (TypeError, KeyError) as error:
            raise ValueError("no list of resources") from error

    def version(self) -> str:
        """Return the version of Orthanc.

        Raises: ValueError if the answer is none that an Orthanc gives.
        """
        try:
            return str(self._call("GET", "/system").json()["Version"])
        except (TypeError, KeyError) as error:
            raise ValueError("no Orthanc") from error

    def _call(self, method: str, path: str, **content: Any) -> Response:  # noqa: ANN401 - the keywords of requests
        answer = self._session.request(method, f"{self._link.peer.orthanc.rstrip('/')}{path}", **content)
        answer.raise_for_status()
        return answer


@contextmanager
def opened(link: WebLink) -> Iterator[Orthanc]:
    """Open a session to pull from a peer's Orthanc; what fails in it is translated.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError where the credentials are missing.
    """
    deadline = Deadline.within(_LONGEST_S)
    with link.session("pulling a study", deadline, streamed=True) as session:
        yield Orthanc(link, session)


def send(link: WebLink, documents: Sequence[Outgoing]) -> tuple[SendOutcome, ...]:
    """Store the documents one by one and return what became of each, in their order: Orthanc's `store.send`.

    A refusal is of its document alone; an Orthanc that does not answer leaves the rest to a retry.

    Raises: OSError if a file cannot be read; ConfigError where the credentials are missing.
    """
    sent: list[SendOutcome] = []
    try:
        with link.session("POST /instances") as session:
            orthanc = Orthanc(link, session)
            for document in documents:
                sent.append(orthanc.store(document))  # noqa: PERF401 - what went before a failure counts
    except ArchiveError as error:
        sent.extend(SendOutcome(document.sop_instance_uid, None, error) for document in documents[len(sent) :])
    return tuple(sent)


def confirm_by_query(link: WebLink, references: Sequence[InstanceRef]) -> frozenset[UID]:
    """Return the SOP Instance UIDs of `references` that Orthanc holds: one look into its index for each.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError where the credentials are missing.
    """
    with link.session("POST /tools/lookup") as session:
        orthanc = Orthanc(link, session)
        return frozenset(ref.sop_instance_uid for ref in references if orthanc.holds(ref.sop_instance_uid))


def echo(link: WebLink) -> None:
    """Ask whether an Orthanc is there and lets us in.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError where the credentials are missing.
    """
    with link.session("GET /system") as session:
        Orthanc(link, session).version()
