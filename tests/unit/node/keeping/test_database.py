import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from support.databases import migrated

from ainode.node.errors import DatabaseUnavailable
from ainode.node.keeping import database
from ainode.node.keeping.schema import metadata, senders


@pytest.mark.parametrize("made", [database.migrate, database.upgrade])
def test_an_empty_database_and_the_migrations_both_end_in_the_schema(
    made: Callable[[sa.Engine], None], tmp_path: Path
) -> None:
    engine = database.connect(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    made(engine)
    assert database.revision(engine) == database.HEAD
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_database_of_this_version_is_left_alone(tmp_path: Path) -> None:
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    database.migrate(engine)
    assert database.revision(engine) == database.HEAD
    engine.dispose()


def test_a_locked_database_is_unavailable_and_takes_the_statement_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    engine = database.connect(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=10"))
    database.migrate(engine)
    other_process = sqlite3.connect(path, isolation_level=None)
    other_process.execute("BEGIN EXCLUSIVE")
    statement = sa.insert(senders).values(ae_title="A", history="[]")
    with pytest.raises(DatabaseUnavailable, match="database is locked"), engine.begin() as connection:
        connection.execute(statement)
    other_process.execute("ROLLBACK")
    with engine.begin() as connection:
        connection.execute(statement)
    other_process.close()
    engine.dispose()


def test_a_damaged_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"no database" * 1000)
    engine = database.connect(f"sqlite:///{path}")
    with pytest.raises(DatabaseUnavailable, match="not a database"), engine.connect() as connection:
        connection.execute(sa.select(senders))
    engine.dispose()


def test_a_server_that_is_away_is_unavailable() -> None:
    engine = database.connect("postgresql+psycopg://ainode@127.0.0.1:1/ainode")
    with pytest.raises(DatabaseUnavailable, match="refused"):
        engine.connect()


def test_a_wrong_statement_stays_an_error_of_the_statement(tmp_path: Path) -> None:
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    row = {"ae_title": "A", "history": "[]"}
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(sa.insert(senders), [row, row])
    engine.dispose()


def test_a_file_that_is_removed_or_replaced_under_the_node_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    engine = migrated(f"sqlite:///{path}")
    assert not database.is_lost(engine)
    path.unlink()
    assert database.is_lost(engine)
    other = migrated(f"sqlite:///{path}")
    assert database.is_lost(engine)
    assert not database.is_lost(other)
    for opened in (engine, other):
        opened.dispose()
