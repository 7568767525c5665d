"""A network in a file of a site's own, ready to run, whichever of the formats the file has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ainode.models.described.scaling import Activation
from ainode.models.errors import CheckpointRefused

if TYPE_CHECKING:
    from ainode.models.running.runtime import Array, Execution

PACKAGES = {
    "onnx": ("cv2", "openvino"),
    "torchscript": ("cv2", "torch"),
    "safetensors": ("cv2", "openvino", "safetensors", "timm", "torch"),
    "keras": ("cv2", "h5py", "keras", "openvino", "torch"),
    "bundle": ("einops", "monai", "nibabel", "safetensors", "skimage", "torch", "yaml"),
}
"""the formats, and what reading needs for each"""


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A file with a network, and what is said of it beside the file.

    Shapes: `shape` is that of the input, the batch included.
    """

    path: Path
    format: str
    shape: tuple[int, ...]
    outputs: tuple[str, ...] = ()
    """the names of the outputs that are read; () for all, in their order"""
    companions: tuple[str, ...] = ()
    """further files of the model, below the folder of the file"""
    architecture: str = ""
    """of timm, for weights alone"""
    classes: int = 0
    """the number of answers of an architecture"""
    activation: Activation = "none"
    """what makes probabilities of the first output: a network that has made them itself is refused"""
    grays: float = 0.0
    """how many whole numbers lie between black and white, as the network is given an image; 0 if nothing tells"""


class Network(Protocol):
    """A network that runs: one array in, its outputs out in the order of `NetworkFile.outputs`."""

    def renew(self) -> None:
        """Begin a study: no answer to it hangs on an earlier one."""

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return the outputs of inputs in the shape of the file's description."""

    def maps(self, inputs: Array, /) -> Array | None:
        """Return the activation map of each number of the first output, (answers, …); None where none can be had."""


def opened(file: NetworkFile, execution: Execution) -> Network:
    """Return the network of a file, in f32 on the CPU.

    Raises: CheckpointRefused if the file holds no such network, or one that does not fit its description.
    """
    # Each format has packages of its own, some of which take seconds to import.
    if file.format == "onnx":
        from ainode.models.described.graph_network import onnx_network  # noqa: PLC0415

        return onnx_network(file, execution)
    if file.format == "keras":
        from ainode.models.described.keras_network import keras_network  # noqa: PLC0415

        return keras_network(file, execution)
    from ainode.models.described import torch_network  # noqa: PLC0415

    if file.format == "torchscript":
        return torch_network.script_network(file, execution)
    return torch_network.timm_network(file, execution)


def chosen(names: Sequence[str], requested: Sequence[str], path: Path) -> tuple[int, ...]:
    """Return the numbers of the wanted outputs among the outputs' names; of the single one, if none is wanted.

    Raises: CheckpointRefused if one is not there, or none is wanted of several.
    """
    if not requested and len(names) > 1:  # the first would be read, whatever it is of
        raise CheckpointRefused(
            f"{path.name}: has {len(names)} outputs, {', '.join(names)}; write the one to read below [output], as name"
        )
    if missing := [name for name in requested if name not in names]:
        raise CheckpointRefused(f"{path.name}: has no output {missing[0]!r}; its outputs are {', '.join(names)}")
    return tuple(names.index(name) for name in requested) if requested else tuple(range(len(names)))
