"""What counts as a changed answer of a self-test, and when the night begins."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from math import nan
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ainode.node.proving.golden import RouteRecord, RouteResult, changes, compared, keep, record_of, records, state
from ainode.node.proving.nightly import next_time
from ainode.node.settings import NodeTable, SelfTestTable, Settings

GOLDEN = RouteResult(
    "ff",
    "ainode 1",
    "present",
    "",
    ("lesion: present",),
    {"probability": 0.8, "volume": 900.0},
    {"SR": 1, "OT": 3},
    2.0,
)
BERLIN = ZoneInfo("Europe/Berlin")


def settings(folder: Path, *routes: str) -> Settings:
    return Settings(node=NodeTable(data=folder), self_test=SelfTestTable(routes=routes))


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (replace(GOLDEN, presence="absent"), "the verdict: present before, absent now"),
        (replace(GOLDEN, code="too-small"), "the refusal: none before, too-small now"),
        (replace(GOLDEN, findings=()), "the findings: lesion: present before, none now"),
        (replace(GOLDEN, numbers={**GOLDEN.numbers, "probability": 0.8011}), "probability: 0.8 before, 0.8011 now"),
        (replace(GOLDEN, numbers={"probability": 0.8}), "volume: 900.0 before, None now"),
        (replace(GOLDEN, numbers={**GOLDEN.numbers, "volume": 902.0}), "volume: 900 before, 902 now"),
        (replace(GOLDEN, numbers={"probability": nan, "volume": 900.0}), "probability: 0.8 before, nan now"),
        (replace(GOLDEN, documents={"SR": 1, "OT": 2}), "OT: 3 objects before, 2 arrived now"),
        (replace(GOLDEN, seconds=11.5), "the reading took 11.5 s, and 2.0 s before"),
    ],
)
def test_each_change_is_named_with_what_was_before(now: RouteResult, words: str, tmp_path: Path) -> None:
    assert list(changes(GOLDEN, now, settings(tmp_path))) == [words]


def test_what_the_tolerance_allows_is_no_change(tmp_path: Path) -> None:
    near = {"probability": 0.8009, "volume": 900.8}
    now = replace(GOLDEN, numbers=near, seconds=10.9, documents={"SR": 1, "OT": 4})
    assert list(changes(GOLDEN, now, settings(tmp_path))) == []


def test_other_weights_have_a_golden_answer_of_their_own(tmp_path: Path) -> None:
    other = replace(GOLDEN, weights_sha256="ee", presence="absent")
    record, words = compared(RouteRecord("spine", GOLDEN), other, settings(tmp_path))
    assert (record.golden, record.problem) == (other, "")
    assert words.startswith("read with other weights than before")


def test_a_refusal_is_never_golden(tmp_path: Path) -> None:
    refused = RouteResult("", "ainode 1", "", "no-ct")
    record, _ = compared(RouteRecord("spine"), refused, settings(tmp_path))
    assert record.golden is None
    assert "refused the synthetic study of its own handler: no-ct" in record.problem
    assert compared(RouteRecord("spine", GOLDEN), refused, settings(tmp_path))[0].problem


def test_a_result_json_becomes_verdict_findings_and_every_number() -> None:
    finding = {"name": "nodule 1", "presence": "present", "measurements": [{"name": "Length", "value": 7.5}]}
    values = {
        "verdict": {"presence": "present"},
        "scores": {"probability": 0.9},
        "findings": [finding],
        "algorithm": {"weights_sha256": "ff"},
        "software": ["ainode 1"],
    }
    result = RouteResult.of(json.dumps(values), {"SR": 1}, 2.5)
    assert result.numbers == {"probability": 0.9, "nodule 1, Length 1": 7.5}
    assert (result.findings, result.presence, result.weights_sha256) == (("nodule 1: present",), "present", "ff")


def test_a_record_is_kept_whatever_the_name_of_its_route_is(tmp_path: Path) -> None:
    names = ("../../etc/passwd", "CT: Lunge & Pleura", "CT: Lunge / Pleura")
    site = settings(tmp_path, *names)
    for number, name in enumerate(names):
        keep(site, RouteRecord(name, GOLDEN, datetime(2026, 1, 2, tzinfo=UTC), "", float(number)))
    assert [record.seconds for record in records(site)] == [0.0, 1.0, 2.0]
    assert record_of(site, names[0]).golden == GOLDEN
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path / "self_test"}


def test_the_state_is_the_worst_of_all_routes(tmp_path: Path) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    site = settings(tmp_path, "spine", "chest")
    assert state(settings(tmp_path)) == "off"
    assert state(site) == "not run"
    keep(site, RouteRecord("spine", GOLDEN, at))
    assert state(site) == "not run"
    keep(site, RouteRecord("chest", GOLDEN, at))
    assert state(site) == "passed"
    keep(site, RouteRecord("chest", GOLDEN, at, "probability: 0.8 before, 0.4 now"))
    assert state(site) == "failed"


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    site = settings(tmp_path, "spine")
    keep(site, RouteRecord("spine", GOLDEN))
    (path,) = tmp_path.rglob("*.json")
    path.write_text('{"route": "spine"')
    assert record_of(site, "spine") == RouteRecord("spine")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 1, 2, 1, tzinfo=UTC), datetime(2026, 1, 2, 2, tzinfo=UTC)),
        (datetime(2026, 1, 2, 2, tzinfo=UTC), datetime(2026, 1, 3, 2, tzinfo=UTC)),
        (datetime(2026, 7, 2, 12, tzinfo=UTC), datetime(2026, 7, 3, 1, tzinfo=UTC)),
        (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ],
)
def test_the_night_is_that_of_the_clock_on_the_wall(now: datetime, expected: datetime) -> None:
    assert next_time(now, "03:00", BERLIN) == expected
