"""Whether anything in the database changed since the last look, for pages that are open: one cheap question."""

import contextlib

import sqlalchemy as sa

from ainode.node.errors import DatabaseUnavailable


class Pulse:
    """Two beats are the same as long as nobody committed anything between them; for one thread at a time."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None

    def beat(self) -> str:
        """Return a text that changes with each commit.

        Raises: DatabaseUnavailable.
        """
        if self._engine.dialect.name != "sqlite":
            # Which transactions a query would see: the same text, the same rows (PostgreSQL 9.26.10).
            with self._engine.connect() as connection:
                return str(connection.exec_driver_sql("SELECT pg_current_snapshot()").scalar())
        # The number counts the commits of other connections, so the connection is kept and writes nothing itself
        # (sqlite.org/pragma.html#pragma_data_version).
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            version = self._connection.exec_driver_sql("PRAGMA data_version").scalar()
            self._connection.rollback()
        except DatabaseUnavailable:
            self.rest()
            raise
        return str(version)

    def rest(self) -> None:
        """Give the connection back until the next beat."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DatabaseUnavailable):
                connection.close()
