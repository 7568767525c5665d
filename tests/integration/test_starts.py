"""Starts of a whole node that its data folder does not allow."""

import os
import subprocess
import sys
from pathlib import Path

from support.node import ROOT, RunningNode, configured, running


def refusal(node: RunningNode) -> str:
    """Start a node that is refused; return what it wrote."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / '.ns'}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "ainode.node.commands.cli", "serve", "--config", str(node.config)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 2
    return done.stderr


def test_a_second_node_on_one_data_folder_is_refused_in_one_line_and_the_first_goes_on(tmp_path: Path) -> None:
    first = configured(tmp_path / "first")
    second = configured(tmp_path / "second")
    text = second.config.read_text().replace(str(tmp_path / "second"), str(tmp_path / "first"))
    second.config.write_text(text)
    with running(first):
        (line,) = refusal(second).splitlines()
        assert f"another node runs on {tmp_path / 'first' / 'data'}" in line
        assert first.process
        assert first.process.poll() is None
        first.kill()
        second.start()
        second.stop()


def test_a_node_whose_database_file_is_damaged_says_in_one_line_what_to_do(tmp_path: Path) -> None:
    node = configured(tmp_path)
    path = tmp_path / "data" / "catalog.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    (line,) = refusal(node).splitlines()
    assert str(path) in line
    assert "move it away" in line
