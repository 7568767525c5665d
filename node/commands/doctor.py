"""`ainode doctor NAME`: what an archive really takes, tried with synthetic objects; `diagnosis` says what follows.

A class that an archive negotiates it may still refuse, so each is stored; what was stored is removed where an Orthanc
lets us, and named where nothing does.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom.uid
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from ainode.node import tls
from ainode.node.archive import commitment, dicomweb, dimse, orthanc, query, store
from ainode.node.archive.commitment import Commitment, SopReference
from ainode.node.archive.dimse import Link
from ainode.node.archive.retrieve import DimseArchive, MoveTarget
from ainode.node.archive.search import Archive, Deadline
from ainode.node.archive.store import Outgoing, SendOutcome
from ainode.node.archive.web import WebLink
from ainode.node.commands.diagnosis import NO, OPEN, REST, WEB, YES, Examination, Line
from ainode.node.commands.doctor_objects import PATIENT, Specimen, specimens
from ainode.node.domain import UID
from ainode.node.errors import ArchiveError
from ainode.node.settings import Peer, Settings

_ANSWER_S = 20.0
_COMMITMENT_S = 10.0
_COMMITMENT = "1.2.840.10008.1.20.1"
_SYNTAXES = {
    "explicit": pydicom.uid.ExplicitVRLittleEndian,
    "implicit": pydicom.uid.ImplicitVRLittleEndian,
    "deflated": pydicom.uid.DeflatedExplicitVRLittleEndian,
    "jpeg-lossless": pydicom.uid.JPEGLosslessSV1,
    "jpeg-ls": pydicom.uid.JPEGLSLossless,
    "jpeg2000": pydicom.uid.JPEG2000Lossless,
    "rle": pydicom.uid.RLELossless,
    "jpeg": pydicom.uid.JPEGBaseline8Bit,
}


def examine(peer: Peer, settings: Settings, *, token: str, now: datetime) -> Examination:
    """Try everything with a peer; another `token` makes other objects.

    Raises: ConfigError if its credentials are missing.
    """
    lines: list[Line] = []
    stored: list[UID] = []
    for way, wanted, attempt in (
        ("dimse", bool(peer.host), partial(_by_dimse, settings)),
        ("web", bool(peer.dicomweb), _by_web),
        ("rest", peer.deliver == "orthanc", _by_rest),
    ):
        if wanted:
            objects = specimens(f"{token} {way}", now)
            tried = [*attempt(peer, objects)]
            lines += tried
            if any(line.outcome == YES and "store " in line.what for line in tried):
                stored.append(objects[0].ref.study_instance_uid)
    if not stored:
        return Examination(peer, tuple(lines))
    removed = _removed(peer, stored)
    lines.append(Line("removed again", YES if removed else NO, "" if removed else _stays(peer)))
    return Examination(peer, tuple(lines), () if removed else tuple(stored))


def _stays(peer: Peer) -> str:
    why = "it did not answer at `orthanc`" if peer.orthanc else "DICOM cannot delete, and no `orthanc` is configured"
    return f"{why}: delete patient {PATIENT} there"


# DIMSE


def _by_dimse(settings: Settings, peer: Peer, objects: Sequence[Specimen]) -> Iterator[Line]:
    link = Link(peer, settings.node.ae_title, _ANSWER_S)
    try:
        dimse.echo(link)
    except ArchiveError as error:
        yield Line("C-ECHO", NO, str(error))
        return
    yield Line("C-ECHO", YES, "over TLS" if peer.tls else "without TLS")
    accepted = _negotiated(link, objects)
    sent = store.send(link, [Outgoing.of(one.content) for one in objects])
    yield from _stored("store", objects, sent, accepted)
    held = [one for one, answer in zip(objects, sent, strict=True) if answer.error is None]
    if held:
        yield _committed(link, settings, held)
        yield _tried("C-FIND", lambda: _found(held, query.confirm_by_query(link, [one.ref for one in held])))
        yield _tried("C-GET", lambda: _fetched(DimseArchive(link), held))
        node, table = settings.node, settings.priors
        if table.move_port:
            target = MoveTarget(table.move_ae_title, node.bind, table.move_port, tls.context_of(node))
            yield _tried("C-MOVE", lambda: _fetched(DimseArchive(link, target), held))


def _negotiated(link: Link, objects: Sequence[Specimen]) -> dict[UID, str]:
    """Return the accepted transfer syntaxes of each SOP class, in words."""
    classes = [one.ref.sop_class_uid for one in objects]
    contexts = [build_context(one, syntax) for one in classes for syntax in _SYNTAXES.values()]
    try:
        with link.associate(contexts) as association:
            found = {(str(one.abstract_syntax), str(one.transfer_syntax[0])) for one in association.accepted_contexts}
    except ArchiveError:
        return {}
    return {one: " ".join(name for name, syntax in _SYNTAXES.items() if (one, syntax) in found) for one in classes}


def _stored(
    how: str, objects: Sequence[Specimen], sent: Sequence[SendOutcome], accepted: dict[UID, str]
) -> Iterator[Line]:
    for one, answer in zip(objects, sent, strict=True):
        detail = accepted.get(one.ref.sop_class_uid, "")
        yield Line(f"{how} {one.name}", NO if answer.error else YES, str(answer.error or detail))


def _committed(link: Link, settings: Settings, held: Sequence[Specimen]) -> Line:
    """Ask for storage commitment, listening where our receiver would be, if it does not run."""
    what = "storage commitment"
    references = [SopReference(one.ref.sop_class_uid, one.ref.sop_instance_uid) for one in held]
    transaction = UID(pydicom.uid.generate_uid(prefix=None))
    try:
        with _listening(settings) as reports:
            report = commitment.request_commitment(link, references, transaction_uid=transaction)
            report = report or (reports.wait(transaction) if reports else None)
    except ArchiveError as error:
        return Line(what, NO, str(error))
    if report is None:
        said = "requested; no report came" if reports else "requested; the report goes to the running node"
        return Line(what, OPEN, said)
    kept = len(report.committed)
    return Line(what, YES if kept == len(held) else NO, f"{kept} of {len(held)} committed")


class _Reports:
    """Takes storage commitment reports."""

    def __init__(self) -> None:
        self._arrived: list[Commitment] = []
        self._news = threading.Condition()

    def take(self, event: evt.Event) -> tuple[int, None]:
        """Answer one N-EVENT-REPORT."""
        with self._news:
            self._arrived.append(Commitment.of_event(event.event_information))
            self._news.notify_all()
        return 0x0000, None

    def wait(self, transaction: UID) -> Commitment | None:
        """Return the report of a transaction, None if it does not come in time."""
        with self._news:
            mine = self._news.wait_for(lambda: self._of(transaction), _COMMITMENT_S)
        return mine or None

    def _of(self, transaction: UID) -> Commitment | None:
        return next((one for one in self._arrived if one.transaction_uid == transaction), None)


@contextmanager
def _listening(settings: Settings) -> Iterator[_Reports | None]:
    """Listen at our own address for a report; None where the node is running and listens itself."""
    reports = _Reports()
    entity = AE(settings.node.ae_title)
    entity.add_supported_context(_COMMITMENT, scu_role=True, scp_role=True)
    handlers: list[evt.EventHandlerType] = [(evt.EVT_N_EVENT_REPORT, reports.take)]
    address, context = (settings.node.bind, settings.node.port), tls.context_of(settings.node)
    try:
        server = entity.start_server(address, block=False, evt_handlers=handlers, ssl_context=context)
    except OSError:
        yield None
        return
    try:
        yield reports
    finally:
        if server is not None:
            server.shutdown()


# DICOMweb


def _by_web(peer: Peer, objects: Sequence[Specimen]) -> Iterator[Line]:
    link = WebLink(peer, _ANSWER_S)
    sent = dicomweb.send(link, [Outgoing.of(one.content) for one in objects])
    yield from _stored(f"{WEB}store", objects, sent, {})
    held = [one for one, answer in zip(objects, sent, strict=True) if answer.error is None]
    if held:
        yield _tried("QIDO-RS", lambda: _found(held, dicomweb.confirm_by_query(link, [one.ref for one in held])))
        yield _tried("WADO-RS", lambda: _fetched(dicomweb.WebArchive(link), held))


# Orthanc's REST interface


def _by_rest(peer: Peer, objects: Sequence[Specimen]) -> Iterator[Line]:
    link = WebLink(peer, _ANSWER_S)
    sent = orthanc.send(link, [Outgoing.of(one.content) for one in objects])
    yield from _stored(f"{REST}store", objects, sent, {})
    held = [one for one, answer in zip(objects, sent, strict=True) if answer.error is None]
    if held:
        refs = [one.ref for one in held]
        yield _tried("Orthanc lookup", lambda: _found(held, orthanc.confirm_by_query(link, refs)))


# All


def _tried(what: str, attempt: Callable[[], tuple[bool, str]]) -> Line:
    try:
        worked, detail = attempt()
    except ArchiveError as error:
        return Line(what, NO, str(error))
    return Line(what, YES if worked else NO, detail)


def _found(held: Sequence[Specimen], found: frozenset[UID]) -> tuple[bool, str]:
    return len(found) == len(held), f"{len(found)} of {len(held)} found"


def _fetched(archive: Archive, held: Sequence[Specimen]) -> tuple[bool, str]:
    """Fetch a series of an image, as a prior is fetched, and compare its pixels and text with what was sent."""
    deadline = Deadline.within(_ANSWER_S)
    sent = held[0]
    listed = archive.series(sent.ref.study_instance_uid, deadline)
    series = next((one for one in listed if one.series_instance_uid == sent.ref.series_instance_uid), None)
    if series is None:
        return False, "the study's series are not listed"
    with TemporaryDirectory() as folder:
        archive.fetch(series, Path(folder), deadline)
        come = [dcmread(path) for path in Path(folder).iterdir()]
    same = len(come) == 1 and come[0].get("PixelData") == dcmread(BytesIO(sent.content)).get("PixelData")
    return same, "" if same else f"{len(come)} of 1 came, or with other pixels"


def _removed(peer: Peer, studies: Sequence[UID]) -> bool:
    """Delete the studies where the peer is an Orthanc whose REST address is known; whether they are gone."""
    if not peer.orthanc:
        return False
    link = WebLink(peer, _ANSWER_S)
    try:
        with link.session("removing the test's studies") as session:
            archive = orthanc.Orthanc(link, session)
            for study in studies:
                archive.remove(study)
    except ArchiveError:
        return False
    return True
