"""How long `ainode read` takes a study of each handler: the first time, when no network lies converted, and later."""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ainode.node import testing
from ainode.node.errors import NodeError
from ainode.node.reading import registry
from ainode.node.reading.weights import ModelEnvironment

_TITLES: Final = ("a file by `ainode read`", "time", "runs", "wall s", "processor s", "resident MB")
_LEAST_WIDTH: Final = len("first")
_COMMAND: Final = "ainode.node.commands.cli"
# A program of its own: the system counts the memory of whoever starts a process to the peak of that process.
_LAUNCHER: Final = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
wall_s = time.perf_counter() - started
print(json.dumps([wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000]))
sys.exit(process.returncode)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one reading in a process of its own took: seconds by the clock and of the processor, the peak of memory."""

    wall_s: float
    processor_s: float
    resident_mb: float


def cost_lines(names: Sequence[str], models: ModelEnvironment, *, runs: int) -> Iterator[str]:
    """Yield the titles, then a line for each row of `cost_rows` as soon as it is measured."""
    # What the widths of all rows would be is not known before the last row.
    widths = [max(map(len, (*names, _TITLES[0]))), *(max(len(title), _LEAST_WIDTH) for title in _TITLES[1:])]
    for row in itertools.chain((_TITLES,), cost_rows(names, models, runs=runs)):
        yield "  ".join(map(str.ljust, map(str, row), widths)).rstrip()


def cost_rows(names: Sequence[str], models: ModelEnvironment, *, runs: int) -> Iterator[Sequence[object]]:
    """Yield two rows for each handler, of its first reading and of the median of `runs` later ones.

    A handler whose study cannot be made or read has one row, which says so.
    """
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                first, *later = _costs(name, Path(folder), models, runs)
            except (NodeError, OSError) as error:
                yield name, f"not measured: {error}", "", "", "", ""
                continue
            yield name, "first", 1, *_numbers([first])
            yield name, "later", len(later), *_numbers(later)


def _costs(name: str, folder: Path, models: ModelEnvironment, runs: int) -> Iterator[Cost]:
    """Yield the cost of the first reading of a handler's synthetic study, and of each later one.

    Raises: OSError if a reading fails.
    """
    synthetic = registry.handler(name, models).demonstration(0)
    testing.write(synthetic.images, folder / "study", study=name, positions_mm=synthetic.positions_mm)
    variables = {
        "AINODE_NODE__DATA": str(models.weights.site.parent),
        "AINODE_READER__NETWORKS": str(folder / "networks"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    words = [sys.executable, "-m", _COMMAND, "read", str(folder / "study"), "--model", name, "--out"]
    for number in range(1 + runs):
        yield cost_of([*words, str(folder / f"out{number}")], variables)


def cost_of(words: Sequence[str], variables: Mapping[str, str]) -> Cost:
    """Run a program, and return its cost.

    Raises: OSError if the program fails.
    """
    done = subprocess.run(  # noqa: S603  # this very program
        [sys.executable, "-c", _LAUNCHER, *words],
        env=os.environ | dict(variables),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(f"exit status {done.returncode}: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    return Cost(*json.loads(done.stdout))


def _numbers(costs: Sequence[Cost]) -> tuple[str, str, str]:
    """Return the medians of several costs as text."""
    return (
        f"{statistics.median(cost.wall_s for cost in costs):.1f}",
        f"{statistics.median(cost.processor_s for cost in costs):.1f}",
        f"{statistics.median(cost.resident_mb for cost in costs):.0f}",
    )
