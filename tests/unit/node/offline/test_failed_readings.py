"""`ainode read` of a folder: a study that a handler's code fails on costs itself alone."""

import os
import subprocess
import sys
from pathlib import Path

from support.faults import PATIENT, RAISE, write_handler

from ainode.node import testing


def test_the_studies_beside_a_study_that_cannot_be_read_are_read_and_named(tmp_path: Path) -> None:
    failing = testing.uid("study 1")
    handler = write_handler(
        tmp_path, "raises_once", read=f"if selection.study_instance_uid == {failing!r}:\n    {RAISE}"
    )
    for number in range(3):
        testing.write([testing.noise(320, 320)], tmp_path / "studies" / str(number), study=f"study {number}")
    (config := tmp_path / "node.toml").write_text(f'[node]\ndata = "{tmp_path / "data"}"\n')
    words = ["read", tmp_path / "studies", "--model", handler, "--out", tmp_path / "out", "--config", config]
    done = subprocess.run(
        [sys.executable, "-m", "ainode.node.commands.cli", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert f"study {failing}, route {handler}: not read: handler '{handler}': ValueError while reading" in said
    assert PATIENT not in said
    assert len(list(tmp_path.glob("out/*/result.json"))) == 2
    assert not (tmp_path / "out" / failing).exists()
