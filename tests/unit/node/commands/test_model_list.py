from pathlib import Path

import pytest
from support.described import DESCRIPTION, write_model
from typer.testing import CliRunner

from ainode.node.commands.model_app import model_app


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('["816094009", "SCT", "Chest"]', '["816094008", "SCT", "Chest"]', "site = "),
        ('activation = "softmax"', 'activation = "soft"', "activation = 'soft'"),
        ("size = [64, 48]", "size = [64]", "size = "),
    ],
)
def test_the_list_names_what_check_would_refuse_in_a_description(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no network: nothing opens the file")
    assert old in DESCRIPTION
    write_model(tmp_path / "models", "right", tmp_path / "net.onnx")
    write_model(tmp_path / "models", "wrong", tmp_path / "net.onnx", DESCRIPTION.replace(old, new))
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    done = CliRunner().invoke(model_app, ["list", "--config", str(config)])
    assert done.exit_code == 0, done.exception
    lines = {line.split()[0]: line for line in done.output.splitlines()}
    assert lines["right"].split()[1] == "classify"
    assert "models/right/model.toml" not in lines["right"]
    assert words in lines["wrong"]
