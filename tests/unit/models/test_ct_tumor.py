"""The tumor model: the body alone comes in, one softmax goes out, every slice counts once, originals load."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from unit.models.keras_programs import on_tensorflow

from ainode.models.ct_tumor import experiment
from ainode.models.ct_tumor.augment import augmented_picture
from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.ct_tumor.dataset import read_slices
from ainode.models.ct_tumor.model import TumorModel
from ainode.models.ct_tumor.phantoms import render
from ainode.models.ct_tumor.preprocess import (
    body_square,
    body_square_of_scan,
    map_on_slice_grid,
    network_input,
    windowed_slice,
)
from ainode.models.errors import CardError, CheckpointRefused, ModelError, UnusablePicture
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.running.keras_network import assign, backend, efficientnet_lite0, save_half, weights_of
from ainode.models.running.runtime import Execution
from ainode.models.running.saliency import rectified_map

LUNG, PANCREAS = read_card().organ("lung"), read_card().organ("pancreas")
_TRAIN = """
import json, sys
from pathlib import Path
from ainode.models.ct_tumor.experiment import train
from ainode.models.training.experiment import TrainingOptions
made = train(Path(sys.argv[1]), Path(sys.argv[2]), TrainingOptions(epochs=1, resume=True))
print(json.dumps({name: str(path) for name, path in made.items()}))
"""
# What the original's own framework says: probabilities, and Grad-CAM of conv5_block3_out of the class's logit.
_ORIGINAL = """
import sys
from pathlib import Path
import numpy as np
from ainode.models.running.keras_network import backend
keras = backend("tensorflow")
import tensorflow as tf
from ainode.models.ct_tumor.benchmark_keras import like_the_original
from ainode.models.ct_tumor.card import read_card
organ, folder = read_card().organ("lung"), Path(sys.argv[1])
linear = like_the_original(keras, organ)
pictures = np.load(folder / "pictures.npy")
body = keras.Model(linear.inputs, linear.get_layer("conv5_block3_out").output)
features = tf.Variable(body(pictures / 255, training=False))
tensor = keras.layers.Dense(32, activation="relu")(linear.layers[-2].output)
deeper = keras.Model(linear.input, keras.layers.Dense(3, activation="softmax")(tensor))
for head, network in {"linear": linear, "hidden layer": deeper}.items():
    spread = network.layers[-1].kernel
    spread.assign(spread * 20)
    network.save(folder / f"{head}.h5")
    after = network.layers[network.layers.index(network.get_layer("conv5_block3_out")) + 1 :]
    with tf.GradientTape() as tape:
        tensor = features
        for layer in after[:-1]:
            tensor = layer(tensor)
        logit = (tensor @ after[-1].kernel + after[-1].bias)[:, organ.positive_index]
    slope = tf.reduce_mean(tape.gradient(logit, features), axis=(1, 2), keepdims=True)
    maps = tf.reduce_sum(slope * features, axis=3)
    np.savez(folder / f"{head}.npz", answers=network.predict(pictures / 255, verbose=0), maps=maps)
