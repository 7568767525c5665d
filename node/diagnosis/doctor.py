"""`ainode doctor NAME`: try with synthetic objects what an archive accepts; `diagnosis` concludes the configuration.

An archive may refuse a SOP class that it negotiated, so the doctor stores an object of each class. The doctor removes
the objects through Orthanc's REST interface. Where it cannot, it names the test studies.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pydicom.uid
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from ainode.node import tls
from ainode.node.archive import commitment, dicomweb, dimse, orthanc, qido, query, store, stow
from ainode.node.archive.commitment import Commitment, SopReference
from ainode.node.archive.dimse import Link
from ainode.node.archive.retrieve import DimseArchive, MoveTarget
from ainode.node.archive.search import Archive, Deadline
from ainode.node.archive.store import Outgoing, SendOutcome
from ainode.node.archive.web import WebLink
from ainode.node.diagnosis.advice import NO, OPEN, REST_PREFIX, WEB_PREFIX, YES, Examination, Trial
from ainode.node.diagnosis.doctor_objects import PATIENT, Specimen, synthetic_study
from ainode.node.diagnosis.listeners import listener_trials
from ainode.node.diagnosis.worklists import worklist_trials
from ainode.node.domain import UID, InstanceRef
from ainode.node.errors import ArchiveError, ArchiveUnreachable, ConfigError
from ainode.node.receiving.negotiation import allowed_callers, bound_certificates
from ainode.node.settings import Peer, Settings

Reply = TypeVar("Reply")
_ANSWER_S = 20.0
_COMMITMENT_S = 10.0
# How long an archive may take to list what it took.
_INDEXED_S = 5.0
# PS3.6 table A-1, Storage Commitment Push Model SOP Class.
_COMMITMENT_SOP_CLASS = "1.2.840.10008.1.20.1"
_TRANSFER_SYNTAXES = {
    "explicit": pydicom.uid.ExplicitVRLittleEndian,
    "implicit": pydicom.uid.ImplicitVRLittleEndian,
    "deflated": pydicom.uid.DeflatedExplicitVRLittleEndian,
    "jpeg-lossless": pydicom.uid.JPEGLosslessSV1,
    "jpeg-ls": pydicom.uid.JPEGLSLossless,
    "jpeg2000": pydicom.uid.JPEG2000Lossless,
    "rle": pydicom.uid.RLELossless,
    "jpeg": pydicom.uid.JPEGBaseline8Bit,
}


def examine(peer: Peer, settings: Settings, *, token: str, now: datetime, with_message: bool = False) -> Examination:
    """Try every operation with a peer; another `token` makes other test objects.

    A listener gets a test message `with_message` alone.

    Raises: ConfigError if the peer has no address, or the environment lacks the peer's credentials.
    """
    if peer.only_calls:
        raise ConfigError(f"peer {peer.name} only calls the node: give its host and port in node.toml to try it")
    if peer.is_listener:
        return Examination(peer, tuple(listener_trials(peer, token=token, now=now, with_message=with_message)))
    trials: list[Trial] = []
    stored_studies: list[UID] = []
    for protocol, is_configured, attempt in (
        ("dimse", peer.speaks_dimse, partial(_dimse_trials, settings)),
        ("web", bool(peer.dicomweb) and not _is_worklist_alone(settings, peer), _web_trials),
        ("rest", peer.deliver == "orthanc", _rest_trials),
    ):
        if is_configured:
            specimens = synthetic_study(f"{token} {protocol}", now)
            protocol_trials = [*attempt(peer, specimens)]
            trials += protocol_trials
            if any(trial.outcome in {YES, OPEN} and "store " in trial.name for trial in protocol_trials):
                stored_studies.append(specimens[0].ref.study_instance_uid)
    trials += worklist_trials(peer, settings)
    is_removed = _remove(peer, stored_studies)
    if stored_studies:
        trials.append(Trial("removed again", YES if is_removed else NO, "" if is_removed else _remedy(peer)))
    return Examination(
        peer,
        tuple(trials),
        () if is_removed else tuple(stored_studies),
        is_archive_of_priors=_is_archive_of_priors(settings, peer),
    )


def _is_worklist_alone(settings: Settings, peer: Peer) -> bool:
    """Return whether nothing is stored or fetched there by DICOMweb: the service may have a worklist, and no images."""
    is_destination = any(peer.name in route.destinations for route in settings.routes)
    stores = is_destination and peer.deliver == "dicomweb"
    fetches = _is_archive_of_priors(settings, peer) and peer.retrieve == "dicomweb"
    return bool(peer.worklist) and not (stores or fetches)


def _is_archive_of_priors(settings: Settings, peer: Peer) -> bool:
    return any(route.priors and route.priors.source == peer.name for route in settings.routes)


def _remedy(peer: Peer) -> str:
    """Return why the test studies remain, and who must delete them."""
    reason = (
        "the address in `orthanc` did not delete the study"
        if peer.orthanc
        else "DICOM cannot delete, and this [[peer]] has no key `orthanc` (an Orthanc's REST address)"
    )
    return f"{reason}: delete patient {PATIENT} there"


# DIMSE


def _dimse_trials(settings: Settings, peer: Peer, specimens: Sequence[Specimen]) -> Iterator[Trial]:
    link = Link(peer, settings.node.ae_title, _ANSWER_S)
    try:
        dimse.echo(link)
    except ArchiveError as error:
        yield Trial("C-ECHO", NO, str(error), is_answered=not isinstance(error, ArchiveUnreachable))
        return
    yield Trial("C-ECHO", YES, "over TLS" if peer.tls else "without TLS")
    transfer_syntaxes = _accepted_transfer_syntaxes(link, specimens)
    storage = _Storage(specimens, store.send(link, _outgoing(specimens)), partial(query.confirm_by_query, link))
    yield from storage.trials("", "C-FIND", transfer_syntaxes)
    if accepted := storage.accepted:
        yield _commitment_trial(link, settings, accepted)
        yield _trial("C-GET", lambda: _fetch_and_compare(DimseArchive(link), accepted[0]))
        node, priors = settings.node, settings.priors
        if priors.move_port:
            address, callers = (priors.move_ae_title, node.bind, priors.move_port), allowed_callers(node)
            target = MoveTarget(*address, tls.context_of(node), callers, bound_certificates(settings))
            yield _trial("C-MOVE", lambda: _fetch_and_compare(DimseArchive(link, target), accepted[0]))
        elif peer.retrieve == "move":
            yield Trial("C-MOVE", NO, f"[priors] move_port is 0: give a port, and enter {priors.move_ae_title} there")


def _accepted_transfer_syntaxes(link: Link, specimens: Sequence[Specimen]) -> dict[UID, str]:
    """Return for each SOP class the names of the transfer syntaxes that the peer accepts, separated by spaces."""
    sop_classes = [specimen.ref.sop_class_uid for specimen in specimens]
    syntaxes = _TRANSFER_SYNTAXES.values()
    contexts = [build_context(sop_class, syntax) for sop_class in sop_classes for syntax in syntaxes]
    try:
        with link.associate(contexts) as association:
            accepted = {
                (str(context.abstract_syntax), str(context.transfer_syntax[0]))
                for context in association.accepted_contexts
            }
    except ArchiveError:
        return {}
    return {
        sop_class: " ".join(name for name, syntax in _TRANSFER_SYNTAXES.items() if (sop_class, syntax) in accepted)
        for sop_class in sop_classes
    }


def _commitment_trial(link: Link, settings: Settings, stored_specimens: Sequence[Specimen]) -> Trial:
    """Request storage commitment, and listen for the report at the node's address unless the node is running."""
    name = "storage commitment"
    references = [
        SopReference(specimen.ref.sop_class_uid, specimen.ref.sop_instance_uid) for specimen in stored_specimens
    ]
    transaction = UID(pydicom.uid.generate_uid(prefix=None))
    try:
        with _listening(settings) as reports:
            report = commitment.request_commitment(link, references, transaction_uid=transaction)
            report = report or (reports.wait(transaction) if reports else None)
    except ArchiveError as error:
        return Trial(name, NO, _statement(str(error), error.comment))
    if report is None:
        ending = "no report came" if reports else "the report goes to the running node"
        return Trial(name, OPEN, f"requested; {ending}")
    committed = len(report.committed)
    return Trial(
        name, YES if committed == len(stored_specimens) else NO, f"{committed} of {len(stored_specimens)} committed"
    )


