"""Watches studies arrive: which association carries which study, how many instances are expected, how long to wait.

The memory of this module is found again at the next start: the catalog lists every study that was not routed since it
changed, the announcements list every study that somebody wants read.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from ainode.node.deciding import completeness
from ainode.node.deciding.completeness import Complete, Progress, SenderHistory, Wait
from ainode.node.domain import UID, Instance, InstanceRef, Study
from ainode.node.domain.pauses import back_off_s
from ainode.node.imaging.rejections import is_key_object
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching
from ainode.node.keeping.catalog import Catalog
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, InstanceStored, ObjectRefused
from ainode.node.settings import CompletenessTable

# The instances of a study are counted this long after the last association that carried the study ended.
_COUNT_DELAY = timedelta(seconds=0.2)
# The end times of so many routed studies are remembered, to learn from instances that come late.
_REMEMBERED_STUDIES = 1000
# A study that comes again in many associations is told of once, until it has not come for so long.
_REPETITION_PAUSE = timedelta(minutes=1)
# Pauses before a study whose routing failed is routed again.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 600.0
# The same for a fault of the machine.
_FIRST_OUTAGE_S, _LONGEST_OUTAGE_S = 1.0, 60.0
_LONGEST_PAUSE = timedelta(seconds=max(_LONGEST_PAUSE_S, _LONGEST_OUTAGE_S))
# A study whose handler starts is tried again after this time, if no event comes before.
_HANDLER_PAUSE = timedelta(seconds=5)
OwnDocuments = Callable[[UID], Iterable[InstanceRef]]
"""the documents that the node made of a study"""


@dataclass(slots=True)
class ArrivingStudy:
    """A study that is arriving; only the intake's thread changes it."""

    sender: str
    progress: Progress
    associations: set[str] = field(default_factory=set)
    """open associations that carried the study"""
    image_associations: set[str] = field(default_factory=set)
    """those of them that brought images"""
    has_images: bool = False
    """whether images came since the study was routed"""
    has_key_object: bool = False
    """whether a key object came since the study was routed"""
    was_routed: bool = False
    released_at: datetime | None = None
    """when the last association that brought images ended, if none has brought images since"""
    interrupted_at: datetime | None = None
    paused: bool = False
    """whether a second association brought images after a pause"""
    counted: bool = False
    announcement: Announcement | None = None
    failures: int = 0
    """how often counting or routing failed"""
    not_before: datetime | None = None
    """when to route again after a failure"""
    awaits_handler: bool = False
    complete_at: datetime | None = None
    """when the study was complete: routing may fail, and is repeated"""
    is_urgent: bool = False
    """whether a header says so, known once the instances were counted"""
    headers: dict[Path, Instance] = field(default_factory=dict)
    """headers that were read, so that a sender of one image per association does not cost quadratic time"""

    def expect(self, announcement: Announcement | None) -> None:
        """Wait for the announced instances."""
        self.announcement, self.counted = announcement, False
        if announcement and announcement.expected is not None:
            self.update(expected=announcement.expected)

    def update(self, **values: object) -> None:
        """Change values of the progress."""
        self.progress = dataclasses.replace(self.progress, **values)  # type: ignore[arg-type]

    def await_handler(self, now: datetime) -> None:
        """Try the study again when a handler is known, or after a while."""
        self.awaits_handler, self.not_before = True, now + _HANDLER_PAUSE

    def is_due(self, now: datetime) -> bool:
        """Whether the pause after a failure is over."""
        return self.not_before is None or now >= self.not_before

    def heed(self, now: datetime) -> None:
        """Bring times that lie in the future to now: the clock was set back, and nobody waits until it catches up."""
        if self.progress.last_activity > now:
            self.update(last_activity=now)
        if self.not_before and self.not_before > now + _LONGEST_PAUSE:
            self.not_before = None
        if self.complete_at and self.complete_at > now:
            self.complete_at = now

    def count_at(self) -> datetime:
        """Return when to count the instances: once after each burst, when no open association carries the study."""
        due = self.progress.last_activity + _COUNT_DELAY
        return due.max.replace(tzinfo=due.tzinfo) if self.counted or self.associations else due


