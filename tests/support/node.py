"""The whole node as its own process, as an operator starts it; it can be killed and started again."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
import tomli_w

from ainode.node.domain import UID, DeliveryState, JobState
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Delivery, Job
from ainode.node.settings import Peer
from support.processes import command_line
from support.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
SPINE = """
[[route]]
name = "spine"
handler = "support.handler"
modality = ["DX", "CR"]
body_part = ["SPINE"]
tags = {Rows = ">=256", Columns = ">=256"}
destinations = DESTINATIONS
"""


def shipped_routes(*handlers: str, allowed: bool = True) -> str:
    """Return the shipped routes, of these handlers or all, every one with destinations."""
    shipped = (ROOT / "config" / "routes.toml").read_text(encoding="utf-8")
    _, *texts = re.sub(r"^(destinations|allow_demonstration) = .*\n", "", shipped, flags=re.MULTILINE).split(
        "[[route]]"
    )
    wanted = [text for text in texts if not handlers or any(f'handler = "{name}"' in text for name in handlers)]
    keys = f"destinations = DESTINATIONS\nallow_demonstration = {str(allowed).lower()}"
    return "".join(f"[[route]]\n{keys}{text}" for text in wanted)


@dataclass
class RunningNode:
    """A node in a folder of its own."""

    folder: Path
    port: int
    log: Path
    database: str = ""
    """its address where it is not the SQLite beside the data"""
    before: Path | None = None
    """a folder whose modules win over the installed ones"""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def peer(self) -> Peer:
        """Return it as others address it."""
        return Peer(name="node", ae_title="AINODE", host="127.0.0.1", port=self.port)

    @property
    def config(self) -> Path:
        """Return its node.toml."""
        return self.folder / "node.toml"

    @property
    def receivers(self) -> list[psutil.Process]:
        """Return the processes that listen for it."""
        assert self.process
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "ainode.node.receiving.process" in command_line(child)]

    def start(self) -> float:
        """Start it and return the seconds until it answers; the log is kept for the failure message."""
        folders = filter(None, (self.before, ROOT / ".ns", ROOT / "tests"))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
        before = self.log.read_text(errors="replace").count("ready:") if self.log.exists() else 0
        started = time.monotonic()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ainode.node.commands.cli", "serve", "--config", str(self.config)],
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self.folder,
            )
        self.until(lambda: self.log.read_text(errors="replace").count("ready:") > before, within_s=300)
        return time.monotonic() - started

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it as an operator does."""
        self.engine.dispose()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @cached_property
    def engine(self) -> sa.Engine:
        """Return a connection to its database, beside it."""
        return database.connect(self.database or f"sqlite:///{self.folder / 'data' / 'catalog.sqlite'}")

    @property
    def ledger(self) -> Ledger:
        """Return its ledger."""
        return Ledger(self.engine)

    @property
    def catalog(self) -> Catalog:
        """Return its catalog."""
        return Catalog(self.engine)

    def until(self, true: Callable[[], bool], *, within_s: float) -> None:
        """Wait until something holds, or fail with the end of the node's log."""
        deadline = time.monotonic() + within_s
        while True:
            # What the node did last, right before its end, counts: so its end is looked for first.
            alive = self.process is not None and self.process.poll() is None
            if true():
                return
            if time.monotonic() > deadline or not alive:
                pytest.fail(f"not within {within_s} s: {self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.05)

    def read(self, study: str, *, within_s: float = 120) -> tuple[Job, tuple[Delivery, ...]]:
        """Wait until a study's newest job is done and delivered as far as it goes; return both."""
        done = {DeliveryState.CONFIRMED, DeliveryState.FAILED}
        open_states = {JobState.WAITING, JobState.READING}

        def settled() -> bool:
            jobs = self.ledger.jobs(study=UID(study))
            return bool(jobs) and all(
                job.state not in open_states
                and (
                    job.state is JobState.SUPERSEDED or all(one.state in done for one in self.ledger.deliveries(job.id))
                )
                for job in jobs
            )

        self.until(settled, within_s=within_s)
        job = self.ledger.jobs(study=UID(study))[-1]
        return job, self.ledger.deliveries(job.id)


def peer_table(peer: Peer) -> str:
    """Return the `[[peer]]` of node.toml."""
    return tomli_w.dumps({"peer": [peer.model_dump(exclude_none=True)]})


def self_tests_of(*routes: str, more: str = "") -> str:
    """Return the table of the self-tests of routes. The node begins none itself: its own would hold the port."""
    half_a_day_away = datetime.now(UTC) + timedelta(hours=12)
    names = ", ".join(f'"{route}"' for route in routes)
    time_and_port = f'time = "{half_a_day_away.astimezone():%H:%M}"\nport = {free_port()}\n'
    return f"[self_test]\nroutes = [{names}]\n{time_and_port}{more}"


def configured(
    folder: Path, *, peers: Sequence[Peer] = (), routes: str = SPINE, more: str = "", silence_s: float = 1.0
) -> RunningNode:
    """Write a node's configuration; every peer is a destination."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    lines = [
        f'[node]\ndata = "{folder / "data"}"\nport = {port}\nmin_free_bytes = 0\nstop_limit_s = 2.0',
        f"[completeness]\nmin_silence_s = 0.2\ndefault_silence_s = {silence_s}\nmax_silence_s = 5.0",
        more,
    ]
    lines += map(peer_table, peers)
    (folder / "node.toml").write_text("\n\n".join(lines), encoding="utf-8")
    names = [peer.name for peer in peers]
    (folder / "routes.toml").write_text(routes.replace("DESTINATIONS", str(names)), encoding="utf-8")
    return RunningNode(folder, port, folder / "node.log")


@contextmanager
def running(node: RunningNode) -> Iterator[RunningNode]:
    """Start it, and stop it at the end."""
    node.start()
    try:
        yield node
    finally:
        node.stop()


@dataclass
class RunningWorker:
    """A worker beside a node, with the node's configuration, data folder and PostgreSQL."""

    node: RunningNode
    name: str
    handlers: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """Return the file of its log."""
        return self.node.folder / f"{self.name}.log"

    def start(self) -> None:
        """Start it, and wait until it takes work."""
        folders = filter(None, (self.node.before, ROOT / ".ns", ROOT / "tests"))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
        environment["XDG_CACHE_HOME"] = str(self.node.folder / "cache")
        options = ["--name", self.name, *(["--models", self.handlers] if self.handlers else [])]
        command = [sys.executable, "-m", "ainode.node.commands.cli", "worker", *options]
        count = self.count("ready:")
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--config", str(self.node.config)],
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self.node.folder,
            )
        deadline = time.monotonic() + 300
        while self.count("ready:") == count:
            if time.monotonic() > deadline or self.process.poll() is not None:
                pytest.fail(f"the worker is not ready: {self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.05)

    def count(self, words: str) -> int:
        """Return how often its log says something."""
        return self.log.read_text(errors="replace").count(words) if self.log.exists() else 0

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        assert self.process
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal, and return its exit status."""
        self.send(number)
        assert self.process
        try:
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
