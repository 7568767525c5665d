"""From what the receiver reports to opened jobs: index, watch until complete, route. One thread, one `handle`.

Receiver events, answers of senders and the clock come in as arguments; the catalog and the spool are the only state
that outlives it. What is watched in memory is found again at the next start.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from ainode.node.deciding import completeness, router
from ainode.node.deciding.completeness import Complete, Progress, SenderHistory, Wait
from ainode.node.deciding.stored_study import SetAside, stored_study
from ainode.node.domain import (
    UID,
    Instance,
    Location,
    Study,
)
from ainode.node.encoding.same_content import same_data_set
from ainode.node.identity import configuration_hash, job_id
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.ledger import Job
from ainode.node.keeping.spool import Spool, Spooled, content_sha256
from ainode.node.reading.weights import HandlerWeights
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, Event, InstanceStored
from ainode.node.routes import Route, RouteDecision
from ainode.node.settings import Settings

log = logging.getLogger(__name__)
# After the last association that carried a study is gone for so long, its instances are counted.
_BREATH = timedelta(seconds=0.2)
# Of so many routed studies it is remembered when they ended, to learn from what comes late.
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class CountAnswered:
    """A sender said how many instances a study has, or could not (None)."""

    study_instance_uid: UID
    count: int | None


@dataclass(frozen=True, slots=True)
class StudyAnnounced:
    """The announcement of a study is new or has changed: it was made, or the study was pulled."""

    study_instance_uid: UID


Told: TypeAlias = Event | CountAnswered | StudyAnnounced


@dataclass(slots=True)
class _Arriving:
    """A study that is arriving: the one mutable thing here, owned by the one thread."""

    sender: str
    progress: Progress
    associations: set[str] = field(default_factory=set)
    released_at: datetime | None = None
    paused: bool = False
    counted: bool = False
    announcement: Announcement | None = None
    headers: dict[Path, Instance] = field(default_factory=dict)
    """of the files read so far, so that a sender of one image per association is not quadratic"""

    def expect(self, announcement: Announcement | None) -> None:
        """Wait for the instances that are announced."""
        self.announcement, self.counted = announcement, False
        if announcement and announcement.expected is not None:
            self.progress = dataclasses.replace(self.progress, expected=announcement.expected)


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the intake hands things on."""

    open_job: Callable[[Job], None]
    ask_count: Callable[[str, UID], None]
    """sender's AE title and study; the answer comes back as `CountAnswered`"""
    weights: Callable[[str], HandlerWeights]
    """of a handler by name"""
    announcements: Announcements


