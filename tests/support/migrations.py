"""Migrations of the node's tables that are killed between two statements."""

import os
import signal

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ainode.node.keeping import database
from ainode.node.keeping.schema import metadata
from support.databases import migrated


def migrate_and_kill(url: str, statement: int) -> None:
    """Migrate a database, and kill the process after a number of statements."""
    engine, count = database.connect(url), 0

    def kill(*_: object) -> None:
        nonlocal count
        count += 1
        if count == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(engine, "after_cursor_execute", kill)
    database.migrate(engine)
    engine.dispose()


def assert_current(url: str) -> None:
    """Migrate, and compare with the schema."""
    engine = migrated(url)
    assert database.revision(engine) == database.HEAD
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
