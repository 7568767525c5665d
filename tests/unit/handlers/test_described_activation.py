"""What makes probabilities of a network's answers, once: the network itself, or the description."""

import json
from collections import defaultdict
from pathlib import Path
from zipfile import ZipFile

import pytest
from support import installed

installed("openvino", "torch")

from support.described import DESCRIPTION, DescribedNode, onnx_file, script_file, small_network, write_model  # noqa: E402
from torch import nn  # noqa: E402

from ainode.handlers.described.drafting import draft  # noqa: E402
from ainode.models.described.facts import facts  # noqa: E402
from ainode.node.errors import ConfigError, WeightsError  # noqa: E402
from ainode.node.reading import registry  # noqa: E402

DIGESTS: dict[str, str] = defaultdict(str)
ENDS = {"Sigmoid": nn.Sigmoid(), "Softmax": nn.Softmax(dim=1), "": nn.Identity()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a network of two answers for each end, '' for one that ends in a layer."""
    folder = tmp_path_factory.mktemp("ends")
    return {
        name: onnx_file(nn.Sequential(small_network(), end).eval(), folder / f"end{name}.onnx")
        for name, end in ENDS.items()
    }


@pytest.mark.parametrize("end", ["Sigmoid", "Softmax"])
def test_a_draft_sees_that_a_network_answers_with_probabilities(files: dict[str, Path], end: str) -> None:
    text = draft(files[end], "classify", DIGESTS).text
    assert f'activation = "none"  # the file ends in {end}: it answers with probabilities' in text


def test_a_draft_asks_whether_several_answers_exclude_each_other(files: dict[str, Path]) -> None:
    assert (
        'activation = "TODO: softmax where one of them alone is there, sigmoid'
        in draft(files[""], "classify", DIGESTS).text
    )


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("end", ["Sigmoid", "Softmax"])
def test_a_second_activation_of_probabilities_is_refused_by_the_check(
    tmp_path: Path, files: dict[str, Path], end: str, activation: str
) -> None:
    text = DESCRIPTION.replace('activation = "softmax"', f'activation = "{activation}"')
    write_model(tmp_path / "models", "twice", files[end], text)
    with pytest.raises(ConfigError, match=rf"the file ends in {end}, so it answers with probabilities; \"none\""):
        registry.handler("twice", DescribedNode(tmp_path, ()).environment)


def test_an_activation_of_plain_numbers_and_none_of_probabilities_are_taken(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    write_model(tmp_path / "models", "plain", files[""])
    write_model(tmp_path / "models", "ready", files["Sigmoid"], DESCRIPTION.replace('"softmax"', '"none"'))
    for name in ("plain", "ready"):
        assert registry.handler(name, DescribedNode(tmp_path, ()).environment)


def test_the_end_of_a_keras_file_is_told_as_well(tmp_path: Path) -> None:
    layers = [{"class_name": "Dense", "config": {"units": 2, "activation": end}} for end in ("relu", "softmax")]
    with ZipFile(path := tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
    assert facts(path).probable_end() == "softmax"


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_second_activation_of_a_script_is_refused_where_the_script_is_opened(tmp_path: Path, activation: str) -> None:
    script = script_file(nn.Sequential(small_network(), nn.Sigmoid()).eval(), tmp_path / "net.pt")
    text = DESCRIPTION.replace('activation = "softmax"', f'activation = "{activation}"')
    write_model(tmp_path / "models", "twice", script, text, kind="torchscript")
    handler = registry.handler("twice", DescribedNode(tmp_path, ()).environment)
    with pytest.raises(WeightsError, match=r'twice: net\.pt: its answers lie between 0 and 1.*activation = "none"'):
        handler.prepare()
