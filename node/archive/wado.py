"""What a DICOMweb archive holds of a study, and its instances one by one: the web's counterpart of `orthanc.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dicomweb_client import DICOMwebClient
from requests import Session

from ainode.node.archive.multipart import boundary_of, parts
from ainode.node.archive.search import Deadline, is_uid
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID

# Of one whole pull; each step has the link's own time limit.
_LONGEST_S: Final = 3600.0
_PAGE: Final = 500
_BLOCK_BYTES: Final = 65_536
# As it is stored (PS3.18 8.7.3.5.2): encoding anew costs time, and changes the bytes.
_AS_STORED: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_SOP_INSTANCE, _SERIES = "00080018", "0020000E"


class Wado:
    """One archive while its session is open; several threads may ask at once."""

    def __init__(self, link: WebLink, session: Session) -> None:
        self._address, self._session = link.peer.dicomweb.rstrip("/"), session
        self._client = DICOMwebClient(self._address, session=session, timeout=link.timeout_s, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)  # trying again is the caller's

    def instances(self, study: UID) -> dict[UID, str]:
        """Return SOP Instance UID to what `file` takes, of every instance of a study; {} for an unknown study.

        Raises: ValueError if the answer is none of QIDO-RS.
        """
        listed: dict[UID, str] = {}
        while True:
            fields = ["SOPInstanceUID", "SeriesInstanceUID"]
            found = self._client.search_for_instances(study, fields=fields, limit=_PAGE, offset=len(listed))
            try:
                uids = [(one[_SERIES]["Value"][0], one[_SOP_INSTANCE]["Value"][0]) for one in found]
            except (TypeError, KeyError, IndexError) as error:
                raise ValueError("no list of instances") from error
            fresh = {
                UID(uid): f"series/{series}/instances/{uid}" for series, uid in uids if is_uid(series) and is_uid(uid)
            }
            if fresh.keys() <= listed.keys():
                return {uid: f"studies/{study}/{path}" for uid, path in listed.items()}
            listed |= fresh

    def file(self, identifier: str) -> Iterator[bytes]:
        """Yield the file of an instance."""
        response = self._session.get(f"{self._address}/{identifier}", headers={"Accept": _AS_STORED}, stream=True)
        response.raise_for_status()
        blocks = response.iter_content(_BLOCK_BYTES)
        boundary = boundary_of(response.headers.get("Content-Type", ""))
        # Some servers send a single instance without multipart.
        return next(parts(blocks, boundary)) if boundary else blocks


@contextmanager
def opened(link: WebLink) -> Iterator[Wado]:
    """Open a session with a peer's DICOMweb; what fails in it is translated.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError where the credentials are missing.
    """
    with link.session("pulling a study", Deadline.within(_LONGEST_S), streamed=True) as session:
        yield Wado(link, session)
