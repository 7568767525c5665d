"""The spine read as a whole: one pass, one map, one threshold, boxes on the source grid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from support.letterbox import on_input
from unit.models.random_weights import RandomModel

from ainode.models.errors import CardError, CheckpointRefused, MissingNetwork, UnusablePicture
from ainode.models.phantoms.spine import spine_radiograph
from ainode.models.running.precision import CHOICES
from ainode.models.running.runtime import AGREEMENT, Execution, OpenVinoRunner, cpu_has_bf16, precisions, runner
from ainode.models.running.saliency import rectified_map, weighted_map
from ainode.models.spine_radiograph.card import read_card
from ainode.models.spine_radiograph.detector import Detector, suppressed_boxes
from ainode.models.spine_radiograph.detector_network import yolo
from ainode.models.spine_radiograph.model import SpineRadiographModel, ensemble_recipe, sigmoid
from ainode.models.spine_radiograph.network import MappedClassifier, classifier
from ainode.models.spine_radiograph.preprocess import classifier_input, letterbox


def _picture(seed: int = 0, *, abnormal: bool | None = None) -> NDArray[np.float32]:
    drawn = spine_radiograph(np.random.default_rng(seed), rows=480, columns=360, abnormal=abnormal)
    return drawn.image.astype(np.float32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def model(random_model: RandomModel, cache: Path) -> SpineRadiographModel:
    return SpineRadiographModel.load(random_model.paths, execution=Execution(cache, "cpu"), card=random_model.card)


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [("densenet121", "features.norm5"), ("tf_efficientnetv2_b0", "bn2"), ("resnet18", "layer4")],
)
def test_the_map_of_the_forward_pass_is_monais_grad_cam(architecture: str, layer: str) -> None:
    torch.manual_seed(2)
    network = classifier(architecture).eval()
    # MONAI looks for torchvision once, when it is imported; the classifier has made it importable.
    from monai.visualize import GradCAM

    picture = torch.rand(1, 3, 96, 96)
    grad_cam = GradCAM(
        network, target_layers=layer, upsampler=lambda _: torch.nn.Identity(), postprocessing=lambda x: x
    )
    with torch.enable_grad():
        reference = grad_cam(picture.requires_grad_(), class_idx=0)[0, 0].detach().numpy()
    with torch.inference_mode():
        logit, own = MappedClassifier(network)(picture)
        assert logit.item() == pytest.approx(network(picture).item(), abs=1e-5)
    assert np.allclose(rectified_map(own[0].numpy()), rectified_map(reference), atol=1e-4)


def test_openvino_gives_torchs_probabilities_within_half_a_percent(
    random_model: RandomModel, model: SpineRadiographModel
) -> None:
    eager = SpineRadiographModel.load(
        random_model.paths, execution=Execution(Path(), "torch-cpu"), card=random_model.card
    )
    for seed in range(3):
        ours, theirs = model.predict(_picture(seed)), eager.predict(_picture(seed))
        assert ours.probability == pytest.approx(theirs.probability, abs=0.005)
        assert np.abs(ours.saliency - theirs.saliency).max() < 0.01


def test_bf16_is_taken_only_when_it_agrees(random_model: RandomModel, cache: Path) -> None:
    if not cpu_has_bf16():
        pytest.skip("this processor has no bfloat16")
    asked = SpineRadiographModel.load(
        random_model.paths, execution=Execution(cache, "cpu", "bf16"), card=random_model.card
    )
    assert asked.precision == "bf16"


def test_auto_keeps_a_choice_for_the_ensemble_and_one_for_the_detector(
    random_model: RandomModel, tmp_path: Path
) -> None:
    execution = Execution(tmp_path, "cpu", "auto")
    first = SpineRadiographModel.load(random_model.paths, execution=execution, card=random_model.card)
    kept = {(entry := json.loads(path.read_text()))["name"]: entry for path in (tmp_path / CHOICES).iterdir()}
    assert {name: entry["precision"] for name, entry in kept.items()} == {
        "spine_radiograph": first.precision,
        "spine_radiograph detector": first.detector_precision,
    }
    for entry in kept.values():
        gaps = {candidate["precision"]: candidate["largest_gap"] for candidate in entry["candidates"]}
        assert tuple(gaps) == precisions()  # no int8 graph was made of it
        assert gaps["f32"] == 0.0
        assert gaps[entry["precision"]] <= AGREEMENT


def test_the_probability_is_the_weighted_mean_of_the_networks(model: SpineRadiographModel) -> None:
    answer = model.predict(_picture())
    mean = sum(network.weight * answer.per_network[network.name] for network in model.card.networks)
    assert answer.probability == pytest.approx(mean)


def test_abnormal_is_strictly_above_the_threshold_and_only_then_are_there_boxes(model: SpineRadiographModel) -> None:
    asked: list[float] = []

    def run(_: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(1)
        return np.asarray([[[80.0], [80.0], [40.0], [20.0], *[[0.9]] * 7]], np.float32)

    detector = replace(model.detector, run=run)
    probability = model.predict(_picture()).probability
    below = replace(model, card=replace(model.card, threshold=probability), detector=detector)
    assert not below.predict(_picture()).abnormal
    assert below.predict(_picture()).boxes == ()
    assert not asked
    above = replace(model, card=replace(model.card, threshold=probability - 1e-6), detector=detector)
    assert above.predict(_picture()).abnormal
    assert len(above.predict(_picture()).boxes) == 1


def test_the_map_is_on_the_source_grid_between_zero_and_one(model: SpineRadiographModel) -> None:
    saliency = model.predict(_picture()).saliency
    assert saliency.shape == (480, 360)
    assert saliency.dtype == np.float32
    assert 0 <= saliency.min() <= saliency.max() <= 1


def test_the_ensembles_map_is_the_weighted_mean_of_the_members_maps() -> None:
    maps = np.asarray([[[0, 4.0]], [[2.0, -8.0]]], np.float32)
    assert np.allclose(weighted_map(maps, (0.75, 0.25)), [[1 / 3, 1]])
    assert weighted_map(-np.abs(maps), (0.5, 0.5)).max() == 0


def test_a_missing_network_is_an_error_and_never_left_out(random_model: RandomModel, cache: Path) -> None:
    for name in random_model.paths:
        rest = {key: path for key, path in random_model.paths.items() if key != name}
        with pytest.raises(MissingNetwork, match=name):
            SpineRadiographModel.load(rest, execution=Execution(cache), card=random_model.card)


def test_a_network_with_one_weight_missing_is_refused(random_model: RandomModel, cache: Path, tmp_path: Path) -> None:
    table = load_file(random_model.paths["a"])
    table.pop("fc.weight")
    save_file(table, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointRefused, match="1 missing"):
        SpineRadiographModel.load(
            random_model.paths | {"a": tmp_path / "a.safetensors"},
            execution=Execution(cache, "cpu"),
            card=random_model.card,
        )


def test_an_ensemble_whose_weights_do_not_sum_to_one_is_refused(random_model: RandomModel) -> None:
    with pytest.raises(CardError, match="sum to 1"):
        replace(random_model.card, networks=random_model.card.networks[:1])


def test_an_unusable_picture_is_refused_with_its_reason(model: SpineRadiographModel) -> None:
    with pytest.raises(UnusablePicture, match="uniform"):
        model.predict(np.full((400, 400), 7, np.float32))


def test_the_openvino_precision_is_the_one_asked_for(random_model: RandomModel, cache: Path) -> None:
    recipe = ensemble_recipe(random_model.card, random_model.paths, dict.fromkeys(random_model.paths, "x"))
    ready = runner(recipe, Execution(cache, "cpu"))
    assert isinstance(ready, OpenVinoRunner)
    assert ready.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


def test_an_unknown_device_is_refused(random_model: RandomModel, cache: Path) -> None:
    recipe = ensemble_recipe(random_model.card, random_model.paths, dict.fromkeys(random_model.paths, "x"))
    with pytest.raises(ValueError, match="tpu"):
        runner(recipe, Execution(cache, "tpu"))


def _raw(score: float, box: tuple[float, float, float, float], kind: int = 2) -> NDArray[np.float32]:
    raw = np.zeros((1, 11, 3), np.float32)
    raw[0, :4, 1] = box
    raw[0, 4 + kind, 1] = score
    return raw


def test_a_box_comes_back_on_the_source_grid() -> None:
    source = np.asarray([[100, 200, 180, 260]], np.float32)
    pixels = np.random.default_rng(0).random((800, 400), dtype=np.float32)
    x0, y0, x1, y1 = on_input(source, letterbox(pixels, 320)[1])[0]
    raw = _raw(0.8, ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0))
    (box,) = Detector(lambda _: raw, read_card().detector.class_names, 320, (0.25,), 0.7)(pixels)
    assert box.class_name == "Surgical implant"
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx(tuple(source[0]), abs=0.05)


@pytest.mark.parametrize(("score", "count"), [(0.3, 1), (0.2, 2), (0.1, 1)])
def test_the_lower_confidence_is_tried_only_when_nothing_was_found(score: float, count: int) -> None:
    raw = _raw(score, (160, 160, 40, 20))
    raw[0, 4, 2], raw[0, :4, 2] = 0.16, (60, 60, 20, 20)
    pixels = np.random.default_rng(0).random((320, 320), dtype=np.float32)
    found = Detector(lambda _: raw, read_card().detector.class_names, 320, (0.25, 0.15), 0.7)(pixels)
    assert len(found) == count


def test_overlapping_boxes_of_one_class_become_one_and_of_two_classes_stay_two() -> None:
    raw = np.zeros((11, 2), np.float32)
    raw[:4] = np.asarray([[50, 50, 20, 20], [51, 50, 20, 20]]).T
    raw[4, 0], raw[4, 1] = 0.9, 0.8
    assert len(suppressed_boxes(raw, 0.25, 0.7)[0]) == 1
    raw[4, 1], raw[5, 1] = 0, 0.8
    assert len(suppressed_boxes(raw, 0.25, 0.7)[0]) == 2


def test_probabilities_do_not_overflow() -> None:
    assert sigmoid(np.asarray([-50, 0, 50], np.float32)) == pytest.approx([0, 0.5, 1])


def test_a_padded_input_maps_back_to_the_whole_source(random_model: RandomModel, cache: Path) -> None:
    padded = replace(random_model.card, resize="pad")
    model = SpineRadiographModel.load(random_model.paths, execution=Execution(cache, "cpu"), card=padded)
    assert model.predict(_picture()).saliency.shape == (480, 360)
    assert classifier_input(_picture(), 224, "pad")[0, 0, 100, 0] == 0
    assert json.dumps(dict(model.weights_sha256))


def test_building_the_detector_leaves_pillow_as_it_was() -> None:
    from PIL import Image

    yolo("yolo11n", 2)
    assert Image.open.__module__ == "PIL.Image"
