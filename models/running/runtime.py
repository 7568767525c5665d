"""Runs a network: OpenVINO on the CPU, torch on CUDA, behind one small interface.

The graph of each set of weights is converted once and stays on disk (`graph_cache`). The precision is always set:
OpenVINO's own choice is bfloat16 where the processor has it, which would change the figures.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import openvino as ov
import openvino.opset14 as ops
import torch
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch import ConversionExtension
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import nn

from ainode.models.errors import PrecisionRefused
from ainode.models.running.graph_cache import cached_graph, keep_graph

Array = NDArray[np.float32]
Precision = Literal["f32", "bf16", "f16"]

# The farthest that a precision may move a probability; a precision that moves one farther is refused.
AGREEMENT = 0.005


class Runner(Protocol):
    """A network ready to run: one array in, the network's outputs as arrays out."""

    @property
    def precision(self) -> Precision:
        """The precision of the computation."""

    @property
    def device(self) -> str:
        """The device of the computation."""

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return the network's outputs, in order."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network to run: the function that builds its module, the shape of its input, the key of its graph.

    `key` names the weights and everything else that changes the graph (sha256 of the files,
    architecture, classes): equal keys mean equal graphs.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Execution:
    """The settings of a run: the folder of converted graphs, the device, the precision, the number of threads."""

    cache: Path
    device: str = "auto"
    precision: Precision = "f32"
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class OpenVinoRunner:
    """A compiled OpenVINO graph on the CPU."""

    compiled: Any
    precision: Precision
    device: str = "cpu"

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return the graph's outputs in order."""
        outputs = self.compiled(inputs)
        return tuple(np.array(outputs[number], np.float32) for number in range(len(self.compiled.outputs)))


@dataclass(frozen=True, slots=True)
class TorchRunner:
    """The module itself, in inference mode."""

    module: nn.Module
    precision: Precision
    device: str

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return the module's outputs in order."""
        tensor = torch.from_numpy(inputs).to(self.device)
        lower_precision = torch.autocast(
            self.device.split(":")[0], _DTYPE[self.precision], enabled=self.precision != "f32"
        )
        with torch.inference_mode(), lower_precision:
            outputs = self.module(tensor)
        arrays = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.float().cpu().numpy() for output in arrays)


_DTYPE = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def cpu_has_bf16() -> bool:
    """Return whether this processor has native bfloat16 for OpenVINO."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def precisions() -> tuple[Precision, ...]:
    """Return the precisions of OpenVINO that this processor has and does not emulate."""
    return ("f32", "bf16") if cpu_has_bf16() else ("f32",)


def runner(recipe: Recipe, execution: Execution) -> Runner:
    """Return the network of a recipe ready to run; the device "auto" is CUDA where torch finds it, else OpenVINO.

    Raises: ValueError for an absent device, or a precision that the device does not have.
    """
    device, precision = execution.device, execution.precision
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        return _cuda_runner(recipe, precision, device)
    if device == "torch-cpu":
        return TorchRunner(recipe.build().eval(), precision, "cpu")
    if device != "cpu":
        raise ValueError(f"no device named {device}: auto, cpu, torch-cpu or cuda")
    if precision == "f16" or (precision == "bf16" and not cpu_has_bf16()):
        raise ValueError(f"this processor has no {precision} for OpenVINO; choose f32")
    return OpenVinoRunner(_compiled_graph(converted_graph(recipe, execution.cache), execution), precision)


def _cuda_runner(recipe: Recipe, precision: Precision, device: str) -> TorchRunner:
    if not torch.cuda.is_available():
        raise ValueError(f"{device} was asked for, and torch finds no CUDA device")
    is_volume = len(recipe.shape) == 5  # noqa: PLR2004  # batch, channel and three axes
    memory_format = torch.channels_last_3d if is_volume else torch.channels_last
    module = recipe.build().eval().to(device).to(memory_format=memory_format)  # type: ignore[call-overload]
    return TorchRunner(module, precision, device)


def converted_graph(recipe: Recipe, cache: Path) -> Any:  # noqa: ANN401  # openvino has no stubs
    """Return a recipe's OpenVINO graph; convert the network if the cache has no whole graph of the recipe.

    Without a cache that can be written, every start converts the network.
    """
    origin = f"{recipe.key}|{recipe.shape}|openvino {ov.__version__}|torch {torch.__version__}"
    folder = cache / hashlib.sha256(origin.encode()).hexdigest()[:32]
    graph = cached_graph(folder)
    if graph is None:
        graph = _graph(recipe)
        keep_graph(graph, folder, origin)
    return graph


def _graph(recipe: Recipe) -> Any:  # noqa: ANN401  # openvino has no stubs
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


def _compiled_graph(graph: Any, execution: Execution) -> Any:  # noqa: ANN401  # openvino has no stubs
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": execution.precision, "PERFORMANCE_HINT": "LATENCY"}
    if execution.threads:
        settings["INFERENCE_NUM_THREADS"] = execution.threads
    return ov.Core().compile_model(graph, "CPU", settings)


def refuse_drift(name: str, precision: Precision, gaps: Iterable[float]) -> None:
    """Refuse a precision that moves a probability of a model's reference inputs by more than 0.005.

    `gaps` are the distances between the probabilities of this precision and of f32.

    Raises: PrecisionRefused.
    """
    for gap in gaps:
        if not gap <= AGREEMENT:  # `gap > AGREEMENT` would let a NaN pass
            raise PrecisionRefused(f"{name}: {precision} moves a probability by {gap:.4f}; use f32")


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
