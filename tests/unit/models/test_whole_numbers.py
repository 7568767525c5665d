"""A network that takes whole numbers sees an image as it is, or is refused: 0 to 1 in whole numbers is nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from support.described import script_file
from torch import Tensor, nn

from ainode.models.described.network import Network, NetworkFile, opened
from ainode.models.described.scaling import Kind, Scaling
from ainode.models.errors import CheckpointRefused
from ainode.models.running.keras_network import backend
from ainode.models.running.runtime import Execution

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch has deprecated its own script

SHAPE = (1, 1, 4, 4)
HALF = np.full(SHAPE, 0.5, np.float32)
TYPES = {"u8": TensorProto.UINT8, "i32": TensorProto.INT32, "i64": TensorProto.INT64, "bool": TensorProto.BOOL}
TYPES |= {"f16": TensorProto.FLOAT16, "f64": TensorProto.DOUBLE}


def _mean_file(path: Path, kind: int, *, turned_to: int = TensorProto.FLOAT) -> Path:
    """Write a network that answers with the mean of an image of a type, which it turns to another first."""
    nodes = [
        helper.make_node("Cast", ["image"], ["turned"], to=turned_to),
        helper.make_node("Cast", ["turned"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["answer"], axes=[1, 2, 3], keepdims=0),
    ]
    ends = (("image", kind, SHAPE), ("answer", TensorProto.FLOAT, (1,)))
    image, answer = (helper.make_tensor_value_info(*end) for end in ends)
    model = helper.make_model(
        helper.make_graph(nodes, "graph", [image], [answer]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    path.write_bytes(model.SerializeToString())
    return path


def _opened(path: Path, grays: float, kind: str = "onnx", shape: tuple[int, ...] = SHAPE) -> Network:
    return opened(NetworkFile(path, kind, shape, grays=grays), Execution(path.parent / "cache"))


@pytest.mark.parametrize("kind", ["u8", "i32", "i64", "bool"])
def test_whole_numbers_are_refused_where_an_image_comes_as_0_to_1(tmp_path: Path, kind: str) -> None:
    path = _mean_file(tmp_path / "net.onnx", TYPES[kind])
    with pytest.raises(
        CheckpointRefused, match=r"takes whole numbers \(\w+\).*export the network with an input of f32"
    ):
        _opened(path, 1.0)


def test_an_input_of_fractions_that_the_graph_turns_to_whole_numbers_is_refused_as_well(tmp_path: Path) -> None:
    path = _mean_file(tmp_path / "net.onnx", TensorProto.FLOAT, turned_to=TensorProto.UINT8)
    with pytest.raises(CheckpointRefused, match=r"takes whole numbers \(u8\)"):
        _opened(path, 1.0)


@pytest.mark.parametrize("kind", ["f16", "f64"])
def test_fractions_of_any_width_are_taken(tmp_path: Path, kind: str) -> None:
    (answer,) = _opened(_mean_file(tmp_path / "net.onnx", TYPES[kind]), 1.0)(HALF)
    assert answer == pytest.approx(0.5)


def test_an_image_of_0_to_255_comes_to_the_nearest_whole_numbers(tmp_path: Path) -> None:
    network = _opened(_mean_file(tmp_path / "net.onnx", TensorProto.UINT8), 255.0)
    (answer,) = network(HALF * np.float32(199.8))
    assert answer == pytest.approx(100)
    with pytest.raises(CheckpointRefused, match=r"whole numbers of 0 to 255 \(u8\), and the image has 256 to 256"):
        network(HALF * np.float32(512))


class _Bytes(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture.to(torch.uint8).float().mean(dim=(1, 2, 3))


class _Long(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture.long().float().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("module", [_Bytes, _Long])
def test_a_script_that_turns_its_picture_to_whole_numbers_is_held_to_the_same(
    tmp_path: Path, module: Callable[[], nn.Module]
) -> None:
    path = script_file(module(), tmp_path / "net.pt", SHAPE)
    with pytest.raises(CheckpointRefused, match="takes whole numbers"):
        _opened(path, 1.0, "torchscript")
    (answer,) = _opened(path, 255.0, "torchscript")(HALF * np.float32(199.8))
    assert answer == pytest.approx(100)


def test_a_keras_network_of_whole_numbers_is_held_to_the_same(tmp_path: Path) -> None:
    layers = (keras := backend("torch")).layers
    picture = keras.Input((4, 4, 1), dtype="uint8")
    mean = layers.GlobalAveragePooling2D()(layers.Rescaling(1.0)(picture))
    keras.Model(picture, mean).save(path := tmp_path / "net.keras")
    with pytest.raises(CheckpointRefused, match=r"takes whole numbers \(u8\)"):
        _opened(path, 1.0, "keras", (1, 4, 4, 1))
    (answer,) = _opened(path, 255.0, "keras", (1, 4, 4, 1))(HALF.reshape(1, 4, 4, 1) * np.float32(199.8))
    assert answer == pytest.approx(100)


@pytest.mark.parametrize(
    ("kind", "scale", "std", "grays"),
    [("display", 1.0, 1.0, 1), ("display", 255.0, 1.0, 255), ("range", 1.0, 1 / 255, 255), ("raw", 1.0, 1.0, 255)],
)
def test_a_scaling_says_how_many_whole_numbers_an_image_has(kind: Kind, scale: float, std: float, grays: float) -> None:
    assert Scaling(kind, scale=scale, std=(std,)).grays == pytest.approx(grays)


def test_of_values_by_their_spread_no_number_of_grays_is_known() -> None:
    assert Scaling("zscore", scale=255.0).grays == 0
