"""The fault campaign in its short form; `make faults` runs the long form, and prints the table."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance.faults.campaign import GROUPS, SHORT, group_rows, header, line
from acceptance.faults.judgement import Row
from support import Orthanc, orthanc


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.mark.parametrize("group", GROUPS)
def test_no_fault_costs_an_instance_that_was_answered_or_its_documents(
    group: str, archive: Orthanc, tmp_path: Path
) -> None:
    table = list(group_rows(group, tmp_path / group, archive, SHORT))
    if table[0].note.startswith("skipped"):
        pytest.skip(table[0].note)
    assert not sum(row.cost for row in table), "\n".join([header(), *map(line, table)])
    assert all(row.times for row in table)


@pytest.mark.parametrize("column", ["lost", "missing", "duplicate", "stuck", "died"])
def test_a_row_with_a_cost_is_seen(column: str) -> None:
    assert Row("fault", **{column: 1}).cost == 1
