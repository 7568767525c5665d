"""Keras networks to run: ours, originals opened safely, and the activation map beside the answer.

On the torch backend a Keras network is a torch module, so `runtime.runner` takes it to OpenVINO or CUDA.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor, nn

from ainode.models.errors import CheckpointRefused
from ainode.models.running.keras_network import array_of, backend, efficientnet_lite0, load
from ainode.models.running.runtime import Array, Execution, Precision, Recipe, Runner, runner

ORIGINALS = frozenset({".h5", ".hdf5", ".keras"})
_EIGHT_BITS = 255.0
_RANK_OF_MAPS = 4


@dataclass(frozen=True, slots=True)
class Form:
    """What a network must be: pictures (batch, side, side, 3) in, so many answers out, by this activation.

    `key` names the weights, and whatever else tells this graph from others of the same network.
    """

    side: int
    answers: int
    activation: str
    key: str
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Network:
    """A network that is ready: pictures in 0 to 255 times `scale` in, logits and maps out."""

    run: Runner
    scale: float = 1.0


def ready_network(path: Path, form: Form, execution: Execution) -> Network:
    """Return the network of a file ready to run: our safetensors, or an original whole-model .h5 or .keras.

    Raises: CheckpointRefused if the file holds no network of that form.
    """
    if path.suffix in ORIGINALS:
        return _original(path, form, execution)

    def build() -> Any:  # noqa: ANN401  # a keras.Model
        return load(efficientnet_lite0(form.side, form.answers, layout="channels_first"), path)

    return Network(_mapped(build, "efficientnet_lite0", form, execution))


def _original(path: Path, form: Form, execution: Execution) -> Network:
    """Return an original network, which takes 0 to 1; a head of several layers runs in torch, for its Grad-CAM."""
    found = original(path)
    expected = ((None, form.side, form.side, 3), (None, form.answers))
    if (found.input_shape, found.output_shape) != expected:
        raise CheckpointRefused(
            f"{path}: takes {found.input_shape}, gives {found.output_shape}; {expected} was expected"
        )
    if without_activation(found, path=path) != form.activation:
        raise CheckpointRefused(f"{path}: its answer is no {form.activation}")
    if has_linear_head(found):
        return Network(_mapped(lambda: found, "original", form, execution), 1 / _EIGHT_BITS)
    device = "cuda" if execution.device.startswith("cuda") else "cpu"
    return Network(gradcam(found, device=device), 1 / _EIGHT_BITS)


def _mapped(build: Callable[[], Any], name: str, form: Form, execution: Execution) -> Runner:
    """Return a network of pooling and a linear layer, its map in the same graph."""
    recipe = mapped_recipe(build, form.side, f"{name} {form.key}")
    return runner(replace(recipe, shape=(form.batch, *recipe.shape[1:])), execution)


def original(path: Path) -> Any:  # noqa: ANN401  # a keras.Model
    """Return a whole network from an original `.h5` or `.keras` file; nothing in the file is run.

    Raises: CheckpointRefused if it is no such file, holds weights only, or names a layer that is
    not Keras' own (Lambda layers and custom objects are code).
    """
    keras = backend("torch")
    config = _config(path)
    strangers = sorted({name for name in _class_names(config) if not _known(keras, name)})
    if strangers:
        raise CheckpointRefused(
            f"{path}: holds {', '.join(strangers)}, which is code or no layer of Keras; build the network "
            "without it where you trust the file, and save that"
        )
    try:
        with _without_tensorflow():
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise CheckpointRefused(f"{path}: Keras {keras.__version__} cannot build it: {error}") from error


@contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Hide TensorFlow: where it is installed, Keras' reader of .h5 would import all of it."""
    before = {name: sys.modules[name] for name in ("tensorflow",) if name in sys.modules}
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # what the import system takes for "absent"
    try:
        yield
    finally:
        del sys.modules["tensorflow"]
        sys.modules.update(before)


