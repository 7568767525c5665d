"""`ainode read` of a folder: a study that a handler's code fails on costs itself alone."""

from pathlib import Path

import pytest
from support.faults import PATIENT, RAISE, write_handler
from typer.testing import CliRunner

from ainode.node import testing
from ainode.node.commands.cli import app


def test_the_studies_beside_a_study_that_cannot_be_read_are_read_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = testing.uid("study 1")
    handler = write_handler(
        tmp_path, "raises_once", read=f"if selection.study_instance_uid == {failing!r}:\n    {RAISE}"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for number in range(3):
        testing.write([testing.noise(320, 320)], tmp_path / "studies" / str(number), study=f"study {number}")
    (config := tmp_path / "node.toml").write_text(f'[node]\ndata = "{tmp_path / "data"}"\n')
    words = ["read", tmp_path / "studies", "--model", handler, "--out", tmp_path / "out", "--config", config]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 1, done.output
    assert f"study {failing}, route {handler}: not read: handler '{handler}': ValueError while reading" in done.output
    assert PATIENT not in done.output
    assert len(list(tmp_path.glob("out/*/result.json"))) == 2
    assert not (tmp_path / "out" / failing).exists()
