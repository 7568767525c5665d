"""A PostgreSQL of the test's own, in a temporary folder, on its own socket."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from support.processes import suspend


def _binaries() -> Path | None:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return versions[-1] if versions else None


def _as_postgres(command: list[str]) -> list[str]:
    """The server refuses to run as root."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else command


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """A server that can be stopped and started again."""

    folder: Path
    binaries: Path

    def url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy address of a database."""
        return f"postgresql+psycopg://ainode@/{database}?host={self.folder}"

    def create(self, database: str) -> str:
        """Create an empty database and return its address."""
        self._run("createdb", "-h", str(self.folder), "-U", "ainode", database)
        return self.url(database)

    def initialize(self) -> None:
        """Write the files of an empty server."""
        self._run("initdb", "-A", "trust", "-U", "ainode", "-D", f"{self.folder}/db")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        # Without autovacuum nobody commits but the test.
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off -c autovacuum=off"
        self._run(
            "pg_ctl", "-w", "-t", "300", "-D", f"{self.folder}/db", "-l", f"{self.folder}/log", "-o", options, "start"
        )

    def stop(self) -> None:
        """End the server and all connections at once, as a crash of the server does."""
        self._run("pg_ctl", "-t", "300", "-D", f"{self.folder}/db", "-m", "immediate", "stop")

    def kill(self) -> None:
        """Kill every process of the server at once, as `kill -9` or the kernel in want of memory does."""
        processes = self._suspended()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=60)

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Let the server answer nothing, over connections that stay, as when its disk is away."""
        processes = self._suspended()
        for process in processes[1:]:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(processes):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def _suspended(self) -> list[psutil.Process]:
        """Suspend the first process, which starts no other from now on; return all of the server, it first."""
        postmaster = psutil.Process(int((self.folder / "db" / "postmaster.pid").read_text().split()[0]))
        suspend(postmaster)
        return [postmaster, *postmaster.children(recursive=True)]

    def _run(self, name: str, *arguments: str) -> None:
        command = _as_postgres([str(self.binaries / name), *arguments])
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def postgresql_server() -> Iterator[PostgreSQL]:
    """Yield a running server; it must run at the end."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("postgresql is missing (Debian package postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is missing (extra postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="ainode-postgresql-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    server = PostgreSQL(folder, binaries)
    try:
        server.initialize()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Yield the SQLAlchemy address of an empty database."""
    with postgresql_server() as server:
        yield server.url()
