"""The measurements run on real servers; what they measure is a figure and no test."""

import os
from pathlib import Path

import pytest
from support import program
from support.node import ROOT
from support.timed import REGISTER_S

from ainode.node.bench.load import measured_load
from ainode.node.bench.overheads import PARTS, overheads
from ainode.node.bench.own_time import SCENARIOS, own_time
from ainode.node.bench.urgent import urgent_times


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the node's process find this code and the tests' handler; skip without Orthanc."""
    program("Orthanc")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT / ".ns", ROOT / "tests"))))


def test_the_parts_of_a_study_add_up_to_its_time_from_release_to_report(tmp_path: Path) -> None:
    first, ct = SCENARIOS[0], next(one for one in SCENARIOS if one.images == "CT")
    laps = own_time(tmp_path, rounds=1, slices=3, with_stable_age=False, scenarios=(first, ct))
    assert set(laps) == {first, ct}
    for (lap,) in laps.values():
        assert sum(lap.parts) == pytest.approx(lap.total)
        assert lap.total > 0


def test_each_part_of_the_overheads_is_of_every_patient_and_the_handler_times_its_own(tmp_path: Path) -> None:
    found = overheads(tmp_path, patients=2, handler="support.timed")
    assert set(found) == set(PARTS)
    assert all(len(seconds) == 2 for seconds in found.values())
    assert min(found["query"]) > 0
    assert min(found["retrieve"]) > 0
    assert found["register"] == (REGISTER_S, REGISTER_S)


def test_the_times_of_the_urgent_lane_are_those_of_every_study(tmp_path: Path) -> None:
    times = urgent_times(tmp_path, waiting=3, urgent=2)
    told = [*times.webhook, *times.acknowledgment]
    assert [len(seconds) for seconds in (times.webhook, times.acknowledgment, times.urgent_wait)] == [2, 2, 2]
    assert len(times.ordinary_wait) == 3
    assert min(told) > 0
    assert min(times.composing) > 0


def test_a_load_is_over_when_the_archive_has_all_documents_and_the_node_has_proof_of_each(tmp_path: Path) -> None:
    load = measured_load(tmp_path, 8, idle_s=0.5)
    assert load.studies == 8 + len(load.urgent_s)
    assert load.rate == pytest.approx(load.studies / load.seconds)
    assert min(load.urgent_s) > 0
    assert min(load.memory_mb) > 0
    assert load.cpu_s["the node: intake, engine, ledger, courier"] > load.cpu_s["its receiver"]
