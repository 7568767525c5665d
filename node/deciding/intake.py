"""From what the receiver reports to opened jobs: index, watch until complete, route. One thread, one `handle`.

Events and the clock come in as arguments; only the catalog and the spool outlive the intake.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from ainode.node import logs
from ainode.node.deciding import router
from ainode.node.deciding.events import CountAnswered, HandlerKnown, IntakeEvent, ReceiverLost, StudyAnnounced
from ainode.node.deciding.explanations import nearest_mismatch, storable
from ainode.node.deciding.faults import attempt, passes, reason_of
from ainode.node.deciding.indexing import Indexing
from ainode.node.deciding.leftovers import Leftovers, Recovery
from ainode.node.deciding.stored_study import ReadableStudy, SetAside, stored_study
from ainode.node.deciding.watching import ArrivingStudy, Watching
from ainode.node.domain import SELF_TEST_PATIENT_ID, SELF_TEST_PEER, UID, Instance, InstanceRef, Location, Study
from ainode.node.errors import HandlerStarting
from ainode.node.identity import configuration_hash, is_ours, job_id
from ainode.node.imaging.patients import patient_contradiction
from ainode.node.imaging.rejections import Rejection
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog, Completion
from ainode.node.keeping.records import Job
from ainode.node.keeping.spool import Spool, Spooled
from ainode.node.keeping.unread import Mismatch, UnreadReason
from ainode.node.reading.weights import HandlerWeights
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, InstanceStored, ObjectRefused
from ainode.node.routes import Route, RouteDecision, RouteMode
from ainode.node.settings import Settings

T = TypeVar("T")
log = logging.getLogger(__name__)
# Studies that are counted, and studies that are routed, before the intake looks for events again.
_STUDIES_AT_ONCE: Final = 32
# So many of those that are counted came last: the header of one of them may say that the study is urgent.
_NEWEST_AT_ONCE: Final = 16
# A disk that cannot read a file is asked again for two and a half minutes: a network disk is back by then, a bad sector
# stays bad.
_DISK_ATTEMPTS: Final = 5
_STRANGE_TEST: Final = "it is a study of a self-test, and [self_test] of this node names no route: nobody reads it"

_CAME_AGAIN: Final = "the study came again unchanged; `ainode read-again %s` reads it by routes that were added since"


@dataclass(frozen=True, slots=True)
class Doors:
    """The stations that the intake calls."""

    open_job: Callable[[Job], None]
    ask_count: Callable[[str, UID], None]
    """sender's AE title and study; the answer comes back as `CountAnswered`"""
    weights: Callable[[str], HandlerWeights]
    """weights of a handler by name"""
    announcements: Announcements
    own_documents: Callable[[UID], Iterable[InstanceRef]]
    """the node's own documents of a study, which no sender owes the node"""
    label: Callable[[Study], None] = lambda _: None
    """keeps how people name a study, where pages may show names"""
    withdraw_outlived: Callable[[Study], None] = lambda _: None
    """withdraws what routes told that are gone, once later images came; after the jobs of a study are opened"""
    withdraw_rejected: Callable[[UID, Mapping[UID, Rejection]], None] = lambda *_: None
    """withdraws what was read of instances of a study that are rejected now; after the jobs of the study are opened"""


