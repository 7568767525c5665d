"""Small networks as ONNX files, built node by node."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from onnx import NodeProto, TensorProto, helper, numpy_helper

SHAPE = (1, 3, 64, 48)


def graph_file(
    path: Path,
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto] = (),
    outputs: Sequence[tuple[str, Sequence[int | None]]] = (("answer", (1, 2)),),
    *,
    shape: tuple[int, ...] = SHAPE,
) -> Path:
    """Write an ONNX file of these nodes, from `image` to the outputs; return the path."""
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in outputs]
    graph = helper.make_graph(nodes, "graph", inputs, values, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def mean_nodes(name: str = "answer") -> list[NodeProto]:
    """Return nodes that answer with the means of the first channels of the image."""
    return [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("Slice", ["means", "zero", "count", "one"], [name]),
    ]


def slice_constants(channels: int = 2) -> list[TensorProto]:
    """Return the constants that `mean_nodes` names."""
    values = {"zero": [0], "count": [channels], "one": [1]}
    return [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in values.items()]


def mean_file(path: Path) -> Path:
    """Write a network that answers with the means of the first two channels of the image."""
    return graph_file(path, mean_nodes(), slice_constants())


def node_file(
    path: Path,
    shape: tuple[int, ...],
    operator: str,
    constant: ArrayLike | None = None,
    **attributes: Sequence[int] | int,
) -> Path:
    """Write a network of one operator, on the image, and on a constant if one is given."""
    constants = [] if constant is None else [numpy_helper.from_array(np.asarray(constant, np.float32), "constant")]
    node = helper.make_node(operator, ["image", *(item.name for item in constants)], ["answer"], **attributes)
    return graph_file(path, [node], constants, [("answer", [None] * len(shape))], shape=shape)


def constant_file(path: Path, answers: Mapping[str, ArrayLike], shape: tuple[int, ...] = SHAPE) -> Path:
    """Write a network that answers each image with these values, by the names of its outputs."""
    arrays = {name: np.asarray(values, np.float32) for name, values in answers.items()}
    constants = [numpy_helper.from_array(values, f"{name}_values") for name, values in arrays.items()]
    constants.append(numpy_helper.from_array(np.zeros(1, np.float32), "none"))
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "none"], ["nothing"]),
        *(helper.make_node("Add", [f"{name}_values", "nothing"], [name]) for name in arrays),
    ]
    return graph_file(path, nodes, constants, [(name, values.shape) for name, values in arrays.items()], shape=shape)


def ramp_file(path: Path, shape: tuple[int, ...], axis: int) -> Path:
    """Write a network that answers each input with numbers growing along an axis, 0 in the middle."""
    ramp = np.arange(shape[axis]) - (shape[axis] - 1) / 2
    along = ramp.reshape([-1 if number == axis else 1 for number in range(len(shape))])
    return constant_file(path, {"answer": np.broadcast_to(along, shape)}, shape)


def brightness_file(path: Path, shape: tuple[int, ...]) -> Path:
    """Write a network that answers what is brighter than one half with numbers above 0."""
    return node_file(path, shape, "Add", [-0.5])
