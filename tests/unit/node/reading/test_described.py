"""What the node itself reads of a site's model.toml: names, weights, and what it refuses."""

from pathlib import Path

import pytest
from support.described import DESCRIPTION, write_model

from ainode.node.domain import WeightsStatus
from ainode.node.errors import ConfigError, WeightsError
from ainode.node.reading import described, registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore


@pytest.fixture
def models(tmp_path: Path) -> Path:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"network")
    write_model(tmp_path / "models", "hip", file)
    return tmp_path / "models"


def _store(models: Path) -> WeightStore:
    return WeightStore(models.parent / "weights", models.parent / "shipped", models)


def test_a_described_model_is_an_entry_of_the_weights(models: Path) -> None:
    entry = _store(models).entry("hip")
    assert (entry.model, entry.version, entry.status) == ("hip", "3", WeightsStatus.SITE)
    assert _store(models).verified("hip") == models / "hip" / "net.onnx"
    assert [other.name for other in _store(models).entries()] == ["hip"]


def test_a_changed_threshold_is_another_model(models: Path) -> None:
    before = _store(models).digest(("hip",))
    path = models / "hip" / "model.toml"
    path.write_text(path.read_text().replace("threshold = 0.5", "threshold = 0.6"))
    assert _store(models).digest(("hip",)) != before


def test_a_file_with_other_bytes_than_described_is_refused(models: Path) -> None:
    (models / "hip" / "net.onnx").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"net\.onnx has sha256 .*, model\.toml says .*; restore the file"):
        _store(models).verified("hip")


def test_a_description_that_is_wrong_leaves_the_other_weights_alone(models: Path) -> None:
    write_model(models, "knee", models / "hip" / "net.onnx", DESCRIPTION.replace('title = "Bright or dark"\n', ""))
    assert [entry.name for entry in _store(models).entries()] == ["hip"]
    with pytest.raises(WeightsError, match=r"knee/model\.toml: title is missing"):
        _store(models).entry("knee")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"classify"', '"classifier"', r"handler = 'classifier'; it is one of classify"),
        ('format = "onnx"', 'format = "pickle"', r"\[file\]: format = 'pickle'; it is one of onnx"),
        ('path = "net.onnx"', 'path = "../../secret"', "a file inside the folder of the model is needed"),
        ('path = "net.onnx"', 'path = "/etc/passwd"', "a file inside the folder of the model is needed"),
        ("sha256 = ", 'sha256 = "12" # ', "64 hexadecimal digits are needed"),
        ('version = "3"', 'version = "TODO: which?"', r'line 4: version = "TODO: which\?"; write the answer there'),
        ('version = "3"', "version = 3", "version = 3; a text is needed"),
        ('version = "3"', "version = [", "cannot be read as TOML"),
    ],
)
def test_a_fault_of_the_description_is_named(models: Path, old: str, new: str, words: str) -> None:
    path = models / "hip" / "model.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=words):
        described.described("hip", models)


def test_a_link_out_of_the_folder_is_refused(models: Path) -> None:
    (models / "hip" / "net.onnx").unlink()
    (models.parent / "other").write_bytes(b"network")
    (models / "hip" / "net.onnx").symlink_to(models.parent / "other")
    with pytest.raises(ConfigError, match="it leads out of the folder of the model by a link"):
        described.described("hip", models)


def test_a_handler_is_found_by_the_name_of_a_described_model(models: Path) -> None:
    registry.refuse_unknown("hip", models)
    assert registry.module("hip", models).__name__ == "ainode.handlers.classify"
    environment = ModelEnvironment(_store(models), models.parent / "cache")
    handler = registry.handler("hip", environment)
    assert registry.needs("hip", handler).weights == ("hip",)
    with pytest.raises(ConfigError, match=r"no handler is named 'knee'; give one of .*hip.*/models; --config names"):
        registry.refuse_unknown("knee", models)
    with pytest.raises(ConfigError, match=r"a model that `ainode model new` described$"):
        registry.refuse_unknown("knee")


def test_the_handlers_of_descriptions_are_no_handlers_by_themselves() -> None:
    assert not {"classify", "described"} & set(registry.names())


@pytest.mark.parametrize("name", ["skin_lesion", "classify", "Hip", "../hip", "h" * 41, ""])
def test_a_name_of_a_handler_or_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"is no name of a model|that ships is named"):
        described.refuse_name(name, registry.names())
    described.refuse_name("knee", registry.names())
