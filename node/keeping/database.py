"""One engine for the catalog and the ledger: SQLite by default, PostgreSQL by its address."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from ainode.node.domain import UID, InstanceRef
from ainode.node.errors import ConfigError, DatabaseUnavailable
from ainode.node.keeping.schema import metadata

T = TypeVar("T")
HEAD = "0023"
"""The newest revision in `migrations/versions`."""
# Alembic's own table, of which it makes no public definition.
_version = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# secure_delete: what was removed or replaced is gone from the file, too. cache_size: KiB for each of many connections;
# the kernel keeps the rest of the file in memory that it takes back where memory is short.
_PRAGMAS: Final = (
    *("journal_mode=WAL", "synchronous=FULL", "busy_timeout=20000", "foreign_keys=ON", "secure_delete=ON"),
    "cache_size=-512",
)
# PostgreSQL, appendix A: lock_not_available.
_LOCK_NOT_AVAILABLE: Final = "55P03"
# Any number that no other program on the server uses: "ainode" in ASCII.
_MIGRATION_LOCK: Final = 0x61696E6F6465
# The name of the engine's option that says which file was opened.
_FILE: Final = "ainode_file"
# SQLite takes 32,766 parameters in a statement (sqlite.org/limits.html), PostgreSQL 65,535; a few are left for others.
_MOST_PARAMETERS: Final = 30_000
_LIBPQ: Final = frozenset({"postgresql", "postgresql+psycopg", "postgresql+psycopg2"})
# postgresql.org/docs/current/libpq-connect.html: without them a connection through a dead network hangs for two hours.
_KEEPALIVES: Final[Mapping[str, object]] = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 35_000,
}
_LOCK_WAIT_S: Final = 30.0
# More threads than the node has wait for a locked database at once; none of them must wait for a connection too.
_MAX_CONNECTIONS: Final = 60


def connect(url: str) -> sa.Engine:
    """Return an engine; SQLite keeps a write-ahead log that is synced at each commit.

    An error of a statement is without the values of the statement.
    A statement or a commit raises DatabaseUnavailable where the same statement can succeed later.
    A text is kept without NUL: PostgreSQL keeps none, and a header may hold one.
    """
    arguments = connection_arguments(url)
    has_server = sa.make_url(url).get_backend_name() != "sqlite"  # which may end a connection that waits in the pool
    engine = sa.create_engine(
        url, pool_pre_ping=has_server, max_overflow=_MAX_CONNECTIONS, hide_parameters=True, connect_args=arguments
    )
    sa.event.listen(engine, "handle_error", _raise_unavailable)
    sa.event.listen(engine, "before_cursor_execute", _without_nul, retval=True)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "connect", lambda *_: _remember_file(engine))
    return engine


def connection_arguments(url: str) -> dict[str, object]:
    """Return what bounds the wait for a PostgreSQL whose machine or network is gone, less what the address says."""
    address = sa.make_url(url)
    is_libpq = address.drivername in _LIBPQ
    return {name: value for name, value in _KEEPALIVES.items() if is_libpq and name not in address.query}


def existing(url: str) -> sa.Engine:
    """Return an engine for a database that a node of this version has made, or brought up to date.

    Raises: ConfigError if the address names a file of SQLite that does not exist, or the tables are those of another
    version; DatabaseUnavailable.
    """
    engine = connect(url)
    path = engine.url.database
    if engine.dialect.name == "sqlite" and path and not Path(path).exists():
        raise ConfigError(
            f"{path}: no node has run there; give --config with the node.toml of the node, and the AINODE_… variables "
            "that the node has"
        )
    try:
        current = revision(engine)
    except DatabaseUnavailable:
        engine.dispose()
        raise
    if current != HEAD:
        engine.dispose()
        raise ConfigError(_other_version(current))
    return engine


def _other_version(current: str | None) -> str:
    """Return what to do about tables of another revision than this version's."""
    if current is None:
        return "[database] url: the database has no tables of a node; start `ainode serve`, which makes them"
    if current > HEAD:
        return (
            f"[database] url: the tables (revision {current}) are those of a newer version of ainode; install that "
            "version here, or give this command there"
        )
    return (
        f"[database] url: the tables (revision {current}) are those of an older version of ainode; start `ainode "
        "serve` of this version, which brings them up to date, or give this command in the version that runs"
    )


def _remember_file(engine: sa.Engine) -> None:
    """Remember which file the first connection opened."""
    if _FILE not in engine.get_execution_options():
        engine.update_execution_options(**{_FILE: _file_identity(engine)})


def _without_nul(*event: Any) -> tuple[str, Any]:  # noqa: ANN401 - the event `before_cursor_execute` of SQLAlchemy
    """Return a statement, and its parameters without NUL."""
    _, _, statement, parameters, _, has_rows = event
    return statement, [*map(_plain, parameters)] if has_rows else _plain(parameters)


