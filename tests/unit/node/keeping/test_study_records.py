from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from ainode.node.domain import UID, InstanceRef
from ainode.node.keeping.catalog import Catalog, Completion, StoredInstance
from ainode.node.keeping.study_records import StudyRecords

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STUDY = UID("1")
FIRST = StoredInstance(
    InstanceRef(STUDY, UID("1.1"), UID("1.2"), UID("1.3")), UID("1.2.840"), "ff", 5, Path("x"), "B", NOW
)
LATE = replace(
    FIRST,
    ref=replace(FIRST.ref, sop_instance_uid=UID("1.4")),
    calling_ae_title="A",
    received_at=NOW + timedelta(minutes=2),
)


def test_each_time_that_a_study_was_complete_is_kept_with_its_reason_even_when_the_study_is_gone(
    engine: sa.Engine,
) -> None:
    catalog, records = Catalog(engine), StudyRecords(engine)
    for number, stored in enumerate((FIRST, LATE), start=1):
        catalog.index([stored])
        completion = Completion(stored.received_at + timedelta(seconds=10), f"reason {number}")
        catalog.mark_routed(STUDY, content=catalog.content(STUDY), explanation=[], completion=completion)
    catalog.forget(STUDY)
    early, late = records.completions(STUDY)
    assert (early.reason, early.instance_count, early.last_received_at) == ("reason 1", 1, NOW)
    assert (late.reason, late.instance_count, late.first_received_at) == ("reason 2", 2, NOW)
    assert late.last_received_at == LATE.received_at
    assert records.reception(STUDY) is None


def test_what_the_node_holds_of_a_study_is_counted_by_series_and_sender(engine: sa.Engine) -> None:
    records = StudyRecords(engine)
    Catalog(engine).index([LATE, FIRST, replace(FIRST, ref=replace(FIRST.ref, study_instance_uid=UID("2")))])
    reception = records.reception(STUDY)
    assert reception
    assert (reception.instance_count, reception.size_bytes, reception.senders) == (2, 10, ("A", "B"))
    (series,) = records.series(STUDY)
    assert (series.series_instance_uid, series.instance_count) == ("1.1", 2)
