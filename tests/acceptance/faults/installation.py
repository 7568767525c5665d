"""A node between two proxies: a modality before the node, and Debian's Orthanc behind it."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from acceptance.faults.sender import Modality
from support.node import RunningNode, configured
from support.proxy import Proxy, proxies
from support.servers import Orthanc

from ainode.node.settings import Peer

TIMEOUT_S: Final = 3
"""of a network that is silent"""
ROUTES: Final = """
[[route]]
name = "immediate"
handler = "ainode.node.bench.immediate"
modality = ["DX"]
tags = { SeriesDescription = "healthy" }
destinations = DESTINATIONS
"""
_END_S: Final = 120.0
_TABLES: Final = """
[delivery]
attempts = 500
first_wait_s = 0.3
longest_wait_s = 1.0
commitment_wait_s = 3.0
"""


@dataclass
class Installation:
    """A running node, the way to the node and the way from the node to its archive."""

    node: RunningNode
    entrance: Proxy
    exit: Proxy
    archive: Orthanc
    modality: Modality
    documents_of_a_study: int = 0
    """how many documents the archive got of a study that no fault disturbed"""
    starts: list[float] = field(default_factory=list)
    """seconds until each start was ready"""

    _starting: AbstractContextManager[bool] = field(default_factory=threading.RLock)

    _is_killed: bool = False
    _deaths: int = 0

    def keep_alive(self) -> None:
        """Start the node if the node has ended, as a supervisor does, and count an end that nobody asked for."""
        with self._starting:
            assert self.node.process
            if self.node.process.poll() is not None:
                self._deaths += not self._is_killed
                self._is_killed = False
                self.start()

    def deaths(self) -> int:
        """Return how often the node has ended by itself since the last question."""
        deaths, self._deaths = self._deaths, 0
        return deaths

    @contextmanager
    def ending(self) -> Iterator[subprocess.Popen[bytes]]:
        """Yield the process of the node, which ends meanwhile because a fault is meant to end it."""
        with self._starting:
            assert self.node.process
            self._is_killed = True
            yield self.node.process
            self.node.process.wait(_END_S)

    def start(self) -> None:
        """Start the node."""
        self.starts.append(self.node.start())

    def kill(self) -> None:
        """Kill the node and all below it, and close what this process has open in its folder."""
        with self.ending() as process:
            below = psutil.Process(process.pid).children(recursive=True)
            for victim in (process, *below):
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()
        psutil.wait_procs(below, timeout=_END_S)
        self.node.engine.dispose()

    def wait(self, condition: Callable[[], bool], *, within_s: float) -> bool:
        """Wait until a condition holds, and keep the node alive; return whether the condition holds in time."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.keep_alive()
            time.sleep(0.05)
        return True


@dataclass(frozen=True)
class Site:
    """Where an installation keeps its files, and what is special about its node."""

    folder: Path
    routes: str = ROUTES
    more: str = ""
    node_keys: str = ""
    """more keys of [node]"""
    environment: Mapping[str, str] = field(default_factory=dict)
    database: str = ""
    modules: Path | None = None
    """a folder with handlers"""


@contextmanager
def installed(site: Site, archive: Orthanc) -> Iterator[Installation]:
    """Run a node of that kind between two proxies."""
    with contextlib.ExitStack() as stack:
        (way_out,) = stack.enter_context(proxies(archive.port))
        peer = Peer(name="archive", ae_title="ORTHANC", host="127.0.0.1", port=way_out.port)
        database = f'[database]\nurl = "{site.database}"' if site.database else ""
        node = configured(site.folder, peers=[peer], routes=site.routes, more=f"{_TABLES}\n{site.more}\n{database}")
        keys = f"network_timeout_s = {TIMEOUT_S}\n{site.node_keys}"
        node.config.write_text(node.config.read_text().replace("min_free_bytes = 0", f"min_free_bytes = 0\n{keys}"))
        node.database, node.before = site.database, site.modules
        (way_in,) = stack.enter_context(proxies(node.port))
        modality = Modality(way_in.port)
        installation = Installation(node, way_in, way_out, archive, modality)
        modality.keep_alive = installation.keep_alive
        stack.enter_context(_environment(site.environment))
        stack.callback(node.stop)
        installation.start()
        yield installation


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
