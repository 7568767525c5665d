"""The search for the priors of a study and the reading of the study: one attempt each, its outcome in the ledger."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from ainode.node.audit.messages import Subject, accessed, study_subject
from ainode.node.disk import is_full, refuse_full, sha256_of, write_durably
from ainode.node.domain import UID, Document, DocumentKind, JobState, OutOfScope, Reading, Request, Result, Study
from ainode.node.domain.pauses import back_off_s
from ainode.node.errors import ImagesRejected, NodeError, OutOfResources
from ainode.node.identity import wishes
from ainode.node.imaging.rejections import Rejection, rejections
from ainode.node.jobs.corrections import NO_ADDRESSEE, NO_RESULT, NO_ROUTE, REJECTED, Corrections
from ainode.node.jobs.leftovers import with_leftovers
from ainode.node.jobs.requests import request_of, route_of
from ainode.node.jobs.stations import Stations
from ainode.node.jobs.succession import outlived
from ainode.node.jobs.withholding import addressed
from ainode.node.keeping.notices import Notice
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.keeping.saliency import FILE_NAME, saliency_file
from ainode.node.keeping.tasks import Task
from ainode.node.notifying.attributes import Headers
from ainode.node.notifying.bodies import answer_notices, correction_notices
from ainode.node.priors.gathering import Priors
from ainode.node.priors.shelf import PriorRecord

log = logging.getLogger(__name__)
_FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
# A study whose reading takes the whole process along would otherwise go from worker to worker without end.
MOST_LOSSES: Final = NodeError.attempts
# A full disk is looked at again after this time, however often.
_ROOM_PAUSE_S: Final = 10.0


class Readings:
    """Searches priors and reads studies."""

    def __init__(
        self,
        stations: Stations,
        wake: Callable[[str], None] = lambda _: None,
        on_answer: Callable[[Task, str], None] = lambda *_: None,
    ) -> None:
        """Keep the arguments; `wake` has sent at once what is kept early of a job.

        `on_answer` gets the task and its handler, whose process may read another study from then on.
        """
        self._stations, self._wake, self._on_answer = stations, wake, on_answer
        self._corrections = Corrections(stations.ledger)
        self._priors = Priors(stations.settings, record=stations.record, received_notes=self._received_notes)

    def search(self, task: Task) -> None:
        """Fetch the priors that the job's route asks for; a search that fails leaves a study without priors."""
        stations = self._stations
        job = stations.ledger.job(task.job)
        stored = stations.catalog.instances(job.study_instance_uid)
        current = next((item.path for item in stored if item.ref.sop_instance_uid in job.content), None)
        if current and not job.refusal and not job.is_self_test:
            try:
                self._priors.gather(job.id, route_of(job, stations.settings), current)
            except (NodeError, OSError) as error:
                if is_full(error):
                    self._wait_for_room(task, error)
                    return
                log.warning("priors: %s", error, extra={"action": "priors_failed", "job": job.id})
        stations.ledger.searched(job.id)

    def _received_notes(self, study: UID) -> Iterator[Rejection]:
        return rejections((stored.path, stored.ref) for stored in self._stations.catalog.instances(study))

    def read(self, task: Task) -> None:
        """Run the reader once and commit the documents; else the reason, and whether the study is read again."""
        stations = self._stations
        if self._is_given_up(task) or not stations.ledger.move(task.job, JobState.READING, at=stations.now()):
            return
        job = stations.ledger.job(task.job)  # after the move: from then on `ainode retry` releases nothing
        try:
            self._refuse_full()
            reading = stations.read(job.handler, self._request(job), partial(self._report_early, job))
            self._on_answer(task, job.handler)
            addressed_job = addressed(job, reading, route_of(job, stations.settings), stations.ledger)
            kept_documents = self._kept(addressed_job, reading)
            endings = self._kept_endings(job, self._corrections.endings(addressed_job, stations.now()))
            self._keep_saliency(job, reading)
        except (NodeError, OSError) as error:
            self._note_failure(task, error)
            self._stations.record(accessed(job.handler, _audited(job), type(error).__name__))
        else:
            self._stations.record(accessed(job.handler, _audited(job, reading)))
            self._report(addressed_job, reading, kept_documents, endings)

    def _is_given_up(self, task: Task) -> bool:
        """Note that this process takes the reading; give up a job with which too many processes were lost."""
        stations = self._stations
        if not stations.lease.is_shared:
            return False
        losses = stations.ledger.tasks.take(task, stations.lease.executor)
        about = {"action": "reader_lost", "job": task.job}
        if losses.last:
            log.warning("begun again: %s was lost while it read the study", losses.last, extra=about)
        if losses.count < MOST_LOSSES:
            return False
        reason = (
            f"{losses.count} processes of node and workers were killed or fell silent while they read the study, "
            f"the last {losses.last or 'of them'}; see the ends of their logs and the memory of their machines, then "
            "`ainode retry`"
        )
        self.give_up(task.job, reason)
        log.error("reading given up: %s", reason, extra=about)
        return True

    def withdraw_outlived(self, study: Study) -> None:
        """Withdraw what was told by routes that are gone and that no route took over, as later images came."""
        ledger, settings, now = self._stations.ledger, self._stations.settings, self._stations.now()
        uid = study.study_instance_uid
        arrivals = {stored.ref.sop_instance_uid: stored.received_at for stored in self._stations.catalog.instances(uid)}
        for job in outlived(study, ledger.jobs(study=uid), settings, arrivals):
            self._withdraw_report(job, NO_ROUTE, now)

    def withdraw_rejected(self, study: UID, rejections: Mapping[UID, Rejection]) -> None:
        """Withdraw the jobs of a study that rest on rejected instances and that no later job follows.

        Of a job that is not read yet, what its predecessors told is withdrawn.
        """
        ledger, now = self._stations.ledger, self._stations.now()
        for job in ledger.jobs(study=study):
            rejection = next((rejections[uid] for uid in job.content if uid in rejections), None)
            if rejection is None or job.withdrawn_at:
                continue
            reason = f"{REJECTED}{rejection}"
            if job.state in {JobState.WAITING, JobState.READING}:
                self._reject(job, reason)
            if ledger.job(job.id).state is JobState.REPORTED:  # now: a reading may have ended meanwhile
                self._withdraw_report(job, reason, now)

    def _reject(self, job: Job, reason: str) -> None:
        """Withdraw a job that has no result, and what was told of its study."""
        now = self._stations.now()
        self._try_to_withdraw(job, reason, self._corrections.superseded(job), now)
        ledger = self._stations.ledger
        if ledger.reject(job.id, f"withdrawn: {reason}", now):
            words = with_leftovers(ledger, job.id, reason)
            log.warning("not read: %s", words, extra={"action": "rejected", "job": job.id})

    def _withdraw_report(self, job: Job, reason: str, now: datetime) -> None:
        """Withdraw a result that no later job follows, at whoever was told of it; nothing more of it is sent."""
        ledger, settings = self._stations.ledger, self._stations.settings
        try:
            documents = self._kept_endings(job, self._corrections.last_words(job, reason, now))
        except (NodeError, OSError) as error:
            about = {"action": "withdrawal_failed", "job": job.id}
            log.error("listeners may hold a result that does not hold: %s", error, extra=about)  # noqa: TRY400
            documents = ()
        earlier_notices = self._earlier_notices(job, self._corrections.superseded(job))
        ledger.notices.keep(correction_notices(settings, job, earlier_notices, None, reason=reason, at=now))
        kinds = wishes(settings, [document.destination for document in documents])
        if ledger.withdraw(job.id, documents, f"withdrawn: {reason}", now, wishes=kinds):
            words = with_leftovers(ledger, job.id, reason)
            log.warning("result withdrawn: %s", words, extra={"action": "withdrawn", "job": job.id})
            self._wake(job.id)
        self._stations.wake_notifier()

    def has_room(self) -> bool:
        """Return whether the disk is above the watermark that documents keep, too.

        Raises: OSError.
        """
        try:
            self._refuse_full()
        except OutOfResources:
            return False
        return True

    def _refuse_full(self) -> None:
        refuse_full(self._stations.settings.data, self._stations.settings.node.min_free_bytes)

    def _note_failure(self, task: Task, error: NodeError | OSError) -> None:
        """Write down why a reading failed; try again where that can help, and without end while the disk is full."""
        if is_full(error):
            self._wait_for_room(task, error)
            return
        ledger, now = self._stations.ledger, self._stations.now()
        if isinstance(error, ImagesRejected):
            self._reject(ledger.job(task.job), str(error))
            return
        attempts = ledger.tasks.attempts(task) + 1
        log.warning("reading failed: %s", error, extra={"action": "read_failed", "job": task.job})
        is_temporary = isinstance(error, OSError) or error.retry
        if is_temporary and attempts < getattr(error, "attempts", NodeError.attempts):
            pause_s = back_off_s(attempts - 1, first_s=_FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
            ledger.tasks.postpone(task, now + timedelta(seconds=pause_s), attempts=attempts)
            ledger.move(task.job, JobState.WAITING, reason=str(error))
        else:
            self.give_up(task.job, str(error))

    def give_up(self, job_id: str, reason: str) -> None:
        """Fail a job for good; whoever was told of an urgent answer before is told that the answer does not hold."""
        ledger, now = self._stations.ledger, self._stations.now()
        job, words = ledger.job(job_id), f"the reading of the study failed: {reason}"
        self._try_to_withdraw(job, words, self._corrections.unreported(job), now)
        ledger.move(job.id, JobState.FAILED, reason=reason, at=now)

    def _try_to_withdraw(self, job: Job, reason: str, older_jobs: Sequence[Job], now: datetime) -> None:
        """Withdraw what was told of jobs; what cannot be is in the log."""
        try:
            self._withdraw(job, reason, older_jobs, now)
        except (NodeError, OSError) as error:
            about = {"action": "withdrawal_failed", "job": job.id}
            log.error("listeners may hold a result that does not hold: %s", error, extra=about)  # noqa: TRY400

    def _withdraw(self, job: Job, reason: str, older_jobs: Sequence[Job], now: datetime) -> None:
        """Commit the withdrawals of what was told of jobs, before the newest counts as failed: a kill repeats it."""
        ledger, settings = self._stations.ledger, self._stations.settings
        withdrawals = self._corrections.withdrawals(job, older_jobs, reason, now)
        documents = tuple(self._keep(job, each) for each in withdrawals)
        earlier_notices = self._earlier_notices(job, older_jobs)
        notices = correction_notices(settings, job, earlier_notices, None, reason=reason, at=now)
        if not documents and not notices:
            return
        listeners = tuple(document.destination for document in documents)
        if job.state is JobState.WAITING:  # what leaves before the rest is of a job that is read
            ledger.move(job.id, JobState.READING, at=now)
        addressed_job, kinds = replace(job, destinations=listeners), wishes(settings, listeners)
        if ledger.report_early(addressed_job, documents, wishes=kinds, notices=notices):
            self._stations.wake_notifier()
            self._wake(job.id)
            about = {"action": "withdrawn", "job": job.id, "route": job.route}
            log.warning("what was told of a study is withdrawn: %s", reason, extra=about)

    def _wait_for_room(self, task: Task, error: NodeError | OSError) -> None:
        ledger = self._stations.ledger
        reason = f"the disk of the node is full ({error}); make room, the job goes on by itself"
        log.error("job waits: %s", reason, extra={"action": "disk_full", "job": task.job})
        due_at = self._stations.now() + timedelta(seconds=_ROOM_PAUSE_S)
        ledger.tasks.postpone(task, due_at, attempts=ledger.tasks.attempts(task))
        ledger.move(task.job, JobState.WAITING, reason=reason)

    def _report(
        self,
        job: Job,
        reading: Reading,
        kept_documents: tuple[KeptDocument, ...],
        endings: tuple[KeptDocument, ...],
    ) -> None:
        ledger, settings = self._stations.ledger, self._stations.settings
        outcome = _outcome(reading, self._priors.record(job.id), self._stations.now())
        notices = self._notices(job, reading)
        kinds = wishes(settings, (*job.destinations, *(document.destination for document in endings)))
        if ledger.report(job, kept_documents, outcome, wishes=kinds, notices=notices, endings=endings):
            self._remove_lost(job)
            if notices:
                self._stations.wake_notifier()
            about = {"action": "read", "job": job.id, "route": job.route}
            answer = reading.answer
            if isinstance(answer, OutOfScope):
                log.info("study refused in %.1f s: %s", outcome.seconds, answer.code, extra=about)
            else:
                log.info("study read in %.1f s: %s", outcome.seconds, answer.headline or outcome.state, extra=about)

    def _report_early(self, job: Job, reading: Reading) -> None:
        """Commit the urgent part of a reading: messages and notices leave while the rest is made.

        What cannot be kept now leaves with the rest.
        """
        ledger, settings = self._stations.ledger, self._stations.settings
        about = {"action": "urgent", "job": job.id, "route": job.route}
        try:
            job = addressed(job, reading, route_of(job, settings), ledger)
            if job.withheld:
                return
            kept_documents = self._kept(job, reading)
            notices = self._notices(job, reading)
            is_kept = ledger.report_early(
                job, kept_documents, wishes=wishes(settings, job.destinations), notices=notices
            )
        except (NodeError, OSError) as error:
            log.warning("an urgent answer waits for its documents: %s", error, extra=about)
            return
        if is_kept:
            self._stations.wake_notifier()
            self._wake(job.id)
            log.info("an urgent answer leaves first, after %.1f s", reading.seconds, extra=about)

    def _notices(self, job: Job, reading: Reading) -> tuple[Notice, ...]:
        """Return what people are told of an answer; of one that stays in the node, that earlier news do not hold."""
        if job.is_self_test:
            return ()
        settings = self._stations.settings
        headers, now = Headers(self._stations.catalog), self._stations.now()
        earlier_notices = self._earlier_notices(job, self._corrections.superseded(job))
        if job.withheld or not job.is_live:
            return correction_notices(settings, job, earlier_notices, None, reason=NO_ADDRESSEE, at=now)
        corrections = correction_notices(settings, job, earlier_notices, reading, reason=NO_RESULT, at=now)
        informed = {notice.subscription for notice in earlier_notices if notice.subject == job.id}
        informed |= {notice.subscription for notice in corrections}
        answers = answer_notices(settings, job, reading, headers.of_job, at=now)
        return (*(notice for notice in answers if notice.subscription not in informed), *corrections)

    def _earlier_notices(self, job: Job, older_jobs: Sequence[Job]) -> tuple[Notice, ...]:
        """Return the newest notice that each subscription has of the answers of a job and of older ones."""
        of_jobs = (self._stations.ledger.notices.answers(each.id) for each in (*older_jobs, job))
        return tuple({notice.subscription: notice for notices in of_jobs for notice in notices}.values())

    def _request(self, job: Job) -> Request:
        settings = self._stations.settings
        return request_of(job, route_of(job, settings), settings, self._stations.catalog)

    def _keep_saliency(self, job: Job, reading: Reading) -> None:
        """Write what people see over the images; another attempt replaces the file."""
        if isinstance(reading.answer, Result) and (content := saliency_file(reading.answer.captures)):
            self._stations.lease.refuse_lost()
            write_durably(self._stations.settings.data / "documents" / job.id / FILE_NAME, content)

    def _kept(self, job: Job, reading: Reading) -> tuple[KeptDocument, ...]:
        """Write the documents of a reading, its messages as they follow what was told of the job before."""
        documents = self._corrections.documents(job, reading, self._stations.now())
        return tuple(self._keep(job, document) for document in documents)

    def _kept_endings(self, job: Job, endings: Sequence[Document]) -> tuple[KeptDocument, ...]:
        """Write the withdrawals for who was told of the study before and gets nothing more."""
        names, documents = {peer.name for peer in self._stations.settings.peers}, []
        for document in endings:
            if document.destination in names:
                documents.append(self._keep(job, document))
            else:
                about = {"action": "withdrawal_failed", "job": job.id, "peer": document.destination}
                log.error("no [[peer]] any more, holds a result that does not hold: tell its people", extra=about)
        return tuple(documents)

    def _keep(self, job: Job, document: Document) -> KeptDocument:
        """Write a document where a restart finds the document.

        The first bytes that the ledger knows of a UID stay for good. Those of an attempt that a kill cut off go: what
        is told is what is kept, and no part of it is of another answer.
        """
        known_path = self._known_path(job, document)
        path = known_path or self._stations.settings.data / "documents" / job.id / self._name(job, document)
        is_same = path.exists() and path.read_bytes() == document.content
        if not is_same and not (path.exists() and known_path):
            write_durably(path, document.content)
        return KeptDocument(job.id, document.ref, document.kind, path, sha256_of(path), document.destination)

    def _name(self, job: Job, document: Document) -> str:
        """Return the name of a new file; an attempt of another process has other names, and replaces none."""
        attempt = f"-{job.attempts}" if self._stations.lease.is_shared else ""
        return f"{document.ref.sop_instance_uid}{attempt}{document.kind.suffix}"

    def _known_path(self, job: Job, document: Document) -> Path | None:
        """Return the file of a document that the ledger has, of which nothing changes any more."""
        known = self._stations.ledger.documents(job.id)
        return next((kept.path for kept in known if kept.ref == document.ref), None)

    def _remove_lost(self, job: Job) -> None:
        """Remove the documents of attempts that others made of a job, and that the ledger has not."""
        if self._stations.lease.is_shared and job.attempts > 1:
            kept = {document.path.name for document in self._stations.ledger.documents(job.id)}
            suffixes = {kind.suffix for kind in DocumentKind}
            with suppress(OSError):  # what is left there goes with the job, and nothing sends it
                for path in (self._stations.settings.data / "documents" / job.id).iterdir():
                    if path.suffix in suffixes and path.name not in kept:
                        path.unlink(missing_ok=True)


def _audited(job: Job, reading: Reading | None = None) -> Subject:
    """Return the study of a job for the audit trail, with the weights that answered."""
    details = {"job": job.id, "route": job.route}
    if reading and isinstance(reading.answer, Result):
        details["weights_sha256"] = reading.answer.algorithm.weights_sha256
    return study_subject(job.study_instance_uid, {"": len(job.content)}, details)


def _outcome(reading: Reading, prior_record: PriorRecord, now: datetime) -> Outcome:
    searched = prior_record.query_s or prior_record.retrieve_s
    overheads = {"query": prior_record.query_s, "retrieve": prior_record.retrieve_s} if searched else {}
    if reading.compose_seconds:
        overheads["compose"] = reading.compose_seconds
    match reading.answer:
        case OutOfScope(reason):
            return Outcome(JobState.OUT_OF_SCOPE, reading.summary, reason, reading.seconds, overheads, now)
        case Result() as result:
            overheads |= result.seconds
            return Outcome(JobState.REPORTED, reading.summary, "", reading.seconds, overheads, now)
