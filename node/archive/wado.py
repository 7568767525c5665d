"""A pull of a study by DICOMweb: the list of its instances, then each file; the counterpart of `orthanc.Orthanc`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from requests import Session

from ainode.node.archive import dicomweb, qido
from ainode.node.archive.search import Deadline
from ainode.node.archive.web import WebLink
from ainode.node.domain import UID, is_uid

# The time limit of one whole pull; the link has the time limit of each step.
_MAX_PULL_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Wado:
    """An archive with an open session; several threads may use the session at once."""

    link: WebLink
    session: Session
    deadline: Deadline

    def instances(self, study_instance_uid: UID, _orthanc_studies: Sequence[str] = ()) -> tuple[dict[UID, str], ...]:
        """Return the identifier for `file` of each instance of a study by SOP Instance UID; ({},) for an unknown study.

        DICOMweb names a study by its Study Instance UID alone.
        """
        identifiers = {
            UID(uid): f"studies/{study_instance_uid}/series/{series}/instances/{uid}"
            for series, uid in qido.instance_uids(self.link, study_instance_uid, deadline=self.deadline)
            if is_uid(series) and is_uid(uid)
        }
        return (identifiers,)

    def file(self, identifier: str) -> Iterator[bytes]:
        """Yield the file of an instance.

        Raises: ValueError if the answer holds no instance.
        """
        for content in dicomweb.instance_files(self.session, f"{self.link.peer.dicomweb.rstrip('/')}/{identifier}"):
            yield from content
            return
        raise ValueError("no instance")


@contextmanager
def pull_session(link: WebLink) -> Iterator[Wado]:
    """Open a session to pull a study from the DICOMweb service of a peer, and close it at the end.

    Raises: ArchiveUnreachable, ArchiveRefused; ConfigError if the credentials are missing.
    """
    deadline = Deadline.within(_MAX_PULL_S)
    with link.session("pulling a study", deadline, streamed=True) as session:
        yield Wado(link, session, deadline)