class _Reports:
    """The storage commitment reports that arrived."""

    def __init__(self) -> None:
        self._reports: list[Commitment] = []
        self._arrival = threading.Condition()

    def receive(self, event: evt.Event) -> tuple[int, None]:
        """Keep the report of an N-EVENT-REPORT, and answer Success."""
        with self._arrival:
            self._reports.append(Commitment.of_event(event.event_information))
            self._arrival.notify_all()
        return 0x0000, None

    def wait(self, transaction: UID) -> Commitment | None:
        """Return the report of a transaction, None if the report does not arrive in time."""
        with self._arrival:
            report = self._arrival.wait_for(lambda: self._of(transaction), _COMMITMENT_S)
        return report or None

    def _of(self, transaction: UID) -> Commitment | None:
        return next((report for report in self._reports if report.transaction_uid == transaction), None)


@contextmanager
def _listening(settings: Settings) -> Iterator[_Reports | None]:
    """Listen for reports at the node's address; yield None where the running node occupies the address."""
    reports = _Reports()
    entity = AE(settings.node.ae_title)
    entity.add_supported_context(_COMMITMENT_SOP_CLASS, scu_role=True, scp_role=True)
    handlers: list[evt.EventHandlerType] = [(evt.EVT_N_EVENT_REPORT, reports.receive)]
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


