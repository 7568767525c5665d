"""A whole Keras network, .keras or .h5, of Keras' own layers alone: opened in safe mode, run as an OpenVINO graph."""

from __future__ import annotations

from dataclasses import replace

from ainode.models.described.graph_network import GraphNetwork, graph_network
from ainode.models.described.network import NetworkFile
from ainode.models.described.whole_numbers import whole_numbers
from ainode.models.errors import CheckpointRefused
from ainode.models.running.conversion import graph_of
from ainode.models.running.keras_serving import ORIGINALS, original_network
from ainode.models.running.runtime import Execution, Recipe

# Types of an input by their name in Keras; any other is of no image.
_TYPES = {
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
    "uint8": "u8",
    "int8": "i8",
    "uint16": "u16",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
}


def keras_network(file: NetworkFile, execution: Execution) -> GraphNetwork:
    """Return the network of a Keras file.

    Raises: CheckpointRefused if the file is none, holds code or layers of others, or grows absurdly on unpacking.
    """
    if file.path.suffix not in ORIGINALS:
        raise CheckpointRefused(f"{file.path.name}: a Keras file ends in {', '.join(sorted(ORIGINALS))}; rename it")
    network = original_network(file.path)
    shape = tuple(network.input_shape)
    if len(shape) != len(file.shape) or any(
        size not in {None, described} for size, described in zip(shape, file.shape, strict=True)
    ):
        raise CheckpointRefused(f"{file.path.name}: takes {shape}; the description says {file.shape}")
    # The converted graph takes fractions and cuts them where Keras would.
    whole = whole_numbers(_TYPES.get(kind := str(network.inputs[0].dtype), kind), file)
    graph = graph_network(graph_of(Recipe(lambda: network, file.shape, "keras")), file, execution)
    return replace(graph, whole=whole or graph.whole)
