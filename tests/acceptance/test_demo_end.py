"""The demonstration as a person ends it: by a signal, at any time."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import installed
from support.node import ROOT

_WITHOUT_MODELS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'openvino', 'timm', 'ultralytics', 'cv2'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Absent())
"""


@contextmanager
def demonstration(home: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a demonstration of no model, which nevertheless has a node, an archive and a console."""
    for name in ("before", "temporary"):
        (home / name).mkdir()
    (home / "before" / "sitecustomize.py").write_text(_WITHOUT_MODELS)
    folders = (home / "before", ROOT / ".ns", ROOT / "tests")
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "TMPDIR": str(home / "temporary"),
    }
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ainode.node.commands.cli", "demo", *options],
            env=environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines_until(process: "subprocess.Popen[str]", beginning: str) -> list[str]:
    assert process.stdout
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(beginning):
            return lines
    pytest.fail(f"no line begins with {beginning!r}: {lines}")


def assert_nothing_is_left(home: Path, lines: list[str]) -> None:
    assert not list((home / "temporary").glob("ainode-demo-*"))
    port = re.search(r"console: http://127\.0\.0\.1:(\d+)/", "".join(lines))
    assert port
    with socket.socket() as caller:
        assert caller.connect_ex(("127.0.0.1", int(port[1]))) != 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_demonstration_at_work_and_leaves_no_server_and_no_folder(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    installed("argon2", "fastapi")
    with demonstration(tmp_path) as process:
        lines = lines_until(process, "console: ")
        assert list((tmp_path / "temporary").glob("ainode-demo-*"))
        process.send_signal(number)
        rest, _ = process.communicate(timeout=240)
    assert process.returncode == status, rest
    assert "node and archive are stopped" in rest
    assert_nothing_is_left(tmp_path, lines)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_demonstration_says_how_to_stop_what_it_started_and_stops_so(tmp_path: Path) -> None:
    installed("argon2", "fastapi")
    with demonstration(tmp_path, "--console") as process:
        lines = lines_until(process, "The console is open")
        for line in (lines[0], lines[-1]):
            assert f"Ctrl-C or `kill {process.pid}`" in line
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=240)
    assert process.returncode == 1, "no study was read here"
    assert_nothing_is_left(tmp_path, lines)
