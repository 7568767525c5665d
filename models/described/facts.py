"""What a file with a network tells of the network, read as data: no library opens the network, nothing of it runs."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ainode.models.described.onnx_file import NamedShape, ends, foreign_data
from ainode.models.errors import CheckpointRefused
from ainode.models.running.script_archive import read_archive
from ainode.models.running.weight_files import is_script, weight_shapes

_ARCHIVES = frozenset({".pt", ".pth", ".ts", ".torchscript"})
_HDF5 = frozenset({".h5", ".hdf5"})
_MOST_CONFIG_BYTES = 50_000_000
_CHANNELS = frozenset({1, 3})
_CONVOLUTIONS = frozenset({4, 5})
_BOXES = frozenset({2, 3})  # axes of boxes: without and with that of the batch
_PROBABLE = frozenset({"sigmoid", "hardsigmoid", "hard_sigmoid", "softmax"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file tells; an empty shape where it tells nothing."""

    format: str
    input: tuple[int | None, ...]
    """the shape of the input, the batch included"""
    outputs: tuple[NamedShape, ...]
    companions: tuple[str, ...] = ()
    """files beside the file that it takes data from"""

    @property
    def is_channels_last(self) -> bool:
        """Return whether the input has its channels behind rows and columns."""
        return len(self.input) > 2 and self.input[1] not in _CHANNELS and self.input[-1] in _CHANNELS  # noqa: PLR2004

    @property
    def channels(self) -> int | None:
        """Return the number of channels of the input; None if the file does not tell, or it is neither 1 nor 3."""
        number = (self.input[-1] if self.is_channels_last else self.input[1]) if len(self.input) > 1 else None
        return number if number in _CHANNELS else None

    @property
    def size(self) -> tuple[int | None, ...]:
        """Return rows and columns of the input, or the size of a volume along each axis; () if nothing is told."""
        return self.input[1:-1] if self.is_channels_last else self.input[2:]

    @property
    def classes(self) -> int | None:
        """Return the number of the first output's answers; None if it is no row of answers."""
        shape = self.outputs[0].shape if self.outputs else ()
        return shape[-1] if len(shape) == 2 else None  # noqa: PLR2004 - batch and answers

    def probable_end(self, output: str = "") -> str:
        """Return the operator that makes probabilities of an output, the first without a name; '' if none is told."""
        operators = [item.operator for item in self.outputs if output in {"", item.name}]
        return operators[0] if operators and operators[0].lower() in _PROBABLE else ""

    @property
    def kind(self) -> str:
        """Return what the outputs look like: classify, detect or segment; the first of several, unless one is boxes."""
        if len(self.outputs) > 1 and any(map(_may_be_boxes, self.outputs)):
            return "detect"
        shape = self.outputs[0].shape if self.outputs else ()
        return "segment" if len(shape) >= max(3, len(self.input) - 1) else "classify"


def _may_be_boxes(output: NamedShape) -> bool:
    """Return whether an output may hold boxes: by its name, or four columns; where the file tells no columns it may."""
    shape = output.shape
    return "box" in output.name.lower() or not shape or (len(shape) in _BOXES and shape[-1] in {4, None})


def facts(path: Path) -> Facts:
    """Return what a file tells, its format by its name and its first bytes.

    Raises: CheckpointRefused if it is of no format that a description may name, or a TorchScript that reaches files.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        inputs, outputs = ends(path)
        if len(inputs) != 1:
            raise CheckpointRefused(f"{path.name}: has {len(inputs)} inputs; a network of one image is read")
        return Facts("onnx", inputs[0].shape, outputs, foreign_data(path))
    if suffix == ".safetensors":
        return _of_safetensors(path)
    if suffix == ".keras":
        return _of_keras(_keras_config(path))
    if suffix in _HDF5:
        return Facts("keras", (), ())
    if suffix in _ARCHIVES and is_script(path):
        read_archive(path)
        return Facts("torchscript", (), ())
    raise CheckpointRefused(
        f"{path.name}: is no ONNX, TorchScript, Keras or safetensors file; a pickled model is never opened here: "
        "export it as ONNX where you trust it"
    )


def _of_safetensors(path: Path) -> Facts:
    """Return the channels of the first convolution, and the answers of the last linear layer."""
    shapes = weight_shapes(path).values()
    stems = [shape for shape in shapes if len(shape) in _CONVOLUTIONS and shape[1] in _CHANNELS]
    heads = [shape for shape in shapes if len(shape) == 2]  # noqa: PLR2004 - answers and channels
    answers = min((shape[0] for shape in heads), default=None)
    shape: tuple[int | None, ...] = (1, stems[0][1], *(None,) * (len(stems[0]) - 2)) if stems else ()
    return Facts("safetensors", shape, (NamedShape("", (1, answers)),) if answers else ())


def _keras_config(path: Path) -> Any:  # noqa: ANN401  # JSON
    try:
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            return json.loads(file.read(_MOST_CONFIG_BYTES))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RecursionError) as error:
        raise CheckpointRefused(f"{path.name}: is no .keras file, or cut short") from error


def _of_keras(config: Any) -> Facts:  # noqa: ANN401
    """Return the shape of the first input layer, and the units of the last dense layer."""
    layers = [item for item in _dictionaries(config) if isinstance(item.get("config"), dict)]
    ends, dense = (
        [layer["config"] for layer in layers if layer.get("class_name") == name] for name in ("InputLayer", "Dense")
    )
    shapes = (end.get("batch_shape") or end.get("batch_input_shape") for end in ends)
    shape = next((tuple(shape) for shape in shapes if isinstance(shape, list)), ())
    units = [layer.get("units") for layer in dense]
    activation = dense[-1].get("activation") if dense else ""
    answers = units[-1] if units and isinstance(units[-1], int) else None
    sizes = tuple(size if isinstance(size, int) else None for size in shape)
    return Facts("keras", sizes, (NamedShape("", (None, answers), str(activation)),) if answers else ())


def _dictionaries(config: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return every table in a configuration, in its order."""
    dictionaries: list[dict[str, Any]] = []
    waiting = [config]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, dict):
            dictionaries.append(item)
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return dictionaries
