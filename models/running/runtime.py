"""Runs a network: OpenVINO on the CPU, torch on CUDA, behind one small interface.

A conversion is made once per weights and kept on disk. The precision is always said: left to
itself OpenVINO picks bfloat16 where the processor has it, and the figures change.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
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

Array = NDArray[np.float32]
Precision = Literal["f32", "bf16", "f16"]

# How far a probability may move with the precision before it is refused.
AGREEMENT = 0.005


class Runner(Protocol):
    """A network that is ready: one array in, its outputs as arrays."""

    @property
    def precision(self) -> Precision:
        """What it computes in."""

    @property
    def device(self) -> str:
        """Where it computes."""

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return the network's outputs, in order."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be run: how to build the module, its input's shape, and whose weights.

    `key` names the weights and everything else that changes the graph (sha256 of the files,
    architecture, classes): equal keys mean equal graphs.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Execution:
    """How networks are run: where their conversions are kept, where they compute, in what, with how many threads."""

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
        found = self.compiled(inputs)
        return tuple(np.array(found[i], np.float32) for i in range(len(self.compiled.outputs)))


@dataclass(frozen=True, slots=True)
class TorchRunner:
    """The module itself, in inference mode."""

    module: nn.Module
    precision: Precision
    device: str

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return the module's outputs in order."""
        placed = torch.from_numpy(inputs).to(self.device)
        low = torch.autocast(self.device.split(":")[0], _DTYPE[self.precision], enabled=self.precision != "f32")
        with torch.inference_mode(), low:
            found = self.module(placed)
        outputs = found if isinstance(found, tuple) else (found,)
        return tuple(output.float().cpu().numpy() for output in outputs)


_DTYPE = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def cpu_has_bf16() -> bool:
    """Return whether OpenVINO finds native bfloat16 on this processor."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def precisions() -> tuple[Precision, ...]:
    """Return what OpenVINO computes in on this processor without emulating it."""
    return ("f32", "bf16") if cpu_has_bf16() else ("f32",)


def runner(recipe: Recipe, execution: Execution) -> Runner:
    """Return the recipe ready to run: CUDA when there is one and the device lets it, else OpenVINO.

    Raises: ValueError for a device that is not here, or a precision it does not have.
    """
    device, precision = execution.device, execution.precision
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        return _on_cuda(recipe, precision, device)
    if device == "torch-cpu":
        return TorchRunner(recipe.build().eval(), precision, "cpu")
    if device != "cpu":
        raise ValueError(f"no device named {device}: auto, cpu, torch-cpu or cuda")
    if precision == "f16" or (precision == "bf16" and not cpu_has_bf16()):
        raise ValueError(f"this processor has no {precision} for OpenVINO; choose f32")
    return OpenVinoRunner(_compiled(converted(recipe, execution.cache), execution), precision)


def _on_cuda(recipe: Recipe, precision: Precision, device: str) -> TorchRunner:
    if not torch.cuda.is_available():
        raise ValueError(f"{device} was asked for, and torch finds no CUDA device")
    volumes = len(recipe.shape) == 5  # noqa: PLR2004  # batch, channel and three axes
    layout = torch.channels_last_3d if volumes else torch.channels_last
    module = recipe.build().eval().to(device).to(memory_format=layout)  # type: ignore[call-overload]
    return TorchRunner(module, precision, device)


def converted(recipe: Recipe, cache: Path) -> Path:
    """Return the OpenVINO graph of a recipe, converted now if the cache has none.

    The folder appears whole or not at all, so that two processes may convert at once.
    """
    words = f"{recipe.key}|{recipe.shape}|openvino {ov.__version__}|torch {torch.__version__}"
    folder = cache / hashlib.sha256(words.encode()).hexdigest()[:32]
    if (folder / "graph.xml").is_file():
        return folder / "graph.xml"
    cache.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=cache, prefix="draft-"))
    ov.save_model(_graph(recipe), str(draft / "graph.xml"), compress_to_fp16=False)
    (draft / "made_from.txt").write_text(words + "\n", "utf-8")
    try:
        draft.replace(folder)
    except OSError:
        # Another process was first; its graph has the same key, so it is the same graph.
        shutil.rmtree(draft)
    return folder / "graph.xml"


def _graph(recipe: Recipe) -> Any:  # noqa: ANN401  # openvino has no stubs
    """Convert a module by the PyTorch front end itself.

    Not `openvino.convert_model`: that reports each conversion to its maker's server unless
    a file in the home folder forbids it, and a node in a hospital calls nobody.
    """
    module = recipe.build().eval()
    with torch.no_grad(), warnings.catch_warnings():
        # The front end traces with torch.jit, which torch says it will drop; its loops are constant here.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # YOLO lays out its anchors on the first call; the trace must find them there.
        module(torch.zeros(recipe.shape))
        decoder = TorchScriptPythonDecoder(module, example_input=torch.zeros(recipe.shape), shared_memory=False)
    front_end = FrontEndManager().load_by_framework("pytorch")
    # Keras on torch writes this alias of aten::sub, which the front end does not know.
    front_end.add_extension(ConversionExtension("aten::subtract", _subtracted))
    graph = front_end.convert(front_end.load(decoder))
    graph.reshape({0: list(recipe.shape)})
    return graph


def _subtracted(context: Any) -> list[Any]:  # noqa: ANN401  # openvino has no stubs
    return [ops.subtract(context.get_input(0), context.get_input(1)).output(0)]


def _compiled(path: Path, execution: Execution) -> Any:  # noqa: ANN401  # openvino has no stubs
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": execution.precision, "PERFORMANCE_HINT": "LATENCY"}
    if execution.threads:
        settings["INFERENCE_NUM_THREADS"] = execution.threads
    return ov.Core().compile_model(str(path), "CPU", settings)


def refuse_drift(name: str, precision: Precision, gaps: Iterable[float]) -> None:
    """Return if no probability of a model's reference inputs lies further than 0.005 from what f32 gives.

    `gaps` are these distances.

    Raises: PrecisionRefused.
    """
    for gap in gaps:
        if not gap <= AGREEMENT:  # nor does a NaN agree
            raise PrecisionRefused(f"{name}: {precision} moves a probability by {gap:.4f}; use f32")


def sha256_of(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
