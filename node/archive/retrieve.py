"""Earlier studies over DIMSE: C-FIND in the Study Root model, C-GET or C-MOVE, never more than one instance in memory.

A C-MOVE goes to a second AE title of ours that listens only while it runs: what our receiver gets is a study to read,
and a prior must never become one.
"""

import dataclasses
import itertools
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import pydicom.uid
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext, build_context, build_role

from ainode.node.archive.dimse import Link
from ainode.node.archive.search import (
    MOST_SERIES,
    MOST_STUDIES,
    Deadline,
    SeriesEntry,
    StudyEntry,
    StudyQuery,
    series_entry,
    study_entry,
)
from ainode.node.disk import refuse_full
from ainode.node.domain import UID, is_uid
from ainode.node.encoding.part10 import Origin, head
from ainode.node.errors import ArchiveUnreachable, OutOfResources

# PS3.6 table A-1, Study Root Query/Retrieve Information Model: FIND, MOVE, GET.
_FIND, _MOVE, _GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
_PENDING = frozenset({0xFF00, 0xFF01})
_OUT_OF_RESOURCES = 0xA700
# SOP classes of the modalities that a rule may name (PS3.6 table A-1).
_CLASSES = {
    "CR": ("1.2.840.10008.5.1.4.1.1.1",),
    "DX": ("1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1"),
    "MG": ("1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.13.1.3"),
    "CT": ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"),
    "MR": ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"),
    "PT": ("1.2.840.10008.5.1.4.1.1.128",),
    "NM": ("1.2.840.10008.5.1.4.1.1.20",),
    "US": ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"),
    "XC": ("1.2.840.10008.5.1.4.1.1.77.1.4",),
    "SR": tuple(f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (11, 22, 33, 34)),
    "SEG": ("1.2.840.10008.5.1.4.1.1.66.4",),
    "RTSTRUCT": ("1.2.840.10008.5.1.4.1.1.481.3",),
    "PR": ("1.2.840.10008.5.1.4.1.1.11.1",),
}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Each in a context of its own, so that an instance comes as it is stored; 9 x 7 contexts at most.
_SYNTAXES = (
    pydicom.uid.ExplicitVRLittleEndian,
    pydicom.uid.ImplicitVRLittleEndian,
    pydicom.uid.JPEGLosslessSV1,
    pydicom.uid.JPEG2000Lossless,
    pydicom.uid.JPEGLSLossless,
    pydicom.uid.RLELossless,
    pydicom.uid.JPEGBaseline8Bit,
    pydicom.uid.JPEG2000,
    pydicom.uid.DeflatedExplicitVRLittleEndian,
)


@dataclass(frozen=True, slots=True)
class MoveTarget:
    """Where a C-MOVE sends to; the archive must know this AE title and port."""

    ae_title: str
    bind: str
    port: int
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """one move at a time: there is one port"""


class DimseArchive:
    """`search.Archive` over C-FIND, with C-GET or, with a target, C-MOVE."""

    def __init__(self, link: Link, target: MoveTarget | None = None, *, min_free_bytes: int = 0) -> None:
        self._link = link
        self._target = target
        self._min_free_bytes = min_free_bytes

    def studies(self, query: StudyQuery, deadline: Deadline) -> Iterator[StudyEntry]:
        """Yield the patient's studies of the time asked for."""
        keys = ("StudyInstanceUID", "StudyTime", "StudyDescription", "IssuerOfPatientID", "PatientBirthDate")
        identifier = _query("STUDY", *keys)
        if not query.patient.patient_id.isascii():
            identifier.SpecificCharacterSet = "ISO_IR 192"
        identifier.PatientID = query.patient.patient_id
        identifier.StudyDate = f"{query.first_date:%Y%m%d}-{query.last_date:%Y%m%d}"
        # several would be a list, which some archives do not match; the caller looks at each answer anyway
        identifier.ModalitiesInStudy = query.modality[0] if len(query.modality) == 1 else ""
        for answer in self._find(identifier, MOST_STUDIES, deadline):
            yield study_entry(partial(_text, answer), tuple(_text(answer, "ModalitiesInStudy").split("\\")))

    def series(self, study: UID, deadline: Deadline) -> tuple[SeriesEntry, ...]:
        """Return the series of a study."""
        keys = ("SeriesInstanceUID", "Modality", "BodyPartExamined", "SeriesDescription")
        identifier = _query("SERIES", *keys, "NumberOfSeriesRelatedInstances")
        identifier.StudyInstanceUID = study
        return tuple(
            series_entry(study, partial(_text, answer)) for answer in self._find(identifier, MOST_SERIES, deadline)
        )

    def fetch(self, series: SeriesEntry, folder: Path, deadline: Deadline) -> None:
        """Write the instances of a series as files of `folder`."""
        identifier = _query("SERIES")
        identifier.StudyInstanceUID, identifier.SeriesInstanceUID = (
            series.study_instance_uid,
            series.series_instance_uid,
        )
        files = _Files(folder, deadline, self._min_free_bytes)
        if self._target is None:
            self._get(identifier, series, files)
        else:
            self._move(identifier, self._target, files)

    def _get(self, identifier: Dataset, series: SeriesEntry, files: "_Files") -> None:
        classes = (*_CLASSES.get(series.modality, ()), _SECONDARY_CAPTURE)
        contexts = [build_context(one, syntax) for one in classes for syntax in _SYNTAXES]
        roles = [build_role(one, scp_role=True) for one in classes]
        handlers = [(evt.EVT_C_STORE, files.take)]
        link = self._within(files.deadline)
        with link.associate([build_context(_GET), *contexts], roles=roles, handlers=handlers) as association:
            _refuse_without(association, link, _GET)
            for status, _ in association.send_c_get(identifier, _GET):
                self._follow(status, files, f"the C-GET of series {series.series_instance_uid}")

    def _move(self, identifier: Dataset, target: MoveTarget, files: "_Files") -> None:
        if not target.lock.acquire(timeout=files.deadline.remaining_s(threading.TIMEOUT_MAX)):
            files.deadline.check()
        try:
            link = self._within(files.deadline)
            with _listening(target, files), link.associate([build_context(_MOVE)]) as association:
                for status, _ in association.send_c_move(identifier, target.ae_title, _MOVE):
                    self._follow(status, files, f"the C-MOVE of series {identifier.SeriesInstanceUID}")
        finally:
            target.lock.release()

    def _follow(self, status: Dataset, files: "_Files", what: str) -> None:
        """Go on after one response of a retrieval; sub-operations that failed show as instances that are missing."""
        files.deadline.check()
        files.refuse()
        if status.get("Status") not in _PENDING:
            self._link.check(status.get("Status"), what)

    def _find(self, identifier: Dataset, most: int, deadline: Deadline) -> Iterator[Dataset]:
        """Yield the matches that name what they are, each once they have arrived."""
        level = identifier.QueryRetrieveLevel
        key = "StudyInstanceUID" if level == "STUDY" else "SeriesInstanceUID"
        count = 0
        with self._within(deadline).associate([build_context(_FIND)]) as association:
            for status, answer in association.send_c_find(identifier, _FIND):
                deadline.check()
                if answer is None:
                    if status.get("Status") not in _PENDING:
                        self._link.check(status.get("Status"), f"the query at {level} level")
                elif is_uid(_text(answer, key)):
                    count += 1
                    yield answer
                if count > most:
                    raise ArchiveUnreachable(f"{self._link.peer.name}: lists more than {most} matches at {level} level")

    def _within(self, deadline: Deadline) -> Link:
        return dataclasses.replace(self._link, timeout_s=deadline.remaining_s(self._link.timeout_s))


