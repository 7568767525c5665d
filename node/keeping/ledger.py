"""Jobs, the documents they made, and each document's way to each destination.

What stands here cannot be rebuilt, so it is committed before anything acts on it.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState, Location
from ainode.node.keeping.announcements import locations_json, locations_of
from ainode.node.keeping.database import aware, insert, reference, reference_values
from ainode.node.keeping.schema import deliveries, documents, jobs

Wishes: TypeAlias = Mapping[str, Sequence[DocumentKind]]
"""destination to the optional documents that it gets"""


@dataclass(frozen=True, slots=True)
class Job:
    """One reading of one study by one route."""

    id: str
    study_instance_uid: UID
    route: str
    handler: str
    content: Mapping[UID, str]
    """SOP Instance UID -> sha256: exactly what is read"""
    created_at: datetime
    """first reception of the study: the time that documents carry"""
    queued_at: datetime
    destinations: tuple[str, ...]
    priority: int = 100
    predecessors: tuple[InstanceRef, ...] = ()
    locations: tuple[Location, ...] = ()
    """what somebody wants looked at"""
    state: JobState = JobState.WAITING
    attempts: int = 0
    reason: str = ""
    result: str = ""
    seconds: float = 0.0
    overheads: Mapping[str, float] = field(default_factory=dict)
    """seconds of parts, by name: `query` and `retrieve` of priors before the reading, and what its handler timed"""
    withheld: str = ""
    """why the documents of a live route stay in the node; empty where they leave"""

    @property
    def explanation(self) -> str:
        """Return why the job has no answer, or why the answer stays in the node."""
        return "; ".join(filter(None, (self.reason, self.withheld)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reading ended; its fields are columns of `jobs`."""

    state: JobState
    result: str
    """result.json"""
    reason: str
    seconds: float
    overheads: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeptDocument:
    """One encoded document on disk."""

    job: str
    ref: InstanceRef
    kind: DocumentKind
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One document on its way to one destination."""

    document: KeptDocument
    destination: str
    state: DeliveryState
    archive_status: int | None
    error: str
    proof: str
    transaction_uid: str
    sent_at: datetime | None
    confirmed_at: datetime | None


def _job(row: Any) -> Job:  # noqa: ANN401
    return Job(
        id=row.id,
        study_instance_uid=UID(row.study_instance_uid),
        route=row.route,
        handler=row.handler,
        content=json.loads(row.content),
        created_at=aware(row.created_at),
        queued_at=aware(row.queued_at),
        destinations=tuple(json.loads(row.destinations)),
        priority=row.priority,
        predecessors=tuple(InstanceRef(*map(UID, one)) for one in json.loads(row.predecessors)),
        locations=locations_of(row.locations),
        state=JobState(row.state),
        attempts=row.attempts,
        reason=row.reason,
        result=row.result,
        seconds=row.seconds,
        overheads=json.loads(row.overheads),
        withheld=row.withheld,
    )


def _document(row: Any) -> KeptDocument:  # noqa: ANN401
    return KeptDocument(row.job, reference(row), DocumentKind(row.kind), Path(row.path), row.sha256)


def _delivery(row: Any) -> Delivery:  # noqa: ANN401
    return Delivery(
        document=_document(row),
        destination=row.destination,
        state=DeliveryState(row.state),
        archive_status=row.archive_status,
        error=row.error,
        proof=row.proof,
        transaction_uid=row.transaction_uid,
        sent_at=aware(row.sent_at) if row.sent_at else None,
        confirmed_at=aware(row.confirmed_at) if row.confirmed_at else None,
    )


class Ledger:
    """Every question and every change; one method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    # Jobs

    def open(self, job: Job) -> Job | None:
        """Commit a new job and supersede its elders of the same route; None if this very job is known.

        The new job names as predecessors the reports of its elders that left, or may have left, the node.
        """
        with self._engine.begin() as connection:
            if connection.execute(sa.select(jobs.c.id).where(jobs.c.id == job.id)).scalar():
                return None
            predecessors = self._supersede(connection, job)
            row = {
                "id": job.id,
                "study_instance_uid": job.study_instance_uid,
                "route": job.route,
                "handler": job.handler,
                "state": job.state,
                "priority": job.priority,
                "content": json.dumps(dict(job.content)),
                "destinations": json.dumps(job.destinations),
                "predecessors": json.dumps([list(reference_values(ref).values()) for ref in predecessors]),
                "locations": locations_json(job.locations),
                "created_at": job.created_at,
                "queued_at": job.queued_at,
                "withheld": job.withheld,
            }
            connection.execute(sa.insert(jobs).values(row))
        return self.job(job.id)

    def _supersede(self, connection: Connection, job: Job) -> tuple[InstanceRef, ...]:
        elders = (
            connection.execute(
                sa.select(jobs.c.id).where(
                    jobs.c.study_instance_uid == job.study_instance_uid,
                    jobs.c.route == job.route,
                )
            )
            .scalars()
            .all()
        )
        connection.execute(sa.update(jobs).where(jobs.c.id.in_(elders)).values(state=JobState.SUPERSEDED))
        left = connection.execute(
            sa.select(documents)
            .join(deliveries, deliveries.c.sop_instance_uid == documents.c.sop_instance_uid)
            .where(
                documents.c.job.in_(elders),
                documents.c.kind == DocumentKind.STRUCTURED_REPORT,
                deliveries.c.tried_at.is_not(None),
            )
            .distinct()
        )
        return tuple(reference(row) for row in left)

    def job(self, job: str) -> Job:
        """Return one job.

        Raises: LookupError if there is none of that id.
        """
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job)).one_or_none()
        if row is None:
            raise LookupError(f"no job {job}; `ainode jobs` lists them")
        return _job(row)

    def jobs(self, *, study: UID | None = None, states: Sequence[JobState] = ()) -> tuple[Job, ...]:
        """Return the jobs, oldest first, of one study or state where asked."""
        query = sa.select(jobs).order_by(jobs.c.queued_at)
        if study:
            query = query.where(jobs.c.study_instance_uid == study)
        if states:
            query = query.where(jobs.c.state.in_(states))
        with self._engine.connect() as connection:
            return tuple(_job(row) for row in connection.execute(query))

    def move(self, job: str, state: JobState, *, reason: str = "") -> bool:
        """Change the state of a job unless it was superseded; say whether it was changed."""
        values: dict[str, object] = {"state": state, "reason": reason}
        if state is JobState.READING:
            values["attempts"] = jobs.c.attempts + 1
        update = sa.update(jobs).where(jobs.c.id == job, jobs.c.state != JobState.SUPERSEDED)
        with self._engine.begin() as connection:
            return bool(connection.execute(update.values(values)).rowcount)

    def address(self, job: str, destinations: Sequence[str], *, withheld: str = "") -> Job:
        """Set where the documents of a job will go, or why they stay in the node; return the job as it is then."""
        with self._engine.begin() as connection:
            values = {"withheld": withheld, "destinations": json.dumps(tuple(destinations))}
            connection.execute(sa.update(jobs).where(jobs.c.id == job).values(values))
        return self.job(job)

    def release(self, job: Job, destinations: Sequence[str], wishes: Wishes) -> tuple[str, ...]:
        """Let the withheld documents of a finished job leave; return the destinations to deliver to.

        Raises: LookupError if the job is not finished, is superseded, or is not withheld any more.
        """
        finished = (JobState.REPORTED, JobState.OUT_OF_SCOPE)
        with self._engine.begin() as connection:
            values = {"withheld": "", "destinations": json.dumps(tuple(destinations))}
            releasable = (jobs.c.id == job.id, jobs.c.state.in_(finished), jobs.c.withheld != "")
            if not connection.execute(sa.update(jobs).where(*releasable).values(values)).rowcount:
                raise LookupError(f"job {job.id} is {job.state}; only the documents of a finished job can be sent")
            for document in self._documents(connection, job.id):
                self._address(connection, document, destinations, wishes)
        return tuple(destinations)

    # Documents and deliveries

    def report(
        self,
        job: Job,
        kept: Sequence[KeptDocument],
        reading: Outcome,
        *,
        wishes: Wishes = MappingProxyType({}),
    ) -> None:
        """Commit what a job made, and one waiting delivery per document and destination.

        Optional documents go where `wishes` names their kind. A second report of the same job changes nothing: the
        first encoded documents are the ones that leave.
        """
        with self._engine.begin() as connection:
            for position, one in enumerate(kept):
                row = {
                    **reference_values(one.ref),
                    "job": one.job,
                    "position": position,
                    "kind": one.kind,
                    "path": str(one.path),
                    "sha256": one.sha256,
                }
                connection.execute(insert(self._engine, documents).values(row).on_conflict_do_nothing())
                self._address(connection, one, job.destinations, wishes)
            values = dataclasses.asdict(reading) | {"overheads": json.dumps(dict(reading.overheads))}
            connection.execute(
                sa.update(jobs).where(jobs.c.id == job.id, jobs.c.state != JobState.SUPERSEDED).values(values)
            )

    def _address(
        self, connection: Connection, document: KeptDocument, destinations: Sequence[str], wishes: Wishes
    ) -> None:
        """Insert a waiting delivery for every destination that gets the document; existing deliveries stay."""
        for destination in destinations:
            if document.kind.is_optional and document.kind not in wishes.get(destination, ()):
                continue
            row = {
                "sop_instance_uid": document.ref.sop_instance_uid,
                "destination": destination,
                "state": DeliveryState.WAITING,
            }
            connection.execute(insert(self._engine, deliveries).values(row).on_conflict_do_nothing())

    def revive(self, job: str) -> tuple[str, ...]:
        """Set what failed back to waiting; return the destinations to deliver to, '' for the reading itself."""
        mine = sa.select(documents.c.sop_instance_uid).where(documents.c.job == job)
        lost = (deliveries.c.sop_instance_uid.in_(mine), deliveries.c.state == DeliveryState.FAILED)
        with self._engine.begin() as connection:
            reading = connection.execute(
                sa.update(jobs).where(jobs.c.id == job, jobs.c.state == JobState.FAILED).values(state=JobState.WAITING)
            )
            if reading.rowcount:
                return ("",)
            destinations = connection.execute(sa.select(deliveries.c.destination).where(*lost).distinct()).scalars()
            found = tuple(destinations)
            connection.execute(sa.update(deliveries).where(*lost).values(state=DeliveryState.WAITING, error=""))
        return found

    def documents(self, job: str) -> tuple[KeptDocument, ...]:
        """Return what a job made, in the order in which it is sent."""
        with self._engine.connect() as connection:
            return self._documents(connection, job)

    def _documents(self, connection: Connection, job: str) -> tuple[KeptDocument, ...]:
        query = sa.select(documents).where(documents.c.job == job).order_by(documents.c.position)
        return tuple(_document(row) for row in connection.execute(query))

    def deliveries(self, job: str, destination: str = "") -> tuple[Delivery, ...]:
        """Return the deliveries of a job, of one destination where asked."""
        query = (
            sa.select(deliveries, *(column for column in documents.c if column.name != "sop_instance_uid"))
            .join(documents, deliveries.c.sop_instance_uid == documents.c.sop_instance_uid)
            .where(documents.c.job == job)
            .order_by(deliveries.c.destination, documents.c.position)
        )
        if destination:
            query = query.where(deliveries.c.destination == destination)
        with self._engine.connect() as connection:
            return tuple(_delivery(row) for row in connection.execute(query))

    def unsettled(self, unconfirmed: Sequence[str]) -> tuple[tuple[str, str, DeliveryState], ...]:
        """Return job, destination and state of what is still to be sent or confirmed, each once.

        Where a destination is `unconfirmed`, what is sent is done; what waits of a superseded job never leaves.
        """
        waits = (deliveries.c.state == DeliveryState.WAITING) & (jobs.c.state != JobState.SUPERSEDED)
        sent = (deliveries.c.state == DeliveryState.SENT) & deliveries.c.destination.not_in(unconfirmed)
        query = (
            sa.select(jobs.c.id, deliveries.c.destination, deliveries.c.state)
            .select_from(deliveries.join(documents).join(jobs))
            .where(waits | sent)
            .distinct()
        )
        with self._engine.connect() as connection:
            return tuple((job, name, DeliveryState(state)) for job, name, state in connection.execute(query))

    def claim(self, job: str, destination: str, at: datetime) -> tuple[Delivery, ...]:
        """Return the deliveries of a job that may be sent now, marked as tried; none of a superseded job.

        A job that is superseded after this names its report as predecessor, one superseded before never leaves.
        """
        mine = sa.select(documents.c.sop_instance_uid).where(documents.c.job == job)
        with self._engine.begin() as connection:
            # the update takes the write lock before the state is looked at
            connection.execute(
                sa.update(deliveries)
                .where(
                    deliveries.c.sop_instance_uid.in_(mine),
                    deliveries.c.destination == destination,
                    deliveries.c.state == DeliveryState.WAITING,
                    sa.exists().where(jobs.c.id == job, jobs.c.state != JobState.SUPERSEDED),
                )
                .values(tried_at=sa.func.coalesce(deliveries.c.tried_at, at))
            )
            state = connection.execute(sa.select(jobs.c.state).where(jobs.c.id == job)).scalar()
        if state == JobState.SUPERSEDED:
            return ()
        return tuple(one for one in self.deliveries(job, destination) if one.state is DeliveryState.WAITING)

    def update(self, delivery: Delivery, **values: object) -> None:
        """Change columns of one delivery."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(
                    deliveries.c.sop_instance_uid == delivery.document.ref.sop_instance_uid,
                    deliveries.c.destination == delivery.destination,
                )
                .values(values)
            )

    def settle(self, transaction_uid: str, committed: Sequence[UID], failed: Mapping[UID, str], at: datetime) -> None:
        """Keep an archive's storage commitment report: which of that transaction's documents it holds."""
        mine = deliveries.c.transaction_uid == transaction_uid
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(mine, deliveries.c.sop_instance_uid.in_(committed))
                .values(state=DeliveryState.CONFIRMED, proof="storage commitment", confirmed_at=at, error="")
            )
            for uid, why in failed.items():
                one = sa.update(deliveries).where(mine, deliveries.c.sop_instance_uid == uid)
                again = {"state": DeliveryState.WAITING, "transaction_uid": ""}
                # a late report starts nothing: what was given up in the meantime only gets the archive's reason
                for state, values in ((DeliveryState.FAILED, {}), (DeliveryState.SENT, again)):
                    said = {"error": f"not committed: {why}", **values}
                    connection.execute(one.where(deliveries.c.state == state).values(said))
