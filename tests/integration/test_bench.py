"""The measurements run on real servers; what they measure is a figure and no test."""

import os
from pathlib import Path

import pytest
from support import program
from support.node import ROOT
from support.timed import REGISTER_S

from ainode.node.bench.overheads import PARTS, overheads
from ainode.node.bench.own_time import SCENARIOS, own_time


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
