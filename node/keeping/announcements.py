"""What was announced of a study, or asked for it, before its documents exist: kept until the study is read.

An announcement is committed before it is answered, so a restart pulls, waits and reads as it would have.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ainode.node.domain import UID, Location
from ainode.node.keeping.database import aware, insert
from ainode.node.keeping.schema import announcements


class Fetching(StrEnum):
    """Whether the study still has to be pulled from the one who announced it."""

    WAITING = "waiting"
    """to be pulled, now or at its next attempt"""
    HERE = "here"
    """pulled, or nothing to pull: it comes by itself"""
    FAILED = "failed"
    """given up; what came otherwise is read by the ordinary rules"""


@dataclass(frozen=True, slots=True)
class Announcement:
    """One study that somebody spoke of; its fields are columns of `announcements`."""

    study_instance_uid: UID
    announced_at: datetime
    due_at: datetime
    """of the next attempt to pull it"""
    peer: str = ""
    """who has it; '' where nobody said"""
    expected: int | None = None
    """instances of the whole study"""
    read_now: bool = False
    locations: tuple[Location, ...] = ()
    """what the handler is to look at; they stay for every later reading of the study"""
    state: Fetching = Fetching.HERE
    reason: str = ""
    attempts: int = 0

    @property
    def is_asked(self) -> bool:
        """Whether to read what is here without waiting for more; after a pull that failed the ordinary rules hold."""
        return self.read_now and self.state is Fetching.HERE


def locations_json(locations: Sequence[Location]) -> str:
    """Return places as text for a column."""
    return json.dumps([dataclasses.asdict(one) for one in locations])


def locations_of(text: str) -> tuple[Location, ...]:
    """Return the places of such a text."""
    return tuple(Location(**{**one, "position_mm": tuple(one["position_mm"])}) for one in json.loads(text))


def _announcement(row: Any) -> Announcement:  # noqa: ANN401 - rows have the columns of their query
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    values |= {name: aware(values[name]) for name in ("announced_at", "due_at")}
    return Announcement(**{**values, "state": Fetching(row.state), "locations": locations_of(row.locations)})


class Announcements:
    """Every question and every change; one method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def announce(self, new: Announcement) -> None:
        """Keep an announcement over an earlier one of the study; what that one asked for and is open stays."""
        row = dataclasses.asdict(new) | {"locations": locations_json(new.locations)}
        statement = insert(self._engine, announcements).values(row)
        taken = statement.excluded
        replaced = {name: taken[name] for name in row if name != "study_instance_uid"} | {
            "read_now": sa.or_(announcements.c.read_now, taken.read_now),
            "expected": sa.func.coalesce(taken.expected, announcements.c.expected),
        }
        if not new.locations:
            del replaced["locations"]
        with self._engine.begin() as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=["study_instance_uid"], set_=replaced),
            )

    def of(self, study: UID) -> Announcement | None:
        """Return what is announced of the study."""
        found = self._select(announcements.c.study_instance_uid == study)
        return found[0] if found else None

    def waiting(self, peer: str) -> tuple[Announcement, ...]:
        """Return what is to be pulled from a peer, the earliest due first."""
        return self._select(announcements.c.peer == peer, announcements.c.state == Fetching.WAITING)

    def asked(self) -> tuple[UID, ...]:
        """Return the studies that are to be read now and were not yet."""
        return tuple(one.study_instance_uid for one in self._select(announcements.c.read_now) if one.is_asked)

    def _select(self, *conditions: sa.ColumnElement[bool]) -> tuple[Announcement, ...]:
        query = sa.select(announcements).where(*conditions).order_by(announcements.c.due_at)
        with self._engine.connect() as connection:
            return tuple(_announcement(row) for row in connection.execute(query))

    def update(self, seen: Announcement, **values: object) -> None:
        """Change columns of an announcement, unless a newer one took its place."""
        same = (
            announcements.c.study_instance_uid == seen.study_instance_uid,
            announcements.c.announced_at == seen.announced_at,
        )
        with self._engine.begin() as connection:
            connection.execute(sa.update(announcements).where(*same).values(values))

    def settle(self, seen: Announcement) -> None:
        """Note that the study was handed on as announced: what comes later is a new question."""
        self.update(seen, read_now=False, expected=None)

    def forget(self, study: UID) -> None:
        """Remove what was said of a study that is no longer kept."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(announcements).where(announcements.c.study_instance_uid == study))
