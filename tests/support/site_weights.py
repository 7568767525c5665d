"""Weights of a site, brought into a node by its own command."""

import shutil
import subprocess
import sys
from pathlib import Path

from support.node import RunningNode


def bring(node: RunningNode, path: Path, *, name: str, trained_on: str) -> None:
    """Import a file of weights under a name such as `lung_infection/lite0` into a node that does not run yet."""
    model = name.split("/", maxsplit=1)[0]
    copy = shutil.copy(path, node.folder / f"{name.replace('/', '_')}.safetensors")
    arguments = ["--name", name, "--model", model, "--licence", "site", "--trained-on", trained_on]
    command = [sys.executable, "-m", "ainode.node.commands.cli", "weights", "import", str(copy), *arguments]
    done = subprocess.run([*command, "--config", str(node.config)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
