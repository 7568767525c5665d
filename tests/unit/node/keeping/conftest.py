import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.postgresql import postgresql

from ainode.node.keeping import database


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a database of a PostgreSQL that the tests share."""
    with postgresql() as address:
        yield address


@pytest.fixture
def postgresql_of(server: str) -> Callable[[], str]:
    """What makes an empty database of the shared PostgreSQL, and returns its address."""

    def create() -> str:
        name = f"test_{secrets.token_hex(4)}"
        engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return server.replace("/postgres?", f"/{name}?")

    return create


@pytest.fixture
def empty_postgresql(postgresql_of: Callable[[], str]) -> str:
    """The address of an empty database of the shared PostgreSQL."""
    return postgresql_of()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, of both kinds in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    return str(request.getfixturevalue("empty_postgresql"))


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    """An empty catalog, on both kinds of databases in turn."""
    made = database.connect(url)
    database.migrate(made)
    yield made
    made.dispose()
