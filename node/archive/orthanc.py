"""Orthanc's own REST interface: a study's files as they are stored, documents in, and the proof that they are there.

`orthanc_rest_client` keeps the address in its classes, one for the whole process, and asks for gzip, which makes
Orthanc compress every file (20 instead of 1000 of 0.5 MB a second on loopback): so each client here gets classes of its
own, and our session. Files are pulled as stored; C-MOVE or WADO-RS may encode them anew.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import requests
from requests import Session

from ainode.node.archive.dimse import judgment
from ainode.node.archive.search import Deadline
from ainode.node.archive.store import Outgoing, Sent
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID, InstanceRef, is_uid
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable, ConfigError

# Of one whole pull; each step has the link's own time limit.
_LONGEST_S: Final = 3600.0
# What Orthanc answers to POST /instances with HTTP 200, and the C-STORE status that says the same (PS3.7 annex C).
_STATUS: Final = {"Success": 0x0000, "AlreadyStored": 0x0111, "FilteredOut": 0x0124}
_PROCESSING_FAILURE: Final = 0x0110


class Orthanc:
    """One Orthanc while its session is open; several threads may ask at once."""

    def __init__(self, link: WebLink, session: Session) -> None:
        self._link = link
        self._client = _client(link.peer.orthanc, session)
        self._options = {"session": session, "auth": session.auth, "timeout_spec": _patience(link.timeout_s)}

    def instances(self, study: UID) -> dict[UID, str]:
        """Return SOP Instance UID to what `file` takes, of every instance of a study; {} for an unknown study.

        Raises: ValueError if the answer is none that an Orthanc gives.
        """
        query = {"Level": "Instance", "Expand": True, "Query": {"StudyInstanceUID": study}}
        found = self._client.find(query, **self._options)
        try:
            listed = {str(one["MainDicomTags"]["SOPInstanceUID"]): str(one["ID"]) for one in found}
        except (TypeError, KeyError) as error:
            raise ValueError("no list of instances") from error
        return {UID(uid): identifier for uid, identifier in listed.items() if is_uid(uid)}

    def file(self, identifier: str) -> Iterator[bytes]:
        """Yield the file of an instance."""
        blocks: Iterator[bytes] = self._client.get_instance_file(identifier, **self._options)
        return blocks

    def store(self, document: Outgoing) -> Sent:
        """Store a document, streamed, and return what Orthanc answers; an HTTP error is an answer.

        Raises: ValueError if the answer is none that an Orthanc gives; OSError if the file cannot be read.
        """
        content, uid = document.content, document.sop_instance_uid
        with content.open("rb") if isinstance(content, Path) else BytesIO(content) as stream:
            try:
                answer = self._client.add_instance(stream, **self._options)
            except requests.HTTPError as error:
                status = error.response.status_code
                return Sent(uid, status, self._link.refusal(status, f"POST /instances of {document}"))
        try:
            said = str(answer["Status"])
        except (TypeError, KeyError) as error:
            raise ValueError("no status of an instance") from error
        return self._sent(document, said)

    def _sent(self, document: Outgoing, said: str) -> Sent:
        uid, status = document.sop_instance_uid, _STATUS.get(said, _PROCESSING_FAILURE)
        error = judgment(status)
        if error is ArchiveRefused:
            why = f"{self._link.peer.name}: did not keep {document} ({said}); look at its filters and its log"
            return Sent(uid, status, ArchiveRefused(why, archive_status=status))
        again = f"{self._link.peer.name}: cannot take {document} now ({said}); it will be tried again"
        return Sent(uid, status, ArchiveUnreachable(again) if error else None)

    def holds(self, uid: UID) -> bool:
        """Whether there is an instance of this SOP Instance UID.

        Raises: ValueError if the answer is none that an Orthanc gives.
        """
        # the client's own `lookup` puts the UID into quotes, and then nothing is found
        found = self._client.server.tools_lookup(data=uid, **self._options)
        try:
            return any(one["Type"] == "Instance" for one in found)
        except (TypeError, KeyError) as error:
            raise ValueError("no list of resources") from error

    def version(self) -> str:
        """Return the version of Orthanc.

        Raises: ValueError if the answer is none that an Orthanc gives.
        """
        try:
            return str(self._client.get_system(**self._options)["Version"])
        except (TypeError, KeyError) as error:
            raise ValueError("no Orthanc") from error


@contextmanager
def opened(link: WebLink) -> Iterator[Orthanc]:
    """Open a session to pull from a peer's Orthanc; what fails in it is translated.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError where the package or the credentials are missing.
    """
    deadline = Deadline.within(_LONGEST_S)
    with link.session("pulling a study", deadline, streamed=True) as session:
        yield Orthanc(link, session)


def send(link: WebLink, documents: Sequence[Outgoing]) -> tuple[Sent, ...]:
    """Store the documents one by one and return what became of each, in their order: Orthanc's `store.send`.

    A refusal is of its document alone; an Orthanc that does not answer leaves the rest to a retry.

    Raises: OSError if a file cannot be read; ConfigError where the package or the credentials are missing.
    """
    sent: list[Sent] = []
    try:
        with link.session("POST /instances") as session:
            orthanc = Orthanc(link, session)
            for document in documents:
                sent.append(orthanc.store(document))  # noqa: PERF401 - what went before a failure counts
    except ArchiveError as error:
        sent.extend(Sent(one.sop_instance_uid, None, error) for one in documents[len(sent) :])
    return tuple(sent)


def confirm_by_query(link: WebLink, references: Sequence[InstanceRef]) -> frozenset[UID]:
    """Return the SOP Instance UIDs of `references` that Orthanc holds: one look into its index for each.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError where the package or the credentials are missing.
    """
    with link.session("POST /tools/lookup") as session:
        orthanc = Orthanc(link, session)
        return frozenset(one.sop_instance_uid for one in references if orthanc.holds(one.sop_instance_uid))


def echo(link: WebLink) -> None:
    """Ask whether an Orthanc is there and lets us in.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError where the package or the credentials are missing.
    """
    with link.session("GET /system") as session:
        Orthanc(link, session).version()


def _client(address: str, session: Session) -> Any:  # noqa: ANN401 - the package has no types
    try:
        import orthanc_rest_client as package  # noqa: PLC0415 - GPL-3.0 and optional: only who asks an Orthanc needs it
    except ModuleNotFoundError as error:
        raise ConfigError("the package orthanc-rest-client is missing: pip install 'ainode[orthanc]'") from error
    # The package mounts an adapter of its own at each call, which would lose our time limits and every connection.
    session.mount = _keep_ours  # type: ignore[method-assign,assignment]
    logging.getLogger("apiron").setLevel(logging.WARNING)  # else it logs every file twice
    client = package.Orthanc(address, warn_insecure=False)
    for name in ("instances", "server"):
        # with a slash at the end, or the last part of a path like /orthanc would be replaced
        own = {"domain": address.rstrip("/") + "/"}
        setattr(client, name, type(name, (getattr(client, name),), own))
    return client


def _keep_ours(prefix: str, adapter: object) -> None:
    """Leave the session's adapters as they are."""


def _patience(timeout_s: float) -> object:
    from apiron import Timeout  # noqa: PLC0415 - comes with the package above

    return Timeout(timeout_s, timeout_s)
