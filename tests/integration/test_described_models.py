"""Networks of a site, described by a model.toml, read by a real reader process: the answers of the plain framework."""

import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from support.described import DESCRIPTION, DescribedNode, onnx_file, script_file, small_network, write_model
from support.programs import Site, shell
from torch import nn

from ainode.handlers.described.description import read_description
from ainode.handlers.described.pictures import prepared
from ainode.models.running.keras_network import backend
from ainode.models.running.torchvision_compat import ensure_nms
from ainode.node import testing
from ainode.node.domain import Result
from ainode.node.encoding import headers
from ainode.node.reading import confinement, described


@pytest.fixture
def chest(tmp_path: Path) -> tuple[Path, ...]:
    return testing.write([testing.noise(200, 160, BodyPartExamined="CHEST")], tmp_path / "study", study="study")


def _expected(folder: Path, chest: tuple[Path, ...], network: nn.Module) -> NDArray[np.float32]:
    """Return the probabilities of the plain module on the array that the handler makes of the image."""
    description = read_description(described.described("bright", folder / "models"))
    inputs, _ = prepared(headers.instance(chest[0], sha256=""), description.input)
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(inputs)).softmax(dim=1)[0].numpy())


def _probabilities(result: object) -> list[float]:
    assert isinstance(result, Result)
    return [result.scores["image 1 normal"], result.scores["image 1 fracture"]]


def test_an_onnx_network_reads_an_image_as_torch_does_in_a_node_that_serves_which_hides_the_rest_of_its_data(
    tmp_path: Path,
) -> None:
    network = small_network()
    write_model(tmp_path / "models", "bright", onnx_file(network, tmp_path / "net.onnx"))
    chest = testing.write([testing.noise(200, 160, BodyPartExamined="CHEST")], tmp_path / "spool", study="study")
    result = DescribedNode(tmp_path, chest, is_serving=True).read("bright").answer
    np.testing.assert_allclose(_probabilities(result), _expected(tmp_path, chest, network), atol=1e-5)
    assert isinstance(result, Result)
    (finding,) = result.findings
    assert finding.concept.value == "125605004"
    assert finding.verdict is not None
    assert finding.verdict.threshold == 0.5
    assert (result.algorithm.version, result.algorithm.weights_status) == ("3", "site")
    assert result.algorithm.not_for == ("anybody",)
    parameters = dict(result.algorithm.parameters)
    assert (parameters["fracture threshold"], parameters["saliency"]) == ("0.5", "activation map")


@pytest.mark.skipif(bool(confinement.missing()), reason="; ".join(confinement.missing()))
def test_a_network_in_the_place_of_a_program_reads_in_a_process_that_is_confined(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.program(shell("echo '{}' > $out/result.json"))
    assert isinstance(site.read().answer, Result)
    write_model(tmp_path / "models", "tool", onnx_file(small_network(), tmp_path / "net.onnx"))
    assert isinstance(site.read(testing.noise(200, 160, BodyPartExamined="CHEST")).answer, Result)
    (process,) = (child for child in psutil.Process().children() if "serving" in " ".join(child.cmdline()))
    assert "NoNewPrivs:\t1" in Path(f"/proc/{process.pid}/status").read_text("ascii")
    site.close()


def test_a_torchscript_network_reads_an_image_as_torch_does(tmp_path: Path, chest: tuple[Path, ...]) -> None:
    network = small_network(1)
    write_model(tmp_path / "models", "bright", script_file(network, tmp_path / "net.pt"), kind="torchscript")
    result = DescribedNode(tmp_path, chest).read("bright").answer
    np.testing.assert_allclose(_probabilities(result), _expected(tmp_path, chest, network), atol=1e-5)
    assert isinstance(result, Result)
    assert dict(result.algorithm.parameters)["saliency"] == "occlusion"


def test_weights_of_an_architecture_of_timm_read_an_image_as_timm_does(tmp_path: Path, chest: tuple[Path, ...]) -> None:
    ensure_nms()
    import timm

    torch.manual_seed(2)
    network = timm.create_model("mobilenetv3_small_050", num_classes=2).eval()
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    text = DESCRIPTION.replace("[takes]", 'architecture = "mobilenetv3_small_050"\n\n[takes]')
    write_model(tmp_path / "models", "bright", tmp_path / "net.safetensors", text, kind="safetensors")
    result = DescribedNode(tmp_path, chest).read("bright").answer
    np.testing.assert_allclose(_probabilities(result), _expected(tmp_path, chest, network), atol=1e-4)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_network_reads_an_image_as_keras_does(tmp_path: Path, chest: tuple[Path, ...], suffix: str) -> None:
    keras = backend("torch")
    keras.utils.set_random_seed(3)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((64, 48, 3)),
            layers.Conv2D(8, 3, 2, "same", activation="relu"),
            layers.Conv2D(12, 3, 2, "same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of .h5 Keras says that .keras is newer
        network.save(tmp_path / f"net{suffix}")
    text = DESCRIPTION.replace("channels = 3", 'channels = 3\nlayout = "channels_last"').replace(
        'activation = "softmax"', 'activation = "none"'
    )
    write_model(tmp_path / "models", "bright", tmp_path / f"net{suffix}", text, kind="keras")
    node = DescribedNode(tmp_path, chest)
    # A process of its own once: the forms differ in how Keras opens the file.
    result = node.read("bright").answer if suffix == ".keras" else node.answer("bright")
    description = read_description(described.described("bright", tmp_path / "models"))
    inputs, _ = prepared(headers.instance(chest[0], sha256=""), description.input)
    expected = network(inputs).detach().numpy()[0]
    np.testing.assert_allclose(_probabilities(result), expected, atol=1e-4)
    assert isinstance(result, Result)
    assert dict(result.algorithm.parameters)["saliency"] == "activation map"
