"""The rate at which the node receives studies, beside two other servers: Debian's Orthanc and DCMTK's storescp.

Each figure is the median of interleaved rounds; each run has a fresh server, and the disk is synced before. The servers
promise different things before they answer, and the table says so: storescp neither syncs nor indexes.
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
from ainode.node.bench.processes import receivers, resident_bytes, status_bytes
from ainode.node.bench.servers import (
    AE_TITLE,
    DEBIAN_PACKAGES,
    Server,
    machine_description,
    node_command,
    orthanc_command,
    print_line,
    program_path,
    running,
)
from ainode.node.errors import ConfigError

_CLIENT_TIMEOUT_S: Final = 600.0
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_LARGE_FRAMES: Final = 2048
_MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Scenario:
    """The images to send, and the way of sending."""

    client: str
    """DCMTK's `storescu` or `dcmsend`"""
    associations: int
    """number of clients that send at the same time"""
    images: str
    """`CT` or `radiographs`"""
    limit: int | None = None
    """number of images to send; None for all"""
    nodelay: bool = True
    """whether DCMTK sets TCP_NODELAY"""

    def __str__(self) -> str:
        tcp = "TCP_NODELAY=1" if self.nodelay else "TCP default"
        return f"{self.images}, {self.client} x{self.associations}, {tcp}"


@dataclass(frozen=True, slots=True)
class Run:
    """A measured run of a scenario with a server."""

    objects: int
    """number of instances that were sent"""
    size_bytes: int
    seconds: float
    resident_bytes: int
    """memory of the server's processes after the run"""


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

    Raises: ConfigError that names the Debian package, if a program is missing.
    """
    for name in DEBIAN_PACKAGES:
        program_path(name)
    with tempfile.TemporaryDirectory(prefix="ainode-bench-") as temporary:
        folder = Path(temporary)
        images = _write_images(folder / "images", ct, radiographs)
        print_line(machine_description())
        runs: dict[tuple[Scenario, str], list[Run]] = {}
        for _, scenario, server in product(range(rounds), scenarios, _SERVERS):
            run = _measured_run(server, scenario, images[scenario.images], folder)
            runs.setdefault((scenario, server.name), []).append(run)
        for line in _table_lines(runs, scenarios):
            print_line(line)
        print_line(f"a 1 GB multi-frame object: receiver's peak {_peak_bytes(folder) / _MB:.0f} MB resident")


def _write_images(folder: Path, ct: int, radiographs: int) -> dict[str, tuple[Path, ...]]:
    """Write a CT and a study of radiographs, both of noise; a slice has 0.5 MB, a radiograph 18 MB."""
    slices = (testing.noise(512, 512, seed=seed, SOPClassUID=_CT, Modality="CT") for seed in range(ct))
    return {
        "CT": testing.write(slices, folder / "ct", study="bench ct"),
        "radiographs": testing.write(
            (testing.noise(3000, 3000, seed=seed) for seed in range(radiographs)), folder / "dx", study="bench dx"
        ),
    }


def _measured_run(server: Server, scenario: Scenario, images: Sequence[Path], folder: Path) -> Run:
    """Send the scenario's images to a fresh server and return the measured run."""
    sent_images = images[: scenario.limit]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        environment = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
        if scenario.nodelay:
            environment["TCP_NODELAY"] = "1"
        sender_folders = list(_sender_folders(Path(name) / "parts", sent_images, scenario.associations))
        with running(server, Path(name), environment) as (process, port):
            seconds = _sending_seconds(scenario.client, sender_folders, port, environment)
            resident = resident_bytes(process.pid)
    return Run(len(sent_images), sum(path.stat().st_size for path in sent_images), seconds, resident)


def _sender_folders(folder: Path, images: Sequence[Path], count: int) -> Iterator[Path]:
    """Yield `count` folders, one for each association, with the images dealt out to them as hard links."""
    for number in range(count):
        part = folder / str(number)
        part.mkdir(parents=True)
        for image in images[number::count]:
            os.link(image, part / image.name)
        yield part


def _sending_seconds(client: str, sender_folders: Iterable[Path], port: int, environment: dict[str, str]) -> float:
    """Send each folder by a client of its own; return the seconds until every client has ended.

    Raises: ConfigError if a client failed.
    """
    command = [program_path(client), "-aec", AE_TITLE, "127.0.0.1", str(port), "+sd"]
    began = time.perf_counter()
    clients = [subprocess.Popen([*command, str(part)], env=environment) for part in sender_folders]  # noqa: S603
    statuses = [process.wait(_CLIENT_TIMEOUT_S) for process in clients]
    seconds = time.perf_counter() - began
    if any(statuses):
        raise ConfigError(f"{client} could not send (exit {max(statuses)}); see its message above")
    return seconds


def _storescp_command(folder: Path, port: int) -> Sequence[str]:
    """Return the command of a storescp that writes into the folder."""
    (folder / "received").mkdir()
    return [program_path("storescp"), "-aet", AE_TITLE, "-od", str(folder / "received"), str(port)]


_SERVERS: Final = (
    Server("ainode", "fsync, then indexed", node_command, ready_text="ready: "),
    Server("Orthanc", "fsync and index", orthanc_command),
    Server("storescp", "no fsync, no index", _storescp_command),
)


def _peak_bytes(folder: Path) -> int:
    """Return the peak memory of the receiver process that receives an instance of 1 GB."""
    source = folder / "large"
    source.mkdir()
    _write_large(source / "large.dcm")
    with running(_SERVERS[0], folder, os.environ | {"TCP_NODELAY": "1"}) as (process, port):
        _sending_seconds("storescu", [source], port, os.environ | {"TCP_NODELAY": "1"})
        return max(status_bytes(pid, "VmHWM") for pid in receivers(process.pid))


def _write_large(path: Path) -> None:
    """Write a multi-frame object of 1 GB as a sparse file, whose pixels take no disk."""
    image = testing.noise(512, 512, SOPClassUID="1.2.840.10008.5.1.4.1.1.7.3", Modality="OT")
    dataset = testing.dataset(image, study="bench large")
    dataset.NumberOfFrames = _LARGE_FRAMES
    del dataset.PixelData
    header = BytesIO()
    dataset.save_as(header, enforce_file_format=True)
    size = 512 * 512 * 2 * _LARGE_FRAMES
    path.write_bytes(header.getvalue() + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size))
    os.truncate(path, path.stat().st_size + size)


def _table_lines(runs: dict[tuple[Scenario, str], list[Run]], scenarios: Sequence[Scenario]) -> Iterator[str]:
    """Yield a block for each scenario, with a line for each server."""
    for scenario in scenarios:
        rates = {
            server.name: statistics.median(run.objects / run.seconds for run in runs[scenario, server.name])
            for server in _SERVERS
        }
        yield f"\n{scenario}"
        for server in _SERVERS:
            server_runs = runs[scenario, server.name]
            rate = rates[server.name]
            megabytes = statistics.median(run.size_bytes / run.seconds for run in server_runs) / _MB
            resident = statistics.median(run.resident_bytes for run in server_runs) / _MB
            yield (
                f"  {server.name:9} {rate:7.1f} objects/s {megabytes:7.1f} MB/s"
                f" {rate / rates['Orthanc']:6.2f} x Orthanc {rate / rates['storescp']:6.2f} x storescp"
                f" {resident:6.0f} MB resident   ({server.promise})"
            )
