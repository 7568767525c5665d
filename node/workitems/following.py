"""Follows a claimed workitem: its study is announced, progress told, and the end decided and written."""

import logging
from datetime import timedelta
from typing import Final

from ainode.node.archive import ups, workitem
from ainode.node.archive.web import WebLink
from ainode.node.archive.workitem import FINAL_STATES, Workitem
from ainode.node.domain import UID, JobState, Patient
from ainode.node.jobs.retries import deliver_study
from ainode.node.keeping.announcements import Announcement, Fetching
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.workitems import KeptWorkitem, WorkitemState
from ainode.node.workitems import verdicts
from ainode.node.workitems.parts import Parts, Worklist, note, note_absent
from ainode.node.workitems.patients import is_another, listed_patients, stored_patient
from ainode.node.workitems.performing import performance
from ainode.node.workitems.verdicts import Course, Done, Stopped, UnderWay

_MAX_PERSON: Final = 64
# The priority of a job before all others.
_FIRST: Final = 1
# Pulls that were given up are begun anew for so long, and so often.
_LONGEST_FETCH: Final = timedelta(hours=2)
_FETCH_AGAIN: Final = timedelta(minutes=1)
_ON_REQUEST: Final = "the worklist reported a request to cancel the workitem"
_OTHER_PATIENT: Final = (
    "the images have another Patient ID (0010,0020) than the workitem, or one of another issuer; correct the workitem "
    "or the images, and schedule another one"
)


