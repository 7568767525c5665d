from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ainode.node import database
from ainode.node.schema import metadata


def test_the_migrations_build_exactly_the_tables_of_the_schema(tmp_path: Path) -> None:
    engine = database.connect(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    database.migrate(engine)
    assert database.revision(engine) == database.HEAD
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_database_of_this_version_is_left_alone(tmp_path: Path) -> None:
    engine = database.connect(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    database.migrate(engine)
    database.migrate(engine)
    engine.dispose()
