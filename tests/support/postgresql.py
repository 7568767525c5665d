"""A PostgreSQL of the test's own, in a temporary folder, on its own socket."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _binaries() -> Path | None:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return versions[-1] if versions else None


def _as_postgres(command: list[str]) -> list[str]:
    """The server refuses to run as root."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else command


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Yield the SQLAlchemy address of an empty database."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("postgresql is missing (Debian package postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is missing (extra postgresql)")
    data = Path(tempfile.mkdtemp(prefix="ainode-postgresql-"))
    if os.geteuid() == 0:
        shutil.chown(data, "postgres")
    control = str(binaries / "pg_ctl")
    try:
        subprocess.run(
            _as_postgres([str(binaries / "initdb"), "-A", "trust", "-U", "ainode", "-D", f"{data}/db"]),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        options = f"-c listen_addresses='' -c unix_socket_directories={data} -c fsync=off"
        subprocess.run(
            _as_postgres([control, "-w", "-D", f"{data}/db", "-l", f"{data}/log", "-o", options, "start"]),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield f"postgresql+psycopg://ainode@/postgres?host={data}"
        finally:
            subprocess.run(
                _as_postgres([control, "-D", f"{data}/db", "-m", "immediate", "stop"]),
                check=True,
                stdout=subprocess.DEVNULL,
            )
    finally:
        shutil.rmtree(data)
