"""Earlier studies of the same patient, fetched before a study is read; whatever fails, the study is read without them.

`prior_rules` decides which, `prior_shelf` keeps them. What came of it is written down per job, so that a job is read
with the same priors however often it starts.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from ainode.node import prior_rules, tls
from ainode.node.archive.dicomweb import WebArchive
from ainode.node.archive.dimse import Link
from ainode.node.archive.retrieve import DimseArchive, MoveTarget
from ainode.node.archive.search import Archive, Deadline, SeriesEntry
from ainode.node.archive.web import WebLink
from ainode.node.domain import (
    File,
)
from ainode.node.errors import ArchiveRefused, CannotUnderstand, NodeError
from ainode.node.prior_rules import Current, Refused
from ainode.node.prior_shelf import Gathered, Shelf, identity
from ainode.node.routes import PriorRule, Route
from ainode.node.settings import Peer, Settings

log = logging.getLogger(__name__)


class Priors:
    """What a node has of earlier studies, and the archives they come from."""

    def __init__(self, settings: Settings, archive: Callable[[Peer], Archive] | None = None) -> None:
        """Connect to nobody yet; `archive` makes what searches a peer, where not the peer's configuration decides."""
        node, table = settings.node, settings.priors
        self._settings = settings
        self._shelf = Shelf(settings.data / "priors", node.min_free_bytes)
        self._target = MoveTarget(table.move_ae_title, node.bind, table.move_port, tls.context_of(node))
        self._archive = archive or self._configured

    def of(self, job: str) -> Gathered:
        """Return what was gathered for a job; nothing if nothing was."""
        return self._shelf.record(job) or Gathered()

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
        node = self._settings.node
        if peer.retrieve == "dicomweb":
            return WebArchive(WebLink(peer, node.network_timeout_s))
        link = Link(peer, node.ae_title, node.network_timeout_s)
        return DimseArchive(link, self._target if peer.retrieve == "move" else None)

    def _gathered(self, search: "_Search", study: Path) -> Gathered:
        """Search in a thread of its own, which nobody waits for beyond the time limit, whatever it hangs on."""
        rule = search.rule
        done: Future[None] = Future()
        deadline = Deadline.within(rule.timeout_s)
        threading.Thread(target=self._run, args=(search, study, deadline, done), name="priors", daemon=True).start()
        try:
            done.result(rule.timeout_s)
        except (NodeError, OSError) as error:  # a TimeoutError is one
            log.warning("priors: %s", error, extra={"action": "priors_failed", "peer": rule.source})
            limit = f"within {rule.timeout_s:g} s" if time.monotonic() >= deadline.at else "(the log says why)"
            return search.gathered(f"{rule.source} did not deliver them {limit}; ")
        return search.gathered()

    def _run(self, search: "_Search", study: Path, deadline: Deadline, done: Future[None]) -> None:
        try:
            self._search(search, identity(study), deadline)
        except (NodeError, OSError) as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _search(self, search: "_Search", current: Current, deadline: Deadline) -> None:
        """Add to the search what the archive has, until it is enough.

        Raises: ArchiveUnreachable, ArchiveRefused, OSError.
        """
        rule = search.rule
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


def _said(refused: Sequence[Refused]) -> Iterator[str]:
    """Yield a sentence for each way in which a study under this Patient ID is not this patient's."""
    reasons = Counter(one.reason for one in refused if one.other_patient)
    for reason, count in sorted(reasons.items()):
        yield f"Earlier studies: {count} under this Patient ID not used: {reason}."
