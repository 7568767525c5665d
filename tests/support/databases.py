"""Databases of tests."""

import sqlalchemy as sa

from ainode.node.keeping import database


def migrated(address: str) -> sa.Engine:
    """Return the engine of a database at an address, with the tables of a node."""
    engine = database.connect(address)
    database.migrate(engine)
    return engine
