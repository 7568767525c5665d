"""Earlier studies over DIMSE: C-FIND in the Study Root model, C-GET or C-MOVE, never more than one instance in memory.

The archive sends the instances of a C-MOVE to a second AE title of the node, which listens only during the C-MOVE: the
node reads every study that its receiver gets, and must not read a prior.
"""

import dataclasses
import itertools
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from socketserver import TCPServer
from typing import Any, cast

import pydicom.uid
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext, build_context, build_role
from pynetdicom.transport import ThreadedAssociationServer

from ainode.node import tls
from ainode.node.archive.comments import error_comment
from ainode.node.archive.dimse import Link
from ainode.node.archive.search import (
    MAX_SERIES,
    MAX_STUDIES,
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
from ainode.node.errors import ArchiveRefused, ArchiveUnreachable, OutOfResources
from ainode.node.receiving.negotiation import AllowedCaller, certificate_fault

_log = logging.getLogger(__name__)

_LOOK_S = 0.05
"""how often the server of a C-MOVE looks whether it shall end"""
# PS3.6 table A-1, Study Root Query/Retrieve Information Model: FIND, MOVE, GET.
_FIND, _MOVE, _GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
_PENDING = frozenset({0xFF00, 0xFF01})
# PS3.7 C.5.8, PS3.4 table B.2-1.
_NOT_AUTHORIZED, _OUT_OF_RESOURCES = 0x0124, 0xA700
# SOP classes of the modalities that a rule may name, and of rejection notes (PS3.6 table A-1).
_SOP_CLASSES = {
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
    "KO": ("1.2.840.10008.5.1.4.1.1.88.59",),
}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Each syntax has its own context, so that an instance arrives in its stored syntax; 9 x 7 contexts at most.
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
    """The destination of a C-MOVE; the archive must know its AE title and port."""

    ae_title: str
    bind: str
    port: int
    context: ssl.SSLContext | None = field(default=None, repr=False)
    callers: tuple[AllowedCaller, ...] = ()
    """who may call beside the host of the archive: an archive may send from another address than it listens on"""
    certificates: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """the identities of the certificates that are bound to an AE title, by AE title"""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """one C-MOVE at a time, since there is one port"""

    def has_caller_at(self, address: str) -> bool:
        """Return whether the allow list has the address."""
        return any(caller.is_at(address) for caller in self.callers)

    def answer_store(self, event: evt.Event, files: "_ReceivedFiles") -> int:
        """Write the instance of a C-STORE if the certificate may call as the AE title; return the status."""
        ae_title, connection = event.assoc.requestor.ae_title, event.assoc.dul.socket
        identities = tls.caller_identities(connection and connection.socket)
        if fault := certificate_fault(ae_title, identities, self.certificates):
            about = {"action": "move_stranger", "address": event.assoc.requestor.address}
            _log.warning("aborted an association of %r during a C-MOVE: %s", ae_title, fault, extra=about)
            event.assoc.abort()
            return _NOT_AUTHORIZED
        return files.answer_store(event)


class DimseArchive:
    """The `search.Archive` that searches by C-FIND and fetches by C-GET, or by C-MOVE if it has a target."""

    def __init__(self, link: Link, target: MoveTarget | None = None, *, min_free_bytes: int = 0) -> None:
        self._link = link
        self._target = target
        self._min_free_bytes = min_free_bytes

    def studies(self, query: StudyQuery, deadline: Deadline) -> Iterator[StudyEntry]:
        """Yield the studies of a query."""
        keys = ("StudyInstanceUID", "StudyTime", "StudyDescription", "IssuerOfPatientID", "PatientBirthDate")
        identifier = _query("STUDY", *keys)
        if not query.patient.patient_id.isascii():
            identifier.SpecificCharacterSet = "ISO_IR 192"
        identifier.PatientID = query.patient.patient_id
        identifier.StudyDate = f"{query.first_date:%Y%m%d}-{query.last_date:%Y%m%d}"
        # Some archives do not match a list of modalities; the caller checks each study.
        identifier.ModalitiesInStudy = query.modality[0] if len(query.modality) == 1 else ""
        for answer in self._find(identifier, MAX_STUDIES, deadline):
            yield study_entry(partial(_text, answer), tuple(_text(answer, "ModalitiesInStudy").split("\\")))

    def series(self, study_instance_uid: UID, deadline: Deadline) -> tuple[SeriesEntry, ...]:
        """Return the series of a study."""
        keys = ("SeriesInstanceUID", "Modality", "BodyPartExamined", "SeriesDescription")
        identifier = _query("SERIES", *keys, "NumberOfSeriesRelatedInstances")
        identifier.StudyInstanceUID = study_instance_uid
        return tuple(
            series_entry(study_instance_uid, partial(_text, answer))
            for answer in self._find(identifier, MAX_SERIES, deadline)
        )

    def fetch(self, series: SeriesEntry, folder: Path, deadline: Deadline) -> None:
        """Write the instances of a series into `folder`."""
        identifier = _query("SERIES")
        identifier.StudyInstanceUID, identifier.SeriesInstanceUID = (
            series.study_instance_uid,
            series.series_instance_uid,
        )
        files = _ReceivedFiles(folder, deadline, self._min_free_bytes)
        if self._target is None:
            self._get(identifier, series, files)
        else:
            self._move(identifier, self._target, files)

    def _get(self, identifier: Dataset, series: SeriesEntry, files: "_ReceivedFiles") -> None:
        """Fetch a series by C-GET."""
        sop_class_uids = (*_SOP_CLASSES.get(series.modality, ()), _SECONDARY_CAPTURE)
        contexts = [build_context(uid, syntax) for uid in sop_class_uids for syntax in _SYNTAXES]
        roles = [build_role(uid, scp_role=True) for uid in sop_class_uids]
        handlers = [(evt.EVT_C_STORE, files.answer_store)]
        link = self._link_within(files.deadline)
        with link.associate([build_context(_GET), *contexts], roles=roles, handlers=handlers) as association:
            _require_context(association, link, _GET)
            for status, _ in association.send_c_get(identifier, _GET):
                self._check_response(status, files, f"the C-GET of series {series.series_instance_uid}")

    def _move(self, identifier: Dataset, target: MoveTarget, files: "_ReceivedFiles") -> None:
        """Fetch a series by C-MOVE, after the C-MOVEs of other threads."""
        if not target.lock.acquire(timeout=files.deadline.remaining_s(threading.TIMEOUT_MAX)):
            files.deadline.check()
        try:
            link = self._link_within(files.deadline)
            with _store_server(target, link.peer.host, files), link.associate([build_context(_MOVE)]) as association:
                for status, _ in association.send_c_move(identifier, target.ae_title, _MOVE):
                    self._check_move_response(status, files, target, identifier.SeriesInstanceUID)
        finally:
            target.lock.release()

    def _check_move_response(
        self, status: Dataset, files: "_ReceivedFiles", target: MoveTarget, series_instance_uid: str
    ) -> None:
        """Return if a C-MOVE may go on after one of its responses.

        An archive that does not know the AE title answers 0xA801, as DCMTK, another failure, nothing, as Orthanc, or
        success; an archive that cannot reach the address counts failed sub-operations. Raises: as `_check_response`.
        """
        request = f"the C-MOVE of series {series_instance_uid}"
        remedy = (
            f"make the AE title {target.ae_title} known to the archive, with the address of this node and port "
            f"{target.port} ([priors] move_ae_title, move_port); the port is open while a C-MOVE runs"
        )
        try:
            self._check_response(status, files, request)
        except ArchiveRefused as error:
            message = f"{self._link.peer.name}: refused {request} (status 0x{error.archive_status:04X}); {remedy}"
            raise ArchiveRefused(message, archive_status=error.archive_status, comment=error.comment) from error
        except ArchiveUnreachable as error:
            files.deadline.check()
            raise ArchiveUnreachable(f"{error}; {remedy}", comment=error.comment) from error
        if status.Status not in _PENDING and files.count == 0:
            message = f"{self._link.peer.name}: sent nothing at {request}; {remedy}"
            raise ArchiveRefused(message, archive_status=status.Status, comment=error_comment(status))

    def _check_response(self, status: Dataset, files: "_ReceivedFiles", request: str) -> None:
        """Return if a retrieval may go on after one of its responses.

        A failed sub-operation is no error here: the caller sees that an instance is missing.

        Raises: ArchiveUnreachable, ArchiveRefused, OutOfResources, OSError.
        """
        files.deadline.check()
        files.check_disk()
        if status.get("Status") not in _PENDING:
            self._link.check(status.get("Status"), request, error_comment(status))

    def _find(self, identifier: Dataset, max_matches: int, deadline: Deadline) -> Iterator[Dataset]:
        """Yield each match of a query when the match arrives; a match without a UID of its level is left out."""
        level = identifier.QueryRetrieveLevel
        key = "StudyInstanceUID" if level == "STUDY" else "SeriesInstanceUID"
        count = 0
        with self._link_within(deadline).associate([build_context(_FIND)]) as association:
            for status, answer in association.send_c_find(identifier, _FIND):
                deadline.check()
                if answer is None:
                    if status.get("Status") not in _PENDING:
                        self._link.check(status.get("Status"), f"the query at {level} level", error_comment(status))
                elif is_uid(_text(answer, key)):
                    count += 1
                    yield answer
                if count > max_matches:
                    name = self._link.peer.name
                    raise ArchiveUnreachable(f"{name}: lists more than {max_matches} matches at {level} level")

    def _link_within(self, deadline: Deadline) -> Link:
        """Return the link with a time limit that ends at the deadline at the latest."""
        return dataclasses.replace(self._link, timeout_s=deadline.remaining_s(self._link.timeout_s))


class _ReceivedFiles:
    """Writes the instances of one retrieval into a folder; a C-MOVE may send several instances at the same time."""

    def __init__(self, folder: Path, deadline: Deadline, min_free_bytes: int) -> None:
        self.deadline = deadline
        self._folder, self._min_free_bytes = folder, min_free_bytes
        self._numbers = itertools.count()
        self.count = 0
        """how many instances were written"""
        self._failures: list[OutOfResources | OSError] = []

    def check_disk(self) -> None:
        """Return if every instance so far was written.

        Raises: OutOfResources, OSError.
        """
        if self._failures:
            raise self._failures[0]

    def answer_store(self, event: evt.Event) -> int:
        """Write the instance of a C-STORE byte for byte, and return the status of the answer."""
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
        self.count += 1
        return 0x0000


class _StoreServer(ThreadedAssociationServer):
    """Accepts no stranger during a C-MOVE: what a stranger sends would be read as an earlier study."""

    def __init__(self, *arguments: Any, is_expected: Callable[[str], bool], **options: Any) -> None:  # noqa: ANN401 - as the base class
        super().__init__(*arguments, **options)
        self._is_expected = is_expected

    def verify_request(self, _: object, client_address: tuple[str, int] | str) -> bool:
        """Return whether the address may call; the base class closes the connection if not."""
        if self._is_expected(client_address[0]):
            return True
        sentence = "closed a connection during a C-MOVE: add the address to node.allow if the archive sends from there"
        _log.warning(sentence, extra={"action": "move_stranger", "address": client_address[0]})
        return False


@contextmanager
def _store_server(target: MoveTarget, host: str, files: _ReceivedFiles) -> Iterator[None]:
    """Receive the instances of a C-MOVE of the archive at `host` during a block."""
    entity = AE(target.ae_title)
    entity.require_called_aet = True
    for sop_class_uid in {uid for uids in _SOP_CLASSES.values() for uid in uids} | {_SECONDARY_CAPTURE}:
        entity.add_supported_context(sop_class_uid, list(_SYNTAXES))
    addresses = _addresses(host)
    try:
        server = entity.make_server(
            (target.bind, target.port),
            evt_handlers=[(evt.EVT_C_STORE, target.answer_store, [files])],
            ssl_context=target.context,
            server_class=_StoreServer,
            is_expected=lambda address: address in addresses or target.has_caller_at(address),
        )
    except OSError as error:
        raise ArchiveUnreachable(
            f"port {target.port} cannot be opened ({error.strerror}); set [priors] move_port to a free port"
        ) from error
    threading.Thread(target=server.serve_forever, args=(_LOOK_S,), name="C-MOVE", daemon=True).start()
    try:
        yield
    finally:
        TCPServer.shutdown(server)  # pynetdicom's own asks its AE for the server, which only start_server tells the AE
        server.server_close()


def _addresses(host: str) -> frozenset[str]:
    """Return the addresses of a host; none if no name server knows the host, whom the association then cannot reach."""
    with suppress(OSError):
        return frozenset(str(entry[4][0]) for entry in socket.getaddrinfo(host, None))
    return frozenset()


def _require_context(association: Association, link: Link, abstract_syntax: str) -> None:
    """Refuse an association without an accepted context of an abstract syntax.

    Raises: ArchiveRefused.
    """
    accepted: list[PresentationContext] = association.accepted_contexts
    if not any(str(context.abstract_syntax) == abstract_syntax for context in accepted):
        link.check(0x0122, pydicom.uid.UID(abstract_syntax).name)


def _query(level: str, *keys: str) -> Dataset:
    """Return a query of a level; `keys` are the keywords of the elements that an answer should have."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    for key in keys:
        setattr(query, key, None)
    return query


def _text(answer: Dataset, keyword: str) -> str:
    """Return an element as a text, with a backslash between several values; '' if the element is absent.

    The text is decoded here from bytes: the conversion of pydicom warns of an odd value, and repeats the value.
    """
    element = answer.get_item(keyword)
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        value = value.decode(_encoding(answer), "replace")
    return "\\".join(text.strip(" \0") for text in str(value or "").split("\\"))


def _encoding(answer: Dataset) -> str:
    """Return the Python codec of the last term of Specific Character Set that pydicom knows."""
    element = answer.get_item("SpecificCharacterSet")
    value = element.value if element is not None else None
    terms = value.decode("ascii", "replace").split("\\") if isinstance(value, bytes) else [str(value or "")]
    names = [term.strip() for term in reversed(terms)]
    return next((python_encoding[name] for name in names if name in python_encoding), "latin-1")
