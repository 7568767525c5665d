import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainode.node.bench.overheads import full_size_registration, histogram
from ainode.node.bench.own_time import PARTS, Scenario, StudyTimes, table_lines
from ainode.node.bench.servers import program_path
from ainode.node.errors import ConfigError

SECONDS = st.lists(st.floats(min_value=0, max_value=10_000), min_size=1, max_size=50)


def counts(drawn: list[str]) -> list[int]:
    return [int(found[1]) for line in drawn if (found := re.search(r" s +(\d+)( |$)", line))]


@given(SECONDS)
def test_the_buckets_of_a_histogram_add_up_to_what_was_measured(seconds: list[float]) -> None:
    *buckets, summary = histogram(seconds)
    assert sum(counts(buckets)) == len(seconds)
    assert counts(buckets)[0] > 0
    assert counts(buckets)[-1] > 0
    assert f"n {len(seconds)}," in summary


def test_a_histogram_names_its_edges_and_says_median_p95_and_maximum() -> None:
    seconds = [*[0.25] * 18, 0.5, 3.0]
    assert list(histogram(seconds, (0.0, 0.2, 0.5, 1.0))) == [
        "     0.2 .. 0.5    s   18  ########################################",
        "     0.5 .. 1      s    1  ###",
        "       1 .. inf    s    1  ###",
        "  n 20, median 0.250 s, p95 0.500 s, max 3.000 s",
    ]


def test_a_bucket_between_two_others_is_drawn_though_nothing_is_in_it() -> None:
    assert counts(list(histogram([0.1, 0.9], (0.0, 0.2, 0.5)))) == [1, 0, 1]


def test_a_part_that_no_reading_had_is_said_not_to_be_measured() -> None:
    assert list(histogram([])) == ["  not measured"]


def test_a_scenario_has_its_medians_and_one_that_has_no_parts_none() -> None:
    ours, theirs = Scenario("CT", "count known"), Scenario("CT", "another program")
    laps = {
        ours: [StudyTimes(total, (1.0, 0.5, 2.0, total - 3.5)) for total in (4.0, 5.0, 9.0)],
        theirs: [StudyTimes(60.5)],
    }
    _, first, second = "\n".join(table_lines(laps)).splitlines()
    assert first.split()[-len(PARTS) - 3 :] == ["3", "5.00", "9.00", "1.00", "0.50", "2.00", "1.50"]
    assert second.split()[-3:] == ["1", "60.50", "60.50"]


def test_full_size_registration_is_timed_by_the_module_of_the_handler_where_it_can() -> None:
    (line,) = full_size_registration("support.timed")
    assert line.endswith("median 1.5 s, max 3.0 s, n 3")
    assert not list(full_size_registration("support.handler"))


def test_a_missing_program_is_named_with_its_debian_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ConfigError, match="apt-get install orthanc"):
        program_path("Orthanc")