class Watching:
    """The studies that are arriving."""

    def __init__(
        self, catalog: Catalog, announcements: Announcements, limits: CompletenessTable, own_documents: OwnDocuments
    ) -> None:
        self._catalog, self._announcements, self._limits = catalog, announcements, limits
        self._own_documents = own_documents
        self._open: dict[str, AssociationOpened] = {}
        self._refusing: set[str] = set()
        """open associations of which the node refused an object"""
        self._arriving: dict[UID, ArrivingStudy] = {}
        self._routed: dict[UID, datetime] = {}
        self._unchanged: dict[str, set[UID]] = {}
        """routed studies of which an open association carried what the node has already"""
        self._repeated_at: dict[UID, datetime] = {}

    def recover(self, now: datetime) -> int:
        """Watch every study that was not routed since it changed or that somebody wants read; return how many.

        A study that is watched already is left to its events.
        """
        watched = set(self._arriving)
        for study in self._catalog.unrouted():
            if study not in watched:
                self._watch(study, now).has_images = True  # nobody knows what came while it was not watched
        for study in self._announcements.requested():
            if study not in watched:
                self.announced(study, now)
        return len(self._arriving.keys() - watched)

    # Events

    def opened(self, event: AssociationOpened) -> None:
        """Note an open association."""
        self._open[event.association] = event

    def calling_ae_title(self, event: InstanceStored) -> str:
        """Return the AE title that sent an instance."""
        return self._open[event.association].calling_ae_title

    def stored(self, event: InstanceStored, *, changed: bool) -> None:
        """Note that an association carries a study; a study whose content did not change is not watched anew."""
        study = event.ref.study_instance_uid
        if study not in self._arriving and not changed:
            self._unchanged.setdefault(event.association, set()).add(study)
            return
        arriving = self._watch(study, event.time, sender=self.calling_ae_title(event))
        if event.association not in arriving.image_associations and self._is_image(event.ref, arriving):
            self._note_images(arriving, event)
        arriving.has_key_object |= is_key_object(event.ref)
        arriving.associations.add(event.association)
        self._note_activity(arriving, event.time)

    def refused(self, event: ObjectRefused) -> None:
        """Note that the node refused an object of an association: whatever the association carries may lack images."""
        self._refusing.add(event.association)
        for study, arriving in self._arriving.items():
            if event.association in arriving.image_associations:
                self._interrupt(study, arriving, completeness.REFUSED, event.time)

    def ended(self, event: AssociationEnded) -> tuple[UID, ...]:
        """Note the end of an association; return the studies that came again unchanged, unless they did just before."""
        self._note_fruitless(event)
        for study, arriving in self._arriving.items():
            if event.association in arriving.image_associations:
                self._note_end(study, arriving, event)
                arriving.image_associations.discard(event.association)
                arriving.released_at = event.time
            if event.association in arriving.associations:
                arriving.associations.discard(event.association)
                self._note_activity(arriving, event.time)
        self._refusing.discard(event.association)
        self._open.pop(event.association, None)
        unchanged = self._unchanged.pop(event.association, set()) - self._arriving.keys()
        return tuple(study for study in sorted(unchanged) if self._is_told(study, event.time))

    def _is_told(self, study: UID, at: datetime) -> bool:
        """Note that a study came again unchanged; return whether it had not for a while."""
        last_at = self._repeated_at.pop(study, None)
        self._repeated_at[study] = at
        _forget_first(self._repeated_at)
        return last_at is None or not timedelta() <= at - last_at < _REPETITION_PAUSE

    def count_answered(self, study: UID, count: int | None) -> None:
        """Note the count of a sender."""
        arriving = self._arriving.get(study)
        if arriving and count is not None:
            arriving.update(expected=count)

    def release_handlers(self) -> None:
        """Try the studies again that waited for a handler."""
        for arriving in self._arriving.values():
            if arriving.awaits_handler:
                arriving.awaits_handler, arriving.not_before = False, None

    def announced(self, study: UID, now: datetime) -> None:
        """Take up the announcement of a study; watch a routed study again only if somebody wants it read."""
        announcement = self._announcements.of(study)
        if announcement is None:
            return
        if study not in self._arriving:
            if not self._catalog.is_routed(study):
                return  # the first instance of the study takes the announcement up
            if not announcement.is_asked:
                if announcement.state is Fetching.HERE:
                    self._announcements.settle(announcement)
                return
        arriving = self._watch(study, now)
        arriving.expect(announcement)
        # Only this event may close the study: an instance that arrives while others are still queued must not.
        arriving.update(requested=announcement.is_asked)

    # Questions

    def to_count(self, now: datetime) -> Iterator[tuple[UID, ArrivingStudy]]:
        """Yield the studies whose instances are to be counted now."""
        for study, arriving in tuple(self._arriving.items()):
            arriving.heed(now)
            if now >= arriving.count_at() and arriving.is_due(now):
                yield study, arriving

    def complete(self, now: datetime) -> Iterator[tuple[UID, ArrivingStudy, str]]:
        """Yield the studies that are complete now, each with the reason: the urgent ones, then the others.

        The others keep their order: what came last may be counted before what came in between, and waits for it.
        """
        first_to_count, _ = next(self.to_count(now), (None, None))
        others = tuple(itertools.takewhile(lambda item: item[0] != first_to_count, self._arriving.items()))
        urgent = tuple(item for item in self._arriving.items() if item[1].is_urgent)
        for study, arriving in (*urgent, *(item for item in others if not item[1].is_urgent)):
            verdict = completeness.verdict(arriving.progress, self._limits, now)
            if isinstance(verdict, Complete) and arriving.is_due(now):
                yield study, arriving, verdict.reason

    def next_look(self, now: datetime) -> datetime:
        """Return when to ask for complete studies next, if no event comes before."""
        looks = [now + timedelta(minutes=1)]
        for arriving in self._arriving.values():
            verdict = completeness.verdict(arriving.progress, self._limits, now)
            due = min(arriving.count_at(), verdict.until if isinstance(verdict, Wait) else now)
            looks.append(max(due, arriving.not_before) if arriving.not_before else due)
        return min(looks)

    # Outcomes

    def counted(self, arriving: ArrivingStudy, study: Study) -> bool:
        """Note how many instances arrived and are expected; return whether to ask the sender for the count."""
        announced = arriving.announcement.expected if arriving.announcement else None
        arriving.update(
            received=len(study.instances),
            expected=completeness.expected(study) if announced is None else announced,
            at_least=completeness.at_least(study),
        )
        arriving.counted = True
        return announced is None

    def failed(self, arriving: ArrivingStudy, now: datetime, *, passes: bool) -> float:
        """Postpone a study whose step failed, for less long if the fault passes; return the seconds until the next."""
        first_s, longest_s = (_FIRST_OUTAGE_S, _LONGEST_OUTAGE_S) if passes else (_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        pause_s = back_off_s(arriving.failures, first_s=first_s, longest_s=longest_s)
        arriving.failures += 1
        arriving.awaits_handler = False
        arriving.not_before = now + timedelta(seconds=pause_s)
        return pause_s

    def routed(self, study: UID) -> None:
        """Stop watching a routed study; remember when it ended, because a late instance teaches a longer pause."""
        arriving = self._arriving[study]
        announcement = arriving.announcement
        if announcement and (announcement.read_now or announcement.expected is not None):
            self._announcements.settle(announcement)
        elif arriving.has_images and not arriving.paused:
            self._learn(arriving, 0.0)
        del self._arriving[study]
        self._routed[study] = arriving.released_at or arriving.progress.last_activity
        _forget_first(self._routed)

    def _watch(self, study: UID, now: datetime, *, sender: str = "") -> ArrivingStudy:
        """Return the arriving study; a new one is of the sender, or of whoever sent the newest instance."""
        if study not in self._arriving:
            ae_title = sender or self._catalog.sender(study)
            history = SenderHistory(tuple(self._catalog.sender_history(ae_title) or ()))
            arriving = ArrivingStudy(ae_title, Progress(received=0, last_activity=now, history=history))
            arriving.was_routed = self._catalog.was_routed(study)
            arriving.released_at = self._routed.pop(study, None)
            problem = self._catalog.problem(study)
            arriving.update(interruption=next((words for words in completeness.INTERRUPTIONS if words in problem), ""))
            arriving.expect(self._announcements.of(study))
            self._arriving[study] = arriving
        return self._arriving[study]

    def _is_image(self, ref: InstanceRef, arriving: ArrivingStudy) -> bool:
        """Whether an instance is an image of a sender; an archive that hands the node's documents on sends none."""
        if not completeness.is_image(ref):
            return False
        may_be_own = arriving.was_routed or arriving.released_at
        return not (may_be_own and ref in self._own_documents(ref.study_instance_uid))

    def _note_images(self, arriving: ArrivingStudy, event: InstanceStored) -> None:
        """Note the first image of an association."""
        if arriving.released_at:
            if not arriving.progress.interruption:  # a sender that comes again after a fault has not paused
                self._learn(arriving, (event.time - arriving.released_at).total_seconds())
            arriving.released_at, arriving.paused = None, True
        if event.association in self._refusing:
            self._interrupt(event.ref.study_instance_uid, arriving, completeness.REFUSED, event.time)
        arriving.image_associations.add(event.association)
        arriving.has_images = True

    def _note_fruitless(self, event: AssociationEnded) -> None:
        """Note the end of an association that left nothing: what was refused may be of any study of its sender."""
        carried = (arriving.associations for arriving in self._arriving.values())
        has_carried = any(event.association in associations for associations in (*carried, self._unchanged))
        if event.association in self._refusing and not has_carried:
            title = self._open[event.association].calling_ae_title
            for study, arriving in self._arriving.items():
                if arriving.sender == title:
                    self._interrupt(study, arriving, completeness.REFUSED, event.time)

    def _note_end(self, study: UID, arriving: ArrivingStudy, event: AssociationEnded) -> None:
        """Note how an association ended that brought images; one that began after an interruption may end that."""
        opened, interrupted_at = self._open.get(event.association), arriving.interrupted_at
        if not event.is_released:
            self._interrupt(study, arriving, completeness.BROKEN_OFF, event.time)
        elif event.association not in self._refusing and (
            interrupted_at is None or (opened and opened.time >= interrupted_at)
        ):
            arriving.update(interruption="")

    def _interrupt(self, study: UID, arriving: ArrivingStudy, interruption: str, at: datetime) -> None:
        """Note that images may be missing, in the catalog too: the next start and the next late image find it there."""
        problem = self._catalog.problem(study)
        if interruption not in problem:
            self._catalog.note_problem(study, "; ".join(filter(None, (interruption, problem))))
        arriving.interrupted_at = at
        arriving.update(interruption=interruption)

    def _note_activity(self, arriving: ArrivingStudy, at: datetime) -> None:
        open_since = tuple(self._open[name].time for name in arriving.associations if name in self._open)
        is_noted = arriving.was_routed and arriving.has_key_object and not arriving.has_images
        arriving.update(last_activity=at, open_since=open_since, is_noted=is_noted)
        arriving.counted, arriving.complete_at = False, None

    def _learn(self, arriving: ArrivingStudy, pause_s: float) -> None:
        history = arriving.progress.history.learned(pause_s)
        self._catalog.remember_sender(arriving.sender, history.pauses_s)
        arriving.update(history=history)


def _forget_first(times: dict[UID, datetime]) -> None:
    while len(times) > _REMEMBERED_STUDIES:
        del times[next(iter(times))]
