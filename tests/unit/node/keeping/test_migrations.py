import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from ainode.node.domain import UID
from ainode.node.errors import ConfigError
from ainode.node.identity import content_hash
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.schema import metadata, senders


def run_and_kill(url: str, action: Callable[[sa.Engine], None], statement: int) -> None:
    """Run an action on a database, and kill the process after a number of statements."""
    engine, count = database.connect(url), 0

    def kill(*_: object) -> None:
        nonlocal count
        count += 1
        if count == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(engine, "after_cursor_execute", kill)
    action(engine)
    engine.dispose()


def is_killed(url: str, action: Callable[[sa.Engine], None], statement: int) -> bool:
    """Whether the action has that many statements; its process was killed then."""
    process = multiprocessing.get_context("fork").Process(target=run_and_kill, args=(url, action, statement))
    process.start()
    process.join()
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode == -signal.SIGKILL


def assert_current(url: str) -> None:
    """Migrate, and compare with the schema."""
    engine = database.connect(url)
    database.migrate(engine)
    assert database.revision(engine) == database.HEAD
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_kill_after_any_statement_of_the_first_start_prevents_no_later_start(tmp_path: Path) -> None:
    statement, is_at_end = 0, False
    while not is_at_end:
        statement += 1
        address = f"sqlite:///{tmp_path / f'{statement}.sqlite'}"
        is_at_end = not is_killed(address, database.migrate, statement)
        assert_current(address)
    assert statement > len(metadata.tables)


def test_a_kill_after_any_statement_of_an_upgrade_prevents_no_later_start(tmp_path: Path) -> None:
    old = tmp_path / "old.sqlite"
    engine = database.connect(f"sqlite:///{old}")
    migrate_to(engine, "0001")
    engine.dispose()
    statement, is_at_end = 0, False
    while not is_at_end:
        statement += 1
        path = tmp_path / f"{statement}.sqlite"
        path.write_bytes(old.read_bytes())
        is_at_end = not is_killed(f"sqlite:///{path}", database.migrate, statement)
        assert_current(f"sqlite:///{path}")
    assert statement > 10


def migrate_to(engine: sa.Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_what_an_earlier_version_left_of_a_first_start_is_made_whole(url: str) -> None:
    for tables in ([senders], metadata.sorted_tables, [*metadata.sorted_tables, database._version]):
        engine = database.connect(url)
        with engine.begin() as connection:
            metadata.drop_all(connection)
            database._version.drop(connection, checkfirst=True)
            for table in tables:
                table.create(connection)
        engine.dispose()
        assert_current(url)


def test_rows_without_a_revision_are_refused_and_stay(url: str) -> None:
    engine = database.connect(url)
    database.migrate(engine)
    row = {"ae_title": "A", "history": "[]"}
    with engine.begin() as connection:
        connection.execute(sa.insert(senders).values(row))
        connection.execute(sa.delete(database._version))
    with pytest.raises(ConfigError, match="holds senders, and no revision"):
        database.migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(senders)).scalar() == 1
    engine.dispose()


def test_nodes_that_start_at_once_on_an_empty_server_all_find_its_tables(empty_postgresql: str) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=assert_current, args=(empty_postgresql,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


@pytest.mark.parametrize("damage", [b"no database" * 1000, None])
def test_a_damaged_file_is_refused_at_the_start_with_what_to_do(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "catalog.sqlite"
    assert_current(f"sqlite:///{path}")
    content = path.read_bytes()
    path.write_bytes(damage or content[:1024] + os.urandom(len(content) - 1024))
    engine = database.connect(f"sqlite:///{path}")
    with pytest.raises(ConfigError, match=r"catalog\.sqlite is damaged .*move it away.*rebuilt from the spool"):
        database.migrate(engine)
    engine.dispose()


def test_the_migration_of_a_routed_study_finds_it_routed_and_a_changed_study_not(tmp_path: Path) -> None:
    engine = database.connect(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    migrate_to(engine, "0005")
    with engine.begin() as connection:
        for study, digest in (("1", content_hash({UID("1.1"): "ff"})), ("2", "other"), ("3", "")):
            values = {"study": study, "instance": f"{study}.1", "digest": digest, "now": str(datetime.now(UTC))}
            connection.execute(
                sa.text("INSERT INTO studies VALUES (:study, :now, :now, :digest, '')"),
                values,
            )
            connection.execute(
                sa.text("INSERT INTO instances VALUES (:study, '1', '1', :instance, '1', 'ff', 1, 'x', 'A', :now)"),
                values,
            )
    database.migrate(engine)
    assert Catalog(engine).unrouted() == ("2", "3")
    assert Catalog(engine).is_routed(UID("1"))
    engine.dispose()
