"""What `ainode jobs` says of studies that have no job."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.databases import migrated
from typer.testing import CliRunner

from ainode.node.commands.job_commands import _delivery_row, jobs_app
from ainode.node.commands.times import time_since
from ainode.node.domain import UID, DeliveryState, DocumentKind, InstanceRef, JobState
from ainode.node.errors import ConfigError
from ainode.node.keeping import database
from ainode.node.keeping.announcements import Announcements
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import REPLACED, Delivery, Job, KeptDocument
from ainode.node.keeping.unread import Mismatch, UnreadReason
from ainode.node.keeping.workitems import KeptWorkitem, Workitems, WorkitemState
from ainode.node.settings import load


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata = "{tmp_path / "data"}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    (tmp_path / "data").mkdir()
    return path


def receive(config: Path, *studies: str, mismatch: Mismatch | None) -> None:
    engine = migrated(load(config).database_url)
    catalog = Catalog(engine)
    for minute, study in enumerate(studies):
        at = datetime(2026, 3, 1, 12, minute, tzinfo=UTC)
        ref = InstanceRef(UID(study), UID(f"{study}.1"), UID("1.2"), UID(f"{study}.1.1"))
        catalog.index([StoredInstance(ref, UID("1.2.840"), "ff", 1, Path("x"), "A", at)])
        catalog.mark_routed(UID(study), content=catalog.content(UID(study)), explanation=[], mismatch=mismatch)
    engine.dispose()


def output(config: Path, *arguments: str) -> str:
    done = CliRunner().invoke(jobs_app, ["jobs", *arguments, "--config", str(config)])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_study_is_held_against_the_routes_again_where_a_person_asks_for_it(config: Path) -> None:
    receive(config, "1.5", mismatch=None)
    done = CliRunner().invoke(jobs_app, ["read-again", "1.5", "--config", str(config)])
    assert done.output.startswith("study 1.5: a node that runs holds it against its routes within a minute")
    assert Announcements(database.connect(load(config).database_url)).requested() == ("1.5",)


def test_a_study_of_which_the_node_has_no_image_is_not_read_again(config: Path) -> None:
    receive(config, "1.5", mismatch=None)
    done = CliRunner().invoke(jobs_app, ["read-again", "1.6", "--config", str(config)])
    assert isinstance(done.exception, LookupError)
    assert str(done.exception) == "study 1.6: the node has no image of it; send the study again"
    assert Announcements(database.connect(load(config).database_url)).requested() == ()


def test_the_list_of_jobs_ends_with_the_studies_that_no_route_matches_and_what_explains_them(config: Path) -> None:
    mismatch = Mismatch(UnreadReason.NO_ROUTE, "spine", UID("1"), "Modality", "CT", "MR")
    receive(config, "1.5", "1.6", mismatch=mismatch)
    assert output(config).splitlines()[-1] == (
        "2 studies, the newest 1.6: no route matches, so there is no job; `ainode explain 1.6` says why, "
        "the page Not read of the console lists all such studies"
    )
    assert output(config, "1.5").splitlines()[-1].startswith("study 1.5 matches no route; `ainode explain 1.5` says")
    assert "no route" not in output(config, "1.9")


def test_the_list_of_jobs_says_nothing_of_routes_where_every_study_has_one(config: Path) -> None:
    receive(config, "1.5", mismatch=None)
    assert "no route" not in output(config)


def open_jobs(config: Path, count: int) -> None:
    """Open jobs of two routes in turn, an hour apart, of which every third failed."""
    engine = migrated(load(config).database_url)
    ledger = Ledger(engine)
    for number in range(count):
        at = datetime(2026, 3, 1, number, tzinfo=UTC)
        study = UID(f"1.2.{number}")
        ledger.open(Job(f"job{number}", study, ("spine", "skin")[number % 2], "h", {study: "00"}, at, at, ()))
        if number % 3 == 0:
            ledger.move(f"job{number}", JobState.FAILED, reason="it broke", at=at)
    engine.dispose()


def listed(config: Path, *arguments: str) -> list[str]:
    return [word for word in output(config, *arguments).split() if word.startswith("job") and word[3:].isdigit()]


def test_jobs_are_listed_by_state_route_and_time(config: Path) -> None:
    open_jobs(config, 9)
    assert listed(config) == [f"job{number}" for number in range(9)]
    assert listed(config, "--state", "failed") == ["job0", "job3", "job6"]
    assert listed(config, "--route", "skin") == ["job1", "job3", "job5", "job7"]
    assert listed(config, "--since", "2026-03-01T05:00+00:00") == ["job5", "job6", "job7", "job8"]
    assert listed(config, "--state", "failed", "--route", "skin", "--since", "2026-03-01T00:00Z") == ["job3"]
    assert listed(config, "1.2.4") == ["job4"]


def test_pages_of_jobs_begin_with_the_newest_and_say_what_is_left(config: Path) -> None:
    open_jobs(config, 9)
    assert listed(config, "--limit", "4") == ["job5", "job6", "job7", "job8"]
    assert output(config, "--limit", "4").splitlines()[-1] == (
        "jobs 1 to 4 of 9, counted from the newest; --page 2 has older ones"
    )
    assert listed(config, "--limit", "4", "--page", "3") == ["job0"]
    assert output(config, "--limit", "4", "--page", "3").splitlines()[-1] == "jobs 9 to 9 of 9, counted from the newest"
    assert listed(config, "--failed", "--limit", "2") == ["job3", "job6"]
    assert listed(config, "--failed", "--limit", "2", "--page", "2") == ["job0"]


def test_a_page_behind_the_last_says_how_many_jobs_there_are_and_a_page_without_a_limit_is_refused(
    config: Path,
) -> None:
    open_jobs(config, 9)
    for words in ((), ("--failed",)):
        last = output(config, *words, "--limit", "4", "--page", "5").splitlines()[-1]
        assert last == f"no job on page 5; {3 if words else 9} in all"
    assert output(config, "--route", "bone", "--limit", "4").splitlines()[-1] == "no job on page 1; 0 in all"
    done = CliRunner().invoke(jobs_app, ["jobs", "--page", "2", "--config", str(config)])
    assert isinstance(done.exception, ConfigError)
    assert "give --limit" in str(done.exception)


def test_a_state_that_no_job_has_is_refused_with_those_that_there_are(config: Path) -> None:
    done = CliRunner().invoke(jobs_app, ["jobs", "--state", "broken", "--config", str(config)])
    assert done.exit_code == 2
    assert "out_of_scope" in done.output


def test_a_time_is_a_date_a_time_or_an_age() -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    ages = {"90m": timedelta(minutes=90), "36h": timedelta(hours=36), "7d": timedelta(days=7)}
    assert {text: now - time_since(text, now) for text in ages} == ages
    assert time_since("2026-03-01T08:30+02:00", now) == datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
    for wrong in ("yesterday", "7w", "-7d", "2026-13-01", "999999d"):
        with pytest.raises(ConfigError, match="is no time; give 2026-03-01"):
            time_since(wrong, now)


def test_a_workitem_that_was_given_up_is_listed_with_what_failed_until_a_person_has_it_claimed_again(
    config: Path,
) -> None:
    engine = migrated(load(config).database_url)
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    Workitems(engine).add(KeptWorkitem("pacs", UID("1.2.7"), at, WorkitemState.FAILED, UID("1.5"), error="HTTP 409"))
    Workitems(engine).add(KeptWorkitem("pacs", UID("1.2.8"), at, WorkitemState.COMPLETED, UID("1.6")))
    assert "1.2.7" in output(config, "--failed")
    assert "HTTP 409" in output(config, "--failed")
    assert "1.2.8" not in output(config, "--failed")
    done = CliRunner().invoke(jobs_app, ["retry", "1.2.7", "--config", str(config)])
    assert done.output == "workitem 1.2.7: claimed again from pacs\n"
    (item, _) = Workitems(engine).all()
    assert item.state is WorkitemState.CLAIMING
    engine.dispose()
    assert "no job failed" in output(config, "--failed")
    refused = CliRunner().invoke(jobs_app, ["retry", "1.2.8", "--config", str(config)])
    assert "nothing of it was given up" in str(refused.exception)


def test_a_message_that_a_later_one_replaced_is_listed_as_such_and_as_confirmed_by_nobody() -> None:
    ref = InstanceRef(UID("1.2"), UID("1.3"), UID("1.4"), UID("1.5"))
    document = KeptDocument("job", ref, DocumentKind.MESSAGE, Path("x"), "")
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    words = "not sent any more: a later message of the job has its place"
    former = Delivery(
        document, "ris", DeliveryState.CONFIRMED, None, "", REPLACED, "", None, at, archive_comment=words, tried_at=at
    )
    assert _delivery_row(former)[1:] == (
        "replaced",
        "ris",
        DocumentKind.MESSAGE,
        "1.5",
        f"2026-03-01 12:00:00Z; {words}",
    )
