"""Keras networks ready to run, shipped or original: logits, and the activation maps of the same pass in their place.

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
import numpy as np
import torch
from torch import Tensor, nn

from ainode.models.errors import CheckpointRefused
from ainode.models.running.keras_network import array_of, backend, efficientnet_lite0, load
from ainode.models.running.receptive_field import field_shift
from ainode.models.running.runtime import Array, Execution, Precision, Recipe, Runner, runner
from ainode.models.running.saliency import recentered_map
from ainode.models.running.weight_files import refuse_growth

ORIGINALS = frozenset({".h5", ".hdf5", ".keras"})
_EIGHT_BITS = 255.0
_RANK_OF_MAPS = 4


@dataclass(frozen=True, slots=True)
class Form:
    """The form that a network must have: pictures (batch, side, side, 3) in, `outputs` numbers out, by `activation`.

    `key` names the weights and everything else that tells this graph from other graphs of the same network.
    """

    side: int
    outputs: int
    activation: str
    key: str
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Network:
    """A network ready to run: pictures, 0 to 255 times `scale`, in; logits, maps and the maps' shift out."""

    run: Runner
    scale: float = 1.0

    def read(self, pictures: Array) -> tuple[Array, Array]:
        """Return logits (B, outputs) and maps (B, outputs, h, w), each map where its evidence lies in the pictures.

        Shapes: pictures (B, side, side, 3), 0 to 255.
        """
        logits, maps, shift = self.run(pictures * np.float32(self.scale))
        return logits, recentered_map(maps, shift)


def ready_network(path: Path, form: Form, execution: Execution) -> Network:
    """Return the network of a file ready to run: shipped safetensors, or an original whole-model .h5 or .keras.

    Raises: CheckpointRefused if the file holds no network of the form.
    """
    if path.suffix in ORIGINALS:
        return _ready_original(path, form, execution)
    return Network(runner(shipped_recipe(path, form), execution))


def shipped_recipe(path: Path, form: Form) -> Recipe:
    """Return the recipe of the network in a file of shipped weights."""

    def build() -> Any:  # noqa: ANN401  # a keras.Model
        return load(efficientnet_lite0(form.side, form.outputs, layout="channels_first"), path)

    return _recipe_of_form(build, "efficientnet_lite0", form)


def _ready_original(path: Path, form: Form, execution: Execution) -> Network:
    """Return an original network, which takes 0 to 1; torch runs a head of several layers, for its Grad-CAM."""
    network = original_network(path)
    expected = ((None, form.side, form.side, 3), (None, form.outputs))
    if (network.input_shape, network.output_shape) != expected:
        raise CheckpointRefused(
            f"{path}: takes {network.input_shape}, gives {network.output_shape}; {expected} was expected"
        )
    if remove_activation(network, path=path) != form.activation:
        raise CheckpointRefused(f"{path}: its answer is no {form.activation}")
    if has_linear_head(network):
        recipe = _recipe_of_form(lambda: network, "original", form, brightest=1.0)
        return Network(runner(recipe, execution), 1 / _EIGHT_BITS)
    device = "cuda" if execution.device.startswith("cuda") else "cpu"
    return Network(gradcam_runner(network, device=device), 1 / _EIGHT_BITS)


def _recipe_of_form(build: Callable[[], Any], name: str, form: Form, *, brightest: float = _EIGHT_BITS) -> Recipe:
    """Return the recipe of a network whose head is pooling and a linear layer, with its map in the same graph."""
    recipe = mapped_recipe(build, form.side, f"{name} {form.key}", brightest=brightest)
    return replace(recipe, shape=(form.batch, *recipe.shape[1:]))


def original_network(path: Path) -> Any:  # noqa: ANN401  # a keras.Model
    """Return a whole network from an original `.h5` or `.keras` file; nothing in the file is run.

    Raises: CheckpointRefused if the file is neither, holds weights only, or names a layer that is
    not Keras' own (Lambda layers and custom objects are code).
    """
    keras = backend("torch")
    config = _config(path)
    foreign_names = sorted({name for name in _class_names(config) if not _is_keras_class(keras, name)})
    if foreign_names:
        raise CheckpointRefused(
            f"{path}: holds {', '.join(foreign_names)}, which is code or no layer of Keras; build the network "
            "without it where you trust the file, and save that"
        )
    try:
        with _hidden_tensorflow():
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise CheckpointRefused(f"{path}: Keras {keras.__version__} cannot build it: {error}") from error


