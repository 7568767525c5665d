"""What the machine and the database of the node are like at a moment."""

import importlib.metadata
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from ainode.node import __version__
from ainode.node.errors import DatabaseUnavailable
from ainode.node.keeping import database
from ainode.node.settings import Settings

_PACKAGES: Final = ("fastapi", "uvicorn", "jinja2", "sqlalchemy", "dbos", "pydicom", "pynetdicom", "highdicom", "torch")


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of the data folder."""

    folder: Path
    free_bytes: int
    total_bytes: int
    min_free_bytes: int


@dataclass(frozen=True, slots=True)
class Database:
    """The database, or why it does not answer."""

    kind: str
    revision: str
    size_bytes: int
    problem: str = ""


def disk_of(settings: Settings) -> Disk:
    """Return the disk of the data folder.

    Raises: OSError.
    """
    usage = shutil.disk_usage(settings.data)
    return Disk(settings.data, usage.free, usage.total, settings.node.min_free_bytes)


def database_of(engine: sa.Engine) -> Database:
    """Return the database."""
    kind = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(engine.dialect.name, engine.dialect.name)
    try:
        return Database(kind, database.revision(engine) or "", _size_bytes(engine))
    except (DatabaseUnavailable, OSError) as error:
        return Database(kind, "", 0, str(error))


def _size_bytes(engine: sa.Engine) -> int:
    if engine.dialect.name == "sqlite":
        path = Path(engine.url.database or "")
        files = [path, path.with_name(f"{path.name}-wal")]
        return sum(file.stat().st_size for file in files if file.exists())
    with engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.pg_database_size(sa.func.current_database()))).scalar_one())


def versions() -> Iterator[tuple[str, str]]:
    """Yield the name and version of the node, of Python, of the system and of the packages that are installed."""
    yield "ainode", __version__
    yield "Python", platform.python_version()
    yield "system", platform.platform()
    for name in _PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