def _plain(parameters: Any) -> Any:  # noqa: ANN401 - a tuple or a dict, as the driver takes it
    values = parameters.values() if isinstance(parameters, dict) else parameters
    if not any(isinstance(value, str) and "\0" in value for value in values):
        return parameters
    plain = [value.replace("\0", "") if isinstance(value, str) else value for value in values]
    return dict(zip(parameters, plain, strict=True)) if isinstance(parameters, dict) else tuple(plain)


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
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def migrate(engine: sa.Engine, lock_wait_s: float = _LOCK_WAIT_S) -> None:
    """Bring the tables to this version's shape: made at once in an empty database, migrated in an older one.

    A kill leaves what stood before, or the new tables with their revision.
    Raises: ConfigError if the database is damaged, or holds rows of an unknown version; DatabaseUnavailable if it is
    away, or another program holds the tables for `lock_wait_s`.
    """
    try:
        with _exclusive(engine, lock_wait_s) as connection:
            current = _revision(connection)
            if current is None:
                _create(connection)
            elif current != HEAD:
                _upgrade(connection)
    except DatabaseUnavailable as error:
        if getattr(error.__cause__, "sqlite_errorcode", None) in _DAMAGED:
            raise ConfigError(
                f"the database file {engine.url.database} is damaged ({error}); move it away, with its -wal and -shm "
                "files, or restore a back-up; without a back-up the index is rebuilt from the spool, and the history "
                "of jobs is lost"
            ) from error
        if _is_locked(error):
            raise DatabaseUnavailable(
                f"{error}; another program holds the tables that this version has to change, such as a back-up, an "
                "open shell or another node: end it (PostgreSQL lists it in pg_stat_activity), and start again"
            ) from error
        raise


def _is_locked(error: DatabaseUnavailable) -> bool:
    """Return whether another program kept a lock for too long."""
    return (
        getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
        or getattr(error.__cause__, "sqlstate", None) == _LOCK_NOT_AVAILABLE
    )


def upgrade(engine: sa.Engine) -> None:
    """Run the migrations that the database has not seen."""
    with _exclusive(engine, _LOCK_WAIT_S) as connection:
        _upgrade(connection)


@contextlib.contextmanager
def _exclusive(engine: sa.Engine, lock_wait_s: float) -> Iterator[Connection]:
    """Yield a connection whose statements, those that make tables too, are one transaction; no other migrates then.

    The driver of SQLite begins a transaction by itself for a change of rows, and none for a change of tables.
    """
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()
    else:
        with engine.begin() as connection:
            # The server ends the transaction of a node that is gone: a cut network does not tell the server.
            for name, seconds in (("lock_timeout", lock_wait_s), ("idle_in_transaction_session_timeout", _LOCK_WAIT_S)):
                connection.execute(sa.select(sa.func.set_config(name, f"{seconds * 1000:.0f}", True)))  # noqa: FBT003
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            yield connection


def _create(connection: Connection) -> None:
    """Create the tables, after removing what a start that was cut off left of them.

    Raises: ConfigError if there are rows.
    """
    names = set(sa.inspect(connection).get_table_names())
    existing = [table for table in metadata.sorted_tables if table.name in names]
    for table in existing:
        if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).scalar():
            raise ConfigError(
                f"the database {connection.engine.url.render_as_string()} holds {table.name}, and no revision of its "
                "tables; restore a back-up, or give [database] url an empty database"
            )
    metadata.drop_all(connection, existing)
    metadata.create_all(connection)
    _version.create(connection, checkfirst=True)
    connection.execute(sa.insert(_version).values(version_num=HEAD))


def _upgrade(connection: Connection) -> None:
    # Alembic costs 11 MB resident, and is needed once per upgrade.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def revision(engine: sa.Engine) -> str | None:
    """Return the revision of the tables, None for a database without tables or with a part of them."""
    with engine.connect() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(_version.name):
        return None
    return connection.execute(sa.select(_version.c.version_num)).scalar()


def is_lost(engine: sa.Engine) -> bool:
    """Return whether the file of a SQLite database is no longer at its path, or another file is.

    Whoever goes on then writes into a file that nobody finds again.
    """
    opened = engine.get_execution_options().get(_FILE)
    return opened is not None and _file_identity(engine) != opened


def _file_identity(engine: sa.Engine) -> tuple[int, int] | None:
    """Return device and inode of the file of a SQLite database, None without a file."""
    try:
        status = Path(engine.url.database or "").stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """Yield the values in lists that a database takes as the parameters of one statement."""
    iterator = iter(values)
    while chunk := list(islice(iterator, _MOST_PARAMETERS)):
        yield chunk


def insert(engine: sa.Engine, table: sa.Table) -> Any:  # noqa: ANN401 - two dialects' inserts, alike but unrelated
    """Return an insert that knows `on_conflict_do_update` and `on_conflict_do_nothing`."""
    return (postgresql if engine.dialect.name == "postgresql" else sqlite).insert(table)


def count_if(condition: sa.ColumnElement[bool]) -> sa.Function[int]:
    """Return how many rows meet a condition, as a column."""
    return sa.func.sum(sa.case((condition, 1), else_=0))


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
