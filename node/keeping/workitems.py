"""The workitems of worklists that the node performs, and how far each is: written before what it says is sent.

A claim is written with its Transaction UID, a decision with its reason. So a start after a kill goes on where it was.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from ainode.node.domain import NO_UID, UID
from ainode.node.keeping.database import aware, chunks, insert
from ainode.node.keeping.schema import workitems

_TIMES: Final = ("found_at", "claimed_at", "decided_at", "ended_at", "due_at")


class WorkitemState(StrEnum):
    """How far an item is."""

    LEFT = "left"
    """not claimed, for a reason"""
    CLAIMING = "claiming"
    """about to be claimed: nobody knows yet whose the item is"""
    TAKEN = "taken"
    """another performer has claimed it"""
    CLAIMED = "claimed"
    """the node's own; its images are to be fetched"""
    READING = "reading"
    """its images are fetched and read, its results stored"""
    COMPLETING = "completing"
    """everything is stored, and the worklist is to be told so"""
    CANCELING = "canceling"
    """it was decided to cancel it, and the worklist is to be told so"""
    COMPLETED = "completed"
    CANCELED = "canceled"
    GONE = "gone"
    """the worklist has it no longer"""
    FAILED = "failed"
    """given up: the worklist does not take its end"""


OPEN: Final = (
    WorkitemState.CLAIMING,
    WorkitemState.CLAIMED,
    WorkitemState.READING,
    WorkitemState.COMPLETING,
    WorkitemState.CANCELING,
)
"""the states in which the node has something to do"""
CLAIMED: Final = (WorkitemState.CLAIMED, WorkitemState.READING)
"""the states in which the item may still end in one way or the other"""
_AFTER: Final[Mapping[WorkitemState, frozenset[WorkitemState]]] = {
    WorkitemState.LEFT: frozenset({WorkitemState.CLAIMING, WorkitemState.LEFT}),
    WorkitemState.CLAIMING: frozenset({WorkitemState.CLAIMED, WorkitemState.TAKEN, WorkitemState.GONE}),
    WorkitemState.CLAIMED: frozenset(
        {WorkitemState.READING, WorkitemState.CANCELING, WorkitemState.CANCELED, WorkitemState.GONE}
    ),
    # An announcement that the node forgot is made again.
    WorkitemState.READING: frozenset(
        {
            *(WorkitemState.CLAIMED, WorkitemState.COMPLETING, WorkitemState.CANCELING),
            *(WorkitemState.CANCELED, WorkitemState.GONE),
        }
    ),
    WorkitemState.COMPLETING: frozenset(
        {WorkitemState.COMPLETED, WorkitemState.CANCELED, WorkitemState.GONE, WorkitemState.FAILED}
    ),
    WorkitemState.CANCELING: frozenset(
        {WorkitemState.CANCELED, WorkitemState.COMPLETED, WorkitemState.GONE, WorkitemState.FAILED}
    ),
}


@dataclass(frozen=True, slots=True)
class KeptWorkitem:
    """One item; the fields are columns of `workitems`."""

    peer: str
    uid: UID
    found_at: datetime
    state: WorkitemState = WorkitemState.CLAIMING
    study_instance_uid: UID = NO_UID
    source: str = ""
    """the peer that has the images"""
    transaction_uid: UID = NO_UID
    claimed_at: datetime | None = None
    decided_at: datetime | None = None
    """when everything was stored, or it was decided to cancel"""
    ended_at: datetime | None = None
    percent: int = -1
    """progress that the worklist was told last, -1 for none"""
    is_cancel_requested: bool = False
    reason: str = ""
    """why the item was left, or is canceled"""
    reason_code: str = ""
    """code value of DCM, which the worklist is told with the reason"""
    error: str = ""
    """why the last request failed"""
    attempts: int = 0
    """requests that failed since the last that did not"""
    due_at: datetime | None = None
    """when to try again; None: now"""

    @property
    def begun_at(self) -> datetime:
        """Return when the item became the node's own, else when it was found."""
        return self.claimed_at or self.found_at

    @property
    def is_given_up(self) -> bool:
        """Return whether the node gave the item up because requests failed; a person may have it claimed again."""
        return self.state in {WorkitemState.GONE, WorkitemState.FAILED} and bool(self.error)

    @property
    def explanation(self) -> str:
        """Return why the item is where it is, in words for a person."""
        request = "cancellation was requested" if self.is_cancel_requested and self.state in CLAIMED else ""
        return "; ".join(filter(None, (self.reason, request, self.error)))


