"""A small archive of pynetdicom: it keeps what it gets, and answers as a test says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

from support.entities import served

_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_COMMITMENT = "1.2.840.10008.1.20.1"
_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass
class SmallArchive:
    """What an archive holds, and how it answers."""

    status: int = 0x0000
    """of every C-STORE"""
    comment: str = ""
    """Error Comment of every answer"""
    change: Callable[[Dataset], None] = lambda _: None
    """edits what is kept"""
    commitment_status: int = 0x0000
    """of every N-ACTION"""
    kept: dict[str, Dataset] = field(default_factory=dict)
    stored: list[str] = field(default_factory=list)
    """SOP Instance UID of each C-STORE"""
    requests: list[Dataset] = field(default_factory=list)
    """each request for storage commitment; nobody reports on it"""

    def _answer(self, status: int) -> Dataset:
        answer = Dataset()
        answer.Status = status
        if self.comment:
            answer.ErrorComment = self.comment
        return answer

    def _store(self, event: evt.Event) -> Dataset:
        dataset = event.dataset
        self.stored.append(str(dataset.SOPInstanceUID))
        if self.status & 0xF000 in {0x0000, 0xB000}:
            self.change(dataset)
            self.kept[str(dataset.SOPInstanceUID)] = dataset
        return self._answer(self.status)

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        for dataset in list(self.kept.values()):
            if all(not event.identifier.get(key) or event.identifier[key] == dataset[key] for key in _KEYS):
                answer = Dataset()
                answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
                for key in _KEYS:
                    answer[key] = dataset[key]
                yield 0xFF00, answer

    def _commit(self, event: evt.Event) -> tuple[Dataset, None]:
        if self.commitment_status == 0x0000:
            self.requests.append(event.action_information)
        return self._answer(self.commitment_status), None


@contextmanager
def serving(archive: SmallArchive) -> Iterator[int]:
    """Serve an archive on loopback, and yield its port."""
    entity = AE("A")
    entity.supported_contexts = AllStoragePresentationContexts
    entity.add_supported_context(_FIND)
    entity.add_supported_context(_COMMITMENT, scu_role=True, scp_role=True)
    answers = ((evt.EVT_C_STORE, archive._store), (evt.EVT_C_FIND, archive._find), (evt.EVT_N_ACTION, archive._commit))
    with served(entity, *answers) as port:
        yield port
