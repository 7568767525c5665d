"""One engine for the catalog and the ledger: SQLite by default, PostgreSQL by its address."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ainode.node.domain import UID, InstanceRef
from ainode.node.errors import DatabaseUnavailable
from ainode.node.keeping.schema import metadata

HEAD = "0005"
"""The newest revision in `migrations/versions`."""
# Alembic's own table, of which it makes no public definition.
_version = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


# More threads than the node has wait for a locked database at once; none of them must wait for a connection too.
_MAX_CONNECTIONS: Final = 60


def connect(url: str) -> sa.Engine:
    """Return an engine; SQLite keeps a write-ahead log that is synced at each commit.

    A statement or a commit raises DatabaseUnavailable where the same statement can succeed later.
    """
    engine = sa.create_engine(url, pool_pre_ping=True, max_overflow=_MAX_CONNECTIONS)
    sa.event.listen(engine, "handle_error", _raise_unavailable)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare)
    return engine


def _raise_unavailable(context: sa.engine.ExceptionContext) -> None:
    """Raise DatabaseUnavailable for an error of the database itself; an error of the statement stays what it is.

    A damaged file of SQLite is a plain DatabaseError; the text of an OperationalError holds no value of a row.
    """
    error = context.original_exception
    driver = context.engine.dialect.dbapi if context.engine else None
    if driver is None:
        return
    is_damaged = type(error) is driver.DatabaseError
    if is_damaged or context.is_disconnect or isinstance(error, (driver.OperationalError, driver.InterfaceError)):
        sentence = " ".join(str(error).split()) or type(error).__name__
        raise DatabaseUnavailable(f"database: {sentence}") from error


def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own connection
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=20000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def migrate(engine: sa.Engine) -> None:
    """Bring the tables to this version's shape: made at once in an empty database, migrated in an older one."""
    current = revision(engine)
    if current is None:
        with engine.begin() as connection:
            metadata.create_all(connection)
            _version.create(connection)
            connection.execute(sa.insert(_version).values(version_num=HEAD))
    elif current != HEAD:
        upgrade(engine)


def upgrade(engine: sa.Engine) -> None:
    """Run the migrations that the database has not seen."""
    # Alembic costs 11 MB resident, and is needed once per upgrade.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def revision(engine: sa.Engine) -> str | None:
    """Return the revision of the tables, None for an empty database."""
    if not sa.inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return str(connection.execute(sa.select(_version.c.version_num)).scalar())


def insert(engine: sa.Engine, table: sa.Table) -> Any:  # noqa: ANN401 - two dialects' inserts, alike but unrelated
    """Return an insert that knows `on_conflict_do_update` and `on_conflict_do_nothing`."""
    return (postgresql if engine.dialect.name == "postgresql" else sqlite).insert(table)


def aware(value: datetime) -> datetime:
    """Return the time with its zone: SQLite forgets that it was UTC."""
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def reference(row: Any) -> InstanceRef:  # noqa: ANN401 - rows have the columns of their query
    """Return the reference that a row's four UID columns hold."""
    return InstanceRef(
        UID(row.study_instance_uid), UID(row.series_instance_uid), UID(row.sop_class_uid), UID(row.sop_instance_uid)
    )


def reference_values(ref: InstanceRef) -> dict[str, str]:
    """Return the reference as column values."""
    return {
        "study_instance_uid": ref.study_instance_uid,
        "series_instance_uid": ref.series_instance_uid,
        "sop_class_uid": ref.sop_class_uid,
        "sop_instance_uid": ref.sop_instance_uid,
    }
