"""The way of each document to each destination: waiting, sent, confirmed or failed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.keeping import transitions
from ainode.node.keeping.records import Delivery, delivery_of
from ainode.node.keeping.schema import deliveries, documents, jobs


def deliveries_of(job: str, destination: str = "") -> sa.ColumnElement[bool]:
    """Return the condition that a delivery is of a job, and to a destination if one is named."""
    documents_of_job = sa.select(documents.c.sop_instance_uid).where(documents.c.job == job)
    condition = deliveries.c.sop_instance_uid.in_(documents_of_job)
    return condition & (deliveries.c.destination == destination) if destination else condition


class Outbox:
    """Reads and changes deliveries; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def of(self, job: str, destination: str = "") -> tuple[Delivery, ...]:
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

    def claim(self, job: str, destination: str, at: datetime) -> tuple[Delivery, ...]:
        """Mark the waiting deliveries of a job as tried and return them; none of a superseded job.

        The successor of a job that is superseded after this call names the report as predecessor.
        """
        with self._engine.begin() as connection:
            # The update takes the write lock; only then the state of the job is read.
            connection.execute(
                sa.update(deliveries)
                .where(
                    deliveries_of(job, destination),
                    deliveries.c.state == DeliveryState.WAITING,
                    sa.exists().where(jobs.c.id == job, jobs.c.state != JobState.SUPERSEDED),
                )
                .values(tried_at=sa.func.coalesce(deliveries.c.tried_at, at))
            )
            state = connection.execute(sa.select(jobs.c.state).where(jobs.c.id == job)).scalar()
        if state == JobState.SUPERSEDED:
            return ()
        return self._in_state(job, destination, DeliveryState.WAITING)

    def unconfirmed(self, job: str, destination: str) -> tuple[Delivery, ...]:
        """Return the deliveries that were sent and not confirmed."""
        return self._in_state(job, destination, DeliveryState.SENT)

    def _in_state(self, job: str, destination: str, state: DeliveryState) -> tuple[Delivery, ...]:
        return tuple(delivery for delivery in self.of(job, destination) if delivery.state is state)

    def sent(self, delivery: Delivery, *, status: int | None, at: datetime) -> None:
        """Note that the archive took a document."""
        self._move_one(delivery, DeliveryState.SENT, archive_status=status, error="", sent_at=at, transaction_uid="")

    def refused(self, delivery: Delivery, *, status: int | None, error: str) -> None:
        """Note that the archive refused a document for good."""
        self._move_one(delivery, DeliveryState.FAILED, archive_status=status, error=error)

    def confirmed(self, delivery: Delivery, *, proof: str, at: datetime) -> None:
        """Note that the archive proved that it has a document."""
        self._move_one(delivery, DeliveryState.CONFIRMED, proof=proof, confirmed_at=at, error="")

    def missing(self, delivery: Delivery, *, error: str) -> None:
        """Note that the archive took a document and does not have it: the document is to be sent again."""
        self._move_one(delivery, DeliveryState.WAITING, error=error, transaction_uid="")

    def asked(self, asked_deliveries: Sequence[Delivery], transaction_uid: UID, at: datetime) -> None:
        """Note the transaction that asks an archive to commit documents."""
        with self._engine.begin() as connection:
            for delivery in asked_deliveries:
                conditions = (*_is(delivery), deliveries.c.state == DeliveryState.SENT)
                values = {"transaction_uid": transaction_uid, "sent_at": at}
                connection.execute(sa.update(deliveries).where(*conditions).values(values))

    def failed_for_now(self, job: str, destination: str, state: DeliveryState, *, error: str) -> None:
        """Note why the deliveries in a state stay in the state."""
        conditions = (deliveries_of(job, destination), deliveries.c.state == state)
        with self._engine.begin() as connection:
            connection.execute(sa.update(deliveries).where(*conditions).values(error=error))

    def give_up(self, job: str, destination: str, state: DeliveryState, *, error: str = "") -> tuple[Delivery, ...]:
        """Make dead letters of the deliveries in a state; an `error` replaces their last error. Return them."""
        given_up = tuple(
            replace(delivery, error=error or delivery.error or "sent, but the archive never confirmed it")
            for delivery in self._in_state(job, destination, state)
        )
        with self._engine.begin() as connection:
            for delivery in given_up:
                was_in_state = (*_is(delivery), deliveries.c.state == state)
                self._move(connection, was_in_state, DeliveryState.FAILED, error=delivery.error)
        return given_up

    def settle(self, transaction_uid: str, committed: Sequence[UID], failed: Mapping[UID, str], at: datetime) -> None:
        """Write down a storage commitment report: which documents of the transaction the archive committed."""
        of_transaction = deliveries.c.transaction_uid == transaction_uid
        proof = {"proof": "storage commitment", "confirmed_at": at, "error": ""}
        with self._engine.begin() as connection:
            for uid in committed:
                of_document = (of_transaction, deliveries.c.sop_instance_uid == uid)
                self._move(connection, of_document, DeliveryState.CONFIRMED, **proof)
            for uid, reason in failed.items():
                error = f"not committed: {reason}"
                of_document = (of_transaction, deliveries.c.sop_instance_uid == uid)
                # A late report starts nothing: a delivery that was given up gets the archive's reason, no more.
                given_up = (*of_document, deliveries.c.state == DeliveryState.FAILED)
                connection.execute(sa.update(deliveries).where(*given_up).values(error=error))
                was_sent = (*of_document, deliveries.c.state == DeliveryState.SENT)
                self._move(connection, was_sent, DeliveryState.WAITING, error=error, transaction_uid="")

    def _move_one(self, delivery: Delivery, state: DeliveryState, **values: object) -> None:
        with self._engine.begin() as connection:
            self._move(connection, _is(delivery), state, **values)

    def _move(
        self,
        connection: Connection,
        conditions: Sequence[sa.ColumnElement[bool]],
        state: DeliveryState,
        **values: object,
    ) -> None:
        """Change the state of deliveries, and other columns with it, where the state may follow."""
        earlier = deliveries.c.state.in_(transitions.before(state, transitions.DELIVERY))
        connection.execute(sa.update(deliveries).where(*conditions, earlier).values(state=state, **values))


def _is(delivery: Delivery) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        deliveries.c.sop_instance_uid == delivery.document.ref.sop_instance_uid,
        deliveries.c.destination == delivery.destination,
    )
