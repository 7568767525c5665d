"""Which series of a study the slice viewer shows first."""

import json
from collections.abc import Sequence

from ainode.node.domain import UID
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.records import Job
from ainode.node.keeping.study_records import KeptSeries


def first_series(study: UID, series: Sequence[KeptSeries], jobs: Sequence[Job], catalog: Catalog) -> str:
    """Return the series with a key image of the first answer, else the largest series; '' without images."""
    for job in jobs:
        key_images = json.loads(job.result).get("key_images", ())[:1] if job.result else ()
        for (holder, _), stored in catalog.versions(key_images).items():
            if holder == study:
                return stored.ref.series_instance_uid
    return max(series, key=lambda item: item.instance_count).series_instance_uid if series else ""
