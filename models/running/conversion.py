"""Turns a torch module into an OpenVINO graph."""

from __future__ import annotations

import warnings
from typing import Any

import openvino.opset14 as ops
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch import ConversionExtension
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from ainode.models.running.runtime import Recipe


def graph_of(recipe: Recipe) -> Any:  # noqa: ANN401  # openvino has no stubs
    """Return the OpenVINO graph of a recipe's module, converted by the PyTorch front end.

    `openvino.convert_model` is not used: it reports each conversion to its maker's server unless a file in the
    home folder forbids the report, and a node in a hospital calls no server.
    """
    module = recipe.build().eval()
    with torch.no_grad(), warnings.catch_warnings():
        # The front end traces with torch.jit, which torch has deprecated; all loops are constant here.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # YOLO lays out its anchors on the first call; the trace needs the anchors.
        module(torch.zeros(recipe.shape))
        decoder = TorchScriptPythonDecoder(
            module,
            example_input=torch.zeros(recipe.shape),
            shared_memory=False,
            # A second trace to compare with takes a third of the time; tests compare the graph with the module.
            trace_kwargs={"check_trace": False},
        )
    front_end = FrontEndManager().load_by_framework("pytorch")
    # Keras on torch writes an alias of aten::sub that the front end does not have.
    front_end.add_extension(ConversionExtension("aten::subtract", _subtraction))
    graph = front_end.convert(front_end.load(decoder))
    graph.reshape({0: list(recipe.shape)})
    return graph


def _subtraction(context: Any) -> list[Any]:  # noqa: ANN401  # openvino has no stubs
    """Return the OpenVINO node of aten::subtract."""
    return [ops.subtract(context.get_input(0), context.get_input(1)).output(0)]
