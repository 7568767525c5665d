"""Archives that are away, slow, silent, refusing or forgetful."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final

from acceptance.faults.installation import Installation
from acceptance.faults.judgement import SETTLED_S, Row, judged
from acceptance.faults.sender import SentStudy, new_studies
from pydicom import Dataset
from support.archives import SmallArchive, serving
from support.proxy import Fault, Harm, Side

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.jobs.retries import retry
from ainode.node.keeping.job_events import Instruction
from ainode.node.settings import load

OUT_OF_RESOURCES: Final = 0xA700
CANNOT_UNDERSTAND: Final = 0xC000
_DELAY_S: Final = 0.4
_SILENT: Final = 64
"""so many connections are not answered"""
_FIRST_ANSWER: Final = 1
"""number of the PDU that answers the first C-STORE, behind the one that accepts the association"""


class _Nothing(dict[str, Dataset]):
    """Keeps nothing."""

    def __setitem__(self, key: str, value: Dataset) -> None:
        del key, value


ArchiveFault = Callable[[Installation], AbstractContextManager[None]]


def archive_rows(installation: Installation, studies: int, fault_s: float) -> Iterator[Row]:
    """Yield a row for each fault of an archive; the fault lasts while studies are read, and so many seconds more."""
    for name, fault in FAULTS.items():
        sent = new_studies(studies)
        with fault(installation):
            installation.modality.send(sent)
            over_at = time.monotonic() + fault_s
            installation.wait(lambda: time.monotonic() > over_at, within_s=2 * fault_s)  # noqa: B023 - called at once
        over_at = time.monotonic()
        installation.wait(partial(_is_confirmed, installation, sent), within_s=SETTLED_S)
        yield judged(installation, Row(name, times=1), sent, over_at=over_at)


@contextmanager
def away(installation: Installation) -> Iterator[None]:
    """Accept no connection."""
    installation.exit.close()
    yield
    installation.exit.open()


@contextmanager
def slow(installation: Installation) -> Iterator[None]:
    """Take a while for every PDU."""
    installation.exit.delay_s = _DELAY_S
    yield
    installation.exit.delay_s = 0.0


@contextmanager
def afflicted(installation: Installation, fault: Fault) -> Iterator[None]:
    """Do this harm to every connection."""
    installation.exit.faults.extend([fault] * _SILENT)
    yield
    installation.exit.calm()


@contextmanager
def replaced(installation: Installation, status: int) -> Iterator[None]:
    """Let another archive answer every C-STORE, and keep nothing for those who ask later."""
    port = installation.exit.target_port
    with serving(SmallArchive(status=status, kept=_Nothing())) as other_port:
        installation.exit.target_port = other_port
        yield
        installation.exit.target_port = port
        installation.exit.close()
        installation.exit.open()


FAULTS: Final[dict[str, ArchiveFault]] = {
    "archive away": away,
    "archive slow": slow,
    "archive half-open": partial(afflicted, fault=Fault(Harm.SILENCE)),
    "archive drops before its answer": partial(afflicted, fault=Fault(Harm.CUT_BEFORE, Side.CALLED, _FIRST_ANSWER)),
    "archive refuses with 0xA700": partial(replaced, status=OUT_OF_RESOURCES),
    "archive refuses with 0xC000": partial(replaced, status=CANNOT_UNDERSTAND),
    "archive forgets what it took": partial(replaced, status=0x0000),
}


def _is_confirmed(installation: Installation, studies: Sequence[SentStudy]) -> bool:
    """Do what the operator does about dead letters, `ainode retry`; return whether all documents are confirmed.

    A refusal may become a dead letter after the fault is over: the node notes it after the archive has answered.
    """
    ledger, settings = installation.node.ledger, load(installation.node.config)
    states: list[DeliveryState] = []
    for study in studies:
        for job in (job for job in ledger.jobs(study=UID(study.uid)) if job.state is not JobState.SUPERSEDED):
            states += (job_states := [delivery.state for delivery in ledger.deliveries(job.id)])
            if DeliveryState.FAILED in job_states:
                retry(settings, ledger, job.id, Instruction(datetime.now(UTC)))
    return len(states) == installation.documents_of_a_study * len(studies) and set(states) == {DeliveryState.CONFIRMED}
