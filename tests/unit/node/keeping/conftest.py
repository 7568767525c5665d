from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.databases import migrated


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, of both kinds in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    return str(request.getfixturevalue("empty_postgresql"))


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    """An empty catalog, on both kinds of databases in turn."""
    made = migrated(url)
    yield made
    made.dispose()