def _web_trials(peer: Peer, specimens: Sequence[Specimen]) -> Iterator[Trial]:
    link = WebLink(peer, _ANSWER_S)
    storage = _Storage(specimens, stow.send(link, _outgoing(specimens)), partial(qido.confirm_by_query, link))
    yield from storage.trials(WEB_PREFIX, "QIDO-RS", {})
    if accepted := storage.accepted:
        yield _trial("WADO-RS", lambda: _fetch_and_compare(dicomweb.WebArchive(link), accepted[0]))


# Orthanc's REST interface


def _rest_trials(peer: Peer, specimens: Sequence[Specimen]) -> Iterator[Trial]:
    link = WebLink(peer, _ANSWER_S)
    storage = _Storage(specimens, orthanc.send(link, _outgoing(specimens)), partial(orthanc.confirm_by_query, link))
    yield from storage.trials(REST_PREFIX, "Orthanc lookup", {})


# Every protocol


def _outgoing(specimens: Sequence[Specimen]) -> list[Outgoing]:
    return [Outgoing.of(specimen.content) for specimen in specimens]


@dataclass(frozen=True, slots=True)
class _Storage:
    """The specimens that were sent, what the peer answered, and the query that shows what the peer keeps."""

    specimens: Sequence[Specimen]
    answers: Sequence[SendOutcome]
    confirm_by_query: Callable[[Sequence[InstanceRef]], frozenset[UID]]

    @property
    def accepted(self) -> list[Specimen]:
        """Return the specimens that the peer did not refuse."""
        return [specimen for specimen, answer in zip(self.specimens, self.answers, strict=True) if not answer.error]

    def trials(self, prefix: str, query_name: str, details: Mapping[UID, str]) -> Iterator[Trial]:
        """Yield a trial for each specimen and for the query; `details` has the detail of each SOP class that works.

        A specimen counts as stored if the query lists it, or if the peer has no query and named it as stored.
        """
        listed_uids: frozenset[UID] | None = None
        query_trials: list[Trial] = []
        if accepted := self.accepted:
            try:
                listed_uids = _answer_to(partial(self._listed, [specimen.ref for specimen in accepted]))
                detail = f"{len(listed_uids)} of {len(accepted)} found"
                query_trials = [Trial(query_name, YES if listed_uids else NO, detail)]
            except ArchiveError as error:
                query_trials = [Trial(query_name, NO, _statement(str(error), error.comment))]
        for specimen, answer in zip(self.specimens, self.answers, strict=True):
            detail = details.get(specimen.ref.sop_class_uid, "")
            is_answered = not isinstance(answer.error, ArchiveUnreachable)
            outcome = _stored(answer, listed_uids, detail)
            yield Trial(f"{prefix}store {specimen.name}", *outcome, is_answered=is_answered)
        yield from query_trials

    def _listed(self, refs: Sequence[InstanceRef]) -> frozenset[UID]:
        """Return the UIDs that the peer lists, once it lists all or after some seconds: some index late.

        Raises: ArchiveError.
        """
        deadline = time.monotonic() + _INDEXED_S
        while len(listed_uids := self.confirm_by_query(refs)) < len(refs) and time.monotonic() < deadline:
            time.sleep(1.0)
        return listed_uids


