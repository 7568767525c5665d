"""The skin model: pictures from whatever comes, one answer however it is mirrored, trained and served alike."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support import shared
from unit.models.keras_programs import on_tensorflow, seeded

from ainode.models.errors import CardError, CheckpointRefused, MissingNetwork, UnusablePicture
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.running.keras_network import assign, backend, efficientnet_lite0, save_half, weights_of
from ainode.models.running.runtime import Execution, cpu_has_bf16
from ainode.models.skin_lesion.augment import augmented_square
from ainode.models.skin_lesion.calibration import Calibration
from ainode.models.skin_lesion.card import CARD_PATH, Card, read_card
from ainode.models.skin_lesion.dataset import read_picture
from ainode.models.skin_lesion.model import SkinLesionModel
from ainode.models.skin_lesion.preprocess import SMALLEST_SIDE, network_input, resized_square, rgb

# What Keras says on TensorFlow of our network, and of two of the original's kind that it saves; one process for all.
_KERAS = """
import json, sys, numpy as np
from pathlib import Path
from ainode.models.running.keras_network import backend, efficientnet_lite0, load
from ainode.models.skin_lesion.benchmark_keras import like_the_original
keras = backend("tensorflow")
folder = Path(sys.argv[2])
logit = load(efficientnet_lite0(128, 1), Path(sys.argv[1])).predict(np.load(folder / "128.npy"), verbose=0)[0, 0]
answers = {"ours": 1 / (1 + np.exp(-float(logit)))}
for side in (128, 96):
    network = like_the_original(keras, side)
    network.save(folder / f"original{side}.h5")
    answers[f"original{side}"] = float(network.predict(np.load(folder / f"{side}.npy") / 255, verbose=0)[0, 0])
print(json.dumps(answers))
"""


def a_picture(seed: int = 0, *, rows: int = 225, columns: int = 300) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return skin_lesion(np.random.default_rng(seed), rows=rows, columns=columns)


@dataclass(frozen=True)
class Keras:
    """The probabilities of `a_picture()` by network, and the folder of the saved originals."""

    folder: Path
    answers: dict[str, float]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded random weights whose answers differ from picture to picture."""
    backend("torch")
    network = efficientnet_lite0(128, 1)
    table = seeded(weights_of(network), 2)
    assign(network, table)
    logit = float(network(network_input(a_picture(), 128), training=False).detach()[0, 0])
    table["logits/kernel"] /= np.float32(abs(logit))
    assign(network, table)
    path = tmp_path_factory.mktemp("skin") / "random.safetensors"
    save_half(network, path, Calibration(0.8, -0.1, 4, 0.4).metadata())
    return path


def a_model(path: Path, cache: Path) -> SkinLesionModel:
    return SkinLesionModel.load({read_card().network: path}, execution=Execution(cache, "cpu"))


