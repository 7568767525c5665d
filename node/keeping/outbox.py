"""The way of each document to each destination: waiting, sent, confirmed or failed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.keeping import transitions
from ainode.node.keeping.database import chunks
from ainode.node.keeping.job_events import (
    Instruction,
    JobEvent,
    JobEventKind,
    subject_of,
    write_events,
    write_instruction,
)
from ainode.node.keeping.records import REPLACED, Delivery, delivery_of
from ainode.node.keeping.schema import deliveries, documents, jobs, tasks
from ainode.node.keeping.tasks import MESSAGES, TaskKind
from ainode.node.keeping.witness import Nobody, Witness

# The oldest are forgotten: an archive that never reports is asked again and again.
_MAX_TRANSACTIONS: Final = 50
_TASKS: Final = {
    DeliveryState.WAITING: TaskKind.SEND,
    DeliveryState.SENT: TaskKind.CONFIRM,
    DeliveryState.CHECKING: TaskKind.CHECK,
}
"""what is attempted for deliveries in a state"""


def locked(job: str) -> sa.Select[tuple[str]]:
    """Return the statement that keeps others from changing a job until the transaction ends, where rows are locked.

    Whoever changes deliveries and writes of it locks the job first: the other way round, two would wait for each other.
    """
    return sa.select(jobs.c.id).where(jobs.c.id == job).with_for_update()


def deliveries_of(job: str, destination: str = "") -> sa.ColumnElement[bool]:
    """Return the condition that a delivery is of a job, and to a destination if one is named."""
    documents_of_job = sa.select(documents.c.sop_instance_uid).where(documents.c.job == job)
    condition = deliveries.c.sop_instance_uid.in_(documents_of_job)
    return condition & (deliveries.c.destination == destination) if destination else condition


def unsent_to_archives(job: str) -> sa.Delete:
    """Return the removal of the deliveries of a job to archives that have nothing of them; messages stay."""
    messages = sa.select(documents.c.sop_instance_uid).where(documents.c.kind.in_(MESSAGES))
    is_unsent = deliveries.c.state.in_((DeliveryState.WAITING, DeliveryState.CHECKING))
    return sa.delete(deliveries).where(deliveries_of(job), is_unsent, deliveries.c.sop_instance_uid.not_in(messages))


def document_columns() -> list[sa.ColumnElement[Any]]:
    """Return the columns of a document, whose own destination has a name beside that of a delivery."""
    return [column.label("document_destination") if column.name == "destination" else column for column in documents.c]


class Outbox:
    """Reads and changes deliveries; each method is one transaction."""

    def __init__(self, engine: sa.Engine, witness: Witness | None = None) -> None:
        self._engine, self._witness = engine, witness or Nobody()

    def of(self, job: str, destination: str = "", *conditions: sa.ColumnElement[bool]) -> tuple[Delivery, ...]:
        """Return the deliveries of a job, to all destinations or to one, that meet conditions."""
        query = (
            _with_documents()
            .where(documents.c.job == job, *conditions)
            .order_by(deliveries.c.destination, documents.c.position)
        )
        if destination:
            query = query.where(deliveries.c.destination == destination)
        with self._engine.connect() as connection:
            return tuple(delivery_of(row) for row in connection.execute(query))

    def of_documents(self, uids: Iterable[str]) -> Mapping[str, tuple[Delivery, ...]]:
        """Return the deliveries of each document that has any, by SOP Instance UID."""
        deliveries_by_uid: dict[str, tuple[Delivery, ...]] = {}
        with self._engine.connect() as connection:
            for some in chunks(uids):
                query = _with_documents().where(documents.c.sop_instance_uid.in_(some))
                for row in connection.execute(query.order_by(deliveries.c.destination)):
                    deliveries_by_uid[row.sop_instance_uid] = (
                        *deliveries_by_uid.get(row.sop_instance_uid, ()),
                        delivery_of(row),
                    )
        return deliveries_by_uid

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

    def recall(self, delivery: Delivery, at: datetime) -> bool:
        """Keep a message that was never tried from being sent; return False if it may have left."""
        untried = (*_is(delivery), deliveries.c.tried_at.is_(None))
        values = {**_proven(REPLACED, at), "archive_comment": "not sent: a later message of the job has its place"}
        with self._engine.begin() as connection:
            connection.execute(locked(delivery.document.job))
            is_waiting = deliveries.c.state == DeliveryState.WAITING
            self._move(connection, (*untried, is_waiting), DeliveryState.CONFIRMED, **values)
            query = sa.select(deliveries.c.destination).where(*untried)
            return connection.execute(query).scalar() is not None

    def unconfirmed(self, job: str, destination: str) -> tuple[Delivery, ...]:
        """Return the deliveries that were sent, and that the archive is to be asked about."""
        return self._in_state(job, destination, DeliveryState.SENT, ~deliveries.c.settled)

    def checking(self, job: str, destination: str) -> tuple[Delivery, ...]:
        """Return the deliveries that somebody asked for: the archive is asked whether it still has them."""
        return self._in_state(job, destination, DeliveryState.CHECKING)

    def _in_state(
        self, job: str, destination: str, state: DeliveryState, *conditions: sa.ColumnElement[bool]
    ) -> tuple[Delivery, ...]:
        return self.of(job, destination, deliveries.c.state == state, *conditions)

    def sent(self, *taken: Delivery, status: int | None, comment: str, at: datetime, settled: bool = False) -> None:
        """Note that the archive took documents, and its words; `settled`: nobody asks for a proof, now or later.

        An earlier proof was of what the archive no longer had.
        """
        values = {"archive_status": status, "archive_comment": comment, "proof_comment": "", "error": ""}
        unproven = {"proof": "", "confirmed_at": None, "checked_at": None, "transaction_uid": "", "settled": settled}
        with self._engine.begin() as connection:
            for delivery in taken:
                self._move(connection, _is(delivery), DeliveryState.SENT, **values, **unproven, sent_at=at)
        for delivery in taken:
            self._witness.arrived(delivery, at)

    def acknowledged(self, delivery: Delivery, *, comment: str, at: datetime) -> None:
        """Note that a listener took a message and acknowledged it, which is the proof, and the listener's words."""
        values = {**_proven("acknowledgment", at), "archive_status": None, "archive_comment": comment}
        self._move_one(delivery, DeliveryState.CONFIRMED, **values, sent_at=at, checked_at=None)
        self._witness.arrived(delivery, at)

    def replaced(self, delivery: Delivery, *, reason: str, at: datetime) -> None:
        """Note that a message is not sent any more, for a later one says what it says; no listener said so."""
        values = {**_proven(REPLACED, at), "archive_status": None, "archive_comment": reason}
        self._move_one(delivery, DeliveryState.CONFIRMED, **values, checked_at=None)

    def refused(self, delivery: Delivery, *, status: int | None, error: str, at: datetime, comment: str = "") -> None:
        """Note that the archive refused a document for good, and its words."""
        values = {"archive_status": status, "archive_comment": comment, "error": error}
        with self._engine.begin() as connection:
            connection.execute(locked(delivery.document.job))
            if self._move(connection, _is(delivery), DeliveryState.FAILED, **values):
                _write_given_up(connection, [replace(delivery, error=error)], DeliveryState.WAITING, at)

    def confirmed(self, *proved: Delivery, proof: str, at: datetime) -> None:
        """Note that the archive proved that it has documents; a document that it still has keeps its first time."""
        with self._engine.begin() as connection:
            for delivery in proved:
                values = _proven(proof, delivery.confirmed_at or at)
                checked_at = at if delivery.confirmed_at else None
                self._move(connection, _is(delivery), DeliveryState.CONFIRMED, **values, checked_at=checked_at)

    def missing(self, delivery: Delivery, *, error: str) -> None:
        """Note that the archive does not have a document: the document is to be sent again."""
        values = {"error": error, "transaction_uid": "", "proof": "", "confirmed_at": None, "checked_at": None}
        self._move_one(delivery, DeliveryState.WAITING, **values)

    def settle_unproven(self, unproven: Sequence[Delivery], *, error: str) -> None:
        """Note that the archive took documents, proves none of them, and is asked no more."""
        with self._engine.begin() as connection:
            for delivery in unproven:
                conditions = (*_is(delivery), deliveries.c.state == DeliveryState.SENT)
                connection.execute(sa.update(deliveries).where(*conditions).values(settled=True, error=error))

    def recheck(
        self,
        job: str,
        destination: str = "",
        *,
        instruction: Instruction | None = None,
        unconfirmed: Sequence[str] = (),
        unasked: Sequence[str] = (),
    ) -> None:
        """Let the archives be asked which documents of a job they still have.

        What waits, and what an archive is being asked to prove, needs no other question; nobody asks an `unconfirmed`
        destination for a proof. Without an `instruction` a machine wants it, which may do so every minute. What went to
        an `unasked` destination stays as it is, unless that destination is the one that is named.
        """
        is_asked = (deliveries.c.state == DeliveryState.SENT) & ~deliveries.c.settled
        is_free = ~is_asked | deliveries.c.destination.in_(unconfirmed)
        with self._engine.begin() as connection:
            is_asked_for = deliveries.c.destination.not_in([name for name in unasked if name != destination])
            conditions = (deliveries_of(job, destination), is_free, is_asked_for)
            if connection.execute(locked(job)).scalar() is None:  # archived meanwhile
                return
            if instruction:
                earlier = _may_become(DeliveryState.CHECKING)
                kind = JobEventKind.CHECKED_AGAIN
                write_instruction(connection, job, kind, instruction, (*conditions, earlier))
            self._move(connection, conditions, DeliveryState.CHECKING, error="", settled=False)
            connection.execute(sa.update(tasks).where(tasks.c.job == job).values(attempts=0, due_at=None))

    def note_request(self, sent: Sequence[Delivery], transaction_uid: UID, at: datetime) -> None:
        """Note the transaction that asks an archive to commit documents."""
        with self._engine.begin() as connection:
            for delivery in sent:
                conditions = (*_is(delivery), deliveries.c.state == DeliveryState.SENT)
                transactions = " ".join((*delivery.transactions[1 - _MAX_TRANSACTIONS :], transaction_uid))
                values = {"transaction_uid": transaction_uid, "transactions": transactions, "sent_at": at}
                connection.execute(sa.update(deliveries).where(*conditions).values(values))

    def drop_request(self, sent: Sequence[Delivery], transaction_uid: UID) -> None:
        """Note that a request of commitment failed: the request before, if there is one, is the open one again."""
        with self._engine.begin() as connection:
            for delivery in sent:
                conditions = (*_is(delivery), deliveries.c.transaction_uid == transaction_uid)
                values = {"transaction_uid": delivery.transaction_uid, "sent_at": delivery.sent_at}
                connection.execute(sa.update(deliveries).where(*conditions).values(values))

    def failed_for_now(
        self, job: str, destination: str, state: DeliveryState, *, error: str, comment: str = ""
    ) -> None:
        """Note why the deliveries in a state stay in the state, and the archive's words."""
        conditions = (deliveries_of(job, destination), deliveries.c.state == state)
        column = "archive_comment" if state is DeliveryState.WAITING else "proof_comment"
        with self._engine.begin() as connection:
            connection.execute(sa.update(deliveries).where(*conditions).values({"error": error, column: comment}))

    def refused_for_now(self, delivery: Delivery, *, status: int | None, error: str, comment: str) -> None:
        """Note why the archive did not take a document that will be sent again, and its words."""
        conditions = (*_is(delivery), deliveries.c.state == DeliveryState.WAITING)
        values = {"archive_status": status, "archive_comment": comment, "error": error}
        with self._engine.begin() as connection:
            connection.execute(sa.update(deliveries).where(*conditions).values(values))

    def not_sent(self, delivery: Delivery, at: datetime) -> None:
        """Note that nothing of a document left at the attempt of that time: without an earlier one it was not tried.

        Whoever was never told has nothing to be corrected.
        """
        of_attempt = (*_is(delivery), deliveries.c.state == DeliveryState.WAITING, deliveries.c.tried_at == at)
        with self._engine.begin() as connection:
            connection.execute(sa.update(deliveries).where(*of_attempt).values(tried_at=None))

    def give_up(
        self, job: str, destination: str, state: DeliveryState, *, at: datetime, error: str = ""
    ) -> tuple[Delivery, ...]:
        """Make dead letters of the deliveries in a state; an `error` replaces their last error. Return them."""
        given_up = tuple(
            replace(delivery, error=error or delivery.error or "sent, but the archive never confirmed it")
            for delivery in self._in_state(job, destination, state, ~deliveries.c.settled)
        )
        with self._engine.begin() as connection:
            connection.execute(locked(job))
            given_up = tuple(delivery for delivery in given_up if self._is_given_up(connection, delivery, state))
            _write_given_up(connection, given_up, state, at)
        return given_up

    def _is_given_up(self, connection: Connection, delivery: Delivery, state: DeliveryState) -> bool:
        """Make a dead letter of a delivery; return False if the delivery is no longer in the state."""
        was_in_state = (*_is(delivery), deliveries.c.state == state)
        return bool(self._move(connection, was_in_state, DeliveryState.FAILED, error=delivery.error))

    def settle(self, transaction_uid: str, committed: Sequence[UID], failed: Mapping[UID, str], at: datetime) -> None:
        """Write down a storage commitment report: which documents of the transaction the archive committed.

        An archive may commit by any of the requests, however late; it fails by the open request alone.
        """
        of_any_request = (
            sa.literal(" ")
            .concat(deliveries.c.transactions)
            .concat(" ")
            .contains(f" {transaction_uid} ", autoescape=True)
        )
        with self._engine.begin() as connection:
            for uid in committed:
                of_document = (deliveries.c.sop_instance_uid == uid, of_any_request)
                not_checked = deliveries.c.state != DeliveryState.CHECKING
                self._move(
                    connection,
                    (*of_document, not_checked),
                    DeliveryState.CONFIRMED,
                    **_proven("storage commitment", at),
                )
            for uid, reason in failed.items():
                of_document = (deliveries.c.sop_instance_uid == uid, deliveries.c.transaction_uid == transaction_uid)
                self._settle_failure(connection, of_document, f"not committed: {reason}")

    def _settle_failure(
        self, connection: Connection, of_document: Sequence[sa.ColumnElement[bool]], error: str
    ) -> None:
        """Send a document again that was not committed, unless the archive took it with a warning."""
        # A late report starts nothing: a delivery that was given up gets the archive's reason, no more.
        given_up = (*of_document, deliveries.c.state == DeliveryState.FAILED)
        connection.execute(sa.update(deliveries).where(*given_up).values(error=error))
        was_sent = (*of_document, deliveries.c.state == DeliveryState.SENT)
        is_changed = deliveries.c.archive_status.between(0xB000, 0xBFFF)  # PS3.4 table B.2-1
        settled = {"settled": True, "error": error, "transaction_uid": ""}
        connection.execute(sa.update(deliveries).where(*was_sent, is_changed).values(settled))
        unchanged = (*was_sent, sa.not_(sa.func.coalesce(is_changed, sa.false())))
        self._move(connection, unchanged, DeliveryState.WAITING, error=error, transaction_uid="")

    def _move_one(self, delivery: Delivery, state: DeliveryState, **values: object) -> None:
        with self._engine.begin() as connection:
            self._move(connection, _is(delivery), state, **values)

    def _move(
        self,
        connection: Connection,
        conditions: Sequence[sa.ColumnElement[bool]],
        state: DeliveryState,
        **values: object,
    ) -> int:
        """Change the state of deliveries, and other columns with it, where the state may follow; return how many."""
        update = sa.update(deliveries).where(*conditions, _may_become(state)).values(state=state, **values)
        return connection.execute(update).rowcount