"""


@cache
def a_volume(seed: int = 0, *, tumor: bool = True) -> NDArray[np.float32]:
    return abdomen(np.random.default_rng(seed), slices=12, side=160, step_mm=8, tumor=tumor).values


def random_weights(organ: Organ, path: Path) -> Path:
    """Seeded random weights whose answers differ from slice to slice."""
    backend("torch").utils.set_random_seed(3)
    network = efficientnet_lite0(organ.side, len(organ.class_names))
    # As they are drawn, the kernels let a signal die out over fifty layers.
    louder = {key: value * np.float32(2) for key, value in weights_of(network).items() if "conv/kernel" in key}
    assign(network, weights_of(network) | louder)
    square = network_input(body_square_of_scan(a_volume()[6], organ)[0][None])
    logits = network(square, training=False).detach().numpy()
    head = weights_of(network)["logits/kernel"] / np.float32(np.abs(logits).max())
    assign(network, weights_of(network) | {"logits/kernel": head})
    save_half(network, path, Calibration(1.5, 0.2, 0.4).metadata())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TumorModel:
    folder = tmp_path_factory.mktemp("tumor")
    path = random_weights(PANCREAS, folder / "random.safetensors")
    return TumorModel.load(path, PANCREAS, execution=Execution(folder / "networks", "cpu"))


def test_a_window_is_black_below_and_white_above_and_even_between() -> None:
    assert windowed_slice(np.asarray([-500, -160, 40, 240, 900], np.float32), 40, 400).tolist() == [0, 0, 128, 255, 255]


def test_a_table_and_burned_in_text_do_not_reach_the_network() -> None:
    whole = replace(PANCREAS, part=1.0)
    picture = windowed_slice(a_volume()[6], whole.level, whole.width)
    marked = picture.copy()
    cv2.putText(marked, "L 12", (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    marked[-6:-4] = 255
    assert np.array_equal(body_square(marked, whole)[0], body_square(picture, whole)[0])


def test_the_shape_of_a_picture_is_not_seen() -> None:
    picture = windowed_slice(a_volume()[6], PANCREAS.level, PANCREAS.width)
    square, wide = body_square(picture, PANCREAS)[0], body_square(np.pad(picture, ((0, 0), (48, 48))), PANCREAS)[0]
    assert np.corrcoef(square.ravel(), wide.ravel())[0, 1] > 0.95


def test_in_a_narrow_window_spine_and_ribs_are_the_body_and_the_table_is_not() -> None:
    picture = np.zeros((256, 256), np.uint8)
    cv2.ellipse(picture, (128, 110), (90, 70), 0, 0, 360, 200, 6)
    cv2.circle(picture, (128, 160), 16, 230, -1)
    alone = picture.copy()
    cv2.ellipse(picture, (128, 120), (120, 110), 0, 40, 140, 255, 2)
    square, placement = body_square(picture, LUNG)
    assert np.array_equal(square, body_square(alone, LUNG)[0])
    assert placement.side == pytest.approx(187 * 1.06, rel=0.03)


def test_a_scan_and_its_picture_are_framed_alike() -> None:
    scan = a_volume()[6]
    of_scan = body_square_of_scan(scan, PANCREAS)[1]
    of_picture = body_square(windowed_slice(scan, PANCREAS.level, PANCREAS.width), PANCREAS)[1]
    assert of_scan.side == pytest.approx(of_picture.side, rel=0.05)
    assert of_scan.left == pytest.approx(of_picture.left, abs=4)


def test_a_slice_of_air_is_no_slice_to_read(model: TumorModel) -> None:
    with pytest.raises(UnusablePicture):
        body_square_of_scan(np.full((128, 128), -1000, np.float32), PANCREAS)
    with pytest.raises(UnusablePicture, match="no slice"):
        model.read([np.full((128, 128), -1000, np.float32)])
    values = [np.full((160, 160), -1000, np.float32), *a_volume()[:2]]
    assert [one.index for one in model.read(values).slices] == [1, 2]


def test_a_map_comes_back_to_where_it_was_on_the_slice() -> None:
    scan = a_volume()[6]
    square, placement = body_square_of_scan(scan, PANCREAS)
    spot = np.zeros((7, 7), np.float32)
    spot[2, 5] = 1
    large = map_on_slice_grid(spot, placement)
    assert large.shape == scan.shape
    row, column = np.unravel_index(int(large.argmax()), large.shape)
    assert row + 0.5 == pytest.approx(placement.top + 2.5 / 7 * placement.side, abs=1)
    assert column + 0.5 == pytest.approx(placement.left + 5.5 / 7 * placement.side, abs=1)
    assert square.shape == (224, 224)


def test_an_augmented_slice_differs_and_stays_a_slice() -> None:
    square, _ = body_square_of_scan(a_volume()[6], PANCREAS)
    drawn = [augmented_picture(square, np.random.default_rng(seed)) for seed in range(4)]
    assert all(one.shape == square.shape and one.dtype == np.uint8 for one in drawn)
    assert len({one.tobytes() for one in drawn}) == 4


def test_a_study_is_the_mean_of_its_highest_slices() -> None:
    slices = np.asarray([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5], [1.0, 0.0]])
    assert Calibration(share=0.4).study(slices, 1).tolist() == pytest.approx([0.35, 0.65])
    assert Calibration(share=0.05).study(slices, 1).tolist() == pytest.approx([0.2, 0.8])


def test_the_temperature_divides_the_logits_of_one_softmax() -> None:
    logits = np.asarray([[2.0, 0.0, -2.0]])
    once = np.exp(logits / 2) / np.exp(logits / 2).sum()
    assert np.allclose(Calibration(temperature=2).probabilities(logits), once)
    assert Calibration.of(Calibration(0.7, 0.1, 0.3).metadata()) == Calibration(0.7, 0.1, 0.3)
    with pytest.raises(CheckpointRefused):
        Calibration.of({"temperature": "-1", "share": "1", "threshold": "0.5"})


def test_the_order_and_the_number_of_slices_do_not_change_a_slice(model: TumorModel) -> None:
    values = a_volume()
    forth, back = model.read(values), model.read(values[::-1])
    for one, other in zip(forth.slices, reversed(back.slices), strict=True):
        assert np.abs(one.probabilities - other.probabilities).max() < 1e-5
    assert forth.score == pytest.approx(back.score, abs=1e-5)
    alone = model.read(values[3:4]).slices[0]
    assert np.abs(alone.probabilities - forth.slices[3].probabilities).max() < 1e-4
    assert len({round(float(one.probabilities[1]), 4) for one in forth.slices}) > 4, "slices are told apart"


def test_key_slices_are_the_highest_that_lie_apart(model: TumorModel) -> None:
    found = model.read(a_volume())
    keys = found.key_slices(3, 1)
    assert keys[0].probabilities[1] == max(one.probabilities[1] for one in found.slices)
    numbers = sorted(one.index for one in keys)
    assert all(b - a >= 2 for a, b in pairwise(numbers))


def test_a_saliency_is_on_the_slices_grid_between_zero_and_one(model: TumorModel) -> None:
    saliency = model.read(a_volume()[5:6]).slices[0].saliency()
    assert saliency.shape == (160, 160)
    assert 0 <= saliency.min() <= saliency.max() <= 1


@cache
def two_squares() -> NDArray[np.uint8]:
    return np.stack([body_square_of_scan(scan, LUNG)[0] for scan in a_volume()[4:6]])


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of two networks of the original's kind and of what TensorFlow answers with them."""
    folder = tmp_path_factory.mktemp("originals")
    np.save(folder / "pictures.npy", network_input(two_squares()))
    on_tensorflow(_ORIGINAL, folder)
    return folder


