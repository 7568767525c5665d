"""A network as an OpenVINO graph on the CPU: an ONNX file, or a module of torch that was converted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov

from ainode.models.described.answer_range import refuse_probabilities
from ainode.models.described.axes import sizes_text
from ainode.models.described.graph_head import LinearHead, linear_head
from ainode.models.described.graph_range import graph_step
from ainode.models.described.network import NetworkFile, chosen
from ainode.models.described.onnx_file import refuse_foreign_data
from ainode.models.described.whole_numbers import WholeNumbers, whole_numbers
from ainode.models.errors import CheckpointRefused
from ainode.models.running.runtime import Array, Execution

# No network of these sizes of images has a tensor as large; the limits of the reader end what asks for it later.
_MOST_TENSOR_BYTES = 8 * 2**30


@dataclass(frozen=True, slots=True)
class GraphNetwork:
    """A compiled graph, with the features and the logits of its linear head among its outputs if it ends in one."""

    compiled: Any
    numbers: tuple[int, ...]
    head: LinearHead | None
    head_numbers: tuple[int, ...]
    whole: WholeNumbers | None = None
    """what the input takes, where it takes no fractions"""

    def renew(self) -> None:
        """Begin a study: a graph that could keep a value was refused."""

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return the outputs that are read."""
        outputs = self.compiled(self._fitting(inputs))
        return tuple(np.array(outputs[number], np.float32) for number in self.numbers)

    def _fitting(self, inputs: Array) -> Array:
        return inputs if self.whole is None else self.whole.of(inputs)

    def maps(self, inputs: Array, /) -> Array | None:
        """Return the activation map of each answer; None where the graph has no such end.

        Shapes: (answers, …) with the features' height and width, or depth, height and width.
        """
        if self.head is None:
            return None
        outputs = self.compiled(self._fitting(inputs))
        features, logits = (np.array(outputs[number], np.float32) for number in self.head_numbers)
        return self.head.maps(features, logits)


def onnx_network(file: NetworkFile, execution: Execution) -> GraphNetwork:
    """Return the network of an ONNX file.

    Raises: CheckpointRefused if the file is no ONNX, takes data from elsewhere, its input has another shape, it wants
    absurd memory, or an output is not there.
    """
    refuse_foreign_data(file.path, file.companions)
    try:
        graph = ov.Core().read_model(file.path)
    except RuntimeError as error:
        raise CheckpointRefused(f"{file.path.name}: OpenVINO cannot read it: {_reason(error)}") from error
    return graph_network(graph, file, execution)


def graph_network(graph: Any, file: NetworkFile, execution: Execution) -> GraphNetwork:  # noqa: ANN401  # openvino has no stubs
    """Return a graph ready to run on inputs of the file's shape.

    Raises: CheckpointRefused.
    """
    name = file.path.name
    if len(graph.inputs) != 1:
        raise CheckpointRefused(f"{name}: has {len(graph.inputs)} inputs; a network of one image is read")
    if graph.get_variables():
        raise CheckpointRefused(f"{name}: keeps values from one answer to the next; a network that keeps none is read")
    whole = whole_numbers(_type_of_numbers(graph), file)
    _refuse_other_shape(graph.inputs[0].get_partial_shape(), file)
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if execution.threads:
        settings["INFERENCE_NUM_THREADS"] = execution.threads
    try:
        graph.reshape({0: list(file.shape)})
        _refuse_absurd(graph, name)
        numbers = chosen([_name(output) or str(n) for n, output in enumerate(graph.outputs)], file.outputs, file.path)
        if file.activation != "none":
            refuse_probabilities(graph_step(graph.outputs[numbers[0]]), file.activation, name)
        head = linear_head(graph.outputs[numbers[0]])
        head_numbers = tuple(_number(graph, tensor) for tensor in (head.features, head.logits)) if head else ()
        return GraphNetwork(ov.Core().compile_model(graph, "CPU", settings), numbers, head, head_numbers, whole)
    except RuntimeError as error:
        raise CheckpointRefused(f"{name}: OpenVINO cannot run it on {file.shape}: {_reason(error)}") from error


def _type_of_numbers(graph: Any) -> str:  # noqa: ANN401
    """Return the type to which an input comes: its own, or that to which the graph turns it first."""
    own = graph.inputs[0].get_element_type()
    turned = (target.get_node() for target in graph.inputs[0].get_node().output(0).get_target_inputs())
    types = [own, *(node.get_output_element_type(0) for node in turned if node.get_type_name() == "Convert")]
    return str(next((item for item in types if not item.is_real()), own).get_type_name())


def _refuse_other_shape(shape: Any, file: NetworkFile) -> None:  # noqa: ANN401
    """Refuse a description of another size than the file's own, where that is fixed; a batch may have any size.

    A graph can often be reshaped, and then answers about images as it never saw them in training.

    Raises: CheckpointRefused.
    """
    if shape.rank.is_dynamic:
        return
    sizes = [str(size.get_length()) if size.is_static else "any" for size in shape]
    is_fitting = len(sizes) == len(file.shape) and all(
        size in {"any", str(described)} for size, described in zip(sizes[1:], file.shape[1:], strict=True)
    )
    if not is_fitting:
        raise CheckpointRefused(
            f"{file.path.name}: its input is {' x '.join(sizes)}; by [input] of model.toml it would be "
            f"{sizes_text(file.shape)}"
        )


def _refuse_absurd(graph: Any, name: str) -> None:  # noqa: ANN401
    """Refuse a graph of which a tensor is larger than any network's of images.

    Raises: CheckpointRefused.
    """
    for node in graph.get_ops():
        for output in node.outputs():
            shape = output.get_partial_shape()
            if shape.is_static:
                size_bytes = int(np.prod(list(shape.to_shape()), dtype=object)) * output.get_element_type().size
                if size_bytes > _MOST_TENSOR_BYTES:
                    raise CheckpointRefused(
                        f"{name}: wants {size_bytes / 2**30:,.0f} GiB for one tensor ({node.get_type_name()}); "
                        f"{_MOST_TENSOR_BYTES // 2**30} GiB are given at most"
                    )


def _number(graph: Any, tensor: Any) -> int:  # noqa: ANN401
    """Return the number of the output that a tensor of a graph is; the tensor becomes one if it is none."""
    for number, output in enumerate(graph.outputs):
        if output.get_node().input_value(0) == tensor:
            return number
    graph.add_outputs([tensor])
    return len(graph.outputs) - 1


def _name(output: Any) -> str:  # noqa: ANN401
    """Return the name of an output, '' if it has none."""
    return str(next(iter(sorted(output.get_names())), ""))


def _reason(error: RuntimeError) -> str:
    """Return the last line of OpenVINO's words that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
