"""The worklist of a node with many studies: the time of a page for every filter, the cost of pages, and the memory.

The node is a real one whose catalog was filled before its start, with every job finished. The pages that are open get
the rows that a browser gets; nothing draws them.
"""

import http.client
import os
import re
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from math import ceil
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import sqlalchemy as sa

from ainode.node.bench.full_catalog import DESTINATIONS, ROUTES, fill, job_of, name_of, study_of
from ainode.node.bench.memory import LIMIT_MB, every_page, memory_of, read_at_once
from ainode.node.bench.servers import Server, free_port, machine_description, node_command, running
from ainode.node.errors import ConfigError
from ainode.node.keeping import database
from ainode.node.keeping.people import People, Role
from ainode.node.keeping.schema import jobs
from ainode.node.settings import load
from ainode.node.terminal import table

_PERSON: Final = "bench"
_WINDOW_S: Final = 20.0
_SETTLED_S: Final = 5.0
_TIMEOUT_S: Final = 60
_READERS: Final = 6
_TIMES: Final = 3
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Latency:
    """How long a page took."""

    name: str
    row_count: str
    median_s: float
    p95_s: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What open pages cost."""

    share: float
    """of one core"""
    updates: float
    """how often each page got its rows"""


@dataclass
class Node:
    """A running node, and what a person sends to it."""

    port: int
    process: int
    engine: sa.Engine
    headers: dict[str, str] = field(default_factory=lambda: {"X-Person": _PERSON})

    def get(self, connection: http.client.HTTPConnection, path: str) -> str:
        """Return a page.

        Raises: ConfigError if the node does not answer with the page.
        """
        connection.request("GET", path, headers=self.headers)
        answer = connection.getresponse()
        content = answer.read().decode()
        if answer.status != http.client.OK:
            raise ConfigError(f"{path}: the node answered {answer.status}")
        return content

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection that is open for one request after the other."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)

    def search(self, connection: http.client.HTTPConnection, text: str) -> str:
        """Return the address of a search for a text."""
        (csrf, *_) = re.findall('name="csrf" value="([^"]+)"', self.get(connection, "/console/"))
        headers = {**self.headers, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/console/search", urlencode({"csrf": csrf, "text": text}), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.headers["location"]

    def cpu_s(self) -> float:
        """Return the processor time of the node's process so far (proc(5): utime and stime)."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def _node(folder: Path, count: int, url: str) -> Iterator[Node]:
    """Run a node whose catalog has so many studies.

    Raises: ConfigError if the database at `url` has tables already.
    """
    port = free_port()
    database_table = f'\n[database]\nurl = "{url}"' if url else ""
    more = (
        "retention_days = 0\njob_retention_days = 0\n"
        f'\n[web]\nenabled = true\nport = {port}\n\n[console]\npatient = "full"\nlogin_header = "X-Person"\n'
        f'proxies = ["127.0.0.1"]\n\n[audit]\nenabled = false\n{database_table}'
    )
    peers = "".join(
        f'\n[[peer]]\nname = "{name}"\nae_title = "{name.upper()}"\nhost = "127.0.0.1"\nport = 1\n'
        for name in DESTINATIONS
    )
    routes = "".join(f'[[route]]\nname = "{name}"\nhandler = "ainode.node.bench.immediate"\n' for name in ROUTES)

    def command(folder: Path, dicom_port: int) -> Sequence[str]:
        return node_command(folder, dicom_port, extra_settings=more + peers, routes=routes)

    command(folder, free_port())
    settings = load(folder / "node.toml")
    settings.data.mkdir(exist_ok=True, mode=0o700)
    engine = database.connect(settings.database_url)
    if url and sa.inspect(engine).get_table_names():
        raise ConfigError("the database has tables; name an empty one, the measurement fills it")
    database.migrate(engine)
    now = datetime.now(UTC)
    fill(engine, count, now)
    People(engine).add(_PERSON, Role.ADMINISTRATOR, None, now)
    with running(Server("node", "", command, ready_text="ready: "), folder) as (process, _):
        yield Node(port, process.pid, engine)
    engine.dispose()


def measurement_lines(folder: Path, *, studies: int, pages: int, requests: int, url: str = "") -> Iterator[str]:
    """Yield the lines of the measurement."""
    yield machine_description()
    with _node(folder, studies, url) as node:
        yield f"{studies} studies, {node.engine.dialect.name}, {requests} requests a filter"
        yield from _memory_lines(node)
        latencies = [_latency(node, name, address, requests) for name, address in tuple(_addresses(node, studies))]
        rows = [
            (item.name, item.row_count, f"{item.median_s * 1000:.0f}", f"{item.p95_s * 1000:.0f}") for item in latencies
        ]
        yield table(("worklist", "rows", "p50 ms", "p95 ms"), rows)
        yield f"\nresident after these requests: {' + '.join(memory_of(node.process).row[:2])} MB"
        yield f"\nprocessor time of the node, as a share of one core, over {_WINDOW_S:.0f} s each"
        yield from _cost_lines(node, pages)


