import io
import tarfile
from pathlib import Path

import pytest
from support.programs import environment_of
from typer.testing import CliRunner

from ainode.node.commands.model_app import model_app
from ainode.node.errors import ConfigError
from ainode.node.reading import described, registry

ANSWERS = {
    "\"TODO: where in the body its findings are, a code such as ['39607008', 'SCT', 'Lung']\"": (
        '["39607008", "SCT", "Lung"]'
    ),
    "TODO: what the report is called": "Blur",
    "TODO: the version of the program": "1",
    "TODO: the license of the program": "MIT",
    "TODO: what its model has seen": "nothing",
    '"TODO: such as CT"': '"CT"',
    '["TODO: such as CHEST; [] for any"]': "[]",
}


def archive() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"[]"))
    return file.getvalue()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    return path


def drafted(config: Path, content: bytes, *options: str, name: str = "blur") -> str:
    """Return the draft of a description that the command writes for a file."""
    source = config.parent / "given"
    source.write_bytes(content)
    done = CliRunner().invoke(model_app, ["program", name, "--from", str(source), *options, "--config", str(config)])
    if done.exception:
        raise done.exception
    return (config.parent / "models" / name / "model.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"#!/bin/sh\n", "executable"),
        (b"\x7fELF...", "executable"),
        (b"sha256:" + b"0" * 64, "image"),
        (archive(), "archive"),
    ],
)
def test_a_draft_says_how_the_file_is_started(config: Path, content: bytes, form: str) -> None:
    assert f'form = "{form}"' in drafted(config, content)
    assert 'layout = "mercure"' in drafted(config, content, "--mercure", name="module")


def test_a_program_is_a_handler_once_its_questions_are_answered(config: Path) -> None:
    text = drafted(config, b"#!/bin/sh\n")
    environment = environment_of(config.parent)
    with pytest.raises(ConfigError, match=r"wait for an answer; write it there\n  line [0-9]+: title = .TODO"):
        registry.handler("blur", environment)
    for question, answer in ANSWERS.items():
        assert question in text
        text = text.replace(question, answer)
    (config.parent / "models" / "blur" / "model.toml").write_text(text, encoding="utf-8")
    assert registry.handler("blur", environment).weights() == ("blur",)


@pytest.mark.parametrize("words", [("program", "blur", "--from"), ("import", "--name", "blur")])
def test_a_folder_that_cannot_be_written_is_said(config: Path, words: tuple[str, ...]) -> None:
    source = config.parent / "given"
    source.write_bytes(b"#!/bin/sh\n")
    (config.parent / "models").write_text("no folder")
    done = CliRunner().invoke(model_app, [*words, str(source), "--config", str(config)])
    assert isinstance(done.exception, ConfigError)
    assert "models/blur cannot be written" in str(done.exception)


def test_another_file_takes_the_place_of_a_program_by_a_word_and_the_former_folder_stays(config: Path) -> None:
    former = drafted(config, b"#!/bin/sh\n")
    with pytest.raises(ConfigError, match=r"there is a model blur in .*, or take its place by --replace"):
        drafted(config, b"#!/bin/bash\n")
    for name in ("", "again "):
        assert drafted(config, f"#!/bin/bash\n# {name}\n".encode(), "--replace") != former
    models = config.parent / "models"
    assert sorted(folder.name for folder in models.iterdir()) == ["blur", "blur.former"]
    assert (models / "blur" / "program").read_bytes() == b"#!/bin/bash\n# again \n"
    assert (models / "blur.former" / "program").read_bytes() == b"#!/bin/bash\n# \n"
    assert described.names(models) == ("blur",)
    with pytest.raises(ConfigError, match=r"no model is named other in .*; leave --replace out"):
        drafted(config, b"#!/bin/sh\n", "--replace", name="other")


@pytest.mark.parametrize("content", [b"", b"plain text", b"PK\x03\x04"])
def test_a_file_that_nothing_starts_is_refused(config: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"begins neither as a script .* nor as a program"):
        drafted(config, content)
    assert not (config.parent / "models" / "blur").exists()
