from collections.abc import Iterator
from pathlib import Path

import pytest

from ainode.node.keeping import database
from ainode.node.keeping.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger in `catalog.sqlite` of the test's folder."""
    engine = database.connect(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    database.migrate(engine)
    yield Ledger(engine)
    engine.dispose()
