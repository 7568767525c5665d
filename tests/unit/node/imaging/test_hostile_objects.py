"""Objects made to harm a reader are read or refused, in bounded time and memory, and end no process."""

import json
import os
import subprocess
import sys
from pathlib import Path

from support import hostile_objects

READ = {
    "65,535 empty functional groups",
    "JPEG 2000 in tiles of one pixel",
    "a program before the data set",
    "a script before the data set",
    "an overlay of 65,535 squared",
    "more frames than a number holds",
}


def test_hostile_objects_are_read_or_refused_in_bounded_time_and_memory(tmp_path: Path) -> None:
    hostile_objects.write(tmp_path)
    command = [sys.executable, "-W", "ignore", "-m", "support.hostile_objects", str(tmp_path)]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}  # pytest's own, which a new process does not have
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=os.environ | paths)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert {name for name, *_ in rows} == set(hostile_objects.OBJECTS)
    assert {name for name, outcome, *_ in rows if outcome == "read"} == READ
    assert not [row for row in rows if row[1].startswith("crash")]
    assert max(seconds for *_, seconds, _ in rows) < 20
    assert max(peak for *_, peak in rows) < 1 << 30
