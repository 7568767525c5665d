"""From what the receiver reports to opened jobs: index, watch until complete, route. One thread, one `handle`.

Events and the clock come in as arguments; only the catalog and the spool outlive the intake.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ainode.node import logs
from ainode.node.deciding import router
from ainode.node.deciding.events import CountAnswered, IntakeEvent, StudyAnnounced
from ainode.node.deciding.indexing import Indexing
from ainode.node.deciding.stored_study import SetAside, stored_study
from ainode.node.deciding.watching import ArrivingStudy, Watching
from ainode.node.domain import UID, Location, Study
from ainode.node.identity import configuration_hash, job_id
from ainode.node.imaging.patients import patient_contradiction
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.records import Job
from ainode.node.keeping.spool import Spool, Spooled
from ainode.node.reading.weights import HandlerWeights
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, InstanceStored
from ainode.node.routes import Route, RouteDecision
from ainode.node.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Doors:
    """The stations that the intake calls."""

    open_job: Callable[[Job], None]
    ask_count: Callable[[str, UID], None]
    """sender's AE title and study; the answer comes back as `CountAnswered`"""
    weights: Callable[[str], HandlerWeights]
    """weights of a handler by name"""
    announcements: Announcements


class Intake:
    """Watches studies arrive and opens their jobs when they are complete."""

    def __init__(self, settings: Settings, spool: Spool, catalog: Catalog, doors: Doors) -> None:
        self._settings, self._catalog, self._doors = settings, catalog, doors
        self._indexing = Indexing(spool, catalog)
        self._watching = Watching(catalog, doors.announcements, settings.completeness)

    def recover(self, now: datetime) -> None:
        """Index what was answered before a crash, and watch every study that was not routed since it changed."""
        self._indexing.index_leftovers(now)
        self._watching.recover(now)

    def handle(self, events: Sequence[IntakeEvent], now: datetime) -> None:
        """Take a batch of events in their order; the instances are committed at once."""
        for event in events:
            if isinstance(event, AssociationOpened):
                self._watching.opened(event)
        stored = [event for event in events if isinstance(event, InstanceStored)]
        changed = self._indexing.index([(self._spooled(event), event.time) for event in stored])
        for event in stored:
            self._watching.stored(event, changed=event.ref.study_instance_uid in changed)
        for event in events:
            if isinstance(event, AssociationEnded):
                self._watching.ended(event)
            elif isinstance(event, CountAnswered):
                self._watching.count_answered(event.study_instance_uid, event.count)
            elif isinstance(event, StudyAnnounced):
                self._watching.announced(event.study_instance_uid, now)
        self.route_complete(now)

    def route_complete(self, now: datetime) -> None:
        """Route every study that is complete at `now`."""
        for study, arriving in self._watching.to_count(now):
            self._count(study, arriving)
        for study, arriving, reason in self._watching.complete(now):
            log.info("study complete: %s", reason, extra={"action": "complete", "study_instance_uid": study})
            try:
                self._route(study, arriving, now)
            except Exception as error:  # noqa: BLE001 - the boundary of a study: its fault must not end the intake
                pause_s = self._watching.failed(study, now)
                about = {"action": "routing_failed", "study_instance_uid": study}
                log.error("routing failed, again in %.0f s: %s", pause_s, logs.raised_at(error), extra=about)  # noqa: TRY400
            else:
                self._watching.routed(study)

    def next_look(self, now: datetime) -> datetime:
        """Return when `route_complete` should be called next, if no event comes before."""
        return self._watching.next_look(now)

    def _spooled(self, event: InstanceStored) -> Spooled:
        sender = self._watching.calling_ae_title(event)
        return Spooled(event.path, event.ref, event.transfer_syntax_uid, sender, event.size_bytes)

    def _count(self, study_uid: UID, arriving: ArrivingStudy) -> None:
        """Compare the instances on disk with the expected count; ask the sender for the count if it is a peer."""
        arriving.counted = True
        study = self._study(study_uid, arriving)
        if not isinstance(study, Study):
            return
        is_unknown = self._watching.counted(arriving, study)
        asks_sender = self._settings.completeness.ask_sender and self._settings.peer_of_title(arriving.sender)
        if is_unknown and asks_sender:
            self._doors.ask_count(arriving.sender, study_uid)

    def _study(self, study: UID, arriving: ArrivingStudy) -> Study | SetAside | None:
        return stored_study(self._catalog.instances(study), arriving.headers, router.keywords(self._settings.routes))

    def _route(self, study_uid: UID, arriving: ArrivingStudy, now: datetime) -> None:
        """Decide, explain, open a job for each route that takes a series; jobs first, so that a crash repeats it."""
        content = self._catalog.content(study_uid)
        study = self._study(study_uid, arriving)
        if study is None:
            return
        if isinstance(study, SetAside):
            log.error("study set aside: %s", study, extra={"action": "set_aside", "study_instance_uid": study_uid})
            self._mark_routed(study_uid, content, study.decisions(self._settings.routes))
            return
        locations = arriving.announcement.locations if arriving.announcement else ()
        refusal = patient_contradiction(study.instances)
        for route in self._settings.routes:
            chosen = router.chosen(study, route)
            if chosen.series:
                self._doors.open_job(self._job(chosen, route, now, locations, refusal))
        self._mark_routed(study_uid, content, router.decide(study, self._settings.routes))

    def _mark_routed(self, study: UID, content: Mapping[UID, str], decisions: Iterable[RouteDecision]) -> None:
        explanation = [dataclasses.asdict(decision) for decision in decisions]
        self._catalog.mark_routed(study, content=content, explanation=explanation)

    def _job(self, study: Study, route: Route, now: datetime, locations: tuple[Location, ...], refusal: str) -> Job:
        content = {instance.ref.sop_instance_uid: instance.sha256 for instance in study.instances}
        weights = self._doors.weights(route.handler)
        withheld = route.withholding_reason(weights.demonstration)
        return Job(
            id=job_id(
                study.study_instance_uid,
                content=content,
                weights_sha256=weights.digest,
                # A study that is refused now and read once its images agree has two jobs.
                configuration=configuration_hash(self._settings, route, locations) + refusal,
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
            refusal=refusal,
        )
