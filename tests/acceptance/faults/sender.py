"""Studies in memory, and a modality that sends them until every instance is answered with Success."""

import contextlib
import hashlib
import itertools
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Final

from support.caller import Caller, store_request

from ainode.node import testing
from ainode.node.errors import CannotUnderstand
from ainode.node.receiving.command_set import Tag, decode

DIGITAL_X_RAY: Final = "1.2.840.10008.5.1.4.1.1.1.1"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
SUCCESS: Final = 0x0000
STEP_BYTES: Final = 12_000
"""of a data set in each PDU, so that an instance is several PDUs"""
SENDING_S: Final = 240.0
_ANSWER_S: Final = 10.0
_PAUSE_S: Final = 0.1
_P_DATA: Final = 4
_PLACE: Final = "2.25.{:038d}"
_FIRST: Final = 2 * 10**37
_numbers = itertools.count(_FIRST)


@dataclass(frozen=True)
class SentStudy:
    """A study: its UID, and the data set of each instance by SOP Instance UID."""

    uid: str
    instances: Mapping[str, bytes] = field(repr=False)

    @property
    def digests(self) -> dict[str, str]:
        """Return the sha256 of each data set."""
        return {uid: hashlib.sha256(content).hexdigest() for uid, content in self.instances.items()}


@cache
def _template(order: str, announced: int, side: int) -> tuple[bytes, tuple[str, str, str]]:
    """Return an encoded data set, and its UIDs of study, series and instance, all of one length."""
    header: dict[str, str | int] = {"SeriesDescription": order}
    if announced:
        header["NumberOfStudyRelatedInstances"] = announced
    dataset = testing.dataset(testing.noise(side, side, **header), study=order)
    uids = tuple(_PLACE.format(_FIRST - number) for number in (1, 2, 3))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uids
    stream = BytesIO()
    del dataset.file_meta  # which a file has, and a data set has not
    dataset.save_as(stream, implicit_vr=False, little_endian=True)
    return stream.getvalue(), (uids[0], uids[1], uids[2])


def new_study(*, order: str = "healthy", instances: int = 3, announced: bool = True, side: int = 128) -> SentStudy:
    """Return a study that nobody sent before; a header says how many instances it has, if `announced`."""
    template, places = _template(order, instances if announced else 0, side)
    study, series = (_PLACE.format(next(_numbers)) for _ in range(2))
    contents = {}
    for _ in range(instances):
        instance = _PLACE.format(next(_numbers))
        content = template
        for place, uid in zip(places, (study, series, instance), strict=True):
            content = content.replace(place.encode(), uid.encode())
        contents[instance] = content
    return SentStudy(study, contents)


def new_studies(count: int, *, instances: int = 3) -> list[SentStudy]:
    """Return studies, of which every second one announces how many instances it has."""
    return [new_study(instances=instances, announced=number % 2 == 0) for number in range(count)]


def _nothing() -> None:
    """Do nothing."""


class Modality:
    """Sends studies over small associations, again and again; `acked` are the instances answered with Success."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.keep_alive: Callable[[], None] = _nothing
        """is called before each round, and may start a node that ended"""
        self.acked: dict[str, dict[str, str]] = {}
        """Study Instance UID, SOP Instance UID -> sha256"""
        self.studies: dict[str, SentStudy] = {}
        self.acked_at = 0.0
        """when the last instance was acked, in the time of `time.monotonic`"""

    def send(self, studies: Sequence[SentStudy], *, within_s: float = SENDING_S) -> bool:
        """Send until all instances are acked, at most so long; return whether all are."""
        deadline = time.monotonic() + within_s
        for study in studies:
            self.studies[study.uid] = study
            self.acked.setdefault(study.uid, {})
        while unsent := [study for study in studies if len(self.acked[study.uid]) < len(study.instances)]:
            if time.monotonic() > deadline:
                return False
            self.keep_alive()
            for study in unsent:
                if not self.attempt(study):
                    time.sleep(_PAUSE_S)
        return True

    @contextlib.contextmanager
    def sending(self, studies: Sequence[SentStudy], *, within_s: float = SENDING_S) -> Iterator[None]:
        """Send in a thread; return when all is acked, or the time is over."""
        thread = threading.Thread(target=self.send, args=(studies,), kwargs={"within_s": within_s}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def attempt(self, study: SentStudy) -> bool:
        """Send what is not acked of a study, on one association; return whether all of the study is acked."""
        acked = self.acked[study.uid]
        digests = study.digests
        context = (DIGITAL_X_RAY, EXPLICIT)
        no_answer = contextlib.suppress(OSError, EOFError, struct.error, CannotUnderstand)
        with no_answer, Caller(self.port, context, timeout_s=_ANSWER_S) as caller:
            for uid in [uid for uid in study.instances if uid not in acked]:
                if _status(caller, uid, study.instances[uid]) == SUCCESS:
                    acked[uid] = digests[uid]
                    self.acked_at = time.monotonic()
            caller.release()
        return len(acked) == len(study.instances)


def _status(caller: Caller, uid: str, content: bytes) -> int:
    """Send one instance and return the status of the answer.

    Raises: OSError, EOFError if there is no answer.
    """
    caller.send(store_request(DIGITAL_X_RAY, uid), control=0x03)
    ends = range(STEP_BYTES, len(content) + STEP_BYTES, STEP_BYTES)
    for end in ends:
        caller.send(content[end - STEP_BYTES : end], control=0x02 if end >= len(content) else 0x00)
    kind, body = caller.pdu()
    if kind != _P_DATA:
        raise EOFError
    answer = decode(body[6:])
    if Tag.STATUS not in answer.values or answer.uid(Tag.AFFECTED_SOP_INSTANCE_UID) not in {b"", uid.encode()}:
        raise EOFError
    return answer.number(Tag.STATUS)
