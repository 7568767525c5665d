"""Tumor of the pancreas: the picture and its frame, places that stay, agreement of slices, sizes, phases, figures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support.bodies import enhanced
from support.files import shared
from torch import Tensor, nn

from ainode.models.errors import ModelError, UnusablePicture
from ainode.models.pancreas_tumor.augment import varied
from ainode.models.pancreas_tumor.baselines import Prior
from ainode.models.pancreas_tumor.card import Marking, read_card
from ainode.models.pancreas_tumor.dataset import FOLDS, Slices, left_out, slices_of_part
from ainode.models.pancreas_tumor.enhancement import enhancement
from ainode.models.pancreas_tumor.evaluation import drawn_of, evaluation_of
from ainode.models.pancreas_tumor.model import PancreasModel, grouped
from ainode.models.pancreas_tumor.network import STRIDE, PancreasNetwork
from ainode.models.pancreas_tumor.preprocess import (
    COLUMNS,
    ROWS,
    SIDE,
    body_box,
    frame_of,
    framed,
    on_picture,
    slice_picture,
    squared,
)
from ainode.models.pancreas_tumor.regions import agreed, center_of, dice, long_axis_mm, regions_of
from ainode.models.pancreas_tumor.training import Material, trained
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import TrainingOptions, write_evaluation

MARKING = Marking(least_peak=0.3, share_of_peak=0.5, least_mm=5.0, least_mm2=40.0, most_regions=2)


class Bright(nn.Module):
    """A network that calls what is nearly white a tumor."""

    def forward(self, pictures: Tensor) -> Tensor:
        coarse = nn.functional.avg_pool2d(pictures, STRIDE)
        return torch.cat([(coarse - 2.0) * 20, torch.zeros_like(coarse)], dim=1)


def model_of(network: nn.Module, cache: Path) -> PancreasModel:
    execution = Execution(cache, device="torch-cpu")
    return PancreasModel.of(lambda: network, "drawn", execution=execution, card=read_card())  # type: ignore[arg-type, return-value]


def a_body(count: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Return slices of an oval body of soft tissue in air, above a table."""
    y, x = np.mgrid[:rows, :columns]
    body = ((y - rows / 2) / (0.33 * rows)) ** 2 + ((x - columns / 2) / (0.44 * columns)) ** 2 < 1
    values = np.where(body, 50, -1000).astype(np.float32)
    values[int(0.92 * rows) : int(0.93 * rows)] = 100
    return np.repeat(values[None], count, axis=0)


