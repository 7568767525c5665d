"""Which studies of an Orthanc the node pulls after several announcements of one Study Instance UID."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.databases import migrated

from ainode.node.domain import UID
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching

STUDY = UID("1.2.3")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FORMER, LATTER = "0" * 8 + "-former", "1" * 8 + "-latter"


@pytest.fixture
def announcements(tmp_path: Path) -> Iterator[Announcements]:
    engine = migrated(f"sqlite:///{tmp_path / 'node.sqlite'}")
    yield Announcements(engine)
    engine.dispose()


def announced(
    announcements: Announcements, *orthanc_studies: str, peer: str = "orthanc", state: Fetching = Fetching.WAITING
) -> Announcement:
    """Announce the study, and return the announcement as it is kept."""
    new = Announcement(STUDY, NOW, NOW, peer, state=state, orthanc_studies=orthanc_studies)
    announcements.announce(new)
    kept = announcements.of(STUDY)
    assert kept
    return kept


@pytest.mark.parametrize("state", [Fetching.WAITING, Fetching.FAILED])
def test_a_study_that_was_not_pulled_yet_is_pulled_before_the_new_one(
    announcements: Announcements, state: Fetching
) -> None:
    announced(announcements, FORMER, state=state)
    assert announced(announcements, LATTER).orthanc_studies == (FORMER, LATTER)


def test_a_study_that_was_pulled_is_not_pulled_with_another(announcements: Announcements) -> None:
    announcements.update(announced(announcements, FORMER), state=Fetching.HERE)
    assert announced(announcements, LATTER).orthanc_studies == (LATTER,)


def test_a_study_that_is_announced_again_is_pulled_last(announcements: Announcements) -> None:
    announced(announcements, FORMER)
    announced(announcements, LATTER)
    assert announced(announcements, FORMER).orthanc_studies == (LATTER, FORMER)


@pytest.mark.parametrize(("before", "after"), [([FORMER], []), ([], [FORMER])])
def test_an_open_announcement_of_the_uid_alone_is_of_every_study(
    announcements: Announcements, before: list[str], after: list[str]
) -> None:
    announced(announcements, *before)
    assert announced(announcements, *after).orthanc_studies == ()


def test_the_studies_of_another_orthanc_are_not_asked_of_this_one(announcements: Announcements) -> None:
    announced(announcements, FORMER, peer="other")
    assert announced(announcements, LATTER).orthanc_studies == (LATTER,)