def _proven(proof: str, at: datetime) -> dict[str, object]:
    """Return the values of a delivery that the archive proved."""
    values = {"proof": proof, "error": "", "proof_comment": ""}
    return {**values, "confirmed_at": at, "transaction_uid": "", "settled": False}


def _with_documents() -> sa.Select[Any]:
    """Return the query of deliveries with their documents."""
    columns = (column for column in document_columns() if column.name != "sop_instance_uid")
    of_document = deliveries.c.sop_instance_uid == documents.c.sop_instance_uid
    return sa.select(deliveries, *columns).join(documents, of_document)


def _may_become(state: DeliveryState) -> sa.ColumnElement[bool]:
    return deliveries.c.state.in_(transitions.before(state, transitions.DELIVERY))


def _write_given_up(connection: Connection, given_up: Sequence[Delivery], state: DeliveryState, at: datetime) -> None:
    """Write an event for the documents that were given up for the same reason; `state` is that of before."""
    groups = Counter(
        (item.document.job, subject_of(item.document.kind), item.destination, item.error) for item in given_up
    )
    write_events(
        connection,
        [
            JobEvent(
                job,
                at,
                JobEventKind.GIVEN_UP,
                subject,
                destination,
                count,
                attempts=_failed_attempts(connection, job, _TASKS[state], destination) + 1,
                error=error,
            )
            for (job, subject, destination, error), count in groups.items()
        ],
    )


def _failed_attempts(connection: Connection, job: str, kind: TaskKind, destination: str) -> int:
    """Return how many attempts failed before the last one."""
    of_task = (tasks.c.job == job, tasks.c.kind == kind, tasks.c.destination == destination)
    return int(connection.execute(sa.select(tasks.c.attempts).where(*of_task)).scalar() or 0)


def _is(delivery: Delivery) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        deliveries.c.sop_instance_uid == delivery.document.ref.sop_instance_uid,
        deliveries.c.destination == delivery.destination,
    )
