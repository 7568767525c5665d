"""Commands that take a file of a model wait for no pipe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_WEIGHTS = ["--name", "a/b", "--model", "a", "--licence", "site", "--trained-on", "nothing"]


@pytest.mark.parametrize(
    "command",
    [
        ["model", "new", "fresh", "--from", "PIPE"],
        ["model", "program", "fresh", "--from", "PIPE"],
        ["model", "import", "PIPE", "--name", "fresh"],
        ["weights", "import", "PIPE", *_WEIGHTS],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_pipe_as_the_file_of_a_model_is_refused_at_once(tmp_path: Path, command: list[str]) -> None:
    pipe = tmp_path / "net.onnx"
    os.mkfifo(pipe)
    (tmp_path / "node.toml").write_text(f'[node]\ndata = "{tmp_path / "data"}"\n')
    (tmp_path / "routes.toml").write_text("")
    arguments = [str(pipe) if word == "PIPE" else word for word in command]
    arguments = [sys.executable, "-m", "ainode.node.commands.cli", *arguments, "--config", str(tmp_path / "node.toml")]
    # Without the refusal the command waits for a writer, and the limit ends the test as a failure.
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "is no plain file" in " ".join(done.stderr.split())
