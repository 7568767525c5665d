"""The SQLite file of the durable engine: nothing in it is needed, because what is to be done stands in the ledger."""

import contextlib
import logging
import sqlite3
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# A power cut may take back the last changes, and damages nothing: what is due stands in the ledger, which is synced.
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=NORMAL")
# The last byte of an extended result code is the result code (sqlite.org/rescode.html).
_CODE: Final = 0xFF


def prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own connection
    """Let commits of SQLite wait for no disk; PostgreSQL has its own way."""
    if isinstance(connection, sqlite3.Connection):
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()


def set_aside_if_damaged(path: Path) -> None:
    """Move a damaged file away: the engine makes a new file, and the dispatcher begins the work anew.

    Raises: OSError.
    """
    if not _is_damaged(path):
        return
    # The file itself goes last: after a kill in between it is still there and damaged, and the next start goes on.
    for suffix in ("-wal", "-shm", ""):
        source = path.with_name(path.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            source.replace(source.with_name(f"{source.name}.damaged"))
    message = "the file of the workflows is damaged and was moved to %s.damaged; the work begins anew from the ledger"
    log.error(message, path, extra={"action": "workflows_set_aside"})


def _is_damaged(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode & _CODE in _DAMAGED


def identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file, None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
