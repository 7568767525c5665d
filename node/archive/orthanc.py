"""What an Orthanc holds of a study, and its files as it stores them, over its REST API.

`orthanc_rest_client` keeps the address in its classes, one for the whole process, and asks for gzip, which makes
Orthanc compress every file (20 instead of 1000 of 0.5 MB a second on loopback): so each client here gets classes of its
own, and our session. Files are pulled as stored; C-MOVE or WADO-RS may encode them anew.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from requests import Session

from ainode.node.archive.search import Deadline, is_uid
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID
from ainode.node.errors import ConfigError

# Of one whole pull; each step has the link's own time limit.
_LONGEST_S: Final = 3600.0


class Orthanc:
    """One Orthanc while its session is open; several threads may ask at once."""

    def __init__(self, link: WebLink, session: Session) -> None:
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


@contextmanager
def opened(link: WebLink) -> Iterator[Orthanc]:
    """Open a session with a peer's Orthanc; what fails in it is translated.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError where the package or the credentials are missing.
    """
    deadline = Deadline.within(_LONGEST_S)
    with link.session("pulling a study", deadline, streamed=True) as session:
        yield Orthanc(link, session)


def _client(address: str, session: Session) -> Any:  # noqa: ANN401 - the package has no types
    try:
        import orthanc_rest_client as package  # noqa: PLC0415 - GPL-3.0 and optional: only who pulls needs it
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
