"""kill -9 of each process of the node, and of its database, while studies come and go."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil
from acceptance.faults.installation import Installation
from acceptance.faults.judgement import Row, judged
from acceptance.faults.sender import SentStudy, new_studies
from support.postgresql import PostgreSQL

RECEIVER: Final = "ainode.node.receiving.process"
READER: Final = "ainode.node.reading.serving"
_LONGEST_PAUSE_S: Final = 1.5
_AWAY_S: Final = 1.0


def processes(installation: Installation, module: str) -> list[psutil.Process]:
    """Return the processes below the node whose command line names a module."""
    assert installation.node.process
    family = psutil.Process(installation.node.process.pid).children(recursive=True)
    return [process for process in family if any(module in argument for argument in _command_line(process))]


def _command_line(process: psutil.Process) -> list[str]:
    """Return the command line of a process, nothing if the process has just ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def kill_node(installation: Installation) -> None:
    """Kill the node; whoever sends next starts the node again."""
    with installation.ending() as process:
        process.kill()


def kill_receiver(installation: Installation) -> None:
    """Kill the receiver, whereupon the node ends by itself."""
    with installation.ending():
        for process in processes(installation, RECEIVER):
            process.kill()


def kill_reader(installation: Installation) -> None:
    """Kill every process that holds a model; the node goes on."""
    for process in processes(installation, READER):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_database(server: PostgreSQL) -> Callable[[Installation], None]:
    """Return what kills a PostgreSQL, and starts the server again after a moment."""

    def kill(_: Installation) -> None:
        server.kill()
        time.sleep(_AWAY_S)
        server.start()

    return kill


KILLS: Final[dict[str, Callable[[Installation], None]]] = {
    "node": kill_node,
    "receiver": kill_receiver,
    "reader": kill_reader,
}


def kill_rows(
    installation: Installation, kills: dict[str, Callable[[Installation], None]], times: int, *, seed: int, at_once: int
) -> Iterator[Row]:
    """Yield a row for each kind of kill; nobody waits between `at_once` kills until everything has recovered."""
    chance = random.Random(seed)
    for name, kill in kills.items():
        row = Row(f"kill -9 of the {name}")
        for _ in range(0, times, at_once):
            row = _killed(installation, row, kill, [chance.uniform(0, _LONGEST_PAUSE_S) for _ in range(at_once)])
        yield row


def _killed(
    installation: Installation, row: Row, kill: Callable[[Installation], None], pauses_s: Sequence[float]
) -> Row:
    """Kill after each pause, then wait until all is well."""
    studies: list[SentStudy] = []
    for pause_s in pauses_s:
        more = new_studies(3)
        studies += more
        with installation.modality.sending(more):
            time.sleep(pause_s)
            kill(installation)
            over_at = time.monotonic()
            installation.keep_alive()
    return judged(installation, row + Row(row.fault, times=len(pauses_s)), studies, over_at=over_at)


def suspend(installation: Installation) -> None:
    """Stop every process of the node in the middle of what the process does, and wait until none runs."""
    assert installation.node.process
    root = psutil.Process(installation.node.process.pid)
    every = [root, *root.children(recursive=True)]
    for process in every:
        os.kill(process.pid, signal.SIGSTOP)
    while any(thread_states(process.pid) - {"T", "Z", "X"} for process in every):
        time.sleep(0.001)


def thread_states(pid: int) -> set[str]:
    """Return the states of the threads of a process (proc(5))."""
    stats = [task / "stat" for task in Path(f"/proc/{pid}/task").iterdir()]
    return {stat.read_text(encoding="utf-8").rpartition(") ")[2][0] for stat in stats}
