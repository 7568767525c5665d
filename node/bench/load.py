"""The node under load: many studies at once, by a handler that answers at once, to Debian's Orthanc; and the idle node.

Prints the rate from the first byte until Orthanc lists every document, the processor time of each program, memory, and
how long an urgent study takes at the begin, a quarter, the half and three quarters of the backlog.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from ainode.node import testing
from ainode.node.bench.archive import (
    ARCHIVE_NAME,
    Archive,
    NodeAndArchive,
    running_archive,
    running_node,
    send_files,
    wait_until,
)
from ainode.node.bench.processes import cpu_seconds, process_tree, receivers, resident_bytes
from ainode.node.bench.servers import machine_description, program_path
from ainode.node.domain import UID
from ainode.node.terminal import table

GOAL_STUDIES_PER_S: Final = 6.0
GOAL_URGENT_S: Final = 3.0
GOAL_IDLE: Final = 0.01
"""of a core, by the node and its receiver"""
_SIDE: Final = 256
_ASSOCIATIONS: Final = 4
_IDLE_S: Final = 20.0
_LOOK_S: Final = 0.2
_SETTLING_S: Final = 6.0
_URGENT_AT: Final = (0.0, 0.25, 0.5, 0.75)
_MIDDLE: Final = 0.5
_MB: Final = 1e6
_URGENT: Final = "URGENT"
_ROUTE: Final = f"""[[route]]
name = "bench"
handler = "ainode.node.bench.immediate"
destinations = ["{ARCHIVE_NAME}"]
urgent_tags = {{ SeriesDescription = "{_URGENT}" }}
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What many studies at once took."""

    studies: int
    """with those that were urgent"""
    seconds: float
    """from the first byte to the node until the archive has all documents, and the node has proof of each"""
    cpu_s: Mapping[str, float]
    """processor time by program"""
    memory_mb: tuple[float, float, float]
    """of all processes of the node before, in the middle and at the end"""
    urgent_s: tuple[float, ...]
    """from the release of an urgent study until the archive has its report"""
    idle_share: float
    """of a core, by the node and its receiver before anything came"""

    @property
    def rate(self) -> float:
        """Return the studies per second."""
        return self.studies / self.seconds


def measured_load(folder: Path, studies: int, *, idle_s: float = _IDLE_S) -> Load:
    """Return what a number of studies took.

    Raises: ConfigError if a program is missing or a study does not arrive.
    """
    parts = [_written(folder, range(number, studies, _ASSOCIATIONS)) for number in range(_ASSOCIATIONS)]
    urgent = [_study(folder, f"urgent {number}", _URGENT) for number in range(len(_URGENT_AT))]
    with (
        running_archive(folder / "archive") as archive,
        running_node(folder / "node", archive, _ROUTE) as node_and_archive,
    ):
        send_files(node_and_archive.node, _study(folder, "first", "ordinary"))  # starts the reader
        _, deliveries = node_and_archive.finished_job(UID(testing.uid("first")))
        time.sleep(min(_SETTLING_S, idle_s))
        idle_share = _idle_share(node_and_archive, idle_s)
        return _loaded(node_and_archive, parts, urgent, documents=len(deliveries), idle_share=idle_share)


def _loaded(
    node_and_archive: NodeAndArchive,
    parts: Sequence[Sequence[Path]],
    urgent: Sequence[Sequence[Path]],
    *,
    documents: int,
    idle_share: float,
) -> Load:
    """Send all at once, and the urgent studies at their moments; return what it took."""
    archive, root = node_and_archive.archive, node_and_archive.process_id
    studies = sum(map(len, parts))
    memory, urgent_s = [resident_bytes(root) / _MB], []
    before, began_s = _cpu(node_and_archive), time.monotonic()
    senders = [threading.Thread(target=send_files, args=(node_and_archive.node, part)) for part in parts]
    for sender in senders:
        sender.start()
    for share, paths in zip(_URGENT_AT, urgent, strict=True):
        count = int((1 + share * studies) * documents)
        wait_until(lambda count=count: _instances(archive) >= count, f"{count} documents", pause_s=_LOOK_S)  # type: ignore[misc]
        urgent_s.append(_urgent_seconds(node_and_archive, paths))
        if share == _MIDDLE:
            memory.append(resident_bytes(root) / _MB)
    everything = (1 + studies + len(urgent)) * documents
    wait_until(lambda: _instances(archive) >= everything, f"{everything} documents", pause_s=_LOOK_S)
    wait_until(lambda: not node_and_archive.open_deliveries(), "proof of every document", pause_s=_LOOK_S)
    seconds, after = time.monotonic() - began_s, _cpu(node_and_archive)
    for sender in senders:
        sender.join()
    memory.append(resident_bytes(root) / _MB)
    spent = {program: after[program] - before[program] for program in before}
    return Load(studies + len(urgent), seconds, spent, (memory[0], memory[1], memory[2]), tuple(urgent_s), idle_share)


def _urgent_seconds(node_and_archive: NodeAndArchive, paths: Sequence[Path]) -> float:
    send_files(node_and_archive.node, paths, "EMERGENCY")
    released_s = time.monotonic()
    study = UID(testing.uid(paths[0].parent.name))
    wait_until(lambda: node_and_archive.archive.has_series(study, "SR"), f"the report of study {study}", pause_s=0.05)
    return time.monotonic() - released_s


def _idle_share(node_and_archive: NodeAndArchive, idle_s: float) -> float:
    """Return the share of a core that the node and its receiver take while nothing comes."""
    processes = (node_and_archive.process_id, *receivers(node_and_archive.process_id))
    before, began_s = sum(map(cpu_seconds, processes)), time.monotonic()
    time.sleep(idle_s)
    return (sum(map(cpu_seconds, processes)) - before) / (time.monotonic() - began_s)


def _cpu(node_and_archive: NodeAndArchive) -> dict[str, float]:
    """Return the processor time so far of each program, in seconds."""
    root = node_and_archive.process_id
    of_receivers = set(receivers(root))
    of_readers = process_tree(root) - of_receivers - {root}
    return {
        "the node: intake, engine, ledger, courier": cpu_seconds(root),
        "its receiver": sum(map(cpu_seconds, of_receivers)),
        "its reader": sum(map(cpu_seconds, of_readers)),
        "Orthanc": cpu_seconds(node_and_archive.archive.process_id),
    }


def _instances(archive: Archive) -> int:
    connection = HTTPConnection("127.0.0.1", archive.http_port, timeout=60)
    try:
        connection.request("GET", "/statistics")
        return int(json.loads(connection.getresponse().read())["CountInstances"])
    finally:
        connection.close()


def _written(folder: Path, numbers: range) -> list[Path]:
    return [path for number in numbers for path in _study(folder, f"load {number}", "ordinary")]


def _study(folder: Path, name: str, description: str) -> tuple[Path, ...]:
    header = {"Modality": "DX", "SeriesDescription": description, "NumberOfStudyRelatedInstances": 1}
    return testing.write([testing.noise(_SIDE, _SIDE, seed=1, **header)], folder / "sent" / name, study=name)  # type: ignore[arg-type]


def load_lines(studies: int) -> Iterator[str]:
    """Run the measurement and yield its lines.

    Raises: as `measured_load`.
    """
    program_path("Orthanc")
    yield f"{machine_description()}; load of the machine before: {os.getloadavg()[0]:.1f}"
    with tempfile.TemporaryDirectory(prefix="ainode-bench-") as temporary:
        load = measured_load(Path(temporary), studies)
    yield f"\n{studies} studies of one {_SIDE} x {_SIDE} image at once over {_ASSOCIATIONS} associations, SQLite"
    words = _words(is_met=load.rate >= GOAL_STUDIES_PER_S)
    yield f"{load.rate:.1f} studies/s to Orthanc, {load.seconds:.0f} s in all; {words}"
    rows = [
        (program, f"{1000 * seconds / load.studies:.0f}", f"{seconds / load.seconds:.2f}")
        for program, seconds in load.cpu_s.items()
    ]
    yield table(("processor time", "ms a study", "cores"), rows)
    before, middle, end = load.memory_mb
    yield f"memory of the node's processes: {before:.0f} MB before, {middle:.0f} in the middle, {end:.0f} at the end"
    longest = max(load.urgent_s)
    seconds = ", ".join(f"{each:.2f}" for each in load.urgent_s)
    words = _words(is_met=longest <= GOAL_URGENT_S)
    yield f"an urgent study at the begin and at 25, 50, 75 % of the backlog: {seconds} s; {words}"
    yield f"the idle node: {100 * load.idle_share:.2f} % of a core; {_words(is_met=load.idle_share < GOAL_IDLE)}"


def _words(*, is_met: bool) -> str:
    return "goal met" if is_met else "goal NOT met"
