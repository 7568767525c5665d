"""What the node knows of a study, as the web interface says it: UIDs, states and reasons, no patient attribute."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job

StudyWord = Literal["announced", "receiving", "no_route", "reading", "reported", "out_of_scope", "failed"]
_OPEN = frozenset({JobState.WAITING, JobState.READING})
_TAKEN = frozenset({DeliveryState.SENT, DeliveryState.CONFIRMED})


class DeliveryStatus(BaseModel):
    """One document on its way to one destination."""

    destination: str
    state: DeliveryState
    error: str
    proof: str
    confirmed_at: datetime | None


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
    """why the documents of a live route stay in the node, empty where they leave"""
    documents: tuple[DocumentStatus, ...]


class FetchStatus(BaseModel):
    """What was announced, and whether it had to be pulled."""

    peer: str
    state: str
    reason: str
    attempts: int
    read_now: bool
    positions: int


class StudyStatus(BaseModel):
    """One study."""

    study_instance_uid: str
    state: StudyWord
    reason: str
    """one sentence, '' where nothing is to be said"""
    delivered: bool
    """every document was taken by each of its destinations"""
    instances: int
    """that the node holds now"""
    announcement: FetchStatus | None
    jobs: tuple[JobStatus, ...]


def study_status(study: UID, catalog: Catalog, ledger: Ledger, announcements: Announcements) -> StudyStatus | None:
    """Return what is known of the study, None if nothing is."""
    content, announced = catalog.content(study), announcements.of(study)
    jobs = ledger.jobs(study=study)
    if not (content or announced or jobs):
        return None
    live = [job for job in jobs if job.state is not JobState.SUPERSEDED]
    deliveries = [one for job in live for one in ledger.deliveries(job.id)]
    state, reason = _word(live, announced, held=bool(content), routed=catalog.is_routed(study))
    return StudyStatus(
        study_instance_uid=study,
        state=state,
        reason=reason,
        delivered=bool(deliveries) and all(one.state in _TAKEN for one in deliveries),
        instances=len(content),
        announcement=_fetch(announced) if announced else None,
        jobs=tuple(_job(job, ledger) for job in jobs),
    )


def _word(live: Sequence[Job], announced: Announcement | None, *, held: bool, routed: bool) -> tuple[StudyWord, str]:
    """Return the one word for a study, and why: the first of these that holds."""
    reasons = "; ".join(dict.fromkeys(job.explanation for job in live if job.explanation))
    awaited = announced.reason if announced else ""
    given_up = announced is not None and announced.state is Fetching.FAILED
    states = {job.state for job in live}
    words: tuple[tuple[StudyWord, str, bool], ...] = (
        ("reading", reasons, bool(states & _OPEN)),
        ("receiving", awaited, held and not routed),
        ("failed", reasons, JobState.FAILED in states),
        ("reported", reasons, JobState.REPORTED in states),
        ("out_of_scope", reasons, JobState.OUT_OF_SCOPE in states),
        ("failed", awaited, not held and given_up),
        ("announced", awaited, not held and announced is not None),
        ("no_route", "no route takes it; its explanation says on what each one failed", True),
    )
    return next((word, why) for word, why, holds in words if holds)


def _fetch(announced: Announcement) -> FetchStatus:
    return FetchStatus(
        peer=announced.peer,
        state=announced.state,
        reason=announced.reason,
        attempts=announced.attempts,
        read_now=announced.read_now,
        positions=len(announced.locations),
    )


def _job(job: Job, ledger: Ledger) -> JobStatus:
    sent: dict[str, list[Delivery]] = {}
    for one in ledger.deliveries(job.id):
        sent.setdefault(one.document.ref.sop_instance_uid, []).append(one)
    documents = (
        DocumentStatus(
            kind=one.kind,
            sop_class_uid=one.ref.sop_class_uid,
            series_instance_uid=one.ref.series_instance_uid,
            sop_instance_uid=one.ref.sop_instance_uid,
            deliveries=tuple(map(_delivery, sent.get(one.ref.sop_instance_uid, ()))),
        )
        for one in ledger.documents(job.id)
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


def _delivery(one: Delivery) -> DeliveryStatus:
    return DeliveryStatus(
        destination=one.destination,
        state=one.state,
        error=one.error,
        proof=one.proof,
        confirmed_at=one.confirmed_at,
    )