class Following:
    """Follows the claimed items of one worklist."""

    def __init__(self, worklist: Worklist, parts: Parts) -> None:
        self._worklist, self._parts = worklist, parts
        # Items whose first image was compared with their patient.
        self._compared: set[UID] = set()

    def fetch(self, item: KeptWorkitem) -> None:
        """Have the study of an item pulled from its archive and read.

        Of a study that was read before, what failed is tried again, and the archives are asked whether they still have
        the results.

        Raises: ArchiveError; DatabaseUnavailable.
        """
        if self._refuse_another(item):
            return
        now, ledger, settings = self._parts.now(), self._parts.ledger, self._parts.settings
        if item.percent < 0:  # the first time, and not after each pull that failed
            instruction = Instruction(now, f"worklist of {self._worklist.name}"[:_MAX_PERSON])
            for course in self.courses(item):
                ledger.revive(course.job.id, instruction, unconfirmed=settings.unconfirmed)
            deliver_study(settings, ledger, item.study_instance_uid)
        announcement = Announcement(
            item.study_instance_uid, now, now, peer=item.source, read_now=True, state=Fetching.WAITING
        )
        self._parts.announcements.announce(announcement)
        self._parts.workitems.move(item, WorkitemState.READING)
        self._parts.on_announced(announcement)

    def follow(self, item: KeptWorkitem, *, asks: bool) -> None:
        """Tell the worklist how far an item is, or decide its end; `asks` the worklist first whether it goes on.

        Raises: ArchiveError; DatabaseUnavailable.
        """
        announcement = self._parts.announcements.of(item.study_instance_uid)
        if announcement is None:
            self._parts.workitems.move(item, WorkitemState.CLAIMED)
            return
        if announcement.state is Fetching.FAILED and self._has_time_to_fetch(item):
            due_at = self._parts.now() + _FETCH_AGAIN
            self._parts.workitems.move(item, WorkitemState.CLAIMED, due_at=due_at, error=announcement.reason)
            return
        if self._has_uncompared_images(item) and self._refuse_another(item):
            return
        progress = verdicts.verdict(announcement, self.courses(item), self._parts.settings.unconfirmed)
        if isinstance(progress, UnderWay):
            progress = self._cut_short(item, announcement, progress)
        if isinstance(progress, Stopped):
            self._stop(item, progress)
        elif isinstance(progress, Done):
            self._finish(item)
        elif asks or progress.percent != item.percent:
            self._tell(item, progress)

    def _has_uncompared_images(self, item: KeptWorkitem) -> bool:
        is_compared = item.uid in self._compared
        return not is_compared and stored_patient(self._parts.catalog, item.study_instance_uid) is not None

    def courses(self, item: KeptWorkitem) -> tuple[Course, ...]:
        """Return the jobs whose answers are those of an item, and the deliveries of their documents to archives."""
        ledger, routes = self._parts.ledger, self._worklist.table.routes
        return tuple(
            Course(job, verdicts.to_archives(ledger.deliveries(job.id)))
            for job in ledger.jobs(study=item.study_instance_uid)
            if job.state is not JobState.SUPERSEDED and (not routes or job.route in routes)
        )

    def _has_time_to_fetch(self, item: KeptWorkitem) -> bool:
        """Return whether the images are tried again that no pull brought: their archive may be away for a while."""
        longest = min(_LONGEST_FETCH, timedelta(seconds=self._worklist.table.limit_s))
        return not item.is_cancel_requested and self._parts.now() < item.begun_at + longest

    def _cut_short(self, item: KeptWorkitem, announcement: Announcement, progress: UnderWay) -> UnderWay | Stopped:
        """Return why an unfinished item is canceled: it has expired, or somebody asked before its reading began."""
        limit_s = self._worklist.table.limit_s
        is_expired = item.claimed_at is not None and self._parts.now() >= item.claimed_at + timedelta(seconds=limit_s)
        if not (is_expired or item.is_cancel_requested):
            return progress
        reason = f"not finished within {limit_s:.0f} s" if is_expired else _ON_REQUEST
        is_fetching = self._stop_fetching(item, announcement)
        self._cancel_jobs(item, reason)
        if is_expired:
            return Stopped(reason, verdicts.EXPIRED)
        return Stopped(reason, verdicts.UNSPECIFIED) if is_fetching else progress

    def _stop_fetching(self, item: KeptWorkitem, announcement: Announcement | None) -> bool:
        """Have a study fetched no more, unless another item wants it; return whether it was still to be fetched."""
        is_fetching = announcement is not None and announcement.state is Fetching.WAITING
        if is_fetching and not self._is_shared(item):
            self._parts.announcements.forget(item.study_instance_uid)
        return is_fetching

    def _cancel_jobs(self, item: KeptWorkitem, reason: str) -> None:
        """Cancel the jobs that wait and that the item alone brought; a reading that has begun goes on."""
        if self._is_shared(item):
            return
        for course in self.courses(item):
            if course.job.state is JobState.WAITING and course.job.queued_at >= item.begun_at:
                self._parts.ledger.move(course.job.id, JobState.CANCELLED, reason=reason, at=self._parts.now())

    def _is_shared(self, item: KeptWorkitem) -> bool:
        """Return whether another claimed item is of the same study."""
        others = self._parts.workitems.of_study(item.study_instance_uid)
        return any(
            (other.peer, other.uid) != (item.peer, item.uid)
            and other.state in {WorkitemState.CLAIMED, WorkitemState.READING}
            for other in others
        )

    def _tell(self, item: KeptWorkitem, progress: UnderWay) -> None:
        """Tell the worklist how far the item is, unless somebody ended the item there.

        What the worklist refuses is not told again: no progress is as important as the end.
        """
        worklist = self._worklist
        remote_item = self._still_claimed(item)
        if remote_item is None:
            return
        if remote_item.is_urgent:
            self._put_first(item)
        if progress.percent == item.percent:
            return
        performed = performance(remote_item, worklist, self._parts, item.begun_at)
        dataset = workitem.progress(progress.percent, progress.description, performed)
        answer = worklist.update(item, dataset)
        error = "" if answer.is_performed else f"does not take progress (HTTP {answer.status})"
        self._parts.workitems.note(item, percent=progress.percent, error=error, attempts=0, due_at=None)

    def _put_first(self, item: KeptWorkitem) -> None:
        """Have the jobs of an urgent item that wait read before others."""
        for course in self.courses(item):
            if course.job.state is JobState.WAITING and course.job.priority > _FIRST:
                self._parts.ledger.prioritize(course.job.id, _FIRST)

    def _finish(self, item: KeptWorkitem) -> None:
        self._compared.discard(item.uid)
        remote_item = self._still_claimed(item)
        if remote_item is None:
            return
        if self._is_of_another(item, remote_item):
            self._stop(item, Stopped(_OTHER_PATIENT, verdicts.UNSPECIFIED))
        else:
            self._parts.workitems.move(item, WorkitemState.COMPLETING, decided_at=self._parts.now())

    def _stop(self, item: KeptWorkitem, stopped: Stopped) -> None:
        self._compared.discard(item.uid)
        values = {"reason": stopped.reason, "reason_code": stopped.code.value, "decided_at": self._parts.now()}
        self._parts.workitems.move(item, WorkitemState.CANCELING, **values)
        note(item, "workitem_stopped", "is to be canceled: %s", stopped.reason, level=logging.WARNING)

    def _still_claimed(self, item: KeptWorkitem) -> Workitem | None:
        """Return what the worklist says of an item; None, once that is written down, if the item has ended there."""
        remote_item = ups.retrieve(self._worklist.link, item.uid)
        if isinstance(remote_item, Workitem) and remote_item.state not in FINAL_STATES:
            return remote_item
        if isinstance(remote_item, ups.Absent):
            if remote_item.is_deleted:  # before the row says so: a kill repeats it
                self._cancel_jobs(item, "the worklist deleted it")
            note_absent(self._parts, item, remote_item)
            return None
        reason = "the worklist ended it, and not the node"
        self._cancel_jobs(item, reason)
        self._parts.workitems.move(item, WorkitemState.CANCELED, reason=reason, ended_at=self._parts.now())
        note(item, "workitem_ended", "ended without the node", level=logging.WARNING)
        return None

    def _is_of_another(self, item: KeptWorkitem, remote_item: Workitem) -> bool:
        """Return whether the images are of another patient than the item, by themselves, else by their archive."""
        stated, study = remote_item.patient, item.study_instance_uid
        if not stated.patient_id:
            return False
        if stored := stored_patient(self._parts.catalog, study):
            return is_another(stored, stated)
        listed = self._listed_patients(item)
        return bool(listed) and all(is_another(patient, stated) for patient in listed)

    def _listed_patients(self, item: KeptWorkitem) -> tuple[Patient, ...]:
        settings = self._parts.settings
        source = next((peer for peer in settings.peers if peer.name == item.source and peer.dicomweb), None)
        if source is None:
            return ()
        timeout_s = settings.node.network_timeout_s
        return listed_patients(WebLink(source, timeout_s), item.study_instance_uid, timeout_s)

    def _refuse_another(self, item: KeptWorkitem) -> bool:
        """Stop an item whose images are of another patient, as soon as that is known; return whether it has ended.

        Raises: ArchiveError; DatabaseUnavailable.
        """
        remote_item = self._still_claimed(item)
        if remote_item is None:
            return True
        if not self._is_of_another(item, remote_item):
            if stored_patient(self._parts.catalog, item.study_instance_uid):
                self._compared.add(item.uid)
            return False
        self._stop_fetching(item, self._parts.announcements.of(item.study_instance_uid))
        self._cancel_jobs(item, _OTHER_PATIENT)
        self._stop(item, Stopped(_OTHER_PATIENT, verdicts.UNSPECIFIED))
        return True
