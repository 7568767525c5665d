"""What `ainode check` says of the console."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.databases import migrated

from ainode.node.diagnosis.checks import check_lines
from ainode.node.keeping.people import People, Role
from ainode.node.settings import ConsoleTable, NodeTable, Settings, WebTable

HINT = "`ainode user add NAME --role administrator`"


def hint(settings: Settings) -> str | None:
    """Return what the line of the console says, None without a line."""
    lines = {name: (state, words) for name, state, words in check_lines(settings)}
    state, words = lines.get("console", ("ready", None))
    assert state == "ready"
    return words


def with_console(folder: Path, **console: object) -> Settings:
    node, table = NodeTable(data=folder, min_free_bytes=0), ConsoleTable.model_validate(console)
    return Settings(node=node, web=WebTable(enabled=True), console=table)


@pytest.fixture
def people(tmp_path: Path) -> People:
    engine = migrated(with_console(tmp_path).database_url)
    return People(engine)


def test_nobody_can_log_in_before_the_first_start_and_check_makes_no_database(tmp_path: Path) -> None:
    assert HINT in (hint(with_console(tmp_path)) or "")
    assert list(tmp_path.iterdir()) == []


def test_check_names_the_command_until_there_is_a_person(tmp_path: Path, people: People) -> None:
    assert HINT in (hint(with_console(tmp_path)) or "")
    people.add("anna", Role.ADMINISTRATOR, "correct horse battery staple", datetime.now(UTC))
    assert hint(with_console(tmp_path)) == ""


def test_a_person_without_a_password_logs_in_through_a_proxy_alone(tmp_path: Path, people: People) -> None:
    people.add("anna", Role.ADMINISTRATOR, None, datetime.now(UTC))
    assert HINT in (hint(with_console(tmp_path)) or "")
    assert hint(with_console(tmp_path, login_header="X-Remote-User", proxies=("127.0.0.1",))) == ""


def test_check_says_nothing_of_a_console_that_is_off(tmp_path: Path) -> None:
    assert hint(with_console(tmp_path, enabled=False)) is None
    assert hint(Settings(node=NodeTable(data=tmp_path, min_free_bytes=0))) is None
