"""A network that has made probabilities already is told from one that answers with plain numbers, in each format."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.described import script_file
from support.graphs import graph_file
from torch import Tensor, nn
from torch.nn import functional

from ainode.models.described.facts import facts
from ainode.models.described.network import Network, NetworkFile, opened
from ainode.models.errors import CheckpointRefused
from ainode.models.running.keras_network import backend
from ainode.models.running.runtime import Execution

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch has deprecated its own script

SHAPE = (1, 1, 8, 8)
NUMBERS = {"zero": np.array([0]), "none": np.array(0, np.float32), "whole": np.array(1, np.float32)}
MEAN = helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0)
BRIGHT = helper.make_node("Mul", ["mean", "whole"], ["bright"])
SIGMOID = helper.make_node("Sigmoid", ["bright"], ["share"])

# What may stand behind a sigmoid, `share`, whose answers stay between 0 and 1.
BEHIND: dict[str, Sequence[tuple[Any, ...]]] = {
    "squeeze": [("Unsqueeze", ["share", "zero"], ["long"]), ("Squeeze", ["long", "zero"], ["answer"])],
    "cast": [("Cast", ["share"], ["half"], {"to": TensorProto.FLOAT16}), ("Cast", ["half"], ["answer"], {"to": 1})],
    "transpose": [("Unsqueeze", ["share", "zero"], ["long"]), ("Transpose", ["long"], ["answer"], {"perm": [1, 0]})],
    "clip": [("Clip", ["share", "none", "whole"], ["answer"])],
    "product": [("Mul", ["share", "share"], ["answer"])],
    "opposite": [("Sub", ["whole", "share"], ["answer"])],
    "gather": [("Gather", ["share", "zero"], ["answer"], {"axis": 0})],
    "max": [("Max", ["share", "none"], ["answer"])],
    "where": [("Greater", ["share", "none"], ["is"]), ("Where", ["is", "share", "none"], ["answer"])],
    "both": [("Unsqueeze", ["share", "zero"], ["long"]), ("Concat", ["long", "long"], ["answer"], {"axis": 1})],
}
# What answers with plain numbers, though a sigmoid is in it.
PLAIN: dict[str, Sequence[tuple[Any, ...]]] = {
    "gate": [("Mul", ["bright", "share"], ["answer"])],
    "logit": [("Log", ["share"], ["answer"])],
    "moved": [("Sub", ["share", "whole"], ["answer"])],
    "beside": [("Add", ["share", "bright"], ["answer"])],
    "cut": [("Clip", ["bright", "none"], ["answer"])],
}


def _onnx(folder: Path, tail: Sequence[tuple[Any, ...]]) -> Path:
    nodes = [helper.make_node(*item[:3], **(item[3] if len(item) > 3 else {})) for item in tail]
    constants = [numpy_helper.from_array(value, name) for name, value in NUMBERS.items()]
    return graph_file(folder / "net.onnx", [MEAN, BRIGHT, SIGMOID, *nodes], constants, [("answer", None)], shape=SHAPE)  # type: ignore[list-item]


def _opened(path: Path, kind: str, shape: tuple[int, ...] = SHAPE) -> Network:
    return opened(NetworkFile(path, kind, shape, activation="sigmoid"), Execution(path.parent / "cache"))


@pytest.mark.parametrize("tail", BEHIND)
def test_a_sigmoid_is_seen_behind_operators_that_keep_its_range(tmp_path: Path, tail: str) -> None:
    with pytest.raises(CheckpointRefused, match=r"answers lie between 0 and 1 whatever the image is.*\"none\""):
        _opened(_onnx(tmp_path, BEHIND[tail]), "onnx")


@pytest.mark.parametrize("tail", PLAIN)
def test_plain_numbers_are_taken_though_a_sigmoid_is_among_what_makes_them(tmp_path: Path, tail: str) -> None:
    assert _opened(_onnx(tmp_path, PLAIN[tail]), "onnx")


def test_a_sigmoid_behind_operators_that_move_values_is_told_by_the_file_alone(tmp_path: Path) -> None:
    assert facts(_onnx(tmp_path, BEHIND["cast"])).probable_end() == "Sigmoid"
    assert facts(_onnx(tmp_path, PLAIN["gate"])).probable_end() == ""


class _Softmax(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return functional.softmax(numbers, dim=1)


class _Sliced(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return numbers.sigmoid()[:, :1].squeeze(1).clamp(0.0, 1.0)


class _WrittenOut(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-numbers))


class _Opposite(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return 1 - torch.sigmoid(numbers)


class _Several(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return torch.cat([torch.sigmoid(numbers), torch.softmax(numbers, dim=1)], dim=1)


class _Gate(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return numbers * torch.sigmoid(numbers) + torch.relu(numbers)


def _script(end: nn.Module, path: Path, *, is_traced: bool) -> Path:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), end).eval()
    if is_traced:
        return script_file(network, path, SHAPE)
    torch.jit.script(network).save(str(path))
    return path


@pytest.mark.parametrize("is_traced", [True, False])
@pytest.mark.parametrize("end", [_Softmax, _Sliced, _WrittenOut, _Opposite, _Several])
def test_a_script_that_has_made_probabilities_is_refused(
    tmp_path: Path, end: Callable[[], nn.Module], *, is_traced: bool
) -> None:
    with pytest.raises(CheckpointRefused, match="probabilities already"):
        _opened(_script(end(), tmp_path / "net.pt", is_traced=is_traced), "torchscript")


@pytest.mark.parametrize("is_traced", [True, False])
def test_a_script_that_gates_its_numbers_is_taken(tmp_path: Path, *, is_traced: bool) -> None:
    assert _opened(_script(_Gate(), tmp_path / "net.pt", is_traced=is_traced), "torchscript")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_network_of_a_sigmoid_at_its_end_is_refused_whatever_the_layer(tmp_path: Path, suffix: str) -> None:
    keras = backend("torch")
    layers = keras.layers
    last = layers.Conv2D(1, 1, activation="sigmoid") if suffix == ".keras" else layers.Activation("sigmoid")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of .h5 Keras says that .keras is newer
        keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(1, 1), last]).save(tmp_path / f"net{suffix}")
    with pytest.raises(CheckpointRefused, match="probabilities already"):
        _opened(tmp_path / f"net{suffix}", "keras", (1, 8, 8, 1))
