"""Runs a network: OpenVINO on the CPU, torch on CUDA, behind one small interface.

The graph of each set of weights is converted once and stays on disk (`graph_cache`). torch is imported where a network
must be converted, or torch runs it: a reading by a kept graph takes neither its time nor its memory. The precision is
always set: OpenVINO's own choice is bfloat16 where the processor has it, which would change the figures.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ainode.models.errors import PrecisionRefused
from ainode.models.running.graph_cache import GRAPH, cached_graph, keep_graph
from ainode.models.running.plans import is_planned, planned_graph

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[np.float32]
Precision = Literal["f32", "bf16", "f16", "int8"]

# The farthest that a precision may move a probability; a precision that moves one farther is refused.
AGREEMENT = 0.005
# Drivers through which torch may find a device: NVIDIA's library, AMD's device file.
_CUDA_DRIVER, _ROCM_DEVICE = "libcuda.so.1", Path("/dev/kfd")


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
    architecture, classes): equal keys mean equal graphs. `build` imports torch and the network's own module.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    key: str
    plan: str = ""
    """the name of the plan of shipped weights (`plans`); '' where none is made"""
    files: Mapping[str, Path] = field(default_factory=dict)
    """the weights that a plan is filled from, by a name of the plan's own"""


@dataclass(frozen=True, slots=True)
class Execution:
    """The settings of a run: the folder of converted graphs, the device, the precision, the number of threads.

    "auto" is a precision that `precision.fitted` chooses; a network that nothing chooses for runs in f32.
    """

    cache: Path
    device: str = "auto"
    precision: Precision | Literal["auto"] = "f32"
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


def cpu_has_bf16() -> bool:
    """Return whether this processor has native bfloat16 for OpenVINO."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def precisions() -> tuple[Precision, ...]:
    """Return the precisions of OpenVINO that this processor has and does not emulate."""
    return ("f32", "bf16") if cpu_has_bf16() else ("f32",)


def precisions_on(device: str) -> tuple[Precision, ...]:
    """Return the precisions that a network may be tried in on a placed device; int8 needs a graph of its own."""
    if device.startswith("cuda"):
        return ("f32", "bf16", "f16")
    return (*precisions(), "int8") if device == "cpu" else ("f32",)


def processor_name(device: str) -> str:
    """Return the name of what computes on a placed device."""
    if device.startswith("cuda"):
        from ainode.models.running import torch_runner  # noqa: PLC0415  # torch takes seconds to import

        return torch_runner.device_name(device)
    return str(ov.Core().get_property("CPU", "FULL_DEVICE_NAME"))


def placed(device: str) -> str:
    """Return where a device runs: "cpu" is OpenVINO; "auto" is CUDA where torch finds it, else OpenVINO.

    Raises: ValueError for a device that no runner knows.
    """
    if device == "auto":
        if _may_have_cuda():
            from ainode.models.running import torch_runner  # noqa: PLC0415  # torch takes seconds to import

            if torch_runner.has_cuda():
                return "cuda"
        return "cpu"
    if device not in {"cpu", "torch-cpu"} and not device.startswith("cuda"):
        raise ValueError(f"no device named {device}: auto, cpu, torch-cpu or cuda")
    return device


def runner(recipe: Recipe, execution: Execution) -> Runner:
    """Return the network of a recipe ready to run; the device "auto" is CUDA where torch finds it, else OpenVINO.

    Raises: ValueError for an absent device, or a precision that the device does not have; PrecisionRefused for int8
    without an int8 graph.
    """
    device = placed(execution.device)
    precision: Precision = "f32" if execution.precision == "auto" else execution.precision
    if device != "cpu":
        from ainode.models.running import torch_runner  # noqa: PLC0415  # torch takes seconds to import

        return torch_runner.torch_runner(recipe, precision, device)
    if precision == "f16" or (precision == "bf16" and not cpu_has_bf16()):
        raise ValueError(f"this processor has no {precision} for OpenVINO; choose f32")
    if precision == "int8":
        graph = cached_graph(quantized_place(recipe, execution.cache)[0])
        if graph is None:
            raise PrecisionRefused("no int8 graph of this network was made here; use f32")
    else:
        graph = converted_graph(recipe, execution.cache)
    return OpenVinoRunner(_compiled_graph(graph, precision, execution.threads), precision)


def _may_have_cuda() -> bool:
    """Return whether the machine has a driver through which torch could find a device; torch is not imported."""
    if _ROCM_DEVICE.exists():
        return True
    try:
        ctypes.CDLL(_CUDA_DRIVER)
    except OSError:
        return False
    return True


def converted_graph(recipe: Recipe, cache: Path) -> Any:  # noqa: ANN401  # openvino has no stubs
    """Return a recipe's OpenVINO graph: of the cache, else of a plan; else the network is converted.

    The graph is always that of the disk: the first reading answers as every later one, to the last bit, and all
    processes share its pages. Without a cache that can be written, every start makes the graph.
    """
    folder, origin = _place(recipe, cache)
    graph = cached_graph(folder)
    if graph is None:
        graph = planned_graph(recipe)
        if graph is None:
            graph = _conversion(recipe)
        keep_graph(graph, folder, origin)
        graph = cached_graph(folder) or graph
    return graph


def has_graph(recipe: Recipe, execution: Execution) -> bool:
    """Return whether a network runs without being built: on the CPU, by a graph of the cache or of a plan."""
    if placed(execution.device) != "cpu":
        return False
    return is_planned(recipe) or cached_graph(_place(recipe, execution.cache)[0]) is not None


def kept_conversion(recipe: Recipe, cache: Path) -> Path:
    """Convert the network of a recipe, and return the path of the graph in the cache."""
    folder, origin = _place(recipe, cache)
    keep_graph(_conversion(recipe), folder, origin)
    return folder / GRAPH


def _conversion(recipe: Recipe) -> Any:  # noqa: ANN401  # openvino has no stubs
    from ainode.models.running.conversion import graph_of  # noqa: PLC0415  # torch takes seconds to import

    return graph_of(recipe)


def _place(recipe: Recipe, cache: Path) -> tuple[Path, str]:
    """Return the folder of a recipe's graph in the cache, and what the graph is converted from."""
    torch_version = importlib.metadata.version("torch")
    origin = f"{recipe.key}|{recipe.shape}|openvino {ov.__version__}|torch {torch_version}"
    return cache / hashlib.sha256(origin.encode()).hexdigest()[:32], origin


def quantized_place(recipe: Recipe, cache: Path) -> tuple[Path, str]:
    """Return the folder of a recipe's int8 graph in the cache, and what the graph is made from."""
    origin = f"int8|{_place(recipe, cache)[1]}"
    return cache / hashlib.sha256(origin.encode()).hexdigest()[:32], origin


def _compiled_graph(graph: Any, precision: Precision, threads: int | None) -> Any:  # noqa: ANN401  # openvino has no stubs
    # What an int8 graph leaves in floating point stays f32.
    hint = "f32" if precision == "int8" else precision
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    return ov.Core().compile_model(graph, "CPU", settings)


def refuse_drift(name: str, precision: str, gaps: Iterable[float]) -> None:
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
