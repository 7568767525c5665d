"""Which series of a study the slice viewer shows first, and which it can show."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from ainode.node.domain import UID
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.records import Job
from ainode.node.keeping.study_records import KeptSeries

# PS3.4 B.5: presentation states, structured reports, surfaces and registrations, radiotherapy without images.
_WITHOUT_IMAGES: Final = tuple(
    f"1.2.840.10008.5.1.4.1.1.{number}." for number in ("9", "11", "66", "88", "104", "481.3", "481.5", "481.8")
)


def viewable(series: Iterable[KeptSeries]) -> tuple[KeptSeries, ...]:
    """Return the series that hold images."""
    return tuple(item for item in series if not f"{item.sop_class_uid}.".startswith(_WITHOUT_IMAGES))


def first_series(study: UID, series: Sequence[KeptSeries], jobs: Sequence[Job], catalog: Catalog) -> str:
    """Return the series with the first key image of the newest answer, else the largest series; '' without images."""
    for job in reversed(jobs):
        key_images = json.loads(job.result).get("key_images", ())[:1] if job.result else ()
        for (holder, _), stored in catalog.versions(key_images).items():
            if holder == study:
                return stored.ref.series_instance_uid
    return max(series, key=lambda item: item.instance_count).series_instance_uid if series else ""
