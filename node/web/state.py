"""The status of a study in the web interface: UIDs, states and reasons, no patient attribute."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job

StudyState = Literal[
    "announced", "receiving", "no_route", "rejected", "reading", "reported", "out_of_scope", "failed", "cancelled"
]
_UNFINISHED = frozenset({JobState.WAITING, JobState.READING})
_DELIVERED = frozenset({DeliveryState.SENT, DeliveryState.CONFIRMED})


class DeliveryStatus(BaseModel):
    """The delivery of one document to one destination."""

    destination: str
    state: DeliveryState
    error: str
    proof: str
    confirmed_at: datetime | None
    """when the archive proved last that it has the document"""
    archive_status: int | None
    archive_comment: str
    """the archive's own words, '' if it said nothing"""
    explanation: str
    """the error, what the archive changed, and its words, as `ainode jobs` shows them"""


class DocumentStatus(BaseModel):
    """One document that a job made."""

    kind: DocumentKind
    sop_class_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    deliveries: tuple[DeliveryStatus, ...]


class JobStatus(BaseModel):
    """One reading of the study by one route."""

    id: str
    route: str
    state: JobState
    reason: str
    attempts: int
    queued_at: datetime
    seconds: float
    withheld: str
    """why the documents of a live route stay in the node, '' if the documents are delivered"""
    documents: tuple[DocumentStatus, ...]


class FetchStatus(BaseModel):
    """The announcement of a study, and the state of its pull."""

    peer: str
    state: str
    reason: str
    attempts: int
    read_now: bool
    positions: int


class StudyStatus(BaseModel):
    """The status of one study."""

    study_instance_uid: str
    state: StudyState
    reason: str
    """one sentence, '' if the state needs no reason"""
    delivered: bool
    """whether each destination has every document that the readings made, whatever becomes of their addenda"""
    problem: str
    """which instances of the study cannot be read, or why the study is not routed yet; '' without a problem"""
    instances: int
    """number of instances that the node has now"""
    announcement: FetchStatus | None
    jobs: tuple[JobStatus, ...]


def study_status(study: UID, catalog: Catalog, ledger: Ledger, announcements: Announcements) -> StudyStatus | None:
    """Return the status of a study, None if the node knows nothing about the study."""
    content, announcement = catalog.content(study), announcements.of(study)
    jobs = ledger.jobs(study=study)
    if not (content or announcement or jobs):
        return None
    current_jobs = [job for job in jobs if job.state is not JobState.SUPERSEDED]
    made = [
        delivery
        for job in current_jobs
        for delivery in ledger.deliveries(job.id)
        if delivery.document.kind is not DocumentKind.ASSESSMENT
    ]
    problem = catalog.problems(study).get(study, "")
    state, reason = _state_and_reason(
        current_jobs,
        announcement,
        problem,
        has_instances=bool(content),
        is_routed=catalog.is_routed(study),
        is_rejected=catalog.is_rejected(study),
    )
    return StudyStatus(
        study_instance_uid=study,
        state=state,
        reason=reason,
        problem=problem,
        delivered=bool(made) and all(delivery.state in _DELIVERED for delivery in made),
        instances=len(content),
        announcement=_fetch_status(announcement) if announcement else None,
        jobs=tuple(_job_status(job, ledger) for job in jobs),
    )


def _state_and_reason(
    jobs: Sequence[Job],
    announcement: Announcement | None,
    problem: str,
    *,
    has_instances: bool,
    is_routed: bool,
    is_rejected: bool,
) -> tuple[StudyState, str]:
    """Return the state of a study and its reason: the first row below whose condition is true."""
    job_reasons = "; ".join(dict.fromkeys(filter(None, (*(job.explanation for job in jobs), problem))))
    pull_reason = "; ".join(filter(None, (announcement.reason if announcement else "", problem)))
    is_given_up = announcement is not None and announcement.state is Fetching.FAILED
    job_states = {job.state for job in jobs}
    rows: tuple[tuple[StudyState, str, bool], ...] = (
        ("reading", job_reasons, bool(job_states & _UNFINISHED)),
        ("receiving", pull_reason, has_instances and not is_routed),
        ("failed", job_reasons, JobState.FAILED in job_states),
        ("reported", job_reasons, JobState.REPORTED in job_states),
        ("out_of_scope", job_reasons, JobState.OUT_OF_SCOPE in job_states),
        ("cancelled", job_reasons, JobState.CANCELLED in job_states),
        ("failed", pull_reason, not has_instances and is_given_up),
        ("announced", pull_reason, not has_instances and announcement is not None),
        ("rejected", problem, is_rejected),
        ("failed", problem, bool(problem)),
        ("no_route", "no route matches the study; the study's explanation says why for each route", True),
    )
    return next((state, reason) for state, reason, condition in rows if condition)


def _fetch_status(announcement: Announcement) -> FetchStatus:
    return FetchStatus(
        peer=announcement.peer,
        state=announcement.state,
        reason=announcement.reason,
        attempts=announcement.attempts,
        read_now=announcement.read_now,
        positions=len(announcement.locations),
    )


def _job_status(job: Job, ledger: Ledger) -> JobStatus:
    deliveries: dict[str, list[Delivery]] = {}
    for delivery in ledger.deliveries(job.id):
        deliveries.setdefault(delivery.document.ref.sop_instance_uid, []).append(delivery)
    documents = (
        DocumentStatus(
            kind=document.kind,
            sop_class_uid=document.ref.sop_class_uid,
            series_instance_uid=document.ref.series_instance_uid,
            sop_instance_uid=document.ref.sop_instance_uid,
            deliveries=tuple(map(_delivery_status, deliveries.get(document.ref.sop_instance_uid, ()))),
        )
        for document in ledger.documents(job.id)
    )
    return JobStatus(
        id=job.id,
        route=job.route,
        state=job.state,
        reason=job.reason,
        attempts=job.attempts,
        queued_at=job.queued_at,
        seconds=job.seconds,
        withheld=job.withheld,
        documents=tuple(documents),
    )


def _delivery_status(delivery: Delivery) -> DeliveryStatus:
    return DeliveryStatus(
        destination=delivery.destination,
        state=delivery.state,
        error=delivery.error,
        proof=delivery.proof,
        confirmed_at=delivery.confirmed_at,
        archive_status=delivery.archive_status,
        archive_comment="" if delivery.is_replaced else delivery.archive_comment or delivery.proof_comment,
        explanation=delivery.explanation,
    )