@pytest.mark.parametrize("head", ["linear", "hidden layer"])
def test_an_original_h5_gives_tensorflows_answers_and_grad_cam(originals: Path, tmp_path: Path, head: str) -> None:
    squares, theirs = two_squares(), np.load(originals / f"{head}.npz")
    ours = TumorModel.load(originals / f"{head}.h5", LUNG, execution=Execution(tmp_path, "cpu"))
    assert ours.calibration == Calibration(), "its own softmax, once"
    assert np.abs(ours.probabilities(squares) - theirs["answers"]).max() < 1e-4
    reading = ours.read_pictures([windowed_slice(a_volume()[4], LUNG.level, LUNG.width)])
    assert reading.slices[0].map.shape == (7, 7)
    _, maps, _ = ours.network.run(np.repeat(network_input(squares[:1]) / np.float32(255), 8, axis=0))
    mine = maps[0, LUNG.positive_index]
    assert np.abs(rectified_map(mine) - rectified_map(theirs["maps"][0])).max() < 1e-3


def test_a_network_of_another_organ_is_refused(tmp_path: Path) -> None:
    path = random_weights(PANCREAS, tmp_path / "pancreas.safetensors")
    with pytest.raises(CheckpointRefused, match="another shape"):
        TumorModel.load(path, LUNG, execution=Execution(tmp_path, "cpu"))


def test_a_card_names_organs_that_are_possible() -> None:
    with pytest.raises(CardError, match="possible"):
        replace(LUNG, width=0)
    with pytest.raises(CardError, match="no organ named liver"):
        read_card().organ("liver")


def test_training_and_evaluation_run_on_a_dozen_pictures(tmp_path: Path) -> None:
    data = tmp_path / "data"
    render(data, PANCREAS, patients={"train": 10, "validation": 2, "test": 4})
    assert experiment.organ_of(data) == PANCREAS
    made = json.loads(on_tensorflow(_TRAIN, data, tmp_path / "out"))
    weights = {name: Path(path) for name, path in made.items()}
    assert set(weights) == {"ct_tumor/pancreas"}
    assert weights["ct_tumor/pancreas"].stat().st_size < 10_000_000
    answer = experiment.evaluate(data, weights, "test")
    assert answer.probabilities.shape == (16, 2)
    assert answer.class_names == PANCREAS.class_names
    assert len(set(answer.groups)) == 4
    assert {"shortcut: noise", "shortcut: all of these", "logistic regression on 16 x 16 pixels"} <= set(
        answer.baselines
    )
    log = json.loads((tmp_path / "out" / "log_pancreas.json").read_text())
    assert "AUC of tumor" in log["left-out slices"]


def test_a_data_set_of_other_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(ModelError, match="normal, benign, malignant"):
        experiment.organ_of(tmp_path)
    with pytest.raises(ModelError, match=r"manifest\.csv"):
        read_slices(tmp_path, "train", LUNG)
