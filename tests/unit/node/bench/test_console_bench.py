"""The catalog of the measurement is as the node itself writes catalogs."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.databases import migrated

from ainode.node.bench.full_catalog import DESTINATIONS, fill, name_of, study_of
from ainode.node.keeping.patient_index import Naming, PatientIndex
from ainode.node.keeping.worklist import Criteria, DocumentsState, EntryState, Worklist
from ainode.node.keeping.worklist_rows import WorklistRows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_measured_catalog_has_rows_of_each_finished_state_and_finds_a_name(tmp_path: Path) -> None:
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    fill(engine, 200, NOW)
    worklist = Worklist(engine)
    for state in ("reported", "out_of_scope", "failed", "superseded", "no_route"):
        assert worklist.count(Criteria(state=EntryState(state))), state
    assert worklist.count(Criteria(documents=DocumentsState.FAILED, destination=DESTINATIONS[0])) == 2
    entries = worklist.page(Criteria(text=name_of(30).replace("^", " ")), count=50)
    (row,) = WorklistRows(engine, PatientIndex(engine, Naming.FULL)).of(entries)
    assert row.entry.study_instance_uid == study_of(30)
    assert (row.headline, row.probability, row.waited_s) == ("fracture: present", 0.912, pytest.approx(1.8))
    assert {place.destination for place in row.whereabouts} == set(DESTINATIONS)
    engine.dispose()