class Workitems:
    """Reads and changes the items; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def add(self, item: KeptWorkitem) -> bool:
        """Write a new item, or one that was left before; return False if the item is known otherwise."""
        row = dataclasses.asdict(item)
        statement = insert(self._engine, workitems).values(row)
        replaced = {name: statement.excluded[name] for name in row if name not in {"peer", "uid"}}
        written = statement.on_conflict_do_update(
            index_elements=["peer", "uid"], set_=replaced, where=workitems.c.state == WorkitemState.LEFT
        )
        with self._engine.begin() as connection:
            return connection.execute(written.returning(workitems.c.uid)).scalar() is not None

    def move(self, item: KeptWorkitem, state: WorkitemState, **values: object) -> bool:
        """Change the state of an item, and other columns with it; return False if the state may not follow."""
        earlier = tuple(before for before, after in _AFTER.items() if state in after)
        changed = {"state": state, "error": "", "attempts": 0, "due_at": None, **values}
        return self._update(item, changed, workitems.c.state.in_(earlier))

    def note(self, item: KeptWorkitem, **values: object) -> None:
        """Change columns of an item that is in the same state still."""
        self._update(item, values, workitems.c.state == item.state)

    def request_cancel(self, peer: str, uid: str) -> bool:
        """Note that somebody wants an item canceled; return whether it may be the node's and end so."""
        states = (WorkitemState.CLAIMING, *CLAIMED)
        changed = sa.update(workitems).where(
            workitems.c.peer == peer, workitems.c.uid == uid, workitems.c.state.in_(states)
        )
        with self._engine.begin() as connection:
            return bool(connection.execute(changed.values(is_cancel_requested=True)).rowcount)

    def claim_again(self, uid: str) -> tuple[KeptWorkitem, ...]:
        """Have an item that was given up claimed anew, by its Transaction UID; return what it was in each worklist."""
        given_up = tuple(item for item in self._select(workitems.c.uid == uid) if item.is_given_up)
        for item in given_up:
            claim = KeptWorkitem(
                item.peer,
                item.uid,
                item.found_at,
                study_instance_uid=item.study_instance_uid,
                source=item.source,
                transaction_uid=item.transaction_uid,
            )
            self._update(item, dataclasses.asdict(claim), workitems.c.state == item.state)
        return given_up

    def _update(self, item: KeptWorkitem, values: Mapping[str, object], *conditions: sa.ColumnElement[bool]) -> bool:
        is_item = (workitems.c.peer == item.peer, workitems.c.uid == item.uid)
        with self._engine.begin() as connection:
            changed = sa.update(workitems).where(*is_item, *conditions).values(dict(values))
            return bool(connection.execute(changed).rowcount)

    def of(self, peer: str, uid: str) -> KeptWorkitem | None:
        """Return an item, None if the node never looked at it."""
        return next(iter(self._select(workitems.c.peer == peer, workitems.c.uid == uid)), None)

    def open(self, peer: str) -> tuple[KeptWorkitem, ...]:
        """Return the items of a worklist in which the node has something to do, oldest first."""
        return self._select(workitems.c.peer == peer, workitems.c.state.in_(OPEN))

    def open_elsewhere(self, peers: Sequence[str]) -> Mapping[str, int]:
        """Return how many items are open of each worklist that is not among these."""
        return Counter(item.peer for item in self._select(workitems.c.peer.not_in(peers), workitems.c.state.in_(OPEN)))

    def of_study(self, study: UID) -> tuple[KeptWorkitem, ...]:
        """Return the items of a study, oldest first."""
        return self._select(workitems.c.study_instance_uid == study)

    def all(self) -> tuple[KeptWorkitem, ...]:
        """Return every item, oldest first."""
        return self._select()

    def recorded(self, peer: str, uids: Iterable[str]) -> frozenset[UID]:
        """Return those of the items that the node claimed, or tried to, at any time."""
        is_known = workitems.c.peer == peer, workitems.c.state != WorkitemState.LEFT
        query = sa.select(workitems.c.uid).where(*is_known)
        with self._engine.connect() as connection:
            return frozenset(
                UID(uid)
                for some in chunks(uids)
                for uid in connection.execute(query.where(workitems.c.uid.in_(some))).scalars()
            )

    def forget_past(self, before: datetime) -> None:
        """Remove the items that ended before a time, and those that were found and left."""
        is_past = (
            workitems.c.state.not_in(OPEN),
            sa.func.coalesce(workitems.c.ended_at, workitems.c.found_at) < before,
        )
        with self._engine.begin() as connection:
            connection.execute(sa.delete(workitems).where(*is_past))

    def _select(self, *conditions: sa.ColumnElement[bool]) -> tuple[KeptWorkitem, ...]:
        query = sa.select(workitems).where(*conditions).order_by(workitems.c.found_at, workitems.c.uid)
        with self._engine.connect() as connection:
            return tuple(_workitem_of(row) for row in connection.execute(query))


def _workitem_of(row: Any) -> KeptWorkitem:  # noqa: ANN401 - rows have the columns of their query
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    values |= {name: aware(values[name]) for name in _TIMES if values[name]}
    return KeptWorkitem(**{**values, "state": WorkitemState(row.state)})
