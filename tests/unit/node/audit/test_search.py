"""The newest records of a trail that name a study."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ainode.node.audit import search
from ainode.node.audit.messages import AuditSource, Participant, refused, started, study_subject, transferred
from ainode.node.audit.trail import Trail

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trail = Trail(tmp_path / "audit", AuditSource("node", "AINODE", "host"))
    sender = Participant("CT<1>", "CT1", "10.0.0.1", is_requestor=True)
    studies = (study_subject(f"1.2.{number}", {}) for number in range(12))
    events = [started(), *(transferred(sender, Participant(), study) for study in studies)]
    events.append(refused(sender, "not <allowed>"))
    trail.append([(NOW + timedelta(minutes=number), event) for number, event in enumerate(events)])
    return trail.folder


def test_a_study_finds_its_own_records_and_not_those_whose_uid_only_begins_alike(folder: Path) -> None:
    (event,) = search.newest(folder, "1.2.1", count=10)
    assert event.at == NOW + timedelta(minutes=2)
    assert event.objects == ("1.2.1",)
    assert event.users[0] == "CT<1>"
    assert event.is_success


def test_the_newest_record_comes_first_and_says_why_something_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_BLOCK_BYTES", 700)
    events = search.newest(folder, count=100)
    assert len(events) == 14
    assert [event.at for event in events] == sorted((event.at for event in events), reverse=True)
    assert (events[0].failure, events[0].is_success) == ("not <allowed>", False)


def test_a_long_trail_is_read_from_its_end_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_BLOCK_BYTES", 700)
    assert 0 < len(search.newest(folder, count=100, most_bytes=2_000)) < 14
    assert search.newest(folder / "absent", count=1) == ()