@contextmanager
def _hidden_tensorflow() -> Iterator[None]:
    """Hide TensorFlow inside the context: Keras' reader of .h5 would import an installed TensorFlow."""
    modules = {name: sys.modules[name] for name in ("tensorflow",) if name in sys.modules}
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # what the import system takes for "absent"
    try:
        yield
    finally:
        del sys.modules["tensorflow"]
        sys.modules.update(modules)


def _config(path: Path) -> object:
    """Return the architecture that a file describes, decoded from JSON."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                refuse_growth(archive, path)
                return json.loads(archive.read("config.json"))
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
    except CheckpointRefused:
        raise
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointRefused(f"{path}: neither an .h5 nor a .keras file, or cut short: {error}") from error
    if config is None:
        raise CheckpointRefused(f"{path}: weights without their network; save the whole model (`model.save`)")
    return json.loads(config)


def _class_names(config: object) -> Iterator[str]:
    """Yield the name of every class and function in a configuration."""
    if isinstance(config, dict):
        name = config.get("class_name")
        if isinstance(name, str):
            inner = config.get("config")
            yield f"function {inner}" if name == "function" else name
            yield from _foreign_class(config)
        for value in config.values():
            yield from _class_names(value)
    elif isinstance(config, list):
        for value in config:
            yield from _class_names(value)


def _foreign_class(config: dict[str, Any]) -> Iterator[str]:
    """Yield the module and name of a class that is registered outside Keras."""
    module = config.get("module")
    if isinstance(module, str) and module.split(".")[0] not in {"keras", "builtins"}:
        yield f"{module}.{config['class_name']}"


def _is_keras_class(keras: Any, name: str) -> bool:  # noqa: ANN401  # the module
    """Return whether a name is a class or an activation of Keras that holds no code of the file."""
    if name.startswith("function "):
        return hasattr(keras.activations, name.removeprefix("function "))
    if name in {"Lambda", "TFOpLambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}:
        return False
    modules = (keras.layers, keras.models, keras.initializers, keras.regularizers, keras.constraints)
    return name in {"Functional", "DTypePolicy", "Policy", "__tuple__", "__keras_tensor__"} or any(
        hasattr(module, name) for module in modules
    )


class MappedNetwork(nn.Module):
    """A network that returns its logits and, of the same pass, the activation map of each logit, and the maps' shift.

    Only for heads of average pooling and one linear layer: the logit is the mean of its map plus
    the bias, and the map is Grad-CAM before its ReLU up to a factor.
    Source: Selvaraju et al., Grad-CAM, ICCV 2017, section 3.1.
    """

    shift: Tensor
    """of the maps, see `field_shift`: measured once, so that it is kept in the converted graph"""

    def __init__(self, network: Any, *, brightest: float = _EIGHT_BITS) -> None:  # noqa: ANN401  # a keras.Model on torch
        super().__init__()
        last_maps, (pooling, *_, dense) = _maps_and_head(network)
        self.turn = pooling.data_format == "channels_first"
        self.body = backend("torch").Model(network.inputs, last_maps)
        self.kernel = nn.Parameter(torch.from_numpy(array_of(dense.kernel)))
        self.bias = nn.Parameter(torch.from_numpy(array_of(dense.bias)))
        self.register_buffer("shift", field_shift(self.features, network.input_shape[1], brightest))

    def features(self, pictures: Tensor) -> Tensor:
        """Return the last features, (B, channels, h, w), of (B, rows, columns, 3) pictures."""
        # Keras moves its inputs to its own device, which is the CPU outside of this context.
        with backend("torch").device(str(pictures.device)):
            features: Tensor = self.body(pictures, training=False)
        return features if self.turn else features.permute(0, 3, 1, 2)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B, outputs) logits, (B, outputs, h, w) maps and their shift of (B, rows, columns, 3) pictures."""
        maps = nn.functional.conv2d(self.features(pictures), self.kernel.T[:, :, None, None])
        return maps.mean(dim=(2, 3)) + self.bias, maps, self.shift


