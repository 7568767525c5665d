"""The search for the earlier studies of a patient, before a study is read; the study is read even if the archive fails.

`rules` decides which studies fit, `shelf` keeps the files. A record per job says what the search brought, so that every
attempt to read the job has the same priors.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from ainode.node import logs, tls
from ainode.node.archive.audited import participant_of, query_of
from ainode.node.archive.dicomweb import WebArchive
from ainode.node.archive.dimse import Link
from ainode.node.archive.retrieve import DimseArchive, MoveTarget
from ainode.node.archive.search import Archive, Deadline, SeriesEntry
from ainode.node.archive.web import WebLink
from ainode.node.audit.messages import DESTINATION, Message, Participant, study_subject, transferred
from ainode.node.audit.recorder import drop
from ainode.node.disk import is_full
from ainode.node.domain import UID, File
from ainode.node.encoding import headers
from ainode.node.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnreachable,
    CannotUnderstand,
    NodeError,
    OutOfResources,
)
from ainode.node.imaging.rejections import Rejection, is_key_object, rejection
from ainode.node.priors.rules import (
    Refusal,
    StudyIdentity,
    key_objects,
    series_to_fetch,
    study_query,
    usable_studies,
)
from ainode.node.priors.shelf import PriorRecord, Shelf, study_identity
from ainode.node.receiving.negotiation import allowed_callers, bound_certificates
from ainode.node.routes import PriorRule, Route
from ainode.node.settings import Peer, Settings

log = logging.getLogger(__name__)
_NO_RECORD = "Earlier studies: not used, since the node has no record of a search for them (the log says why)."


class Priors:
    """Gathers the earlier studies of a job from an archive, and keeps the record of each job."""

    def __init__(
        self,
        settings: Settings,
        archive_of: Callable[[Peer], Archive] | None = None,
        record: Callable[[Message], None] = drop,
        received_notes: Callable[[UID], Iterable[Rejection]] = lambda _: (),
    ) -> None:
        """Open no connection yet; `archive_of` replaces the archive that the configuration of a peer describes.

        `record` writes into the audit trail; `received_notes` are the rejection notes of a study that the node has.
        """
        self._settings, self._record, self._received_notes = settings, record, received_notes
        self._shelf = Shelf(settings.data / "priors", settings.node.min_free_bytes)
        self._move_lock, self._move_turn = threading.Lock(), threading.Lock()
        self._archive_of = archive_of or self._configured_archive

    def record(self, job: str) -> PriorRecord:
        """Return the record of a job as it was written, an empty record if there is none."""
        return self._shelf.record(job) or PriorRecord()

    def usable(self, job: str, rule: PriorRule | None) -> PriorRecord:
        """Return what a job is read with: its record, less what was lost since; a note tells what is missing.

        Raises: OSError if a file cannot be read.
        """
        record = self._shelf.record(job) or PriorRecord(notes=(_NO_RECORD,) if rule else ())
        return self._shelf.usable(record)

    def sweep(self, now: datetime, unfinished_jobs: Iterable[str]) -> None:
        """Remove what no job has used for the retention of [priors], less what unfinished jobs have on record."""
        self._shelf.sweep(now - timedelta(days=self._settings.priors.retention_days), unfinished_jobs)

    def gather(self, job: str, route: Route, study_file: Path) -> PriorRecord:
        """Search the priors that a route wants for the study of `study_file`; return the record of the job.

        A job is searched for once, within the time limit of the rule: a job that has a record keeps the record.

        Raises: OutOfResources if the disk is full, OSError if the record cannot be written.
        """
        record = self._shelf.record(job)
        if record is None and route.priors:
            with self._turn(route.priors):
                record = self._search_result(_Search(route.priors, route.companions), study_file)
            self._shelf.write_record(job, record)
            log_fields = {"action": "priors_gathered", "job": job, "route": route.name, "peer": route.priors.source}
            log.info(
                "priors: %d files in %.1f s", len(record.files), record.query_s + record.retrieve_s, extra=log_fields
            )
        return record or PriorRecord()

    def _turn(self, rule: PriorRule) -> AbstractContextManager[object]:
        """Return what a search waits for before its time begins: C-MOVEs share a port, and come one after the other."""
        is_move = any(peer.name == rule.source and peer.retrieve == "move" for peer in self._settings.peers)
        return self._move_turn if is_move else nullcontext()

    def _configured_archive(self, peer: Peer) -> Archive:
        """Return the archive that the configuration of a peer describes.

        Raises: ConfigError if the certificate of [node] cannot be loaded for C-MOVE.
        """
        node, table = self._settings.node, self._settings.priors
        if peer.retrieve == "dicomweb":
            return WebArchive(WebLink(peer, node.network_timeout_s), min_free_bytes=node.min_free_bytes)
        target = None
        if peer.retrieve == "move":
            context = tls.context_of(node)
            target = MoveTarget(
                *(table.move_ae_title, node.bind, table.move_port, context, allowed_callers(node)),
                certificates=bound_certificates(self._settings),
                lock=self._move_lock,
            )
        link = Link(peer, node.ae_title, node.network_timeout_s)
        return DimseArchive(link, target, min_free_bytes=node.min_free_bytes)

    def _search_result(self, search: "_Search", study_file: Path) -> PriorRecord:
        """Run a search in its own thread and return its record at the time limit at the latest.

        The thread of a search that hangs is left to itself.
        Raises: OutOfResources if the disk is full: the search can be repeated once there is room.
        """
        limit_s = search.rule.timeout_s
        thread = ThreadPoolExecutor(1, thread_name_prefix="priors")
        deadline = Deadline.within(limit_s)
        search_future = thread.submit(self._run, search, study_file, deadline)
        thread.shutdown(wait=False)
        try:
            error = search_future.exception(limit_s)
        except TimeoutError:
            error = ArchiveUnreachable(f"{search.rule.source}: the search did not end within {limit_s:g} s")
        if error is None:
            return search.record()
        if isinstance(error, Exception) and is_full(error):
            raise OutOfResources(f"no room for earlier studies: {error}") from error
        _log_failure(error, search.rule)
        if time.monotonic() >= deadline.monotonic_s:
            return search.record(f"{search.rule.source} did not deliver them within {limit_s:g} s; ")
        if isinstance(error, ArchiveError):
            return search.record(f"{search.rule.source} did not deliver them (the log says why); ")
        return search.record("the node's search for them failed (the log says why); ")

    def _run(self, search: "_Search", study_file: Path, deadline: Deadline) -> None:
        """Add studies of the archive to a search, until the search has as many as the rule counts.

        Raises: ArchiveUnreachable, ArchiveRefused, CannotUnderstand, ConfigError, OutOfResources, OSError.
        """
        rule, current = search.rule, study_identity(study_file)
        query = study_query(current, rule)
        if isinstance(query, str):
            search.notes.append(f"Earlier studies: not looked for, since {query}.")
            return
        peer = self._settings.peer(rule.source)
        archive = self._archive_of(peer)
        self._record(query_of(peer, by_web=peer.retrieve == "dicomweb"))
        with search.timer("query"):
            candidates, refusals = usable_studies(archive.studies(query, deadline), current, rule)
        search.notes += _refusal_notes(refusals)
        for study in candidates:
            if len(search.studies) == rule.count:
                return
            with search.timer("query"):
                entries = archive.series(study.study_instance_uid, deadline)
            series = series_to_fetch(entries, study, rule, companions=search.companions)
            if series:
                with search.timer("retrieve"):
                    shelf_of_study = partial(self._series_files, search, archive, current, deadline)
                    self._add_study(search, series, key_objects(entries), shelf_of_study)

    def _add_study(
        self,
        search: "_Search",
        series_of_study: Sequence[SeriesEntry],
        key_object_series: Sequence[SeriesEntry],
        files_of: Callable[[SeriesEntry], tuple[File, ...]],
    ) -> None:
        """Fetch the series of one study and add the study to a search; a note names each unusable series.

        A series with an image that a rejection note names is not used: a model could take the rest for the series.
        """
        fetched_notes = [note for series in key_object_series for note in _notes_of(search, series, files_of(series))]
        received_notes = self._received_notes(series_of_study[0].study_instance_uid)
        rejected = {uid: note for note in (*received_notes, *fetched_notes) for uid in note.sop_instance_uids}
        files: list[File] = []
        has_images = False
        for series in series_of_study:
            files_of_series = files_of(series)
            if note := _rejection_of(files_of_series, rejected):
                search.leave_out(series, f"images of it are not to be used, a rejection note says: {note}")
                continue
            files += files_of_series
            has_images = has_images or bool(files_of_series and series.modality not in search.companions)
        if has_images:
            search.studies.append(tuple(files))

    def _series_files(
        self, search: "_Search", archive: Archive, current: StudyIdentity, deadline: Deadline, series: SeriesEntry
    ) -> tuple[File, ...]:
        """Return the files of a series, fetched where the shelf lacks them; () of one that is unusable, with a note."""
        try:
            return self._shelf.series_files(
                series,
                current,
                partial(self._fetch, search.rule, archive, series, deadline),
                allow_missing_birth_date=search.rule.allow_missing_birth_date,
            )
        except (CannotUnderstand, ArchiveRefused) as error:
            deadline.check()
            is_refused = isinstance(error, ArchiveRefused)
            search.leave_out(series, f"{search.rule.source} refused it" if is_refused else str(error), error)
            return ()

    def _fetch(self, rule: PriorRule, archive: Archive, series: SeriesEntry, deadline: Deadline, folder: Path) -> None:
        """Fetch a series into a folder; what came is in the audit trail, also of a series that did not come whole."""
        try:
            archive.fetch(series, folder, deadline)
        finally:
            if count := len(list(folder.iterdir())):
                source = participant_of(self._settings.peer(rule.source), is_source=True)
                node = Participant(role=DESTINATION, is_requestor=True)
                self._record(transferred(source, node, study_subject(series.study_instance_uid, {"": count})))


@dataclass(slots=True)
class _Search:
    """The state of one search: the thread of the search adds to it, the caller reads it at the time limit."""

    rule: PriorRule
    companions: tuple[str, ...] = ()
    """the modalities that are fetched beside the images of a study"""
    studies: list[tuple[File, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"query": 0.0, "retrieve": 0.0})

    @contextmanager
    def timer(self, step: str) -> Iterator[None]:
        """Add the duration of a block to the seconds of a step."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] += time.monotonic() - started

    def leave_out(self, series: SeriesEntry, reason: str, error: Exception | None = None) -> None:
        """Note why a series is not used, in the log by its error."""
        self.notes.append(f"Earlier studies: a {series.modality} series is not used: {reason}.")
        about = {"action": "prior_left_out", "study_instance_uid": series.study_instance_uid}
        log.warning("priors: a series is not used: %s", error or reason, extra=about)

    def record(self, problem: str = "") -> PriorRecord:
        """Return the record of the search so far; `problem` is the reason why the search ended early."""
        studies, notes = tuple(self.studies), list(self.notes)
        if problem:
            notes.append(f"Earlier studies: {problem}read with {len(studies)} of up to {self.rule.count}.")
        elif not studies and not notes:
            notes.append(f"Earlier studies: {self.rule.source} has none that fits.")
        files = tuple(file for files in studies for file in files)
        return PriorRecord(files, tuple(notes), self.seconds["query"], self.seconds["retrieve"])


