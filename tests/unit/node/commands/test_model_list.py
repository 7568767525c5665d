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


def test_the_list_names_the_file_once_above_the_lines_that_wait_for_an_answer(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no network: nothing opens the file")
    draft = DESCRIPTION.replace('version = "3"', 'version = "TODO: which?"').replace(
        "size = [64, 48]", 'size = "TODO: two"'
    )
    write_model(tmp_path / "models", "drafted", tmp_path / "net.onnx", draft)
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    lines = CliRunner().invoke(model_app, ["list", "--config", str(config)]).output.splitlines()
    path = tmp_path / "models/drafted/model.toml"
    assert lines[1].split(maxsplit=1) == ["drafted", f"{path}: 2 lines wait for an answer; write it there"]
    assert [line.partition(": ")[2] for line in lines[2:]] == ['version = "TODO: which?"', 'size = "TODO: two"']
    assert all(line.strip().startswith("line ") for line in lines[2:])