def _config(path: Path) -> object:
    """Return the architecture that a file describes, as plain JSON."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        with h5py.File(path, "r") as file:
            written = file.attrs.get("model_config")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointRefused(f"{path}: neither an .h5 nor a .keras file, or cut short: {error}") from error
    if written is None:
        raise CheckpointRefused(f"{path}: weights without their network; save the whole model (`model.save`)")
    return json.loads(written)


def _class_names(config: object) -> Iterator[str]:
    """Yield every class and function that a configuration names."""
    if isinstance(config, dict):
        name = config.get("class_name")
        if isinstance(name, str):
            inner = config.get("config")
            yield f"function {inner}" if name == "function" else name
            yield from _foreign(config)
        for value in config.values():
            yield from _class_names(value)
    elif isinstance(config, list):
        for value in config:
            yield from _class_names(value)


def _foreign(config: dict[str, Any]) -> Iterator[str]:
    """Yield the module of a class that is registered outside Keras."""
    module = config.get("module")
    if isinstance(module, str) and module.split(".")[0] not in {"keras", "builtins"}:
        yield f"{module}.{config['class_name']}"


def _known(keras: Any, name: str) -> bool:  # noqa: ANN401  # the module
    if name.startswith("function "):
        return hasattr(keras.activations, name.removeprefix("function "))
    if name in {"Lambda", "TFOpLambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}:
        return False
    homes = (keras.layers, keras.models, keras.initializers, keras.regularizers, keras.constraints)
    return name in {"Functional", "DTypePolicy", "Policy", "__tuple__", "__keras_tensor__"} or any(
        hasattr(home, name) for home in homes
    )


class Mapped(nn.Module):
    """A network that returns its logits and, of the same pass, where each came from.

    Only for heads of average pooling and one linear layer: the logit is the mean of its map plus
    the bias, and the map is Grad-CAM before its ReLU up to a factor.
    Source: Selvaraju et al., Grad-CAM, ICCV 2017, section 3.1.
    """

    def __init__(self, network: Any) -> None:  # noqa: ANN401  # a keras.Model on the torch backend
        super().__init__()
        maps, (pooling, *_, dense) = _head(network)
        self.turn = pooling.data_format == "channels_first"
        self.body = backend("torch").Model(network.inputs, maps)
        self.kernel = nn.Parameter(torch.from_numpy(array_of(dense.kernel)))
        self.bias = nn.Parameter(torch.from_numpy(array_of(dense.bias)))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, outputs) logits and (B, outputs, h, w) maps of (B, rows, columns, 3) pictures."""
        # Keras moves what it is given to its own device, which is the CPU unless it is told.
        with backend("torch").device(str(pictures.device)):
            features = self.body(pictures, training=False)
        if self.turn:
            maps = nn.functional.conv2d(features, self.kernel.T[:, :, None, None])
        else:
            maps = (features @ self.kernel).permute(0, 3, 1, 2)
        return maps.mean(dim=(2, 3)) + self.bias, maps


@dataclass(frozen=True, slots=True)
class GradCam:
    """A network whose head is not pooling + linear: logits and Grad-CAM by autograd, in torch.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2, before the ReLU.
    """

    both: Any
    device: str = "cpu"
    precision: Precision = "f32"

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return (B, outputs) logits and (B, outputs, h, w) maps of (B, rows, columns, 3) pictures."""
        pictures = torch.from_numpy(inputs).to(self.device).requires_grad_()
        with backend("torch").device(self.device):
            features, logits = self.both(pictures, training=False)
        maps = []
        for output in range(logits.shape[1]):
            (slope,) = torch.autograd.grad(logits[:, output].sum(), features, retain_graph=True)
            maps.append((slope.mean(dim=(1, 2), keepdim=True) * features).sum(dim=3))
        return logits.detach().cpu().numpy(), torch.stack(maps, 1).detach().cpu().numpy()


def has_linear_head(network: Any) -> bool:  # noqa: ANN401  # a keras.Model
    """Return whether the network ends in average pooling and one linear layer, dropout aside."""
    layers = backend("torch").layers
    _, head = _head(network)
    kinds = [type(one) for one in head if not isinstance(one, layers.Dropout)]
    return kinds == [layers.GlobalAveragePooling2D, layers.Dense] and bool(head[-1].use_bias)


def gradcam(network: Any, *, device: str = "cpu") -> GradCam:  # noqa: ANN401  # a keras.Model on the torch backend
    """Return a network as a runner whose maps come by autograd."""
    both = backend("torch").Model(network.inputs, [_head(network)[0], network.outputs[0]])
    return GradCam(both.to(device), device)


def without_activation(network: Any, *, path: Path) -> str:  # noqa: ANN401  # a keras.Model
    """Take the last activation off, so that the network gives logits; return its name.

    Raises: CheckpointRefused if the last layer is neither linear nor an activation.
    """
    keras = backend("torch")
    last = network.layers[-1]
    if not isinstance(last, keras.layers.Dense | keras.layers.Activation):
        raise CheckpointRefused(f"{path}: ends in {type(last).__name__}; Dense or Activation was expected")
    name = str(last.activation.__name__)
    last.activation = keras.activations.linear
    return name


def _head(network: Any) -> tuple[Any, list[Any]]:  # noqa: ANN401  # a symbolic tensor and layers of keras
    """Return the last feature maps and the layers from there to the answer.

    Found backward from the answer: `layer.input` of a loaded network may be another graph's.
    """
    tensor = network.outputs[0]
    layers: list[Any] = []
    while len(tensor.shape) != _RANK_OF_MAPS:
        layer, number, _ = tensor._keras_history  # noqa: SLF001  # no public way back
        before = layer._inbound_nodes[number].input_tensors  # noqa: SLF001
        if len(before) != 1:
            raise CheckpointRefused(f"layer {layer.name}: a head with {len(before)} inputs has no activation map")
        tensor, layers = before[0], [layer, *layers]
    if tensor is network.inputs[0]:
        raise CheckpointRefused("the network has no feature maps of its own: no activation map can be made of it")
    return tensor, layers


def mapped_recipe(build: Callable[[], Any], side: int, key: str) -> Recipe:
    """Return how a network with its map becomes one graph; `build` is called on the torch backend."""
    backend("torch")
    return Recipe(lambda: Mapped(build()), (1, side, side, 3), f"keras mapped {key}")
