import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.databases import migrated
from support.postgresql import postgresql

from ainode.node.keeping.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger in `catalog.sqlite` of the test's folder."""
    engine = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    yield Ledger(engine)
    engine.dispose()


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
