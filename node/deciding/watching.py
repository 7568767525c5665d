"""Watches studies arrive: which association carries which study, how many instances are expected, how long to wait.

The memory of this module is found again at the next start: the catalog lists every study that was not routed since it
changed, the announcements list every study that somebody wants read.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from ainode.node.back_off import back_off_s
from ainode.node.deciding import completeness
from ainode.node.deciding.completeness import Complete, Progress, SenderHistory, Wait
from ainode.node.domain import UID, Instance, Study
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching
from ainode.node.keeping.catalog import Catalog
from ainode.node.receiving.events import AssociationEnded, AssociationOpened, InstanceStored
from ainode.node.settings import CompletenessTable

# The instances of a study are counted this long after the last association that carried the study ended.
_COUNT_DELAY = timedelta(seconds=0.2)
# The end times of so many routed studies are remembered, to learn from instances that come late.
_REMEMBERED_STUDIES = 1000
# Pauses before a study whose routing failed is routed again.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 600.0


@dataclass(slots=True)
class ArrivingStudy:
    """A study that is arriving; only the intake's thread changes it."""

    sender: str
    progress: Progress
    associations: set[str] = field(default_factory=set)
    """open associations that carried the study"""
    released_at: datetime | None = None
    paused: bool = False
    """whether a second association carried the study after a pause"""
    counted: bool = False
    announcement: Announcement | None = None
    failures: int = 0
    """how often routing failed"""
    not_before: datetime | None = None
    """when to route again after a failure"""
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

    def count_at(self) -> datetime:
        """Return when to count the instances: once after each burst, when no open association carries the study."""
        due = self.progress.last_activity + _COUNT_DELAY
        return due.max.replace(tzinfo=due.tzinfo) if self.counted or self.associations else due


class Watching:
    """The studies that are arriving."""

    def __init__(self, catalog: Catalog, announcements: Announcements, limits: CompletenessTable) -> None:
        self._catalog, self._announcements, self._limits = catalog, announcements, limits
        self._open: dict[str, AssociationOpened] = {}
        self._arriving: dict[UID, ArrivingStudy] = {}
        self._routed: dict[UID, datetime] = {}

    def recover(self, now: datetime) -> None:
        """Watch every study that was not routed since it changed, and every study that somebody wants read."""
        for study in self._catalog.unrouted():
            self._watch(study, self._sender(study), now)
        for study in self._announcements.requested():
            self.announced(study, now)

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
            return
        arriving = self._watch(study, self.calling_ae_title(event), event.time)
        ended_at = arriving.released_at or self._routed.pop(study, None)
        if ended_at and event.association not in arriving.associations:
            self._learn(arriving, (event.time - ended_at).total_seconds())
            arriving.released_at, arriving.paused = None, True
        arriving.associations.add(event.association)
        self._note_activity(arriving, event.time)

    def ended(self, event: AssociationEnded) -> None:
        """Note the end of an association."""
        self._open.pop(event.association, None)
        for arriving in self._arriving.values():
            if event.association in arriving.associations:
                arriving.associations.discard(event.association)
                arriving.released_at = event.time
                self._note_activity(arriving, event.time)

    def count_answered(self, study: UID, count: int | None) -> None:
        """Note the count of a sender."""
        arriving = self._arriving.get(study)
        if arriving and count is not None:
            arriving.update(expected=count)

    def announced(self, study: UID, now: datetime) -> None:
        """Take up the announcement of a study; watch a routed study again only if somebody wants it read."""
        announcement = self._announcements.of(study)
        if announcement is None:
            return
        if study not in self._arriving:
            if not self._catalog.content(study):
                return  # the first instance of the study takes the announcement up
            if not announcement.is_asked:
                if announcement.state is Fetching.HERE:
                    self._announcements.settle(announcement)
                return
        arriving = self._watch(study, self._sender(study), now)
        arriving.expect(announcement)
        # Only this event may close the study: an instance that arrives while others are still queued must not.
        arriving.update(requested=announcement.is_asked)

    # Questions

    def to_count(self, now: datetime) -> Iterator[tuple[UID, ArrivingStudy]]:
        """Yield the studies whose instances are to be counted now."""
        yield from [(study, arriving) for study, arriving in self._arriving.items() if now >= arriving.count_at()]

    def complete(self, now: datetime) -> Iterator[tuple[UID, ArrivingStudy, str]]:
        """Yield the studies that are complete now, each with the reason."""
        for study, arriving in tuple(self._arriving.items()):
            verdict = completeness.verdict(arriving.progress, self._limits, now)
            if isinstance(verdict, Complete) and (arriving.not_before is None or now >= arriving.not_before):
                yield study, arriving, verdict.reason

    def next_look(self, now: datetime) -> datetime:
        """Return when to ask for complete studies next, if no event comes before."""
        looks = [now + timedelta(minutes=1)]
        for arriving in self._arriving.values():
            verdict = completeness.verdict(arriving.progress, self._limits, now)
            due = verdict.until if isinstance(verdict, Wait) else arriving.not_before or now
            looks.append(min(arriving.count_at(), due))
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
        return announced is None

    def failed(self, study: UID, now: datetime) -> float:
        """Postpone a study whose routing failed; return the seconds until the next attempt."""
        arriving = self._arriving[study]
        pause_s = back_off_s(arriving.failures, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
        arriving.failures += 1
        arriving.not_before = now + timedelta(seconds=pause_s)
        return pause_s

    def routed(self, study: UID) -> None:
        """Stop watching a routed study; remember when it ended, because a late instance teaches a longer pause."""
        arriving = self._arriving.pop(study)
        announcement = arriving.announcement
        if announcement and (announcement.read_now or announcement.expected is not None):
            self._announcements.settle(announcement)
        elif not arriving.paused:
            self._learn(arriving, 0.0)
        self._routed[study] = arriving.progress.last_activity
        while len(self._routed) > _REMEMBERED_STUDIES:
            del self._routed[next(iter(self._routed))]

    def _watch(self, study: UID, sender: str, now: datetime) -> ArrivingStudy:
        if study not in self._arriving:
            history = SenderHistory(tuple(self._catalog.sender_history(sender) or ()))
            self._arriving[study] = ArrivingStudy(sender, Progress(received=0, last_activity=now, history=history))
            self._arriving[study].expect(self._announcements.of(study))
        return self._arriving[study]

    def _sender(self, study: UID) -> str:
        return self._catalog.instances(study)[-1].calling_ae_title

    def _note_activity(self, arriving: ArrivingStudy, at: datetime) -> None:
        open_since = tuple(self._open[name].time for name in arriving.associations if name in self._open)
        arriving.update(last_activity=at, open_since=open_since)
        arriving.counted = False

    def _learn(self, arriving: ArrivingStudy, pause_s: float) -> None:
        history = arriving.progress.history.learned(pause_s)
        arriving.update(history=history)
        self._catalog.remember_sender(arriving.sender, history.pauses_s)