def _memory_lines(node: Node) -> Iterator[str]:
    """Yield the memory of node and receiver after the start, and after the pages were read by few and by many."""
    rows = [("after the start", *memory_of(node.process).row)]
    addresses = every_page(node.connection, node.headers)
    rows.append((f"after a page of each of {len(addresses)} kinds", *memory_of(node.process).row))
    read_at_once(node.connection, node.headers, addresses, connections=_READERS, times=_TIMES)
    rows.append((f"after {_READERS} connections read each {_TIMES} times", *memory_of(node.process).row))
    yield table(("resident MB", "node", "receiver alone", f"together (limit {LIMIT_MB})"), rows) + "\n"


def _cost_lines(node: Node, pages: int) -> Iterator[str]:
    filters = [f"?route={route}&study={beginning}" for route in ROUTES for beginning in ("2", "2.25")]
    idle = _cost(node, 0, (), changes=False)
    costs = [
        ("no page open", idle),
        (f"{pages} pages open, nothing changes", _cost(node, pages, ("",), changes=False)),
        (f"{pages} pages open, rows change each second", _cost(node, pages, ("",), changes=True)),
        (f"the same, with {len(filters)} filters", _cost(node, pages, filters, changes=True)),
    ]
    rows = [
        (name, f"{cost.share:.3f}", f"{cost.share - idle.share:.3f}", f"{cost.updates:.1f}") for name, cost in costs
    ]
    yield table(("", "node", "pages alone", "updates a page"), rows)


def _addresses(node: Node, studies: int) -> Iterator[tuple[str, str]]:
    """Yield name and address of each filter."""
    connection = node.connection()
    day = (datetime.now(UTC) - timedelta(days=3)).date()
    yield "no filter", "/console/"
    yield "the last page", f"/console/?page={studies // 60}"
    for state in ("reported", "out_of_scope", "failed", "superseded", "no_route", "receiving", "announced", "waiting"):
        yield f"state {state}", f"/console/?state={state}"
    yield "documents not confirmed", "/console/?documents=open"
    yield "documents failed", "/console/?documents=failed"
    yield "route", f"/console/?route={ROUTES[1]}"
    yield "route that never was", "/console/?route=none"
    yield "destination", f"/console/?destination={DESTINATIONS[0]}"
    yield "destination that never was", "/console/?destination=none"
    yield "one day", f"/console/?since={day}&until={day}"
    yield "Study Instance UID", f"/console/?study={study_of(studies // 2)}"
    yield "patient's name", node.search(connection, name_of(studies // 2).replace("^", " "))
    yield "family name", node.search(connection, name_of(0).partition("^")[0])
    yield "name that nobody has", node.search(connection, "nobody at all")
    everything = f"/console/?state=reported&documents=failed&route={ROUTES[0]}&destination={DESTINATIONS[0]}"
    yield "state, documents, route, destination", everything
    connection.close()


def _latency(node: Node, name: str, address: str, requests: int) -> Latency:
    connection = node.connection()
    page = node.get(connection, address)
    seconds = []
    for _ in range(requests):
        began_s = time.perf_counter()
        node.get(connection, address)
        seconds.append(time.perf_counter() - began_s)
    connection.close()
    ranked = sorted(seconds)
    (row_count,) = re.findall(r"\d+ to \d+ of (\d+)", page) or ["0"]
    return Latency(name, row_count, statistics.median(ranked), ranked[ceil(0.95 * len(ranked)) - 1])


def _cost(node: Node, pages: int, addresses: Sequence[str], *, changes: bool) -> Cost:
    """Return what the node takes while so many pages are open, each in a thread of this process."""
    updates: Counter[int] = Counter()
    with ExitStack() as stack:
        for number in range(pages):
            stack.enter_context(_open_page(node, addresses[number % len(addresses)], partial(updates.update, [number])))
        if changes:
            stack.enter_context(_changes(node.engine))
        time.sleep(_SETTLED_S)
        updates.clear()
        began_s, spent_s = time.monotonic(), node.cpu_s()
        time.sleep(_WINDOW_S)
        share = (node.cpu_s() - spent_s) / (time.monotonic() - began_s)
        return Cost(share, updates.total() / max(pages, 1))


@contextmanager
def _open_page(node: Node, address: str, count: Callable[[], None]) -> Iterator[None]:
    """Read the events of a page until the page is closed; `count` is called for each."""
    connection = node.connection()
    connection.request("GET", f"/console/worklist/events{address}", headers=node.headers)
    answer = connection.getresponse()
    thread = threading.Thread(target=_read_on, args=(answer, count), daemon=True)
    thread.start()
    yield
    if connection.sock:
        connection.sock.shutdown(socket.SHUT_RDWR)
    thread.join(_TIMEOUT_S)
    connection.close()


def _read_on(answer: http.client.HTTPResponse, count: Callable[[], None]) -> None:
    try:
        while line := answer.readline():
            if line.startswith(b"event:"):
                count()
    except (OSError, http.client.HTTPException):
        return


@contextmanager
def _changes(engine: sa.Engine) -> Iterator[None]:
    """Change the newest row each second, as a node that reads."""
    stopping = threading.Event()

    def change() -> None:
        number = 0
        while not stopping.wait(1.0):
            number += 1
            statement = sa.update(jobs).where(jobs.c.id.in_([job_of(20), job_of(21), job_of(22)]))
            with engine.begin() as connection:
                connection.execute(statement.values(reason=f"change {number}"))

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    yield
    stopping.set()
    thread.join(_TIMEOUT_S)
