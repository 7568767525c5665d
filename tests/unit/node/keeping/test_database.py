from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ainode.node.keeping import database
from ainode.node.keeping.schema import metadata


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
    engine = database.connect(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    database.migrate(engine)
    database.migrate(engine)
    assert database.revision(engine) == database.HEAD
    engine.dispose()
