"""Runs a network by torch: on CUDA, and on the CPU for a comparison.

On CUDA the channels of a picture lie beside each other in memory, and a pass is one recorded graph where the network
can be recorded. No CUDA device was at hand: the parts that need none are tested on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ainode.models.running.runtime import Array, Precision, Recipe, Runner

_DTYPE: dict[str, torch.dtype] = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""by the number of axes: batch, channels, and those of a picture or a volume"""
# Source: the warm-up of torch's own example, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class TorchRunner:
    """The module itself, in inference mode."""

    module: nn.Module
    precision: Precision
    device: str

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return the module's outputs in order."""
        return _arrays(self.outputs(in_format(torch.from_numpy(inputs).to(self.device))))

    def outputs(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Return the module's outputs on the device."""
        lower_precision = torch.autocast(
            self.device.split(":")[0], _DTYPE[self.precision], enabled=self.precision != "f32"
        )
        with torch.inference_mode(), lower_precision:
            outputs = self.module(tensor)
        return outputs if isinstance(outputs, tuple) else (outputs,)


class Recording(Protocol):
    """A recorded pass, as `torch.cuda.CUDAGraph`."""

    def replay(self) -> None:
        """Compute the outputs of the recording from its inputs, in their places in memory."""


@dataclass(frozen=True, slots=True)
class RecordedRunner:
    """A recorded pass over inputs of one shape: one call starts all of it."""

    runner: TorchRunner
    recording: Recording
    inputs: Tensor
    outputs: tuple[Tensor, ...]

    @property
    def precision(self) -> Precision:
        """Return the precision of the computation."""
        return self.runner.precision

    @property
    def device(self) -> str:
        """Return the device of the computation."""
        return self.runner.device

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return the network's outputs in order; inputs of another shape run without the recording."""
        if inputs.shape != tuple(self.inputs.shape):
            return self.runner(inputs)
        self.inputs.copy_(torch.from_numpy(inputs))
        self.recording.replay()
        return _arrays(self.outputs)


def has_cuda() -> bool:
    """Return whether torch finds a CUDA device."""
    return torch.cuda.is_available()


def device_name(device: str) -> str:
    """Return the name of a CUDA device."""
    return str(torch.cuda.get_device_name(device))


def torch_runner(recipe: Recipe, precision: Precision, device: str) -> Runner:
    """Return the network of a recipe, run by torch on a CUDA device or on "torch-cpu".

    Raises: ValueError if torch finds no CUDA device, or has no such precision.
    """
    if precision not in _DTYPE:
        raise ValueError(f"torch runs no {precision}; choose f32")
    if device == "torch-cpu":
        return TorchRunner(recipe.build().eval(), precision, "cpu")
    if not has_cuda():
        raise ValueError(f"{device} was asked for, and torch finds no CUDA device")
    return recorded(formatted_runner(recipe, precision, device), recipe.shape)


def formatted_runner(recipe: Recipe, precision: Precision, device: str) -> TorchRunner:
    """Return the network of a recipe on a device of torch, its weights in the format of `in_format`."""
    module = recipe.build().eval().to(device)
    for parameter in module.parameters():
        parameter.data = in_format(parameter.data)
    return TorchRunner(module, precision, device)


def in_format(tensor: Tensor) -> Tensor:
    """Return a tensor of a picture or a volume with its channels beside each other in memory, another as it is."""
    memory_format = _FORMATS.get(tensor.dim())
    return tensor if memory_format is None else tensor.contiguous(memory_format=memory_format)


def recorded(runner: TorchRunner, shape: tuple[int, ...]) -> Runner:
    """Return a recording of a runner on CUDA; the runner itself where its network cannot be recorded."""
    inputs = in_format(torch.zeros(shape, device=runner.device))
    aside = torch.cuda.Stream(runner.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(runner.device))
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            runner.outputs(inputs)
    torch.cuda.current_stream(runner.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=aside):
            outputs = runner.outputs(inputs)
    except RuntimeError:  # torch's, where a pass waits for the CPU
        return runner
    return RecordedRunner(runner, graph, inputs, outputs)


def _arrays(outputs: tuple[Tensor, ...]) -> tuple[Array, ...]:
    return tuple(output.float().cpu().numpy() for output in outputs)
