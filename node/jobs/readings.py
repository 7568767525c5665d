"""The search for the priors of a study and the reading of the study: one attempt each, its outcome in the ledger."""

import logging
from datetime import datetime, timedelta
from typing import Final

from ainode.node.audit.messages import Subject, accessed, study_subject
from ainode.node.back_off import back_off_s
from ainode.node.disk import is_full, refuse_full, sha256_of, write_durably
from ainode.node.domain import Document, JobState, OutOfScope, Reading, Request, Result
from ainode.node.errors import NodeError, OutOfResources
from ainode.node.identity import wishes
from ainode.node.jobs.requests import request_of, route_of
from ainode.node.jobs.stations import Stations
from ainode.node.jobs.withholding import addressed
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.keeping.saliency import FILE_NAME, saliency_file
from ainode.node.keeping.tasks import Task
from ainode.node.priors.gathering import Priors
from ainode.node.priors.shelf import PriorRecord

log = logging.getLogger(__name__)
_FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
# A full disk is looked at again after this time, however often.
_ROOM_PAUSE_S: Final = 10.0


class Readings:
    """Searches priors and reads studies."""

    def __init__(self, stations: Stations) -> None:
        self._stations = stations
        self._priors = Priors(stations.settings, record=stations.record)

    def search(self, task: Task) -> None:
        """Fetch the priors that the job's route asks for; a search that fails leaves a study without priors."""
        stations = self._stations
        job = stations.ledger.job(task.job)
        stored = stations.catalog.instances(job.study_instance_uid)
        current = next((item.path for item in stored if item.ref.sop_instance_uid in job.content), None)
        if current and not job.refusal:
            try:
                self._priors.gather(job.id, route_of(job, stations.settings), current)
            except (NodeError, OSError) as error:
                if is_full(error):
                    self._wait_for_room(task, error)
                    return
                log.warning("priors: %s", error, extra={"action": "priors_failed", "job": job.id})
        stations.ledger.searched(job.id)

    def read(self, task: Task) -> None:
        """Run the reader once and commit the documents; else the reason, and whether the study is read again."""
        stations = self._stations
        if not stations.ledger.move(task.job, JobState.READING, at=stations.now()):
            return
        job = stations.ledger.job(task.job)  # after the move: from then on `ainode retry` releases nothing
        try:
            self._refuse_full()
            reading = stations.read(job.handler, self._request(job))
            kept_documents = tuple(self._keep(job, document) for document in reading.documents)
            self._keep_saliency(job, reading)
        except (NodeError, OSError) as error:
            self._note_failure(task, error)
            self._stations.record(accessed(job.handler, _audited(job), type(error).__name__))
        else:
            self._stations.record(accessed(job.handler, _audited(job, reading)))
            self._report(job, reading, kept_documents)

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
        attempts = ledger.tasks.attempts(task) + 1
        log.warning("reading failed: %s", error, extra={"action": "read_failed", "job": task.job})
        is_temporary = isinstance(error, OSError) or error.retry
        if is_temporary and attempts < getattr(error, "attempts", NodeError.attempts):
            pause_s = back_off_s(attempts - 1, first_s=_FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
            ledger.tasks.postpone(task, now + timedelta(seconds=pause_s), attempts=attempts)
            ledger.move(task.job, JobState.WAITING, reason=str(error))
        else:
            ledger.move(task.job, JobState.FAILED, reason=str(error), at=now)

    def _wait_for_room(self, task: Task, error: NodeError | OSError) -> None:
        ledger = self._stations.ledger
        reason = f"the disk of the node is full ({error}); make room, the job goes on by itself"
        log.error("job waits: %s", reason, extra={"action": "disk_full", "job": task.job})
        due_at = self._stations.now() + timedelta(seconds=_ROOM_PAUSE_S)
        ledger.tasks.postpone(task, due_at, attempts=ledger.tasks.attempts(task))
        ledger.move(task.job, JobState.WAITING, reason=reason)

    def _report(self, job: Job, reading: Reading, kept_documents: tuple[KeptDocument, ...]) -> None:
        ledger, settings = self._stations.ledger, self._stations.settings
        job = addressed(job, reading, route_of(job, settings), ledger)
        outcome = _outcome(reading, self._priors.record(job.id), self._stations.now())
        if ledger.report(job, kept_documents, outcome, wishes=wishes(settings, job.destinations)):
            about = {"action": "read", "job": job.id, "route": job.route}
            answer = reading.answer
            if isinstance(answer, OutOfScope):
                log.info("study refused in %.1f s: %s", outcome.seconds, answer.code, extra=about)
            else:
                log.info("study read in %.1f s: %s", outcome.seconds, answer.headline or outcome.state, extra=about)

    def _request(self, job: Job) -> Request:
        settings = self._stations.settings
        return request_of(job, route_of(job, settings), settings, self._stations.catalog)

    def _keep_saliency(self, job: Job, reading: Reading) -> None:
        """Write what people see over the images; another attempt replaces the file."""
        if isinstance(reading.answer, Result) and (content := saliency_file(reading.answer.captures)):
            write_durably(self._stations.settings.data / "documents" / job.id / FILE_NAME, content)

    def _keep(self, job: Job, document: Document) -> KeptDocument:
        """Write a document where a restart finds the document; the first bytes of a UID stay for good."""
        name = f"{document.ref.sop_instance_uid}{document.kind.suffix}"
        path = self._stations.settings.data / "documents" / job.id / name
        if not path.exists():
            write_durably(path, document.content)
        return KeptDocument(job.id, document.ref, document.kind, path, sha256_of(path), document.destination)


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