@pytest.fixture(scope="module")
def model(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> SkinLesionModel:
    return a_model(weights, tmp_path_factory.mktemp("converted"))


@pytest.fixture(scope="module")
def keras(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Keras:
    folder = tmp_path_factory.mktemp("keras")
    for side in (128, 96):
        np.save(folder / f"{side}.npy", network_input(a_picture(), side))
    return Keras(folder, json.loads(on_tensorflow(_KERAS, weights, folder)))


def test_whatever_a_picture_comes_as_it_becomes_rgb() -> None:
    gray = np.full((100, 120), 200, np.uint8)
    assert rgb(gray).shape == (100, 120, 3)
    assert (rgb(gray[:, :, None]) == 200).all()
    assert (rgb(gray.astype(np.uint16) * 256) == 200).all()
    half = np.dstack([gray, gray, gray, np.full_like(gray, 0)])
    assert (rgb(half) == 255).all(), "what is transparent shows white"
    half[:, :, 3] = 255
    assert (rgb(half) == 200).all()
    assert (rgb(half[:, :, 2:]) == 200).all()
    color = a_picture()
    assert (rgb(color) == color).all()


@pytest.mark.parametrize("strange", [np.zeros((4, 4, 5), np.uint8), np.zeros((9, 9)), np.zeros(7, np.uint8)])
def test_what_is_no_picture_is_refused(strange: np.ndarray[Any, Any]) -> None:
    with pytest.raises(UnusablePicture):
        rgb(strange)


def test_a_picture_too_small_uniform_or_gray_is_refused() -> None:
    with pytest.raises(UnusablePicture, match="95 x 300"):
        network_input(a_picture()[:95], 128)
    with pytest.raises(UnusablePicture, match="uniform"):
        network_input(np.full((200, 200, 3), 90, np.uint8), 128)
    with pytest.raises(UnusablePicture, match="without color"):
        network_input(rgb(a_picture().mean(axis=2).astype(np.uint8)), 128)
    assert network_input(a_picture(), 128).shape == (1, 128, 128, 3)


def test_an_augmented_picture_keeps_its_lesion_and_has_no_black_corner() -> None:
    square = resized_square(a_picture(rows=300), 192)
    for seed in range(20):
        seen = augmented_square(square, 128, np.random.default_rng(seed))
        assert seen.shape == (128, 128, 3)
        assert seen.min() >= 0
        assert seen.max() <= 255
        middle = seen[48:80, 48:80].mean()
        assert seen[:8, :8].mean() > middle, "skin is lighter than the lesion, in the corners too"


def test_a_model_answers_the_same_of_a_picture_and_its_mirror(model: SkinLesionModel) -> None:
    picture = a_picture()
    one, mirrored = model.predict(picture), model.predict(np.ascontiguousarray(picture[:, ::-1]))
    assert one.probability == pytest.approx(mirrored.probability, abs=1e-4)
    assert np.abs(one.saliency - mirrored.saliency[:, ::-1]).max() < 0.02
    assert one.saliency.shape == picture.shape[:2]
    assert 0 <= one.saliency.min() <= one.saliency.max() <= 1


def test_the_calibration_of_the_file_is_applied(model: SkinLesionModel) -> None:
    found = model.predict(a_picture())
    logit = np.log(found.probability / (1 - found.probability))
    assert found.calibrated == pytest.approx(1 / (1 + np.exp(-(0.8 * logit - 0.1))), abs=1e-6)


def test_the_served_probability_is_that_of_keras_predict(model: SkinLesionModel, keras: Keras) -> None:
    expected = keras.answers["ours"]
    served = replace(model, calibration=Calibration()).predict(a_picture())
    assert served.probability == pytest.approx(expected, abs=0.005)
    assert 0.02 < expected < 0.98, "a saturated answer would agree with anything"


def test_serving_imports_no_tensorflow(weights: Path, tmp_path: Path) -> None:
    program = """
import sys, numpy as np
from pathlib import Path
from ainode.models.skin_lesion.model import SkinLesionModel
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.running.runtime import Execution
model = SkinLesionModel.load({"efficientnet_lite0": Path(sys.argv[1])}, execution=Execution(Path(sys.argv[2]), "cpu"))
model.predict(skin_lesion(np.random.default_rng(0)))
print("tensorflow" in sys.modules)
"""
    assert on_tensorflow(program, weights, tmp_path) == "False"


def test_an_original_file_is_served_as_keras_predicts_it(keras: Keras, tmp_path: Path) -> None:
    found = a_model(keras.folder / "original128.h5", tmp_path).predict(a_picture())
    assert found.probability == pytest.approx(keras.answers["original128"], abs=1e-5)
    assert found.calibrated == found.probability
    assert found.saliency.max() <= 1
    assert found.saliency.shape == (225, 300)


def test_an_original_of_another_size_is_refused(keras: Keras, tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match="96"):
        a_model(keras.folder / "original96.h5", tmp_path)


def test_no_network_and_impossible_calibrations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingNetwork):
        SkinLesionModel.load({}, execution=Execution(tmp_path))
    with pytest.raises(CheckpointRefused):
        Calibration(slope=-1.0)
    with pytest.raises(CheckpointRefused, match="not whole"):
        Calibration.of({"slope": "1.0"})
    assert Calibration.of(Calibration(2.0, 0.5, 4, 0.3).metadata()) == Calibration(2.0, 0.5, 4, 0.3)


@pytest.mark.skipif(not cpu_has_bf16(), reason="this processor has no bf16")
def test_bf16_is_served_only_where_it_agrees(weights: Path, tmp_path: Path) -> None:
    try:
        model = SkinLesionModel.load({read_card().network: weights}, execution=Execution(tmp_path, "cpu", "bf16"))
    except ValueError as error:
        assert "use f32" in str(error)  # noqa: PT017  # either answer is right; a third is not
    else:
        assert model.network.run.precision == "bf16"


def test_the_real_dermoscopies_of_isic_can_be_read() -> None:
    for path in sorted(shared("data/dicom/vl_dermoscopy/isic").glob("*.jpg")):
        assert network_input(read_picture(path), 128).shape == (1, 128, 128, 3)


def test_the_card_says_what_the_model_needs(tmp_path: Path) -> None:
    card = read_card()
    assert isinstance(card, Card)
    assert card.side == 128
    assert card.smallest_side == SMALLEST_SIDE
    broken = tmp_path / "card.toml"
    broken.write_text(CARD_PATH.read_text("utf-8").replace("version = ", "edition = "), "utf-8")
    with pytest.raises(CardError, match="no entry 'version'"):
        read_card(broken)


def test_a_malignant_phantom_is_more_ragged_than_a_benign_one() -> None:
    def border(*, malignant: bool) -> float:
        picture = skin_lesion(np.random.default_rng(4), rows=300, columns=400, malignant=malignant)
        _, dark = cv2.threshold(cv2.GaussianBlur(picture[:, :, 1], (0, 0), 4), 130, 255, cv2.THRESH_BINARY_INV)
        outline = max(cv2.findContours(dark, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=cv2.contourArea)
        return cv2.arcLength(outline, closed=True) ** 2 / cv2.contourArea(outline)

    assert border(malignant=True) > border(malignant=False)
