"""What the node tells people, from the news until it is taken or given up: nothing is sent that is not kept here."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ainode.node.domain import NO_UID, UID, DeliveryState, Occasion
from ainode.node.identity import digest
from ainode.node.keeping.database import aware, insert
from ainode.node.keeping.schema import notices

_DIGITS: Final = 32
_WAITING: Final = DeliveryState.WAITING


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that one subscription is told."""

    id: str
    """the same for the same news: who is told twice can tell"""
    subscription: str
    occasion: Occasion
    subject: str
    """what it is about: a job, a queue, the kind of an alert"""
    body: str = field(repr=False)
    """JSON"""
    created_at: datetime
    study_instance_uid: UID = NO_UID
    is_open: bool = False
    """of a queue: whether it still waits for too long"""
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    """that failed"""
    ended_at: datetime | None = None
    """when it was taken or given up"""
    error: str = ""
    replaces: str = ""
    """identifier of earlier news that this corrects: what of them was not taken is not sent any more"""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the notices of one subscription."""

    waiting: int
    oldest: datetime | None
    """None where nothing waits"""
    sent: int
    failed: int
    last_error: str
    """of what waits or was given up"""


def notice_id(*news: str) -> str:
    """Return the identifier of news for one subscription."""
    return digest(["notice", *news])[:_DIGITS]


def write_notices(connection: Connection, new_notices: Iterable[Notice]) -> None:
    """Write notices in the transaction of a connection; what was written before stays as it is."""
    for notice in new_notices:
        if notice.replaces:
            unsent = notices.c.state.in_((DeliveryState.WAITING, DeliveryState.FAILED))
            connection.execute(sa.delete(notices).where(notices.c.id == notice.replaces, unsent))
        row = {
            "id": notice.id,
            "subscription": notice.subscription,
            "occasion": notice.occasion,
            "subject": notice.subject,
            "study_instance_uid": notice.study_instance_uid,
            "body": notice.body,
            "created_at": notice.created_at,
            "due_at": notice.created_at,
            "state": DeliveryState.WAITING,
            "is_open": notice.is_open,
        }
        connection.execute(insert(connection.engine, notices).values(row).on_conflict_do_nothing())


class Notices:
    """Reads and changes notices; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def keep(self, new_notices: Sequence[Notice]) -> None:
        """Commit notices; known ones change nothing."""
        if new_notices:
            with self._engine.begin() as connection:
                write_notices(connection, new_notices)

    def due(
        self, subscription: str, now: datetime, *, count: int, longest_pause: timedelta | None = None
    ) -> tuple[Notice, ...]:
        """Return what is to be sent now, what was tried least first: news do not wait behind what failed.

        What is due only after the `longest_pause` is due now: the clock was set back meanwhile.
        """
        is_due = notices.c.due_at <= now
        if longest_pause is not None:
            is_due |= notices.c.due_at > now + longest_pause
        query = (
            sa.select(notices)
            .where(*_waiting(subscription), is_due)
            .order_by(notices.c.attempts, notices.c.created_at)
            .limit(count)
        )
        return self._all(query)

    def sent(self, notice: Notice, at: datetime) -> None:
        """Note that a notice was taken."""
        self._end(notice, DeliveryState.SENT, at, "")

    def give_up(self, notice: Notice, at: datetime, error: str) -> None:
        """Make a dead letter of a notice."""
        self._end(notice, DeliveryState.FAILED, at, error)

    def _end(self, notice: Notice, state: DeliveryState, at: datetime, error: str) -> None:
        values = {"state": state, "ended_at": at, "error": error, "attempts": notice.attempts + bool(error)}
        self._update(notice, values)

    def postpone(self, notice: Notice, due_at: datetime, error: str) -> None:
        """Note a failed attempt, and when the next is due."""
        self._update(notice, {"due_at": due_at, "error": error, "attempts": notice.attempts + 1})

    def _update(self, notice: Notice, values: dict[str, object]) -> None:
        is_it = notices.c.id == notice.id, notices.c.state == DeliveryState.WAITING
        with self._engine.begin() as connection:
            connection.execute(sa.update(notices).where(*is_it).values(values))

    def answers(self, job: str) -> tuple[Notice, ...]:
        """Return what each subscription was told last of the answer of a job."""
        query = sa.select(notices).where(notices.c.subject == job).order_by(notices.c.created_at)
        told = (notice for notice in self._all(query) if "verdict" in json.loads(notice.body))
        return tuple({notice.subscription: notice for notice in told}.values())

    def raised(self) -> tuple[Notice, ...]:
        """Return the notices of queues that still wait for too long."""
        return self._all(sa.select(notices).where(notices.c.is_open))

    def close(self, notice: Notice, ending: Notice) -> None:
        """Commit that what was raised is over."""
        with self._engine.begin() as connection:
            connection.execute(sa.update(notices).where(notices.c.id == notice.id).values(is_open=False))
            write_notices(connection, [ending])

    def failed(self, *, count: int) -> tuple[Notice, ...]:
        """Return what was given up, the newest first."""
        is_failed = notices.c.state == DeliveryState.FAILED
        return self._all(sa.select(notices).where(is_failed).order_by(notices.c.ended_at.desc()).limit(count))

    def failed_count(self) -> int:
        """Return how many notices were given up."""
        query = sa.select(sa.func.count()).select_from(notices).where(notices.c.state == DeliveryState.FAILED)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def retry(self, now: datetime, notice: str = "") -> int:
        """Send again what was given up, one or all; return how many."""
        is_meant = [notices.c.state == DeliveryState.FAILED, *([notices.c.id == notice] if notice else [])]
        values = {"state": DeliveryState.WAITING, "attempts": 0, "due_at": now, "ended_at": None, "error": ""}
        with self._engine.begin() as connection:
            return connection.execute(sa.update(notices).where(*is_meant).values(values)).rowcount

    def tally(self, subscription: str, since: datetime) -> Tally:
        """Return what became of the notices of a subscription; what was sent counts from `since` on."""
        of_it, state = notices.c.subscription == subscription, notices.c.state
        waiting, sent, failed = (state == each for each in (_WAITING, DeliveryState.SENT, DeliveryState.FAILED))
        query = sa.select(
            sa.func.count(sa.case((waiting, 1))),
            sa.func.min(sa.case((waiting, notices.c.created_at))),
            sa.func.count(sa.case((sent & (notices.c.ended_at >= since), 1))),
            sa.func.count(sa.case((failed, 1))),
        ).where(of_it)
        unsent = sa.select(notices.c.error).where(of_it, waiting | failed, notices.c.error != "")
        newest = unsent.order_by(notices.c.created_at.desc()).limit(1)
        with self._engine.connect() as connection:
            count, oldest, sent_count, failed_count = connection.execute(query).one()
            error = connection.execute(newest).scalar() or ""
        return Tally(count, aware(oldest) if oldest else None, sent_count, failed_count, error)

    def sweep(self, before: datetime) -> None:
        """Remove what was taken or given up before a time, and no queue that still waits."""
        is_over = notices.c.state != DeliveryState.WAITING, ~notices.c.is_open, notices.c.ended_at < before
        with self._engine.begin() as connection:
            connection.execute(sa.delete(notices).where(*is_over))

    def _all(self, query: sa.Select[Any]) -> tuple[Notice, ...]:
        with self._engine.connect() as connection:
            return tuple(map(_notice, connection.execute(query)))


def _waiting(subscription: str) -> tuple[sa.ColumnElement[bool], ...]:
    return notices.c.subscription == subscription, notices.c.state == _WAITING


def _notice(row: Any) -> Notice:  # noqa: ANN401 - rows have the columns of their query
    return Notice(
        id=row.id,
        subscription=row.subscription,
        occasion=Occasion(row.occasion),
        subject=row.subject,
        body=row.body,
        created_at=aware(row.created_at),
        study_instance_uid=UID(row.study_instance_uid),
        is_open=row.is_open,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        ended_at=aware(row.ended_at) if row.ended_at else None,
        error=row.error,
    )
