"""How fast studies come in, beside the two servers people use instead: Debian's Orthanc and DCMTK's storescp.

Each figure is the median of interleaved rounds, each run on a fresh server and a disk that was synced before. What
the servers promise differs, and the table says so: storescp neither syncs nor indexes.
"""

import os
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Final

from ainode.node import testing
from ainode.node.bench.servers import AE_TITLE, TOOLS, Server, machine, node, orthanc, running, say, tool
from ainode.node.errors import ConfigError

_CLIENT_TIMEOUT_S: Final = 600.0
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_LARGE_FRAMES: Final = 2048
_MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is sent, and how."""

    client: str
    associations: int
    images: str
    limit: int | None = None
    """only so many, where the whole would take minutes"""
    nodelay: bool = True

    def __str__(self) -> str:
        tcp = "TCP_NODELAY=1" if self.nodelay else "TCP default"
        return f"{self.images}, {self.client} x{self.associations}, {tcp}"


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    objects: int
    size_bytes: int
    seconds: float
    resident_bytes: int


_SCENARIOS: Final = (
    Scenario("storescu", 1, "CT"),
    Scenario("storescu", 4, "CT"),
    Scenario("dcmsend", 1, "CT"),
    Scenario("storescu", 1, "radiographs"),
    Scenario("storescu", 4, "radiographs"),
    Scenario("storescu", 1, "CT", limit=40, nodelay=False),
    Scenario("storescu", 4, "CT", limit=40, nodelay=False),
)


def ingest(rounds: int = 5, ct: int = 300, radiographs: int = 20, scenarios: Sequence[Scenario] = _SCENARIOS) -> None:
    """Measure every server in every scenario and print the table.

    Raises: ConfigError if a tool is missing, naming its Debian package.
    """
    for name in TOOLS:
        tool(name)
    with tempfile.TemporaryDirectory(prefix="ainode-bench-") as temporary:
        folder = Path(temporary)
        images = _images(folder / "images", ct, radiographs)
        say(machine())
        runs: dict[tuple[Scenario, str], list[Run]] = {}
        for _, scenario, server in product(range(rounds), scenarios, _SERVERS):
            runs.setdefault((scenario, server.name), []).append(_run(server, scenario, images[scenario.images], folder))
        for line in _table(runs, scenarios):
            say(line)
        say(f"a 1 GB multi-frame object: receiver's peak {_large_object(folder) / _MB:.0f} MB resident")


def _images(folder: Path, ct: int, radiographs: int) -> dict[str, tuple[Path, ...]]:
    """Write both studies of noise: 0.5 MB a slice, 18 MB a radiograph."""
    slices = (testing.noise(512, 512, seed=n, SOPClassUID=_CT, Modality="CT") for n in range(ct))
    return {
        "CT": testing.write(slices, folder / "ct", study="bench ct"),
        "radiographs": testing.write(
            (testing.noise(3000, 3000, seed=n) for n in range(radiographs)), folder / "dx", study="bench dx"
        ),
    }


def _run(server: Server, scenario: Scenario, images: Sequence[Path], folder: Path) -> Run:
    """Send the images to a fresh server and return how long that took."""
    chosen = images[: scenario.limit]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        environment = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
        if scenario.nodelay:
            environment["TCP_NODELAY"] = "1"
        parts = list(_parts(Path(name) / "parts", chosen, scenario.associations))
        with running(server, Path(name), environment) as (process, port):
            seconds = _send(scenario.client, parts, port, environment)
            resident = _resident(process.pid)
    return Run(len(chosen), sum(path.stat().st_size for path in chosen), seconds, resident)


def _parts(folder: Path, images: Sequence[Path], count: int) -> Iterator[Path]:
    """Deal the images out to `count` folders, one for each association."""
    for number in range(count):
        part = folder / str(number)
        part.mkdir(parents=True)
        for image in images[number::count]:
            os.link(image, part / image.name)
        yield part


def _send(client: str, parts: Iterable[Path], port: int, environment: dict[str, str]) -> float:
    """Return the seconds until every client has ended; each must have succeeded."""
    command = [tool(client), "-aec", AE_TITLE, "127.0.0.1", str(port), "+sd"]
    began = time.perf_counter()
    clients = [subprocess.Popen([*command, str(part)], env=environment) for part in parts]  # noqa: S603
    statuses = [one.wait(_CLIENT_TIMEOUT_S) for one in clients]
    seconds = time.perf_counter() - began
    if any(statuses):
        raise ConfigError(f"{client} could not send (exit {max(statuses)}); see its message above")
    return seconds


def _storescp(folder: Path, port: int) -> Sequence[str]:
    (folder / "received").mkdir()
    return [tool("storescp"), "-aet", AE_TITLE, "-od", str(folder / "received"), str(port)]


_SERVERS: Final = (
    Server("ainode", "fsync, then indexed", node, says="ready: "),
    Server("Orthanc", "fsync and index", orthanc),
    Server("storescp", "no fsync, no index", _storescp),
)


def _process_tree(root: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        parents[int(stat.parent.name)] = int(fields[1])
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def _status_bytes(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)


def _resident(root: int) -> int:
    """Return what the process and its children hold now; pages they share count twice."""
    return sum(_status_bytes(pid, "VmRSS") for pid in _process_tree(root))


def _large_object(folder: Path) -> int:
    """Return the peak memory of the receiver process while it takes 1 GB in one instance."""
    source = folder / "large"
    source.mkdir()
    _write_large(source / "large.dcm")
    with running(_SERVERS[0], folder, os.environ | {"TCP_NODELAY": "1"}) as (process, port):
        _send("storescu", [source], port, os.environ | {"TCP_NODELAY": "1"})
        module = b"ainode.node.receiving.process"
        receivers = [pid for pid in _process_tree(process.pid) if module in _command_line(pid)]
        return max(_status_bytes(pid, "VmHWM") for pid in receivers)


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _write_large(path: Path) -> None:
    """Write a multi-frame object of 1 GB, sparse: its pixels take no disk here."""
    image = testing.noise(512, 512, SOPClassUID="1.2.840.10008.5.1.4.1.1.7.3", Modality="OT")
    dataset = testing.dataset(image, study="bench large")
    dataset.NumberOfFrames = _LARGE_FRAMES
    del dataset.PixelData
    header = BytesIO()
    dataset.save_as(header, enforce_file_format=True)
    size = 512 * 512 * 2 * _LARGE_FRAMES
    path.write_bytes(header.getvalue() + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size))
    os.truncate(path, path.stat().st_size + size)


def _table(runs: dict[tuple[Scenario, str], list[Run]], scenarios: Sequence[Scenario]) -> Iterator[str]:
    """Yield the table: one block for a scenario, one line for a server."""
    for scenario in scenarios:
        rates = {
            server.name: statistics.median(run.objects / run.seconds for run in runs[scenario, server.name])
            for server in _SERVERS
        }
        yield f"\n{scenario}"
        for server in _SERVERS:
            done = runs[scenario, server.name]
            rate = rates[server.name]
            megabytes = statistics.median(run.size_bytes / run.seconds for run in done) / _MB
            resident = statistics.median(run.resident_bytes for run in done) / _MB
            yield (
                f"  {server.name:9} {rate:7.1f} objects/s {megabytes:7.1f} MB/s"
                f" {rate / rates['Orthanc']:6.2f} x Orthanc {rate / rates['storescp']:6.2f} x storescp"
                f" {resident:6.0f} MB resident   ({server.promise})"
            )
