"""What the pages cost the process of the node."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import installed
from support.node import ROOT

installed("fastapi", "uvicorn", "jinja2", "argon2")

from ainode.node.bench.console import measurement_lines  # noqa: E402

MAKE_PAGES = """
import os, sys
from pathlib import Path

from support import web_bench

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

growths = []
make = web_bench.console

def measured(parts):
    before = resident()
    pages = make(parts)
    growths.append(resident() - before)
    return pages

web_bench.console = measured
bench = web_bench.Bench(Path(sys.argv[1]))
print(*growths)
bench.web.stop()
bench.parts.stop()
"""


def test_the_pages_take_a_few_megabytes_when_they_are_made(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("resident memory is read from /proc")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / ".ns"), str(ROOT / "tests")))}
    command = [sys.executable, "-c", MAKE_PAGES, str(tmp_path / "node")]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    # Three; a pattern that repeats a class of Unicode two hundred times takes nineteen more.
    assert int(printed.stdout) < 12_000_000


def test_the_measurement_tells_the_memory_of_node_and_receiver_with_each_kind_of_page_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / ".ns"))
    lines = measurement_lines(tmp_path, studies=100, pages=1, requests=1)
    text = next(line for line in lines if "resident MB" in line)
    lines.close()  # type: ignore[attr-defined]  # a generator
    rows = re.findall(r"^(after .*?) {2,}(\d+) +(\d+) +(\d+)$", text, re.MULTILINE)
    (kinds,) = re.findall(r"after a page of each of (\d+) kinds", text)
    assert (len(rows), int(kinds) >= 20) == (3, True), text
    for _, node, receiver, together in rows:
        assert int(node) > int(receiver) > 10
        assert abs(int(node) + int(receiver) - int(together)) <= 1
