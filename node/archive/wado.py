"""What a DICOMweb archive holds of a study, and its instances one by one: the web's counterpart of `orthanc.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from requests import Session

from ainode.node.archive import dicomweb
from ainode.node.archive.search import Deadline
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID, is_uid

# Of one whole pull; each step has the link's own time limit.
_LONGEST_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Wado:
    """One archive while its session is open; several threads may ask at once."""

    link: WebLink
    session: Session
    deadline: Deadline

    def instances(self, study: UID) -> dict[UID, str]:
        """Return SOP Instance UID to what `file` takes, of every instance of a study; {} for an unknown study."""
        return {
            UID(uid): f"studies/{study}/series/{series}/instances/{uid}"
            for series, uid in dicomweb.instances(self.link, study, deadline=self.deadline)
            if is_uid(series) and is_uid(uid)
        }

    def file(self, identifier: str) -> Iterator[bytes]:
        """Yield the file of an instance.

        Raises: ValueError if the answer holds none.
        """
        for content in dicomweb.contents(self.session, f"{self.link.peer.dicomweb.rstrip('/')}/{identifier}"):
            yield from content
            return
        raise ValueError("no instance")


@contextmanager
def opened(link: WebLink) -> Iterator[Wado]:
    """Open a session with a peer's DICOMweb; what fails in it is translated.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError where the credentials are missing.
    """
    deadline = Deadline.within(_LONGEST_S)
    with link.session("pulling a study", deadline, streamed=True) as session:
        yield Wado(link, session, deadline)
