"""Announcements of studies and requests to read them, kept until the study is read.

An announcement is committed before it is answered, so a restart pulls, waits and reads as the node would have.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ainode.node.domain import UID, Location, is_position
from ainode.node.keeping.database import aware, insert
from ainode.node.keeping.schema import announcements


class Fetching(StrEnum):
    """Whether the study still has to be pulled from the one who announced it."""

    WAITING = "waiting"
    """to be pulled, now or at its next attempt"""
    HERE = "here"
    """pulled, or nothing to pull: the study arrives by itself"""
    FAILED = "failed"
    """given up; instances that arrive otherwise are read by the ordinary rules"""


@dataclass(frozen=True, slots=True)
class Announcement:
    """One announced study; the fields are columns of `announcements`."""

    study_instance_uid: UID
    announced_at: datetime
    due_at: datetime
    """time of the next attempt to pull the study"""
    peer: str = ""
    """peer that has the study; empty if nobody named a peer"""
    expected: int | None = None
    """instances of the whole study"""
    read_now: bool = False
    locations: tuple[Location, ...] = ()
    """locations for the handler; they stay for every later reading of the study"""
    state: Fetching = Fetching.HERE
    reason: str = ""
    attempts: int = 0
    orthanc_studies: tuple[str, ...] = ()
    """identifiers of the studies in the peer's Orthanc, in the order of their announcements; () for every study of the
    Study Instance UID"""

    @property
    def is_asked(self) -> bool:
        """Whether to read the instances that arrived without waiting for more; not after a failed pull."""
        return self.read_now and self.state is Fetching.HERE


def locations_json(locations: Sequence[Location]) -> str:
    """Return locations as text for a column."""
    return json.dumps([dataclasses.asdict(location) for location in locations])


def locations_of(text: str) -> tuple[Location, ...]:
    """Return the locations of a column's text, less those that an earlier version accepted and that are no position."""
    return tuple(
        Location(**{**values, "position_mm": tuple(values["position_mm"])})
        for values in json.loads(text)
        if is_position(values["position_mm"])
    )


def _announcement(row: Any) -> Announcement:  # noqa: ANN401 - rows have the columns of their query
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    values |= {name: aware(values[name]) for name in ("announced_at", "due_at")}
    values |= {"locations": locations_of(row.locations), "orthanc_studies": tuple(row.orthanc_studies.split())}
    return Announcement(**{**values, "state": Fetching(row.state)})


def _orthanc_studies(excluded: Any) -> sa.ColumnElement[str]:  # noqa: ANN401 - the type of SQLAlchemy's `excluded`
    """Return the identifiers after an announcement: those of the peer that were not pulled yet, then the new ones.

    Orthanc has a study for each patient of a Study Instance UID. The study that was announced last is pulled last.
    """
    former, new = announcements.c.orthanc_studies, excluded.orthanc_studies
    is_pulled = sa.or_(announcements.c.state == Fetching.HERE, announcements.c.peer != excluded.peer)
    is_of_every_study = sa.or_(former == "", new == "")
    return sa.case((is_pulled, new), (is_of_every_study, ""), else_=sa.func.replace(former, new, "") + " " + new)


class Announcements:
    """Reads and changes announcements; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def announce(self, new: Announcement) -> None:
        """Write an announcement over an earlier announcement of the study; an open request of the earlier one stays."""
        row = dataclasses.asdict(new) | {
            "locations": locations_json(new.locations),
            "orthanc_studies": " ".join(new.orthanc_studies),
        }
        statement = insert(self._engine, announcements).values(row)
        excluded = statement.excluded
        replaced = {name: excluded[name] for name in row if name != "study_instance_uid"} | {
            "read_now": sa.or_(announcements.c.read_now, excluded.read_now),
            "expected": sa.func.coalesce(excluded.expected, announcements.c.expected),
            "orthanc_studies": _orthanc_studies(excluded),
        }
        if not new.locations:
            del replaced["locations"]
        with self._engine.begin() as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=["study_instance_uid"], set_=replaced),
            )

    def of(self, study: UID) -> Announcement | None:
        """Return the announcement of the study, None if there is none."""
        selected = self._select(announcements.c.study_instance_uid == study)
        return selected[0] if selected else None

    def waiting(self, peer: str) -> tuple[Announcement, ...]:
        """Return the announcements to pull from a peer, the earliest due first."""
        return self._select(announcements.c.peer == peer, announcements.c.state == Fetching.WAITING)

    def requested(self) -> tuple[UID, ...]:
        """Return the studies that somebody wants read and that were not read yet."""
        return tuple(
            announcement.study_instance_uid
            for announcement in self._select(announcements.c.read_now)
            if announcement.is_asked
        )

    def _select(self, *conditions: sa.ColumnElement[bool]) -> tuple[Announcement, ...]:
        query = sa.select(announcements).where(*conditions).order_by(announcements.c.due_at)
        with self._engine.connect() as connection:
            return tuple(_announcement(row) for row in connection.execute(query))

    def update(self, announcement: Announcement, **values: object) -> None:
        """Change columns of an announcement, unless a newer one took its place."""
        conditions = (
            announcements.c.study_instance_uid == announcement.study_instance_uid,
            announcements.c.announced_at == announcement.announced_at,
        )
        with self._engine.begin() as connection:
            connection.execute(sa.update(announcements).where(*conditions).values(values))

    def settle(self, announcement: Announcement) -> None:
        """Note that the study was routed as announced; an instance that arrives later is read by the ordinary rules."""
        self.update(announcement, read_now=False, expected=None)

    def forget(self, study: UID) -> None:
        """Remove the announcement of a study that the node no longer keeps."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(announcements).where(announcements.c.study_instance_uid == study))
