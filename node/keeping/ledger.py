"""Jobs, the documents they made, and each document's way to each destination.

What stands here cannot be rebuilt, so it is committed before anything acts on it.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.keeping.announcements import locations_json
from ainode.node.keeping.database import insert, reference, reference_values
from ainode.node.keeping.records import Delivery, Job, KeptDocument, Outcome, delivery_of, document_of, job_of
from ainode.node.keeping.schema import deliveries, documents, jobs

Wishes: TypeAlias = Mapping[str, Sequence[DocumentKind]]
"""destination to the optional documents that it gets"""


class Ledger:
    """Reads and changes jobs, documents and deliveries; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    # Jobs

    def open(self, job: Job) -> Job | None:
        """Commit a new job and supersede the older jobs of its route; None if the job is known.

        The predecessors of the new job are the reports of older jobs that left, or may have left, the node.
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
        older_jobs = (
            connection.execute(
                sa.select(jobs.c.id).where(
                    jobs.c.study_instance_uid == job.study_instance_uid,
                    jobs.c.route == job.route,
                )
            )
            .scalars()
            .all()
        )
        connection.execute(sa.update(jobs).where(jobs.c.id.in_(older_jobs)).values(state=JobState.SUPERSEDED))
        sent_reports = connection.execute(
            sa.select(documents)
            .join(deliveries, deliveries.c.sop_instance_uid == documents.c.sop_instance_uid)
            .where(
                documents.c.job.in_(older_jobs),
                documents.c.kind == DocumentKind.STRUCTURED_REPORT,
                deliveries.c.tried_at.is_not(None),
            )
            .distinct()
        )
        return tuple(reference(row) for row in sent_reports)

    def job(self, job: str) -> Job:
        """Return one job.

        Raises: LookupError if no job has the identifier.
        """
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job)).one_or_none()
        if row is None:
            raise LookupError(f"no job {job}; `ainode jobs` lists them")
        return job_of(row)

    def jobs(self, *, study: UID | None = None, states: Sequence[JobState] = ()) -> tuple[Job, ...]:
        """Return the jobs, oldest first; of a study, or in certain states, if these are given."""
        query = sa.select(jobs).order_by(jobs.c.queued_at)
        if study:
            query = query.where(jobs.c.study_instance_uid == study)
        if states:
            query = query.where(jobs.c.state.in_(states))
        with self._engine.connect() as connection:
            return tuple(job_of(row) for row in connection.execute(query))

    def move(self, job: str, state: JobState, *, reason: str = "") -> bool:
        """Change the state of a job unless the job is superseded; return whether the state changed."""
        values: dict[str, object] = {"state": state, "reason": reason}
        if state is JobState.READING:
            values["attempts"] = jobs.c.attempts + 1
        update = sa.update(jobs).where(jobs.c.id == job, jobs.c.state != JobState.SUPERSEDED)
        with self._engine.begin() as connection:
            return bool(connection.execute(update.values(values)).rowcount)

    def address(self, job: str, destinations: Sequence[str], *, withheld: str = "") -> Job:
        """Set the destinations of a job, or the reason why its documents stay in the node; return the changed job."""
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
        kept_documents: Sequence[KeptDocument],
        reading: Outcome,
        *,
        wishes: Wishes = MappingProxyType({}),
    ) -> None:
        """Commit the documents of a job, and a waiting delivery of each document to each destination.

        Optional documents go where `wishes` names their kind. A second report of the same job changes nothing: the
        first encoded documents are the ones that leave.
        """
        with self._engine.begin() as connection:
            for position, document in enumerate(kept_documents):
                row = {
                    **reference_values(document.ref),
                    "job": document.job,
                    "position": position,
                    "kind": document.kind,
                    "path": str(document.path),
                    "sha256": document.sha256,
                }
                connection.execute(insert(self._engine, documents).values(row).on_conflict_do_nothing())
                self._address(connection, document, job.destinations, wishes)
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
        """Set failed work back to waiting; return the destinations to deliver to, an empty text for the reading."""
        documents_of_job = sa.select(documents.c.sop_instance_uid).where(documents.c.job == job)
        failed = (
            deliveries.c.sop_instance_uid.in_(documents_of_job),
            deliveries.c.state == DeliveryState.FAILED,
        )
        with self._engine.begin() as connection:
            reading = connection.execute(
                sa.update(jobs).where(jobs.c.id == job, jobs.c.state == JobState.FAILED).values(state=JobState.WAITING)
            )
            if reading.rowcount:
                return ("",)
            destinations = connection.execute(sa.select(deliveries.c.destination).where(*failed).distinct()).scalars()
            revived = tuple(destinations)
            connection.execute(sa.update(deliveries).where(*failed).values(state=DeliveryState.WAITING, error=""))
        return revived

    def documents(self, job: str) -> tuple[KeptDocument, ...]:
        """Return the documents of a job in the order of sending."""
        with self._engine.connect() as connection:
            return self._documents(connection, job)

    def _documents(self, connection: Connection, job: str) -> tuple[KeptDocument, ...]:
        query = sa.select(documents).where(documents.c.job == job).order_by(documents.c.position)
        return tuple(document_of(row) for row in connection.execute(query))

    def deliveries(self, job: str, destination: str = "") -> tuple[Delivery, ...]:
        """Return the deliveries of a job, to all destinations or to one."""
        query = (
            sa.select(deliveries, *(column for column in documents.c if column.name != "sop_instance_uid"))
            .join(documents, deliveries.c.sop_instance_uid == documents.c.sop_instance_uid)
            .where(documents.c.job == job)
            .order_by(deliveries.c.destination, documents.c.position)
        )
        if destination:
            query = query.where(deliveries.c.destination == destination)
        with self._engine.connect() as connection:
            return tuple(delivery_of(row) for row in connection.execute(query))

    def unsettled(self, unconfirmed: Sequence[str]) -> tuple[tuple[str, str, DeliveryState], ...]:
        """Return job, destination and state of every unsettled delivery, each combination once.

        At an `unconfirmed` destination a sent document is settled. A waiting document of a superseded job never leaves.
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
        """Mark the waiting deliveries of a job as tried and return them; none of a superseded job.

        The successor of a job that is superseded after this call names the report as predecessor.
        """
        documents_of_job = sa.select(documents.c.sop_instance_uid).where(documents.c.job == job)
        with self._engine.begin() as connection:
            # The update takes the write lock; only then the state of the job is read.
            connection.execute(
                sa.update(deliveries)
                .where(
                    deliveries.c.sop_instance_uid.in_(documents_of_job),
                    deliveries.c.destination == destination,
                    deliveries.c.state == DeliveryState.WAITING,
                    sa.exists().where(jobs.c.id == job, jobs.c.state != JobState.SUPERSEDED),
                )
                .values(tried_at=sa.func.coalesce(deliveries.c.tried_at, at))
            )
            state = connection.execute(sa.select(jobs.c.state).where(jobs.c.id == job)).scalar()
        if state == JobState.SUPERSEDED:
            return ()
        return tuple(
            delivery for delivery in self.deliveries(job, destination) if delivery.state is DeliveryState.WAITING
        )

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
        """Write down a storage commitment report: which documents of the transaction the archive committed."""
        of_transaction = deliveries.c.transaction_uid == transaction_uid
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(of_transaction, deliveries.c.sop_instance_uid.in_(committed))
                .values(state=DeliveryState.CONFIRMED, proof="storage commitment", confirmed_at=at, error="")
            )
            for uid, reason in failed.items():
                of_document = sa.update(deliveries).where(of_transaction, deliveries.c.sop_instance_uid == uid)
                waiting_again = {"state": DeliveryState.WAITING, "transaction_uid": ""}
                # A late report starts nothing: a delivery that was given up gets the archive's reason, no more.
                for state, values in ((DeliveryState.FAILED, {}), (DeliveryState.SENT, waiting_again)):
                    new_values = {"error": f"not committed: {reason}", **values}
                    connection.execute(of_document.where(deliveries.c.state == state).values(new_values))