def _notes_of(search: _Search, series: SeriesEntry, files: Iterable[File]) -> Iterator[Rejection]:
    """Yield the rejection notes of a series of key objects; what cannot be read is told."""
    for file in files:
        ref = headers.instance(file.path, sha256=file.sha256).ref
        try:
            note = rejection(file.path, ref) if is_key_object(ref) else None
        except CannotUnderstand as error:
            search.leave_out(series, str(error), error)
            continue
        if note:
            yield note


def _rejection_of(files: Iterable[File], rejected: Mapping[UID, Rejection]) -> Rejection | None:
    """Return what rejects the first of the files that is rejected, None if none is."""
    if not rejected:
        return None
    uids = (headers.instance(file.path, sha256=file.sha256).ref.sop_instance_uid for file in files)
    return next((rejected[uid] for uid in uids if uid in rejected), None)


def _log_failure(error: BaseException, rule: PriorRule) -> None:
    log_fields = {"action": "priors_failed", "peer": rule.source}
    if isinstance(error, NodeError | OSError):
        log.warning("priors: %s", error, extra=log_fields)
    else:
        log.error("priors: the search ended by %s", logs.raised_at(error), extra=log_fields)


def _refusal_notes(refusals: Sequence[Refusal]) -> Iterator[str]:
    """Yield a note for each reason to take a study under the Patient ID for the study of another patient."""
    counts = Counter(refusal.reason for refusal in refusals if refusal.other_patient)
    for reason, count in sorted(counts.items()):
        yield f"Earlier studies: {count} under this Patient ID not used: {reason}."
