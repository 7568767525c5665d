"""Runs a network by torch: on CUDA, and on the CPU for a comparison."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ainode.models.running.runtime import Array, Precision, Recipe, Runner

_DTYPE = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


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


def has_cuda() -> bool:
    """Return whether torch finds a CUDA device."""
    return torch.cuda.is_available()


def device_name(device: str) -> str:
    """Return the name of a CUDA device."""
    return str(torch.cuda.get_device_name(device))


def torch_runner(recipe: Recipe, precision: Precision, device: str) -> Runner:
    """Return the network of a recipe, run by torch on a CUDA device or on "torch-cpu".

    Raises: ValueError if torch finds no CUDA device.
    """
    if device == "torch-cpu":
        return TorchRunner(recipe.build().eval(), precision, "cpu")
    if not has_cuda():
        raise ValueError(f"{device} was asked for, and torch finds no CUDA device")
    is_volume = len(recipe.shape) == 5  # noqa: PLR2004  # batch, channel and three axes
    memory_format = torch.channels_last_3d if is_volume else torch.channels_last
    module = recipe.build().eval().to(device).to(memory_format=memory_format)  # type: ignore[call-overload]
    return TorchRunner(module, precision, device)