def with_cross(values: NDArray[np.float32], slices: slice, row: int, column: int, arm: int) -> NDArray[np.float32]:
    changed = values.copy()
    half = max(2, arm // 3)
    changed[slices, row - arm : row + arm + 1, column - half : column + half + 1] = 300
    changed[slices, row - half : row + half + 1, column - arm : column + arm + 1] = 300
    return changed


def test_the_picture_is_the_window_of_the_training_pictures() -> None:
    values = np.full((512, 512), -1000, np.float32)
    values[:256], values[256:, :256] = 40, 500
    picture = slice_picture(values)
    assert picture.shape == (SIDE, SIDE)
    assert (picture[10, 10], picture[200, 10], picture[200, 200]) == (128, 255, 0)


def test_the_box_of_the_body_leaves_the_table_out_also_where_the_window_makes_fat_black() -> None:
    picture = slice_picture(a_body(1, 256, 256)[0])
    box = body_box(picture)
    assert box is not None
    assert np.abs(np.array(box) - (15, 43, 241, 213)).max() <= 2
    y, x = np.mgrid[:256, :256]
    radius = np.sqrt(((y - 128) / 84) ** 2 + ((x - 128) / 112) ** 2)
    skin_and_organs = np.where((radius < 0.7) | ((radius > 0.97) & (radius < 1)), picture, 0).astype(np.uint8)
    thin = body_box(skin_and_organs)
    assert thin is not None
    assert np.abs(np.array(thin) - box).max() <= 4


def test_an_empty_picture_and_a_thin_limb_have_no_body() -> None:
    assert body_box(np.zeros((SIDE, SIDE), np.uint8)) is None
    limb = np.zeros((SIDE, SIDE), np.uint8)
    limb[100:150, 100:150] = 120
    assert body_box(limb) is None


def test_what_a_frame_shows_returns_to_its_place() -> None:
    picture = np.zeros((SIDE, SIDE), np.float32)
    picture[100:110, 130:142] = 1
    frame = frame_of((20, 40, 236, 210))
    seen = framed(picture, frame)
    assert seen.shape == (ROWS, COLUMNS)
    back = on_picture(np.asarray(seen, np.float32), frame)
    assert np.argwhere(back > 0.5).mean(axis=0) == pytest.approx((104.5, 135.5), abs=0.3)
    assert back.sum() == pytest.approx(picture.sum(), rel=0.05)


@pytest.mark.parametrize(
    ("rows", "columns", "spacing"),
    [(256, 256, (5.0, 1.5, 1.5)), (512, 512, (5.0, 0.75, 0.75)), (300, 420, (5.0, 1.2, 1.0))],
)
def test_a_cross_in_the_slices_is_marked_at_its_place(
    tmp_path: Path, rows: int, columns: int, spacing: tuple[float, float, float]
) -> None:
    row, column, arm = round(0.45 * rows), round(0.55 * columns), rows // 14
    values = with_cross(a_body(8, rows, columns), slice(3, 6), row, column, arm)
    prediction = model_of(Bright(), tmp_path).predict(values, spacing)
    (region,) = prediction.regions
    assert 3 <= prediction.key_slice(region) <= 5
    mask = prediction.mask_on(region, 4)
    assert mask.shape == (rows, columns)
    assert np.argwhere(mask).mean(axis=0) == pytest.approx((row, column), abs=0.006 * rows)
    assert set(prediction.slices_of(region)) <= set(range(2, 7))


def test_a_mark_on_a_single_slice_does_not_agree_with_its_neighbors(tmp_path: Path) -> None:
    values = with_cross(a_body(9, 256, 256), slice(4, 5), 115, 140, 12)
    assert model_of(Bright(), tmp_path).predict(values, (2.5, 1.5, 1.5)).regions == ()


def test_of_thin_slices_the_means_of_groups_are_read(tmp_path: Path) -> None:
    values = with_cross(a_body(21, 256, 256), slice(8, 16), 115, 140, 18)
    prediction = model_of(Bright(), tmp_path).predict(values, (1.0, 1.5, 1.5))
    assert prediction.group == 2
    assert len(prediction.probabilities) == 10
    (region,) = prediction.regions
    assert 8 <= prediction.key_slice(region) <= 15
    assert not prediction.mask_on(region, 20).any()
    (mean,) = grouped(np.stack([np.zeros((2, 2)), np.full((2, 2), 4)]).astype(np.float32), 2)
    assert (mean == 2).all()


def test_values_that_are_not_finite_and_slices_without_a_body_are_refused(tmp_path: Path) -> None:
    model = model_of(Bright(), tmp_path)
    with pytest.raises(UnusablePicture, match="not finite"):
        model.predict(np.full((4, 64, 64), np.nan, np.float32), (5.0, 1.0, 1.0))
    with pytest.raises(UnusablePicture, match="no slice shows a body"):
        model.predict(np.full((4, 64, 64), -1000, np.float32), (5.0, 1.0, 1.0))


def test_the_regions_are_the_largest_sums_and_no_more_than_the_card_says() -> None:
    maps = np.zeros((6, 64, 64), np.float32)
    for column, high, size in ((8, 0.9, 4), (28, 0.9, 8), (48, 0.95, 6)):
        maps[1:5, 30 : 30 + size, column : column + size] = high
    regions = regions_of(maps, MARKING, (2.5, 1.5, 1.5))
    assert [round(float(np.argwhere(region.mask)[:, 2].mean()), 1) for region in regions] == [31.5, 50.5]
    assert regions[0].summed > regions[1].summed
    assert not (regions[0].mask & regions[1].mask).any()


def test_the_longest_axis_of_a_square_is_its_diagonal_and_of_a_pixel_the_diagonal_of_the_pixel() -> None:
    mask = np.zeros((40, 40), bool)
    mask[10:20, 10:20] = True
    assert long_axis_mm(mask, (0.8, 0.8)) == pytest.approx(8 * np.sqrt(2))
    mask[:] = False
    mask[3, 4] = True
    assert long_axis_mm(mask, (3.0, 4.0)) == pytest.approx(5)
    assert long_axis_mm(np.zeros((4, 4), bool), (1.0, 1.0)) == 0


def test_the_middle_of_a_bent_region_lies_in_the_region() -> None:
    mask = np.zeros((30, 30), bool)
    mask[5:25, 5:8] = mask[5:25, 22:25] = mask[22:25, 5:25] = True
    row, column = center_of(mask, mask.astype(np.float32))
    assert mask[round(row), round(column)]


def test_dice_counts_both_masks() -> None:
    first, second = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert dice(first, second) == 1
    first[0], second[0, :2] = True, True
    assert dice(first, second) == pytest.approx(2 * 2 / 6)


def a_scan(aorta: float, liver: float) -> tuple[list[NDArray[np.float32]], list[tuple[int, int, int, int] | None]]:
    planes = list(enhanced(aorta, liver, slices=4))
    return planes, [body_box(slice_picture(plane)) for plane in planes]


@pytest.mark.parametrize(("aorta", "liver"), [(150.0, 110.0), (320.0, 65.0), (42.0, 55.0), (210.0, 110.0)])
def test_aorta_and_liver_are_measured_and_the_spine_is_no_aorta(aorta: float, liver: float) -> None:
    planes, boxes = a_scan(aorta, liver)
    measured = enhancement(planes, boxes, 1.5)
    assert measured.liver_hu == pytest.approx(liver, abs=6)
    # Without an agent blood is as dark as the tissue around: then nothing or something as dark is found.
    assert measured.aorta_hu is None or measured.aorta_hu == pytest.approx(aorta, abs=14)
    assert measured.aorta_hu is not None or aorta < 60


def test_slices_without_a_body_tell_no_phase() -> None:
    planes, _ = a_scan(150, 110)
    measured = enhancement(planes, [None] * len(planes), 1.5)
    assert (measured.aorta_hu, measured.liver_hu) == (None, None)
    assert str(measured) == "aorta not found, liver not found"


def test_the_enhancement_of_a_phantom_is_of_the_portal_venous_phase() -> None:
    phantom = abdomen(np.random.default_rng(3), slices=8, step_mm=10.0)
    planes = [squared(plane, phantom.spacing_mm[1:]) for plane in phantom.values]
    measured = enhancement(planes, [body_box(slice_picture(plane)) for plane in planes], phantom.spacing_mm[1])
    assert measured.liver_hu is not None
    assert 85 < measured.liver_hu < 140


def slices_of(count: int, seed: int) -> Slices:
    """Return phantoms of slices through a bright ball, of two slices a patient."""
    random = np.random.default_rng(seed)
    pictures, masks = [], []
    for _ in range(count):
        row, column = (int(middle + random.integers(-12, 13)) for middle in (108, 140))
        values = with_cross(a_body(1, 256, 256), slice(None), row, column, 12)[0]
        pictures.append(slice_picture(values + random.normal(0, 12, values.shape).astype(np.float32)))
        masks.append(np.asarray(values == 300, np.uint8))
    return Slices(np.stack(pictures), np.stack(masks), np.array([f"p{number // 2}" for number in range(count)]))


def test_the_mask_follows_its_changed_picture_and_no_picture_is_mirrored() -> None:
    slices = slices_of(1, 0)
    (frame,) = slices.frames()
    sides = []
    for seed in range(6):
        picture, mask = varied(slices.pictures[0], slices.masks[0], frame, np.random.default_rng(seed))
        again, _ = varied(slices.pictures[0], slices.masks[0], frame, np.random.default_rng(seed))
        assert (picture == again).all()
        inside, outside = picture[mask > 200], picture[(mask == 0) & (picture > 60)]
        assert np.median(inside) > np.median(outside) + 30
        sides.append(
            np.argwhere(mask > 128).mean(axis=0)[1] - np.argwhere(framed(slices.masks[0], frame)).mean(axis=0)[1]
        )
    assert np.abs(sides).max() < 0.25 * COLUMNS


def test_the_network_begins_with_the_encoder_of_imagenet_and_a_place_that_says_nothing() -> None:
    from ainode.models.running.keras_network import imagenet_checkpoint

    checkpoint = imagenet_checkpoint()
    network = PancreasNetwork()
    network.load_imagenet(checkpoint)
    stem = torch.load(checkpoint, map_location="cpu", weights_only=True)["_conv_stem.weight"]
    weight = network.state_dict()["_conv_stem.weight"]
    assert torch.allclose(weight[:, :1], stem.sum(dim=1, keepdim=True), atol=1e-6)
    assert not weight[:, 1:].any()
    assert network(torch.zeros(1, 1, ROWS, COLUMNS)).shape == (1, 2, ROWS // STRIDE, COLUMNS // STRIDE)


def test_a_training_ends_with_weights_and_a_resumed_one_goes_on(tmp_path: Path) -> None:
    learned, kept = Material.of(slices_of(4, 0)), Material.of(slices_of(2, 1))
    trained(learned, kept, tmp_path, TrainingOptions(epochs=2, steps=2, minutes=0))
    assert (tmp_path / "best.safetensors").is_file()
    trained(learned, kept, tmp_path, TrainingOptions(epochs=2, steps=2, resume=True))
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text("utf-8").splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(0 <= float(row["score"]) <= 1 for row in rows)


def test_an_evaluation_states_goals_baselines_and_false_marks(tmp_path: Path) -> None:
    evaluation = evaluation_of(model_of(Bright(), tmp_path), slices_of(10, 0), slices_of(8, 1))
    metrics = write_evaluation(evaluation, {"model": "pancreas_tumor", "part": "test"}, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    assert written["goals"]["center_in_tumor"]["goal"] == 0.5
    assert metrics["center_in_tumor"] == written["center_in_tumor"]
    assert written["center_in_tumor"]["value"] > 0.9
    assert written["center_in_tumor"]["patients"] == 4
    assert written["dice_of_hit_tumors"]["value"] > 0.5
    assert set(written["rules"]) == {"place alone", "box of the median size", "middle of the picture"}
    assert {rule["kind"] for rule in written["baselines"].values()} == {"shortcut", "pixels"}
    assert written["false_marks_per_scan"]["synthetic abdomens without a tumor"]["scans"] == 8
    assert {path.name for path in (tmp_path / "out").glob("*.png")} >= {"centers.png", "dice.png", "slices.png"}


def test_a_slice_without_a_mark_is_no_hit() -> None:
    drawn = drawn_of(np.zeros((2, SIDE, SIDE), np.float32), MARKING)
    assert not drawn.masks.any()
    assert np.isnan(drawn.centers).all()
    assert agreed(np.zeros((1, 4, 4), np.float32)).max() == 0


def test_the_prior_lies_where_the_tumors_of_the_training_part_lie() -> None:
    slices = slices_of(12, 0)
    prior = Prior.of(slices)
    truth = np.array([np.argwhere(mask).mean(axis=0) for mask in slices.masks])
    assert prior.center_on(slices.pictures[0]) == pytest.approx(np.median(truth, axis=0), abs=2)
    peak = np.unravel_index(prior.maps(slices.frames()[:1])[0].argmax(), (SIDE, SIDE))
    assert np.hypot(*(np.array(peak) - truth.mean(axis=0))) < 10


def test_the_folder_is_read_by_part_and_patients_are_left_out_whole(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    rows = []
    for number in range(12):
        for kind in ("image", "mask"):
            Image.fromarray(np.full((SIDE, SIDE), 200 * (kind == "mask"), np.uint8)).save(
                tmp_path / "pictures" / f"{kind}{number}.png"
            )
        split = "test" if number >= 10 else "train"
        rows.append(f"pictures/image{number}.png,pictures/mask{number}.png,{split},run{number // 2}")
    (tmp_path / "manifest.csv").write_text("file,mask,split,group\n" + "\n".join(rows) + "\n", "utf-8")
    slices = slices_of_part(tmp_path, "train")
    assert (len(slices.pictures), int(slices.masks.max())) == (10, 1)
    assert slices_of_part(tmp_path, "test").patients.tolist() == ["run5", "run5"]
    folds = np.stack([left_out(slices, fold) for fold in range(FOLDS)])
    assert (folds.sum(axis=0) == 1).all()
    assert all((folds[:, ::2] == folds[:, 1::2]).ravel())
    with pytest.raises(ModelError, match=r"manifest\.csv: not there"):
        slices_of_part(tmp_path / "pictures", "train")


def test_the_parts_of_the_real_data_hold_the_patients_that_its_source_says() -> None:
    folder = shared("data/labelled/pancreas_msd")
    for part, count, patients in (("train", 423, 140), ("test", 138, 46)):
        slices = slices_of_part(folder, part)  # type: ignore[arg-type]
        assert (len(slices.pictures), len(np.unique(slices.patients))) == (count, patients)
        boxes = [body_box(picture) for picture in slices.pictures]
        assert all(boxes)
        shares = [
            framed(mask * np.uint8(255), frame).sum() * frame.pixel**2 / 255 / mask.sum()
            for mask, frame in zip(slices.masks, slices.frames(), strict=True)
        ]
        assert min(shares) > 0.8, "a tumor lies outside of its frame"