def _stored(answer: SendOutcome, listed_uids: frozenset[UID] | None, detail: str) -> tuple[str, str]:
    """Return the outcome of storing a specimen and its detail; None as `listed_uids`: the peer has no query."""
    if answer.error:
        return NO, _statement(str(answer.error), answer.comment)
    if listed_uids is not None and answer.sop_instance_uid not in listed_uids:
        return OPEN, _statement("took it, and does not list it", answer.comment)
    if listed_uids is None and not answer.is_proven:
        return OPEN, _statement("reports success, and does not name it as stored", answer.comment)
    is_warning = answer.status is not None and answer.status & 0xF000 == 0xB000  # noqa: PLR2004 - PS3.4 table B.2-1
    warning = f"changed it (status 0x{answer.status:04X})" if is_warning else ""
    return YES, _statement("; ".join(filter(None, (detail, warning))), answer.comment)


def _statement(sentence: str, words: str) -> str:
    """Return a sentence with the peer's own words."""
    quotation = f'says "{words}"' if words else ""
    return "; ".join(filter(None, (sentence, quotation)))


def _answer_to(question: Callable[[], Reply]) -> Reply:
    """Return the answer to a question, which is asked once more if it failed for now: advice needs more than a chance.

    Raises: ArchiveError.
    """
    try:
        return question()
    except ArchiveError as error:
        if not error.retry:
            raise
        return question()


def _trial(name: str, attempt: Callable[[], tuple[bool, str]]) -> Trial:
    """Make an attempt, which returns whether the operation worked and a detail, and return its trial."""
    try:
        is_working, detail = _answer_to(attempt)
    except ArchiveError as error:
        return Trial(name, NO, _statement(str(error), error.comment))
    return Trial(name, YES if is_working else NO, detail)


def _fetch_and_compare(archive: Archive, specimen: Specimen) -> tuple[bool, str]:
    """Fetch the series of an image as a prior is fetched; return whether its pixels are those sent, and a detail."""
    deadline = Deadline.within(_ANSWER_S)
    entries = archive.series(specimen.ref.study_instance_uid, deadline)
    series_uid = specimen.ref.series_instance_uid
    series = next((entry for entry in entries if entry.series_instance_uid == series_uid), None)
    if series is None:
        return False, "the archive does not list the study's series"
    with TemporaryDirectory() as folder:
        archive.fetch(series, Path(folder), deadline)
        images = [dcmread(path) for path in Path(folder).iterdir()]
    sent_pixels = dcmread(BytesIO(specimen.content)).get("PixelData")
    is_same = len(images) == 1 and images[0].get("PixelData") == sent_pixels
    return is_same, "" if is_same else f"{len(images)} of 1 came, or the pixels differ"


def _remove(peer: Peer, studies: Sequence[UID]) -> bool:
    """Delete the studies where the peer is an Orthanc with a configured REST address; return whether they are gone."""
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
