"""kill -9 of each process of the node, and of its database, while studies come and go."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import psutil
from acceptance.faults.installation import Installation
from acceptance.faults.judgement import Row, judged
from acceptance.faults.sender import SentStudy, new_studies
from support.postgresql import PostgreSQL
from support.processes import command_line, suspend

RECEIVER: Final = "ainode.node.receiving.process"
READER: Final = "ainode.node.reading.serving"
_LONGEST_PAUSE_S: Final = 1.5
_AWAY_S: Final = 1.0


def processes(installation: Installation, module: str) -> list[psutil.Process]:
    """Return the processes below the node whose command line names a module."""
    assert installation.node.process
    family = psutil.Process(installation.node.process.pid).children(recursive=True)
    return [process for process in family if any(module in argument for argument in command_line(process))]


def kill_node(installation: Installation) -> None:
    """Kill the node; whoever sends next starts the node again."""
    with installation.ending() as process:
        process.kill()


def kill_receiver(installation: Installation) -> None:
    """Kill the receiver; the node begins anew by itself, in the same process."""
    for process in processes(installation, RECEIVER):
        with contextlib.suppress(psutil.NoSuchProcess):
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


def suspend_all(installation: Installation) -> None:
    """Stop every process of the node in the middle of what the process does; return when none runs.

    Parents come first: a process that stands still starts no other.
    """
    assert installation.node.process
    running = [psutil.Process(installation.node.process.pid)]
    while running:
        process = running.pop()
        with contextlib.suppress(psutil.NoSuchProcess):
            suspend(process)
            running += process.children()
