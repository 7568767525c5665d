"""The table of outcomes holds every shared file, and the node still answers as the table says."""

import re
from pathlib import Path

import pytest
from support import installed, outcomes, shared

installed("torch", "openvino", "keras", "ultralytics", "timm")
# Rounding of the networks' arithmetic on another processor.
CLOSE = 0.005
NUMBER = re.compile(r"0\.\d+|1\.0+")


def test_every_shared_file_has_its_outcome() -> None:
    root = shared(outcomes.FOLDER)
    names = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert names <= {row.name for row in outcomes.table()}


def test_no_shared_file_ends_in_a_crash() -> None:
    crashes = {row.name for row in outcomes.table() if any("crash" in cell for cell in row.outcomes.values())}
    assert not crashes


@pytest.mark.long
@pytest.mark.timeout(2400)  # 312 rows, five models each
@pytest.mark.filterwarnings("ignore")
def test_each_shared_file_gets_the_outcome_of_the_table(tmp_path: Path) -> None:
    expected = {row.name: row.outcomes for row in outcomes.table()}
    differences = [
        (row.name, column, expected[row.name][column], cell)
        for row in outcomes.rows(shared(outcomes.FOLDER), tmp_path)
        for column, cell in row.outcomes.items()
        if not same(expected[row.name][column], cell)
    ]
    assert not differences


def same(expected: str, outcome: str) -> bool:
    """Return whether two outcomes are one number within `CLOSE`, or one text up to the reason."""
    if NUMBER.fullmatch(expected) and NUMBER.fullmatch(outcome):
        return abs(float(expected) - float(outcome)) <= CLOSE
    return expected.split(":", maxsplit=1)[0] == outcome.split(":", maxsplit=1)[0]