@dataclass(frozen=True, slots=True)
class GradCam:
    """A network with any head: logits, and Grad-CAM by autograd, in torch.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2, before the ReLU.
    """

    features_and_logits: Any
    shift: Array
    device: str = "cpu"
    precision: Precision = "f32"

    def __call__(self, inputs: Array, /) -> tuple[Array, ...]:
        """Return (B, outputs) logits, (B, outputs, h, w) maps and their shift of (B, rows, columns, 3) pictures."""
        pictures = torch.from_numpy(inputs).to(self.device).requires_grad_()
        with backend("torch").device(self.device):
            features, logits = self.features_and_logits(pictures, training=False)
        maps = []
        for output in range(logits.shape[1]):
            (slope,) = torch.autograd.grad(logits[:, output].sum(), features, retain_graph=True)
            maps.append((slope.mean(dim=(1, 2), keepdim=True) * features).sum(dim=3))
        return logits.detach().cpu().numpy(), torch.stack(maps, 1).detach().cpu().numpy(), self.shift


def has_linear_head(network: Any) -> bool:  # noqa: ANN401  # a keras.Model
    """Return whether the network ends in average pooling and one linear layer; dropout does not count."""
    layers = backend("torch").layers
    _, head = _maps_and_head(network)
    kinds = [type(layer) for layer in head if not isinstance(layer, layers.Dropout)]
    return kinds == [layers.GlobalAveragePooling2D, layers.Dense] and bool(head[-1].use_bias)


def gradcam_runner(network: Any, *, device: str = "cpu") -> GradCam:  # noqa: ANN401  # a keras.Model on the torch backend
    """Return a runner of a network whose maps are Grad-CAM by autograd."""
    keras = backend("torch")
    features_and_logits = keras.Model(network.inputs, [_maps_and_head(network)[0], network.outputs[0]])

    def features(pictures: Tensor) -> Tensor:
        maps: Tensor = features_and_logits(pictures, training=False)[0]
        return maps.permute(0, 3, 1, 2)

    shift = field_shift(features, network.input_shape[1], brightest=1.0).numpy()
    return GradCam(features_and_logits.to(device), shift, device)


def remove_activation(network: Any, *, path: Path) -> str:  # noqa: ANN401  # a keras.Model
    """Remove the last activation, so that the network gives logits; return the activation's name.

    Raises: CheckpointRefused if the last layer is neither linear nor an activation.
    """
    keras = backend("torch")
    last = network.layers[-1]
    if not isinstance(last, keras.layers.Dense | keras.layers.Activation):
        raise CheckpointRefused(f"{path}: ends in {type(last).__name__}; Dense or Activation was expected")
    name = str(last.activation.__name__)
    last.activation = keras.activations.linear
    return name


def _maps_and_head(network: Any) -> tuple[Any, list[Any]]:  # noqa: ANN401  # a symbolic tensor and layers of keras
    """Return the last feature maps and the layers between the maps and the output.

    The walk goes backward from the output: `layer.input` of a loaded network may belong to another graph.
    """
    tensor = network.outputs[0]
    layers: list[Any] = []
    while len(tensor.shape) != _RANK_OF_MAPS:
        layer, number, _ = tensor._keras_history  # noqa: SLF001  # Keras has no public name for it
        inputs = layer._inbound_nodes[number].input_tensors  # noqa: SLF001
        if len(inputs) != 1:
            raise CheckpointRefused(f"layer {layer.name}: a head with {len(inputs)} inputs has no activation map")
        tensor, layers = inputs[0], [layer, *layers]
    if tensor is network.inputs[0]:
        raise CheckpointRefused("the network has no feature maps, so it has no activation map")
    return tensor, layers


def mapped_recipe(build: Callable[[], Any], side: int, key: str, *, brightest: float = _EIGHT_BITS) -> Recipe:
    """Return the recipe of one graph of a network, its map and the map's shift; `build` is called on torch."""
    backend("torch")
    return Recipe(lambda: MappedNetwork(build(), brightest=brightest), (1, side, side, 3), f"keras placed map {key}")
