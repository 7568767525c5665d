"""What is kept of how a study came: when, from whom, in which series, and when and why it counted as complete."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pydicom.uid
import sqlalchemy as sa

from ainode.node.domain import UID
from ainode.node.keeping.database import aware
from ainode.node.keeping.schema import completions, instances, studies

# PS3.4 B.5: presentation states, structured reports, surfaces and registrations, radiotherapy without images.
_WITHOUT_IMAGES: Final = tuple(
    f"1.2.840.10008.5.1.4.1.1.{number}." for number in ("9", "11", "66", "88", "104", "481.3", "481.5", "481.8")
)


@dataclass(frozen=True, slots=True)
class KeptCompletion:
    """When and why a study counted as complete, and what had come until then."""

    at: datetime
    reason: str
    instance_count: int
    first_received_at: datetime
    last_received_at: datetime


@dataclass(frozen=True, slots=True)
class Reception:
    """What the node holds of a study now."""

    first_received_at: datetime
    last_received_at: datetime
    instance_count: int
    size_bytes: int
    senders: tuple[str, ...]
    """AE titles"""
    is_routed: bool


@dataclass(frozen=True, slots=True)
class KeptSeries:
    """The instances of one SOP class of a series that the node holds."""

    series_instance_uid: UID
    sop_class_uid: UID
    middle: UID
    """SOP Instance UID of an instance in the middle, for a small picture"""
    instance_count: int
    size_bytes: int

    @property
    def has_images(self) -> bool:
        """Return whether instances of the SOP class hold images."""
        return not f"{self.sop_class_uid}.".startswith(_WITHOUT_IMAGES)

    @property
    def kind(self) -> str:
        """Return the SOP class in the words of the standard, such as `CT Image`; what the standard lacks as its UID."""
        return pydicom.uid.UID(self.sop_class_uid).name.replace(" Storage", "")


class StudyRecords:
    """Reads how studies came; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def completions(self, study: UID) -> tuple[KeptCompletion, ...]:
        """Return each time that the study counted as complete, oldest first."""
        query = sa.select(completions).where(completions.c.study_instance_uid == study).order_by(completions.c.at)
        with self._engine.connect() as connection:
            return tuple(
                KeptCompletion(
                    aware(row.at),
                    row.reason,
                    row.instance_count,
                    aware(row.first_received_at),
                    aware(row.last_received_at),
                )
                for row in connection.execute(query)
            )

    def reception(self, study: UID) -> Reception | None:
        """Return what the node holds of the study, None if it holds nothing, or no longer does."""
        of_study = instances.c.study_instance_uid == study
        totals = sa.select(sa.func.count(), sa.func.sum(instances.c.size_bytes)).where(of_study)
        titles = sa.select(instances.c.calling_ae_title).where(of_study).distinct()
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(studies).where(studies.c.study_instance_uid == study)).one_or_none()
            if row is None:
                return None
            count, size = connection.execute(totals).one()
            senders = tuple(sorted(connection.execute(titles).scalars()))
        times = aware(row.first_received_at), aware(row.last_received_at)
        return Reception(*times, count, int(size or 0), senders, row.is_routed)

    def series(self, study: UID) -> tuple[KeptSeries, ...]:
        """Return the series of the study in the order in which they came."""
        names = "series_instance_uid", "sop_class_uid", "sop_instance_uid", "size_bytes"
        query = (
            sa.select(*(instances.c[name] for name in names))
            .where(instances.c.study_instance_uid == study)
            .order_by(instances.c.received_at, instances.c.sop_instance_uid)
        )
        groups: dict[tuple[str, str], list[sa.Row[Any]]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                groups.setdefault((row.series_instance_uid, row.sop_class_uid), []).append(row)
        return tuple(
            KeptSeries(
                UID(series),
                UID(sop_class),
                UID(rows[len(rows) // 2].sop_instance_uid),
                len(rows),
                sum(row.size_bytes for row in rows),
            )
            for (series, sop_class), rows in groups.items()
        )