class Intake:
    """Watches studies arrive and opens their jobs when they are complete.

    A fault of the machine is raised and loses nothing: the events stay here until `handle` is called again.
    """

    def __init__(self, settings: Settings, spool: Spool, catalog: Catalog, doors: Doors) -> None:
        self._settings, self._catalog, self._doors = settings, catalog, doors
        self._indexing = Indexing(spool, catalog)
        self._leftovers = Leftovers(spool, catalog, self._indexing)
        self._watching = Watching(catalog, doors.announcements, settings.completeness, doors.own_documents)
        self._events: deque[IntakeEvent] = deque()
        self._unrouted: frozenset[UID] = frozenset()
        self._is_sweeping = False
        self.recovery: Recovery | None = None
        """what the first sweep took up, once it is over"""

    @property
    def is_behind(self) -> bool:
        """Whether events of an earlier `handle` are left: a fault of the machine kept the intake from them."""
        return bool(self._events)

    def recover(self, now: datetime) -> Recovery:
        """Sweep at once, without taking events in between."""
        self.sweep(now)
        while self._is_sweeping:
            self._sweep_on(now)
        return self.recovery or Recovery(0, 0, 0)

    def sweep(self, now: datetime) -> None:
        """Begin to index what no event tells of, and to watch every study that waits for routing unwatched.

        The first sweep takes up what a crash left. `handle` goes on with a sweep.
        """
        if not self._is_sweeping:
            if self.recovery is None:
                self._leftovers.list_all()
            else:
                self._leftovers.list_old(now)
            self._is_sweeping = True

    def _sweep_on(self, now: datetime) -> None:
        """Index the next leftovers; after the last, watch the studies that wait for routing."""
        if not self._leftovers.is_empty:
            self._leftovers.index_batch()
            return
        count = self._watching.recover(now)
        self._is_sweeping = False
        if self.recovery is None:
            self.recovery = Recovery(self._leftovers.instance_count, count, self._indexing.set_aside_count)

    def handle(self, events: Iterable[IntakeEvent], now: datetime) -> bool:
        """Take events in their order, after those that are left; the instances are committed at once.

        Return whether anything was done.
        Raises: a fault that waiting mends; call `handle` again then.
        """
        for event in events:
            if isinstance(event, AssociationOpened):  # the index needs the callers of the whole batch
                self._watching.opened(event)
            else:
                self._events.append(event)
        is_done = bool(self._events) or self._is_sweeping
        self._index()
        while self._events:
            attempt(partial(self._take, self._events[0], now), _log_fault)
            self._events.popleft()
        if self._is_sweeping:
            self._sweep_on(now)
        return self.route_complete(now) or is_done

    def _index(self) -> None:
        stored = [event for event in self._events if isinstance(event, InstanceStored)]
        files = [
            (file, event.time)
            for event in stored
            # The file of an event without an association is found by a sweep.
            if (file := attempt(partial(self._spooled, event), lambda _: None))
        ]
        self._unrouted = self._indexing.index(files) if files else frozenset()

    def _spooled(self, event: InstanceStored) -> Spooled:
        sender = self._watching.calling_ae_title(event)
        return Spooled(event.path, event.ref, event.transfer_syntax_uid, sender, event.size_bytes)

    def _take(self, event: IntakeEvent, now: datetime) -> None:
        match event:
            case InstanceStored() | ObjectRefused() | AssociationEnded():
                self._take_of_association(event)
            case CountAnswered():
                self._watching.count_answered(event.study_instance_uid, event.count)
            case StudyAnnounced():
                self._watching.announced(event.study_instance_uid, now)
            case HandlerKnown():
                self._watching.release_handlers()
            case ReceiverLost():
                self._leftovers.list_all()
                self._is_sweeping = True

    def _take_of_association(self, event: InstanceStored | ObjectRefused | AssociationEnded) -> None:
        match event:
            case InstanceStored():
                self._watching.stored(event, changed=event.ref.study_instance_uid in self._unrouted)
            case ObjectRefused():
                self._watching.refused(event)
            case AssociationEnded():
                for study in self._watching.ended(event):
                    log.info(_CAME_AGAIN, study, extra={"action": "came_again", "study_instance_uid": study})

    def route_complete(self, now: datetime) -> bool:
        """Route studies that are complete at `now`, so many that events need not wait long; return whether any was.

        Raises: a fault that waiting mends.
        """
        to_count = _ends(tuple(self._watching.to_count(now)))
        for study, arriving in to_count:
            self._step(study, arriving, now, partial(self._count, study, arriving))
        complete = tuple(islice(self._watching.complete(now), _STUDIES_AT_ONCE))
        for study, arriving, reason in complete:
            self._step(study, arriving, now, partial(self._close, study, arriving, now, reason))
        return bool(to_count or complete)

    def _step(self, study: UID, arriving: ArrivingStudy, now: datetime, action: Callable[[], None]) -> None:
        """Do one step of a study; if the step fails, postpone the study.

        Raises: a fault that waiting mends: the next study would meet the same.
        """
        try:
            action()
        except HandlerStarting:
            arriving.await_handler(now)
        except Exception as error:
            pause_s = self._watching.failed(arriving, now, passes=passes(error))
            if passes(error):
                raise
            about = {"action": "routing_failed", "study_instance_uid": study}
            log.error("routing failed, again in %.0f s: %s", pause_s, logs.raised_at(error), extra=about)  # noqa: TRY400

    def next_look(self, now: datetime) -> datetime:
        """Return when `handle` should be called next, if no event comes before."""
        return now if self._is_sweeping else self._watching.next_look(now)

    def _count(self, study_uid: UID, arriving: ArrivingStudy) -> None:
        """Compare the instances on disk with the expected count; ask the sender for the count if it is a peer."""
        readable = self._study(study_uid, arriving)
        if not isinstance(readable, ReadableStudy):
            arriving.counted = True
            return
        arriving.is_urgent = router.is_urgent(readable.study, self._settings.routes)
        study = self._owed(readable.arrived, arriving)
        is_unknown = self._watching.counted(arriving, study)
        asks_sender = self._settings.completeness.ask_sender and self._settings.peer_of_title(arriving.sender)
        if is_unknown and asks_sender:
            self._doors.ask_count(arriving.sender, study_uid)

    def _owed(self, study: Study, arriving: ArrivingStudy) -> Study:
        """Return the study without documents of nodes, which a sender may have sent back.

        Whoever announced a count had no other document left out of it than those in the ledger.
        """
        if not any(map(is_ours, study.instances)):
            return study
        own = {ref.sop_instance_uid for ref in self._doors.own_documents(study.study_instance_uid)}
        is_announced = arriving.announcement is not None and arriving.announcement.expected is not None

        def is_owed(item: Instance) -> bool:
            return item.ref.sop_instance_uid not in own and (is_announced or not is_ours(item))

        groups = (replace(series, instances=tuple(filter(is_owed, series.instances))) for series in study.series)
        return replace(study, series=tuple(series for series in groups if series.instances))

    def _study(self, study: UID, arriving: ArrivingStudy) -> ReadableStudy | SetAside | None:
        stored = self._catalog.instances(study)
        if not stored:
            return None
        keywords = router.keywords(self._settings.routes)
        return stored_study(stored, arriving.headers, keywords, is_patient=arriving.failures < _DISK_ATTEMPTS)

    def _close(self, study: UID, arriving: ArrivingStudy, now: datetime, reason: str) -> None:
        """Route a complete study, and watch it no longer."""
        if not arriving.complete_at:
            log.info("study complete: %s", reason, extra={"action": "complete", "study_instance_uid": study})
            arriving.complete_at = now
        self._route(study, arriving, Completion(arriving.complete_at, reason))
        self._watching.routed(study)

    def _route(self, study_uid: UID, arriving: ArrivingStudy, completion: Completion) -> None:
        """Decide, explain, open a job for each route that takes a series; jobs first, so that a crash repeats it."""
        content = self._catalog.content(study_uid)
        readable = self._study(study_uid, arriving)
        about = {"study_instance_uid": study_uid}
        doubt = arriving.progress.doubt
        if doubt:
            log.warning("%s", doubt, extra=about | {"action": "interrupted"})
        match readable:
            case SetAside():
                log.error("study set aside: %s", readable, extra=about | {"action": "set_aside"})
                self._catalog.note_problem(study_uid, _problem(doubt, f"set aside: {readable}"))
                decisions = readable.decisions(self._settings.routes)
                self._mark_routed(study_uid, content, decisions, completion, readable.mismatch())
            case ReadableStudy():
                for item in readable.unread:
                    uid = item.ref.sop_instance_uid
                    unread = about | {"action": "header_unread", "sop_instance_uid": uid}
                    log.error("an instance cannot be read: %s", item.reason, extra=unread)
                if readable.rejected:
                    log.warning("%s", readable.problem, extra=about | {"action": "rejected"})
                # Before a job is read: its report says so.
                self._catalog.note_problem(study_uid, _problem(doubt, readable.problem))
                self._doors.label(readable.study)
                self._open_jobs(readable.study, arriving, completion.at)
                self._doors.withdraw_outlived(readable.study)
                self._doors.withdraw_rejected(study_uid, readable.rejections)
                decisions = router.decide(readable.study, self._settings.routes)
                mismatch = self._mismatch(readable, decisions)
                if mismatch:
                    sentence = "no route takes the study; `ainode explain %s` says why"
                    log.info(sentence, study_uid, extra=about | {"action": "no_route"})
                if mismatch and mismatch.reason is UnreadReason.REJECTED:
                    self._doors.label(readable.arrived)  # what is left may be the note alone
                self._mark_routed(study_uid, content, decisions + readable.decisions(), completion, mismatch)

    def _mismatch(self, readable: ReadableStudy, decisions: Iterable[RouteDecision]) -> Mismatch | None:
        """Return why no route takes a study: a rejection where a route would take it with what is rejected."""
        mismatch = nearest_mismatch(decisions)
        if not (mismatch and readable.rejected):
            return mismatch
        of_arrived = nearest_mismatch(router.decide(readable.arrived, self._settings.routes))
        return of_arrived or replace(readable.rejected[0].mismatch(), reason=UnreadReason.REJECTED)

    def _open_jobs(self, study: Study, arriving: ArrivingStudy, now: datetime) -> None:
        """Open a job for each route that takes a series of the study; a route that fails costs no other route.

        Raises: the first fault of a route, after the other routes.
        """
        locations = arriving.announcement.locations if arriving.announcement else ()
        refusal = patient_contradiction(study.instances)
        faults: dict[str, Exception] = {}
        # A live route takes over what a shadow told before; a shadow that is read first would withdraw it.
        for route in sorted(self._settings.routes, key=lambda route: route.mode is not RouteMode.LIVE):
            if route.mode is RouteMode.SHADOW and any(live.takes_same_images(route) for live in self._starting(faults)):
                continue  # the handler of the live route is awaited, and then both are opened
            attempt(
                partial(self._open_job, study, route, now, locations, refusal), partial(faults.__setitem__, route.name)
            )
        if faults:
            sentences = (f"route {name!r}: {reason_of(error)}" for name, error in faults.items())
            self._catalog.note_fault(study.study_instance_uid, "; ".join(sentences))
        # A handler that starts is no fault of the study: another fault is raised before it.
        for error in sorted(faults.values(), key=lambda error: isinstance(error, HandlerStarting)):
            raise error

    def _starting(self, faults: Mapping[str, Exception]) -> tuple[Route, ...]:
        """Return the routes whose handler is not ready yet, as after a start or a reload."""
        return tuple(route for route in self._settings.routes if isinstance(faults.get(route.name), HandlerStarting))

    def _open_job(
        self, study: Study, route: Route, now: datetime, locations: tuple[Location, ...], refusal: str
    ) -> None:
        chosen = router.chosen(study, route)
        if chosen.series:
            self._doors.open_job(self._job(chosen, route, now, locations, refusal))

    def _mark_routed(
        self,
        study: UID,
        content: Mapping[UID, str],
        decisions: Iterable[RouteDecision],
        completion: Completion,
        mismatch: Mismatch | None,
    ) -> None:
        explanation = [asdict(storable(decision)) for decision in decisions]
        self._catalog.mark_routed(
            study, content=content, explanation=explanation, completion=completion, mismatch=mismatch
        )

    def _job(self, study: Study, route: Route, now: datetime, locations: tuple[Location, ...], refusal: str) -> Job:
        content = {instance.ref.sop_instance_uid: instance.sha256 for instance in study.instances}
        weights = self._doors.weights(route.handler)
        is_self_test = any(instance.patient.patient_id == SELF_TEST_PATIENT_ID for instance in study.instances)
        if is_self_test and not self._settings.self_test.routes:
            refusal = refusal or _STRANGE_TEST
        withheld = "" if is_self_test else route.withholding_reason(weights.demonstration)
        destinations = (SELF_TEST_PEER,) if is_self_test else route.live_destinations
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
            destinations=() if withheld else destinations,
            priority=router.priority_of(study, route),
            locations=locations,
            withheld=withheld,
            refusal=refusal,
            mode=route.mode,
        )


def _ends(studies: tuple[T, ...]) -> tuple[T, ...]:
    """Return the oldest and the newest of many."""
    if len(studies) <= _STUDIES_AT_ONCE:
        return studies
    return studies[: _STUDIES_AT_ONCE - _NEWEST_AT_ONCE] + studies[-_NEWEST_AT_ONCE:]


def _problem(*sentences: str) -> str:
    """Return sentences as one, without those that are empty."""
    return "; ".join(filter(None, sentences))


def _log_fault(error: Exception) -> None:
    log.error("an event was not taken: %s", logs.raised_at(error), extra={"action": "event_failed"})
