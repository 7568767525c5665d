"""A nodule is outlined at the point where someone pointed, or the words say why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import installed
from unit.models.nodule_sets import ball, write_sets

installed("torch", "openvino", "safetensors", "scipy", "sklearn", "tqdm")

import torch  # noqa: E402  # after the packages were seen to be here

from ainode import weights as shipped  # noqa: E402
from ainode.models.following import Grid, Omission  # noqa: E402
from ainode.models.following.extents import contours  # noqa: E402
from ainode.models.nodule_outline import experiment  # noqa: E402
from ainode.models.nodule_outline.benchmark import outline_rows  # noqa: E402
from ainode.models.nodule_outline.card import read_card  # noqa: E402
from ainode.models.nodule_outline.cells import AIR_HU, CELL_MM, SIDE, cube  # noqa: E402
from ainode.models.nodule_outline.evaluation import grid_of  # noqa: E402
from ainode.models.nodule_outline.implant import Blend, Implant, phantom, scene  # noqa: E402
from ainode.models.nodule_outline.model import OutlinedNodule, OutlineModel, voxel_mask  # noqa: E402
from ainode.models.nodule_outline.nodules import Nodule, read_chests, read_nodules  # noqa: E402
from ainode.models.nodule_outline.training import left_out  # noqa: E402
from ainode.models.running.runtime import Execution  # noqa: E402
from ainode.models.training.experiment import TrainingOptions  # noqa: E402

AXES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
SPACING = (1.25, 0.7, 0.7)
MIDDLE = (50.0, 50.0, 50.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OutlineModel:
    path = Path(next(iter(shipped.__path__))) / read_card().file
    return OutlineModel.load(path, execution=Execution(tmp_path_factory.mktemp("cache"), "torch-cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"), training=15, tested=3)


def lung_with(radius_mm: float, density_hu: float = 40.0, offset_mm: tuple[float, float, float] = MIDDLE) -> Grid:
    """Return lung with a ball of a density in it; positions (x, y, z) from the first voxel."""
    shape = tuple(round(100 / step) for step in SPACING)
    z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, SPACING, strict=True)), indexing="ij")
    distance = np.sqrt((x - offset_mm[0]) ** 2 + (y - offset_mm[1]) ** 2 + (z - offset_mm[2]) ** 2)
    share = np.clip((radius_mm - distance) / 0.7 + 0.5, 0, 1)
    noise = np.random.default_rng(0).normal(0, 20, shape)
    return Grid((-850 + share * (density_hu + 850) + noise).astype(np.float32), (0.0, 0.0, 0.0), SPACING, AXES)


@pytest.mark.parametrize("radius_mm", [4.0, 7.0, 11.0])
def test_the_outline_of_a_ball_has_the_ball_s_place_and_about_its_size(model: OutlineModel, radius_mm: float) -> None:
    nodule = model.outline(lung_with(radius_mm), MIDDLE)
    assert isinstance(nodule, OutlinedNodule)
    assert np.linalg.norm(np.subtract(nodule.size.position_mm, MIDDLE)) < 0.7
    # The readers of the training nodules drew generously on the outside.
    assert 0.9 < nodule.size.long_axis_mm / (2 * radius_mm) < 1.3
    assert nodule.refusal is None


def test_the_contours_of_a_mask_in_two_parts_of_a_slice_are_around_both() -> None:
    patch = Grid(np.zeros((8, 20, 20), np.float32), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), AXES)
    mask = np.zeros(patch.values.shape, np.bool_)
    mask[2:5, 2:9, 3:6], mask[2:5, 12:15, 3:6], mask[4, 2:15, 3:6], mask[6, 10, 10] = True, True, True, True
    found = [np.asarray(contour) for contour in contours(patch, mask, patch)]
    assert [contour[0, 2] for contour in found] == [2, 2, 3, 3, 4]
    rows = sorted((contour[:, 1].min(), contour[:, 1].max()) for contour in found)
    assert rows == [(2, 8), (2, 8), (2, 14), (12, 14), (12, 14)]


def test_the_bench_times_the_outline_beside_eager_pytorch_with_the_same_answer(tmp_path: Path) -> None:
    path = Path(next(iter(shipped.__path__))) / read_card().file
    eager, ours = outline_rows(path, cache=tmp_path, runs=1, threads=1)
    assert (eager[0], ours[0]) == ("PyTorch eager, inference_mode", "ainode, OpenVINO f32")
    assert eager[1] == ours[1] == "outline of a nodule"
    assert float(str(ours[-1])) < 0.005


def test_a_point_5_mm_beside_gives_the_same_outline(model: OutlineModel) -> None:
    scan = lung_with(6.0)
    centered, beside = (model.outline(scan, (50.0 + off, 50.0, 50.0)) for off in (0.0, 5.0))
    assert isinstance(centered, OutlinedNodule)
    assert isinstance(beside, OutlinedNodule)
    assert beside.size.volume_mm3 == pytest.approx(centered.size.volume_mm3, rel=0.1)


def test_the_contours_enclose_the_nodule_in_each_slice_that_cuts_it(model: OutlineModel) -> None:
    scan = lung_with(7.0, offset_mm=(45.0, 55.0, 50.0))
    nodule = model.outline(scan, (45.0, 55.0, 50.0))
    assert isinstance(nodule, OutlinedNodule)
    depths = sorted({round(contour[0][2], 3) for contour in nodule.size.outline})
    assert depths[-1] - depths[0] == pytest.approx(14.0, abs=4.0)
    points = np.array([point for contour in nodule.size.outline for point in contour])
    assert points.mean(axis=0) == pytest.approx((45.0, 55.0, 50.0), abs=1.5)
    mask = voxel_mask(nodule, scan, 0.5)
    assert np.argwhere(mask).mean(axis=0) * SPACING == pytest.approx((50.0, 55.0, 45.0), abs=0.7)


def test_a_point_in_lung_without_a_nodule_is_refused_in_words(model: OutlineModel) -> None:
    answer = model.outline(lung_with(0.0), MIDDLE)
    assert isinstance(answer, Omission)
    assert answer.reason == "no nodule at this point"


def test_a_point_in_the_heart_is_refused_in_words(model: OutlineModel) -> None:
    answer = model.outline(lung_with(40.0), MIDDLE)
    assert isinstance(answer, Omission)
    assert answer.reason == "no lung lies around this point"


def test_a_lesion_of_more_than_30_mm_is_called_a_mass(model: OutlineModel) -> None:
    answer = model.outline(lung_with(18.0), MIDDLE)
    reason = answer if isinstance(answer, Omission) else answer.refusal
    assert reason is not None
    assert reason.reason.endswith("more than 30 mm: a mass, not a nodule")
    nodule = model.outline(lung_with(7.0), MIDDLE)
    assert isinstance(nodule, OutlinedNodule)
    long_nodule = replace(nodule, size=replace(nodule.size, long_axis_mm=30.5))
    assert long_nodule.refusal is not None
    assert long_nodule.refusal.code == "mass"


@pytest.mark.parametrize("density_hu", [-120.0, -90.0, -70.0])
@pytest.mark.parametrize("radius_mm", [5.0, 7.0, 11.0])
def test_a_ball_of_fat_is_outlined_and_measured_and_no_more_is_said(
    model: OutlineModel, density_hu: float, radius_mm: float
) -> None:
    nodule = model.outline(lung_with(radius_mm, density_hu), MIDDLE)
    assert isinstance(nodule, OutlinedNodule)
    refusal = nodule.refusal
    assert refusal is not None
    assert refusal.code == "fat"
    axes = f"{nodule.size.long_axis_mm:.0f} x {nodule.size.short_axis_mm:.0f} mm, volume {nodule.size.volume_mm3:.0f}"
    assert f" HU throughout, {axes} mm3: the model has not learned from nodules of fat" in refusal.reason
    assert refusal.reason.endswith("no probability")


@pytest.mark.parametrize("density_hu", [-600.0, -400.0, -250.0, 0.0, 40.0])
@pytest.mark.parametrize("radius_mm", [3.0, 5.0, 11.0])
def test_ground_glass_and_soft_tissue_are_no_fat(model: OutlineModel, density_hu: float, radius_mm: float) -> None:
    nodule = model.outline(lung_with(radius_mm, density_hu), MIDDLE)
    assert isinstance(nodule, OutlinedNodule)
    assert nodule.refusal is None


def test_ground_glass_around_a_solid_part_is_no_fat_though_its_mean_may_be(model: OutlineModel) -> None:
    glass, solid = lung_with(9.0, -350.0), lung_with(6.0, 30.0)
    nodule = model.outline(replace(glass, values=np.maximum(glass.values, solid.values)), MIDDLE)
    assert isinstance(nodule, OutlinedNodule)
    assert nodule.refusal is None


def test_a_point_outside_of_the_scan_has_no_outline(model: OutlineModel) -> None:
    answer = model.outline(lung_with(5.0), (-20.0, 50.0, 50.0))
    assert isinstance(answer, Omission)
    assert answer.code == "outside"


def test_a_cube_has_air_outside_of_the_scan_and_its_point_in_the_middle() -> None:
    values = np.zeros((20, 40, 40), np.float32)
    values[10, 20, 20] = 1000
    seen = cube(values, (1.4, 0.7, 0.7), (10.0, 20.0, 20.0))
    assert seen.values[0, 0, 0] == AIR_HU
    assert seen.values[23:25, 23:25, 23:25].min() > 0
    assert seen.voxels(np.full(3, 23.5)) == pytest.approx((10.0, 20.0, 20.0))


def test_an_implanted_nodule_keeps_its_values_within_the_mask_and_the_chest_keeps_its_own_elsewhere(data: Path) -> None:
    (chest,) = read_chests(data, "test")
    mask = ball(5.0)
    values = np.where(mask, 700, -900).astype(np.int16)
    nodule = Nodule(
        values, mask, (2.0, 0.8, 0.8), malignant=True, diameter_mm=10, texture=5, suspicion=5, patient="P", number=1
    )
    seen = scene(Implant.of(nodule), chest, (20.0, 45.0, 30.0), Blend(1.0, 1.0))
    assert seen.mask.sum() == mask.sum()
    assert (seen.values[seen.mask] == chest.highest_hu).all()
    untouched = scene(Implant.of(nodule), chest, (20.0, 45.0, 30.0), Blend(-100.0, 1.0))
    far = np.linalg.norm((np.argwhere(~seen.mask) - seen.middle) * seen.spacing_mm, axis=1) > 8
    assert (seen.values[~seen.mask][far] == untouched.values[~seen.mask][far]).all()
    assert np.argwhere(seen.mask).mean(axis=0) == pytest.approx(seen.middle)


def test_a_phantom_fills_its_ellipsoid_with_one_density_and_leaves_the_chest_around_it(data: Path) -> None:
    (chest,) = read_chests(data, "test")
    place, radii_mm, off_mm = (20.0, 45.0, 30.0), (6.0, 8.0, 10.0), (2.0, -3.0, 1.0)
    seen = phantom(chest, place, radii_mm, -300.0, off_mm=off_mm)
    around = cube(chest.values, chest.spacing_mm, place).values
    assert seen.target.sum() * CELL_MM**3 == pytest.approx(4 / 3 * np.pi * np.prod(radii_mm), rel=0.03)
    assert (seen.values[seen.target == 1] == -300).all()
    assert (seen.values[seen.target == 0] == around[seen.target == 0]).all()
    middle_mm = (np.argwhere(seen.target > 0.5).mean(axis=0) - (SIDE - 1) / 2) * CELL_MM
    # The middle of the cells is `off_mm` from the middle of the ellipsoid.
    assert middle_mm == pytest.approx([-off for off in off_mm], abs=0.1)


def test_a_patient_chooses_or_trains_and_never_both(data: Path) -> None:
    nodules = read_nodules(data, "train")
    chosen = left_out(nodules)
    patients = np.array([nodule.patient for nodule in nodules])
    assert 0 < chosen.sum() < len(nodules)
    assert not set(patients[chosen]) & set(patients[~chosen])


def test_the_training_of_an_epoch_is_served_and_evaluated(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    files = experiment.train(data, tmp_path, TrainingOptions(epochs=1, steps=1))
    evaluation = experiment.evaluate(data, files, "test")
    assert evaluation.probabilities.shape == (4, 2)
    assert {rule.kind for rule in evaluation.baselines.values()} >= {"shortcut", "pixels", "anatomy"}
    assert {"outline", "outline_5_mm_beside", "threshold_without_network"} <= set(evaluation.further)
    scan = grid_of(scene(Implant.of(read_nodules(data, "test")[0]), read_chests(data, "test")[0], MIDDLE, Blend()))
    trained = OutlineModel.load(next(iter(files.values())), execution=Execution(tmp_path, "torch-cpu"))
    assert trained.outline(scan, scan.positions((0, 0, 0)).tolist()) is not None
