"""A network that has made probabilities already is told from one that answers with plain numbers, in each format."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
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
NUMBERS = {
    "zero": np.array([0]),
    "none": np.array(0, np.float32),
    "whole": np.array(1, np.float32),
    "nine": np.array(9, np.float32),
    "highest": np.array(3e38, np.float32),
}
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
    "power": [("Clip", ["bright", "none", "highest"], ["cut"]), ("Pow", ["cut", "nine"], ["answer"])],
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


class _WithoutTraining(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        if self.training:
            return numbers
        return functional.softmax(numbers, dim=1)


class _InLoop(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        for _ in range(2):
            numbers = functional.softmax(numbers, dim=1)
        return numbers


class _ImageByImage(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        answers: list[Tensor] = []
        for number in range(numbers.shape[0]):
            answers.append(torch.sigmoid(numbers[number : number + 1]))  # noqa: PERF401 - as torch compiles it
        return torch.cat(answers)


class _InPlace(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        numbers.sigmoid_()
        return numbers


class _OfLogarithms(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return torch.exp(functional.log_softmax(numbers, dim=1))


class _Shares(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        powers = torch.exp(numbers - numbers.max(1, keepdim=True)[0])
        return powers / powers.sum(1, keepdim=True)


class _Filled(nn.Module):
    def forward(self, numbers: Tensor) -> dict[str, Tensor]:
        answers: dict[str, Tensor] = {}
        answers["answer"] = torch.sigmoid(numbers)
        answers["numbers"] = numbers
        return answers


class Answers(NamedTuple):
    """As torch compiles a tuple with names: it looks for the class in the module."""

    numbers: Tensor
    answer: Tensor


class _Named(nn.Module):
    def forward(self, numbers: Tensor) -> Answers:
        return Answers(numbers, torch.sigmoid(numbers))


@pytest.mark.parametrize("end", [_WithoutTraining, _InLoop, _ImageByImage, _InPlace, _OfLogarithms, _Shares])
def test_a_script_is_followed_through_branches_loops_lists_and_memory_that_it_writes_into(
    tmp_path: Path, end: Callable[[], nn.Module]
) -> None:
    with pytest.raises(CheckpointRefused, match="probabilities already; activation"):
        _opened(_script(end(), tmp_path / "net.pt", is_traced=False), "torchscript")


@pytest.mark.parametrize("end", [_Filled, _Named])
def test_of_several_outputs_of_a_script_the_one_that_is_read_is_followed(
    tmp_path: Path, end: Callable[[], nn.Module]
) -> None:
    path = _script(end(), tmp_path / "net.pt", is_traced=False)
    numbers = NetworkFile(path, "torchscript", SHAPE, ("numbers",), activation="sigmoid")
    assert opened(numbers, Execution(tmp_path / "cache"))
    with pytest.raises(CheckpointRefused, match="probabilities already; activation"):
        opened(replace(numbers, outputs=("answer",)), Execution(tmp_path / "cache"))


class _BrightImages(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        if bool(numbers.mean() > 0):
            numbers = torch.sigmoid(numbers)
        return numbers


class _Asynchronous(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(torch.sigmoid, numbers))


@pytest.mark.parametrize("end", [_BrightImages, _Asynchronous])
def test_a_script_that_may_have_made_probabilities_of_some_images_is_refused_as_unclear(
    tmp_path: Path, end: Callable[[], nn.Module]
) -> None:
    with pytest.raises(CheckpointRefused, match="hangs on a branch, a loop or a call"):
        _opened(_script(end(), tmp_path / "net.pt", is_traced=False), "torchscript")


class _Switched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.is_share = False

    def forward(self, numbers: Tensor) -> Tensor:
        if self.is_share:
            return torch.sigmoid(numbers)
        return numbers


class _Stretched(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        shares = torch.sigmoid(numbers)
        shares.mul_(8.0)
        return shares


class _WithAFarChannel(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        shares = torch.sigmoid(numbers)
        shares[:, 0].mul_(8.0)
        return shares


class _Places(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return torch.sigmoid(numbers).max(1, keepdim=True)[1].float()


@pytest.mark.parametrize("end", [_Switched, _Stretched, _WithAFarChannel, _Places])
def test_a_script_whose_sigmoid_does_not_make_its_answers_is_taken(
    tmp_path: Path, end: Callable[[], nn.Module]
) -> None:
    assert _opened(_script(end(), tmp_path / "net.pt", is_traced=False), "torchscript")


class _Logarithms(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return functional.log_softmax(numbers, dim=1)


def test_logarithms_of_a_softmax_are_taken_by_softmax_and_refused_by_sigmoid(tmp_path: Path) -> None:
    path = _script(_Logarithms(), tmp_path / "net.pt", is_traced=False)
    with pytest.raises(CheckpointRefused, match="as logarithms of probabilities"):
        _opened(path, "torchscript")
    assert opened(NetworkFile(path, "torchscript", SHAPE, activation="softmax"), Execution(tmp_path / "cache"))


def _value(name: str, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] | None = None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _branch(operators: Sequence[str]) -> list[NodeProto]:
    """Return a branch whose ends are operators of the bright image."""
    ends = [
        helper.make_graph([helper.make_node(operator, ["bright"], [operator])], operator, [], [_value(operator)])
        for operator in operators
    ]
    return [
        helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0),
        helper.make_node("Greater", ["brightest", "none"], ["is_bright"]),
        helper.make_node("If", ["is_bright"], ["answer"], then_branch=ends[0], else_branch=ends[1]),
    ]


def _loop(count: str) -> list[NodeProto]:
    """Return a loop that makes a share of the bright image in each turn."""
    turn = [helper.make_node("Sigmoid", ["before"], ["after"]), helper.make_node("Identity", ["on"], ["further"])]
    taken = [_value("turn", TensorProto.INT64, ()), _value("on", TensorProto.BOOL, ()), _value("before")]
    body = helper.make_graph(turn, "turn", taken, [_value("further", TensorProto.BOOL, ()), _value("after")])
    return [
        helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["bright_count"], to=TensorProto.INT64),
        helper.make_node("Loop", [count, "yes", "bright"], ["answer"], body=body),
    ]


def _graph(folder: Path, nodes: list[NodeProto]) -> Path:
    numbers = {**NUMBERS, "two": np.array(2), "yes": np.array(1, np.bool_)}
    constants = [numpy_helper.from_array(value, name) for name, value in numbers.items()]
    return graph_file(folder / "net.onnx", [MEAN, BRIGHT, *nodes], constants, [("answer", None)], shape=SHAPE)


@pytest.mark.parametrize("nodes", [_branch(["Sigmoid", "Sigmoid"]), _loop("two")], ids=["branch", "loop"])
def test_an_onnx_is_followed_into_branches_and_loops(tmp_path: Path, nodes: list[NodeProto]) -> None:
    with pytest.raises(CheckpointRefused, match="probabilities already; activation"):
        _opened(_graph(tmp_path, nodes), "onnx")


@pytest.mark.parametrize("nodes", [_branch(["Sigmoid", "Neg"]), _loop("bright_count")], ids=["branch", "loop"])
def test_an_onnx_that_may_have_made_probabilities_of_some_images_is_refused_as_unclear(
    tmp_path: Path, nodes: list[NodeProto]
) -> None:
    with pytest.raises(CheckpointRefused, match="hangs on a branch, a loop or a call"):
        _opened(_graph(tmp_path, nodes), "onnx")


def test_an_onnx_whose_branches_both_answer_with_plain_numbers_is_taken(tmp_path: Path) -> None:
    assert _opened(_graph(tmp_path, _branch(["Neg", "Identity"])), "onnx")


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