class Intake:
    """Watches studies arrive and opens their jobs when they are complete."""

    def __init__(self, settings: Settings, spool: Spool, catalog: Catalog, doors: Doors) -> None:
        self._settings = settings
        self._spool = spool
        self._catalog = catalog
        self._doors = doors
        self._open: dict[str, AssociationOpened] = {}
        self._arriving: dict[UID, _Arriving] = {}
        self._routed: dict[UID, datetime] = {}

    def recover(self, now: datetime) -> None:
        """Index what was answered before a crash, and watch every study that was not routed since it changed."""
        for spooled in self._spool.unindexed():
            self._index([(spooled, now)])
        for study in self._catalog.unrouted():
            self._watch(study, self._sender(study), now)
        for study in self._doors.announcements.asked():
            self._announced(study, now)

    def handle(self, events: Sequence[Told], now: datetime) -> None:
        """Take a batch of events in their order; what was stored is committed at once."""
        for event in events:
            if isinstance(event, AssociationOpened):
                self._open[event.association] = event
        stored = [event for event in events if isinstance(event, InstanceStored)]
        changed = self._index([(self._spooled(event), event.at) for event in stored])
        for event in stored:
            self._carried(event, changed=event.ref.study_instance_uid in changed)
        for event in events:
            if isinstance(event, AssociationEnded):
                self._ended(event)
            elif isinstance(event, CountAnswered):
                self._counted(event)
            elif isinstance(event, StudyAnnounced):
                self._announced(event.study_instance_uid, now)
        self.route_complete(now)

    def _counted(self, event: CountAnswered) -> None:
        arriving = self._arriving.get(event.study_instance_uid)
        if arriving and event.count is not None:
            arriving.progress = dataclasses.replace(arriving.progress, expected=event.count)

    def _announced(self, study: UID, now: datetime) -> None:
        """Look at what is announced; a study that was routed is watched again only if somebody asks for it."""
        announcement = self._doors.announcements.of(study)
        if announcement is None:
            return
        if study not in self._arriving:
            if not self._catalog.content(study):
                return  # it is looked at when the first instance comes
            if not announcement.is_asked:
                if announcement.state is Fetching.HERE:
                    self._doors.announcements.settle(announcement)
                return
        arriving = self._watch(study, self._sender(study), now)
        arriving.expect(announcement)
        # Only here: an instance that arrives while the others are still in the queue must not close the study.
        arriving.progress = dataclasses.replace(arriving.progress, requested=announcement.is_asked)

    def _sender(self, study: UID) -> str:
        return self._catalog.instances(study)[-1].calling_ae_title

    def route_complete(self, now: datetime) -> None:
        """Route every study that is complete at `now`."""
        for study, arriving in tuple(self._arriving.items()):
            if now >= self._count_at(arriving):
                self._count(study, arriving)
            verdict = completeness.verdict(arriving.progress, self._settings.completeness, now)
            if isinstance(verdict, Complete):
                log.info(
                    "study complete: %s", verdict.reason, extra={"action": "complete", "study_instance_uid": study}
                )
                self._route(study, arriving, now)
                self._forget(study, arriving)

    def next_look(self, now: datetime) -> datetime:
        """Return when `route_complete` should be called next, if no event comes before."""
        looks = [now + timedelta(minutes=1)]
        for arriving in self._arriving.values():
            verdict = completeness.verdict(arriving.progress, self._settings.completeness, now)
            looks.append(min(self._count_at(arriving), verdict.until if isinstance(verdict, Wait) else now))
        return min(looks)

    def _count_at(self, arriving: _Arriving) -> datetime:
        """Return when to count: once after each burst, when no association is open that carried the study."""
        due = arriving.progress.last_activity + _BREATH
        return due.max.replace(tzinfo=due.tzinfo) if arriving.counted or arriving.associations else due

    def _forget(self, study: UID, arriving: _Arriving) -> None:
        """Stop watching a study that was routed, and keep when it ended: what comes late teaches a longer pause."""
        del self._arriving[study]
        announcement = arriving.announcement
        if announcement and (announcement.read_now or announcement.expected is not None):
            self._doors.announcements.settle(announcement)
        elif not arriving.paused:
            self._learn(arriving, 0.0)
        self._routed[study] = arriving.progress.last_activity
        while len(self._routed) > _REMEMBERED:
            del self._routed[next(iter(self._routed))]

    # Indexing

    def _spooled(self, event: InstanceStored) -> Spooled:
        opened = self._open[event.association]
        return Spooled(event.path, event.ref, event.transfer_syntax_uid, opened.calling_ae_title, event.size_bytes)

    def _index(self, arrived: Iterable[tuple[Spooled, datetime]]) -> frozenset[UID]:
        """Commit a batch to the catalog, then move its files; return the studies that changed."""
        moves: list[tuple[Spooled, str]] = []
        rows = []
        # without those that `recover` indexed before their event came
        present = [(spooled, at) for spooled, at in arrived if spooled.path.exists()]
        indexed = self._catalog.versions(spooled.ref.sop_instance_uid for spooled, _ in present)
        for spooled, at in present:
            sha256 = content_sha256(spooled.path)
            if self._is_encoded_anew(
                spooled, sha256, indexed.get((spooled.ref.study_instance_uid, spooled.ref.sop_instance_uid))
            ):
                spooled.path.unlink()
                continue
            moves.append((spooled, sha256))
            rows.append(
                StoredInstance(
                    ref=spooled.ref,
                    transfer_syntax_uid=spooled.transfer_syntax_uid,
                    sha256=sha256,
                    size_bytes=spooled.size_bytes,
                    path=self._spool.kept_path(spooled.ref, sha256),
                    calling_ae_title=spooled.calling_ae_title,
                    received_at=at,
                )
            )
        changed = self._catalog.index(rows) if rows else frozenset()
        for spooled, sha256 in moves:
            self._spool.keep(spooled.path, spooled.ref, sha256)
        return changed

    def _is_encoded_anew(self, spooled: Spooled, sha256: str, indexed: StoredInstance | None) -> bool:
        """Whether the other bytes of a known instance say what is on disk already."""
        if indexed is None or indexed.sha256 == sha256 or not indexed.path.exists():
            return False
        return same_data_set(spooled.path, indexed.path)

    # Watching

    def _watch(self, study: UID, sender: str, now: datetime) -> _Arriving:
        if study not in self._arriving:
            history = SenderHistory(tuple(self._catalog.sender_history(sender) or ()))
            self._arriving[study] = _Arriving(sender, Progress(received=0, last_activity=now, history=history))
            self._arriving[study].expect(self._doors.announcements.of(study))
        return self._arriving[study]

    def _carried(self, event: InstanceStored, *, changed: bool) -> None:
        """Note which association carries which study; a study that did not change is not watched for it."""
        study = event.ref.study_instance_uid
        if study not in self._arriving and not changed:
            return
        arriving = self._watch(study, self._open[event.association].calling_ae_title, event.at)
        ended = arriving.released_at or self._routed.pop(study, None)
        if ended and event.association not in arriving.associations:
            self._learn(arriving, (event.at - ended).total_seconds())
            arriving.released_at, arriving.paused = None, True
        arriving.associations.add(event.association)
        self._progressed(arriving, event.at)

    def _ended(self, event: AssociationEnded) -> None:
        self._open.pop(event.association, None)
        for arriving in self._arriving.values():
            if event.association in arriving.associations:
                arriving.associations.discard(event.association)
                arriving.released_at = event.at
                self._progressed(arriving, event.at)

    def _progressed(self, arriving: _Arriving, at: datetime) -> None:
        opened = tuple(self._open[name].at for name in arriving.associations if name in self._open)
        arriving.progress = dataclasses.replace(arriving.progress, last_activity=at, open_since=opened)
        arriving.counted = False

    def _count(self, study: UID, arriving: _Arriving) -> None:
        """Compare what is there with what the objects announce, and ask the sender if it is a peer of ours."""
        arriving.counted = True
        stored = self._study(study, arriving)
        if not isinstance(stored, Study):
            return
        announced = arriving.announcement.expected if arriving.announcement else None
        arriving.progress = dataclasses.replace(
            arriving.progress,
            received=len(stored.instances),
            expected=completeness.expected(stored) if announced is None else announced,
            at_least=completeness.at_least(stored),
        )
        peers = {peer.ae_title for peer in self._settings.peers}
        if announced is None and self._settings.completeness.ask_sender and arriving.sender in peers:
            self._doors.ask_count(arriving.sender, study)

    def _learn(self, arriving: _Arriving, pause_s: float) -> None:
        history = arriving.progress.history.learned(pause_s)
        arriving.progress = dataclasses.replace(arriving.progress, history=history)
        self._catalog.remember_sender(arriving.sender, history.pauses_s)

    # Routing

    def _study(self, study: UID, arriving: _Arriving) -> Study | SetAside | None:
        return stored_study(self._catalog.instances(study), arriving.headers, router.keywords(self._settings.routes))

    def _route(self, study_uid: UID, arriving: _Arriving, now: datetime) -> None:
        """Decide, explain, open a job for each route that takes a series; jobs first, so that a crash repeats it."""
        content = self._catalog.content(study_uid)
        study = self._study(study_uid, arriving)
        if study is None:
            return
        if isinstance(study, SetAside):
            log.error("study set aside: %s", study, extra={"action": "set_aside", "study_instance_uid": study_uid})
            self._mark_routed(study_uid, content, study.decisions(self._settings.routes))
            return
        for route in self._settings.routes:
            chosen = router.chosen(study, route)
            if chosen.series:
                announced = arriving.announcement
                self._doors.open_job(self._job(chosen, route, now, announced.locations if announced else ()))
        self._mark_routed(study_uid, content, router.decide(study, self._settings.routes))

    def _mark_routed(self, study: UID, content: Mapping[UID, str], decisions: Iterable[RouteDecision]) -> None:
        explanation = [dataclasses.asdict(decision) for decision in decisions]
        self._catalog.mark_routed(study, content=content, explanation=explanation)

    def _job(self, study: Study, route: Route, now: datetime, locations: tuple[Location, ...]) -> Job:
        content = {instance.ref.sop_instance_uid: instance.sha256 for instance in study.instances}
        weights = self._doors.weights(route.handler)
        withheld = route.withholding_reason(weights.demonstration)
        return Job(
            id=job_id(
                study.study_instance_uid,
                content=content,
                weights_sha256=weights.digest,
                configuration=configuration_hash(self._settings, route, locations),
            ),
            study_instance_uid=study.study_instance_uid,
            route=route.name,
            handler=route.handler,
            content=content,
            created_at=self._catalog.first_received(study.study_instance_uid),
            queued_at=now,
            destinations=() if withheld else route.live_destinations,
            priority=route.priority,
            locations=locations,
            withheld=withheld,
        )
