"""Earlier studies of the same patient, fetched before a study is read; whatever fails, the study is read without them.

`prior_rules` decides which, `prior_shelf` keeps them. What came of it is written down per job, so that a job is read
with the same priors however often it starts.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from ainode.node import logs, tls
from ainode.node.archive.dicomweb import WebArchive
from ainode.node.archive.dimse import Link
from ainode.node.archive.retrieve import DimseArchive, MoveTarget
from ainode.node.archive.search import Archive, Deadline, SeriesEntry
from ainode.node.archive.web import WebLink
from ainode.node.domain import (
    File,
)
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable, CannotUnderstand, NodeError
from ainode.node.priors import rules as prior_rules
from ainode.node.priors.rules import Current, Refused
from ainode.node.priors.shelf import Gathered, Shelf, identity
from ainode.node.routes import PriorRule, Route
from ainode.node.settings import Peer, Settings

log = logging.getLogger(__name__)
_UNKNOWN = "Earlier studies: not used, since the node has no record of a search for them (the log says why)."


class Priors:
    """What a node has of earlier studies, and the archives they come from."""

    def __init__(self, settings: Settings, archive: Callable[[Peer], Archive] | None = None) -> None:
        """Connect to nobody yet; `archive` makes what searches a peer, where not the peer's configuration decides."""
        self._settings = settings
        self._shelf = Shelf(settings.data / "priors", settings.node.min_free_bytes)
        self._moving = threading.Lock()
        self._archive = archive or self._configured

    def of(self, job: str, rule: PriorRule | None = None) -> Gathered:
        """Return what was gathered for a job; nothing if nothing was, and where a rule asks for it that is said."""
        return self._shelf.record(job) or Gathered(notes=(_UNKNOWN,) if rule else ())

    def gather(self, job: str, route: Route, study: Path, now: datetime) -> Gathered:
        """Return what the route wants beside the study of this file: decided once, within the rule's time limit.

        Raises: OSError if it cannot be written down.
        """
        gathered = self._shelf.record(job)
        if gathered is None and route.priors:
            self._shelf.sweep(now - timedelta(days=self._settings.priors.retention_days))
            gathered = self._gathered(_Search(route.priors, route.companions), study)
            self._shelf.write(job, gathered)
            about = {"action": "priors_gathered", "job": job, "route": route.name, "peer": route.priors.source}
            log.info(
                "priors: %d files in %.1f s", len(gathered.files), gathered.query_s + gathered.retrieve_s, extra=about
            )
        return gathered or Gathered()

    def _configured(self, peer: Peer) -> Archive:
        """Return the archive of a peer.

        Raises: ConfigError if a C-MOVE cannot be taken with the certificate of [node].
        """
        node, table = self._settings.node, self._settings.priors
        if peer.retrieve == "dicomweb":
            return WebArchive(WebLink(peer, node.network_timeout_s), min_free_bytes=node.min_free_bytes)
        target = None
        if peer.retrieve == "move":
            context = tls.context_of(node)
            target = MoveTarget(table.move_ae_title, node.bind, table.move_port, context, self._moving)
        link = Link(peer, node.ae_title, node.network_timeout_s)
        return DimseArchive(link, target, min_free_bytes=node.min_free_bytes)

    def _gathered(self, search: "_Search", study: Path) -> Gathered:
        """Search in a thread of its own, which nobody waits for beyond the time limit, whatever it hangs on."""
        limit_s = search.rule.timeout_s
        thread = ThreadPoolExecutor(1, thread_name_prefix="priors")
        deadline = Deadline.within(limit_s)
        searching = thread.submit(self._search, search, study, deadline)
        thread.shutdown(wait=False)
        try:
            error = searching.exception(limit_s)
        except TimeoutError:
            error = ArchiveUnreachable(f"{search.rule.source}: was not done within {limit_s:g} s")
        if error is None:
            return search.gathered()
        _log_failure(error, search.rule)
        if time.monotonic() >= deadline.at:
            return search.gathered(f"{search.rule.source} did not deliver them within {limit_s:g} s; ")
        if isinstance(error, ArchiveError):
            return search.gathered(f"{search.rule.source} did not deliver them (the log says why); ")
        return search.gathered("the node's search for them failed (the log says why); ")

    def _search(self, search: "_Search", path: Path, deadline: Deadline) -> None:
        """Add to the search what the archive has, until it is enough.

        Raises: ArchiveUnreachable, ArchiveRefused, CannotUnderstand, ConfigError, OutOfResources, OSError.
        """
        rule, current = search.rule, identity(path)
        query = prior_rules.query(current, rule)
        if isinstance(query, str):
            search.notes.append(f"Earlier studies: not looked for, since {query}.")
            return
        archive = self._archive(self._settings.peer(rule.source))
        with search.timed("query"):
            chosen, refused = prior_rules.relevant(archive.studies(query, deadline), current, rule)
        search.notes += _said(refused)
        for study in chosen:
            if len(search.studies) == rule.count:
                return
            with search.timed("query"):
                wanted = prior_rules.wanted(
                    archive.series(study.study_instance_uid, deadline), study, rule, companions=search.companions
                )
            with search.timed("retrieve"):
                self._fetch(search, archive, wanted, current, deadline)

    def _fetch(
        self, search: "_Search", archive: Archive, wanted: Sequence[SeriesEntry], current: Current, deadline: Deadline
    ) -> None:
        """Add one study to the search; a series that cannot be used is left out, and said."""
        files: list[File] = []
        images = False
        for series in wanted:
            try:
                files += self._shelf.put(
                    series,
                    current,
                    partial(archive.fetch, series, deadline=deadline),
                    allow_missing_birth_date=search.rule.allow_missing_birth_date,
                )
                images = images or series.modality not in search.companions
            except (CannotUnderstand, ArchiveRefused) as error:
                deadline.left(0)
                why = f"{search.rule.source} refused it" if isinstance(error, ArchiveRefused) else str(error)
                search.notes.append(f"Earlier studies: a {series.modality} series is not used: {why}.")
                about = {"action": "prior_left_out", "study_instance_uid": series.study_instance_uid}
                log.warning("priors: a series is not used: %s", error, extra=about)
        if images:
            search.studies.append(tuple(files))


@dataclass(slots=True)
class _Search:
    """What one search has brought so far: its thread adds, and whoever waited takes what is there at the time limit."""

    rule: PriorRule
    companions: tuple[str, ...] = ()
    studies: list[tuple[File, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"query": 0.0, "retrieve": 0.0})

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] += time.monotonic() - started

    def gathered(self, problem: str = "") -> Gathered:
        studies, notes = tuple(self.studies), list(self.notes)
        if problem:
            notes.append(f"Earlier studies: {problem}read with {len(studies)} of up to {self.rule.count}.")
        elif not studies and not notes:
            notes.append(f"Earlier studies: {self.rule.source} has none that fits.")
        files = tuple(file for files in studies for file in files)
        return Gathered(files, tuple(notes), self.seconds["query"], self.seconds["retrieve"])


def _log_failure(error: BaseException, rule: PriorRule) -> None:
    about = {"action": "priors_failed", "peer": rule.source}
    if isinstance(error, NodeError | OSError):
        log.warning("priors: %s", error, extra=about)
    else:
        log.error("priors: the search ended by %s", logs.where(error), extra=about)


def _said(refused: Sequence[Refused]) -> Iterator[str]:
    """Yield a sentence for each way in which a study under this Patient ID is not this patient's."""
    reasons = Counter(one.reason for one in refused if one.other_patient)
    for reason, count in sorted(reasons.items()):
        yield f"Earlier studies: {count} under this Patient ID not used: {reason}."
