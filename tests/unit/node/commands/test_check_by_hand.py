"""`ainode check` in a shell that has not the variables of the node."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ainode.node.commands.cli import app

LINE = "Variables are those of this command."


@pytest.mark.parametrize("is_set", [True, False])
def test_a_variable_that_is_missing_is_said_to_be_one_of_this_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_set: bool
) -> None:
    keys = 'deliver = "dicomweb"\nretrieve = "dicomweb"\ndicomweb = "http://127.0.0.1:9/"\ntoken_env = "PACS_TOKEN"\n'
    text = f'[node]\ndata = "{tmp_path / "data"}"\nmin_free_bytes = 0\n[[peer]]\nname = "pacs"\n{keys}'
    (tmp_path / "node.toml").write_text(text, encoding="utf-8")
    (tmp_path / "routes.toml").touch()
    if is_set:
        monkeypatch.setenv("PACS_TOKEN", "of a test")
    done = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "node.toml")])
    assert (done.exit_code, LINE in done.output) == ((1, False) if is_set else (2, True))
    assert ("has no PACS_TOKEN; set the variable" in " ".join(done.output.split())) == (not is_set)