class _Files:
    """Takes the instances of one retrieval, and writes each byte for byte; a C-MOVE may bring several at once."""

    def __init__(self, folder: Path, deadline: Deadline, min_free_bytes: int) -> None:
        self.deadline = deadline
        self._folder, self._min_free_bytes = folder, min_free_bytes
        self._numbers = itertools.count()
        self._failures: list[OutOfResources | OSError] = []

    def refuse(self) -> None:
        """Return if our disk took every instance so far.

        Raises: OutOfResources, OSError.
        """
        if self._failures:
            raise self._failures[0]

    def take(self, event: evt.Event) -> int:
        """Answer one C-STORE."""
        request = cast("C_STORE", event.request)
        origin = Origin(
            UID(str(request.AffectedSOPClassUID)),
            UID(str(request.AffectedSOPInstanceUID)),
            UID(str(event.context.transfer_syntax)),
            "",
        )
        try:
            refuse_full(self._folder, self._min_free_bytes)
            with (self._folder / f"{next(self._numbers):06d}.dcm").open("xb") as file:
                file.write(head(origin))
                file.write(request.DataSet.getbuffer() if request.DataSet else b"")
        except (OutOfResources, OSError) as error:
            self._failures.append(error)
            return _OUT_OF_RESOURCES
        return 0x0000


@contextmanager
def _listening(target: MoveTarget, files: _Files) -> Iterator[None]:
    """Take what a C-MOVE sends."""
    entity = AE(target.ae_title)
    entity.require_called_aet = True
    for one in {uid for uids in _CLASSES.values() for uid in uids} | {_SECONDARY_CAPTURE}:
        entity.add_supported_context(one, list(_SYNTAXES))
    handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, files.take)]
    try:
        address = (target.bind, target.port)
        server = entity.start_server(address, block=False, evt_handlers=handlers, ssl_context=target.tls)
    except OSError as error:
        raise ArchiveUnreachable(
            f"port {target.port} cannot be opened ({error.strerror}); set [priors] move_port to a free one"
        ) from error
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()


def _refuse_without(association: Association, link: Link, abstract_syntax: str) -> None:
    """Raise what `Link` raises for an association without any context, where only the one that matters is missing."""
    accepted: list[PresentationContext] = association.accepted_contexts
    if not any(str(one.abstract_syntax) == abstract_syntax for one in accepted):
        link.check(0x0122, pydicom.uid.UID(abstract_syntax).name)


def _query(level: str, *keys: str) -> Dataset:
    """Return an identifier with the elements that the answer should have."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    for key in keys:
        setattr(query, key, None)
    return query


def _text(answer: Dataset, keyword: str) -> str:
    """Return an element as text, several values joined by a backslash.

    From its bytes: pydicom, when it converts a value, warns of an odd one with the value in the text.
    """
    element = answer.get_item(keyword)
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        value = value.decode(_encoding(answer), "replace")
    return "\\".join(one.strip(" \0") for one in str(value or "").split("\\"))


def _encoding(answer: Dataset) -> str:
    """Return the Python codec of the last term of Specific Character Set that is known."""
    element = answer.get_item("SpecificCharacterSet")
    said = element.value if element is not None else None
    terms = said.decode("ascii", "replace").split("\\") if isinstance(said, bytes) else [str(said or "")]
    return next((python_encoding[one.strip()] for one in reversed(terms) if one.strip() in python_encoding), "latin-1")
