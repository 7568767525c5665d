"""What `ainode jobs` says of studies that have no job."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ainode.node.commands.job_commands import jobs_app
from ainode.node.domain import UID, InstanceRef
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.unread import Mismatch, UnreadReason
from ainode.node.settings import load


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata = "{tmp_path / "data"}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    (tmp_path / "data").mkdir()
    return path


def receive(config: Path, *studies: str, mismatch: Mismatch | None) -> None:
    engine = database.connect(load(config).database_url)
    database.migrate(engine)
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
