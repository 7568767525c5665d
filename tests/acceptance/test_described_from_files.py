"""A network's file becomes a model of the node by the commands alone: new, edit, check, read."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import save_file
from support.described import onnx_file, script_file, small_network
from support.graphs import graph_file
from support.hostile_models import external_file, pickle_file
from typer.testing import CliRunner

from ainode.models.running.keras_network import backend
from ainode.node import testing
from ainode.node.commands.model_app import model_app
from ainode.node.errors import ConfigError

ANSWERS = {
    "TODO: the title of the report, such as Fracture of the hip": "Fracture",
    "TODO: of the weights, such as Apache-2.0": "CC0-1.0",
    "TODO: the data, their number, the years": "random weights of a test",
    '"TODO: such as DX"': '"DX"',
    "TODO: such as CHEST; remove the line for any part": "CHEST",
    "TODO: code of the body site": "816094009",
    '"816094009", "SCT", "TODO: its meaning"': '"816094009", "SCT", "Chest"',
    "TODO: softmax where one of them alone is there, sigmoid where each is judged by itself, none if the network "
    "answers with probabilities": "softmax",
    "TODO: of class 0": "normal",
    "TODO: of class 1": "fracture",
    "TODO: code of the finding": "125605004",
    "TODO: its meaning": "Fracture of bone",
    '"TODO: above which it is present; of what is no finding, as normal, remove both lines"': "0.5",
}


def _ainode(config: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ainode.node.commands.cli", *map(str, words), "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _run(config: Path, *words: str | Path) -> Result:
    """Run `ainode model` in this process."""
    return CliRunner().invoke(model_app, [*map(str, words), "--config", str(config)])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata = "{tmp_path / "data"}"\nmin_free_bytes = 0\n')
    (tmp_path / "routes.toml").write_text(
        '[[route]]\nname = "fractures"\nhandler = "fracture"\nmodality = ["DX"]\nbody_part = ["CHEST"]\n'
    )
    return path


def test_an_onnx_classifier_reads_after_its_questions_are_answered(tmp_path: Path, config: Path) -> None:
    file = onnx_file(small_network(), tmp_path / "net.onnx")
    drafted = _ainode(config, "model", "new", "fracture", "--from", file)
    assert drafted.returncode == 0, drafted.stderr
    description = tmp_path / "data" / "models" / "fracture" / "model.toml"
    assert drafted.stdout.splitlines()[0] == str(description)
    assert 'line 2: title = "TODO: the title of the report' in drafted.stdout
    checked = _ainode(config, "check")
    assert 'line 2: title = "TODO: the title' in checked.stdout
    assert checked.returncode == 1
    text = description.read_text()
    assert "size = [64, 48]" in text
    assert "channels = 3" in text
    for question, answer in ANSWERS.items():
        assert question in text
        text = text.replace(question, answer)
    description.write_text(text)
    checked = _ainode(config, "check")
    (line,) = (line for line in checked.stdout.splitlines() if "route fractures" in line)
    assert " ready " in line, checked.stdout
    study = testing.write([testing.noise(200, 160, BodyPartExamined="CHEST")], tmp_path / "study", study="study")
    read = _ainode(config, "read", *study, "--model", "fracture", "--out", tmp_path / "out")
    assert read.returncode == 0, read.stderr
    assert "fracture: " in read.stdout
    assert (tmp_path / "out" / "result.json").is_file()
    again = _ainode(config, "model", "new", "fracture", "--from", file)
    assert again.returncode == 2
    assert "there is a model fracture" in again.stderr


def _named(folder: Path) -> dict[str, Path]:
    """Return a file of each format."""
    network = small_network(outputs=4)
    save_file(network.state_dict(), folder / "net.safetensors")
    keras = backend("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of Keras
        keras.Sequential([keras.Input((40, 30, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]).save(
            folder / "net.keras"
        )
    return {
        "safetensors": folder / "net.safetensors",
        "keras": folder / "net.keras",
        "torchscript": script_file(network, folder / "net.pt"),
    }


def test_each_format_tells_what_it_can_and_asks_the_rest(tmp_path: Path, config: Path) -> None:
    expected = {
        "safetensors": ("channels = 3", 'architecture = "TODO', 'name = "TODO: of class 3"'),
        "keras": ("size = [40, 30]", "channels = 1", 'layout = "channels_last"', 'name = "TODO: of class 2"'),
        "torchscript": ('size = ["TODO: rows", "TODO: columns"]', 'dimensions = "TODO'),
    }
    for model_format, file in _named(tmp_path).items():
        done = _run(config, "new", model_format, "--from", file, "--kind", "classify")
        assert done.exit_code == 0, done.exception
        text = (tmp_path / "data" / "models" / model_format / "model.toml").read_text()
        assert f'format = "{model_format}"' in text
        for words in expected[model_format]:
            assert words in text
    listed = _run(config, "list").output
    assert all(name in listed for name in expected)


def test_boxes_and_masks_are_told_by_the_outputs(tmp_path: Path, config: Path) -> None:
    from onnx import helper

    boxes = [helper.make_node("Identity", ["image"], [name]) for name in ("boxes", "scores")]
    outputs = [("boxes", (None, 4)), ("scores", (None,))]
    graph_file(tmp_path / "boxes.onnx", boxes, outputs=outputs)
    graph_file(
        tmp_path / "mask.onnx", [helper.make_node("Identity", ["image"], ["mask"])], outputs=[("mask", (1, 3, 64, 48))]
    )
    graph_file(
        tmp_path / "map.onnx", [helper.make_node("Identity", ["image"], ["map"])], outputs=[("map", (1, 64, 48))]
    )
    for name, handler, words in (
        ("boxes", "detect", 'scores = "scores"'),
        ("mask", "segment", "value = 2"),
        ("map", "segment", 'masks = "labels"'),
    ):
        done = _run(config, "new", name, "--from", tmp_path / f"{name}.onnx")
        assert done.exit_code == 0, done.exception
        text = (tmp_path / "data" / "models" / name / "model.toml").read_text()
        assert f'handler = "{handler}"' in text
        assert words in text


def test_rows_of_answers_are_no_boxes_and_the_lines_name_the_handler_and_how_to_have_another(
    tmp_path: Path, config: Path
) -> None:
    from onnx import helper

    for name, shapes, handler in (
        ("rows", ((1, 2), (1, 5)), "classify"),
        ("pictures", ((1, 2, 64, 48), (1, 5, 64, 48)), "segment"),
        ("columns", ((100, 4), (100,)), "detect"),
    ):
        outputs = [(f"out{number}", shape) for number, shape in enumerate(shapes)]
        nodes = [helper.make_node("Identity", ["image"], [output]) for output, _ in outputs]
        file = tmp_path / f"{name}.onnx"
        graph_file(file, nodes, outputs=outputs)
        done = _run(config, "new", name, "--from", file)
        assert done.exit_code == 0, done.exception
        assert f'handler = "{handler}", by the outputs of the file: out0 ' in done.output
        assert "if the network does something else: --replace --kind, one of " in done.output
        assert f'handler = "{handler}"' in (tmp_path / "data" / "models" / name / "model.toml").read_text()
    done = _run(config, "new", "rows", "--from", tmp_path / "rows.onnx", "--replace", "--kind", "landmarks")
    assert 'handler = "landmarks", by --kind' in done.output


def test_what_holds_no_network_is_refused_and_leaves_no_folder(tmp_path: Path, config: Path) -> None:
    torch.save({}, tmp_path / "weights.pt")
    pickle_file(tmp_path / "a.onnx", tmp_path / "proof")
    external_file(tmp_path / "b.onnx", "../c")
    external_file(tmp_path / "d.onnx", "absent.bin")
    for file, words in (
        ("weights.pt", "a pickled model is never opened here"),
        ("a.onnx", "is no ONNX file"),
        ("b.onnx", "takes data from '../c'"),
        ("d.onnx", "takes data from absent.bin, which is not beside it"),
    ):
        done = _run(config, "new", "bad", "--from", tmp_path / file)
        assert isinstance(done.exception, ConfigError)
        assert words in str(done.exception)
    assert not [*(tmp_path / "data").glob("models/*")]
    assert not (tmp_path / "proof").exists()
