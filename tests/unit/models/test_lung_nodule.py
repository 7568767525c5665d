"""The nodule read: its slice, its map, its time points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import installed

installed("torch", "timm", "openvino", "safetensors")

import torch  # noqa: E402  # after the packages were seen to be here
from unit.models.lung_nodule_weights import random_weights_in  # noqa: E402

from ainode.models.errors import CardError, CheckpointRefused, MissingNetwork, UnusablePicture  # noqa: E402
from ainode.models.lung_nodule.card import read_card  # noqa: E402
from ainode.models.lung_nodule.encoder import COMPACT  # noqa: E402
from ainode.models.lung_nodule.model import LungNoduleModel, SpatialMap, probability  # noqa: E402
from ainode.models.lung_nodule.patches import CellGrid, Scan, cube, is_dense, middle_slice  # noqa: E402
from ainode.models.lung_nodule.slice_network import SliceEnsemble, from_view, in_view  # noqa: E402
from ainode.models.running.runtime import Execution  # noqa: E402


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return random_weights_in(tmp_path_factory.mktemp("lung_nodule"))


@pytest.fixture(scope="module")
def eager(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> LungNoduleModel:
    return LungNoduleModel.load(files, execution=Execution(tmp_path_factory.mktemp("cache"), "torch-cpu"))


def a_scan(radius: float = 6.0, spacing: tuple[float, float, float] = (1.0, 0.7, 0.7)) -> Scan:
    """A ball beside a wall, off the middle of the scan."""
    shape = (60, 120, 120)
    z, y, x = (axis * mm for axis, mm in zip(np.meshgrid(*map(np.arange, shape), indexing="ij"), spacing, strict=True))
    center = (30 * spacing[0], 55 * spacing[1], 62 * spacing[2])
    distance = np.sqrt((z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2)
    values = -850 + 880 / (1 + np.exp(2 * (distance - radius))) + 900 * (y > center[1] + 25)
    return Scan(values.astype(np.float32), spacing, (30.0, 55.0, 62.0))


def test_the_slice_is_stretched_over_64_mm_and_shown_over_32() -> None:
    scan = a_scan()
    picture, grid = middle_slice(scan)
    assert picture.shape == (1, 1, 64, 64)
    assert np.allclose(picture * 255, np.rint(picture * 255), atol=1e-4)
    assert grid.first[1] + 32 * grid.step[1] == pytest.approx(55)
    assert grid.first[2] + 32 * grid.step[2] == pytest.approx(62)
    # The wall, 25 mm away, is not shown; it is what 1 stands for all the same.
    assert picture.max() == pytest.approx((30 + 850) / 900, abs=0.03)


def test_the_ball_has_its_diameter_in_half_millimeters_whatever_the_spacing() -> None:
    for spacing in ((1.0, 0.7, 0.7), (2.5, 0.9, 0.55)):
        picture, _ = middle_slice(a_scan(6.0, spacing))
        area = (picture > 0.49).sum() * 0.25
        assert 2 * np.sqrt(area / np.pi) == pytest.approx(12, abs=0.4)


def test_a_mass_larger_than_the_picture_is_shown_smaller(eager: LungNoduleModel) -> None:
    """The weights are random, so an outline is found or not by chance: a picture is larger only where none was."""
    ball = eager.predict([a_scan(40.0)])
    assert ball.picture_mm in (32, 64, 128)
    assert (ball.picture_mm == 32) == (ball.size_mm is not None) or ball.picture_mm > 32
    assert is_dense(a_scan(40.0))
    lung = a_scan(0.5)
    away = Scan(lung.values, lung.spacing_mm, (30.0, 30.0, 62.0))
    assert not is_dense(away)
    assert eager.predict([away]).picture_mm == 32


def test_a_uniform_slice_is_refused() -> None:
    with pytest.raises(UnusablePicture, match="one value only"):
        middle_slice(Scan(np.zeros((5, 90, 90), np.float32), (1.0, 1.0, 1.0), (2.0, 45.0, 45.0)))


def test_a_position_outside_of_the_scan_is_refused() -> None:
    with pytest.raises(UnusablePicture, match="outside"):
        Scan(np.zeros((5, 90, 90), np.float32), (1.0, 1.0, 1.0), (7.0, 45.0, 45.0))


def test_the_logit_is_the_calibrated_mean_of_the_map() -> None:
    torch.manual_seed(1)
    network = SliceEnsemble(2).eval()
    network.calibration[:] = torch.tensor([0.7, -0.2])
    with torch.inference_mode():
        logits, evidence, _ = network(torch.rand(1, 1, 64, 64))
    assert float(logits) == pytest.approx(0.7 * float(evidence.mean()) - 0.2, abs=1e-5)


def test_every_view_turns_back_to_the_picture() -> None:
    picture = torch.rand(1, 5, 5)
    assert all(torch.equal(from_view(in_view(picture, view), view), picture) for view in range(8))


def test_a_mirrored_scan_has_the_same_probability_and_the_mirrored_map(eager: LungNoduleModel) -> None:
    scan = a_scan()
    flipped = Scan(scan.values[:, :, ::-1].copy(), scan.spacing_mm, (30.0, 55.0, 119.0 - 62.0))
    ours, theirs = eager.predict([scan]), eager.predict([flipped])
    # The grid of 64 pixels is not symmetric about its pixel 32: half a millimeter moves.
    assert ours.probability == pytest.approx(theirs.probability, abs=0.02)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_time_point_has_its_attention_and_its_map(eager: LungNoduleModel, count: int) -> None:
    said = eager.predict([a_scan(radius) for radius in (4.0, 6.0, 8.0)[:count]])
    assert len(said.attention) == len(said.maps) == count
    assert sum(said.attention) == pytest.approx(1, abs=1e-5)
    assert said.profile == ("lidc" if count == 1 else "temporal")
    assert all(one is not None for one in said.maps)


def test_a_missing_scan_gets_no_attention_and_no_map(eager: LungNoduleModel) -> None:
    said = eager.predict([None, a_scan(4.0), a_scan(6.0)])
    without = eager.predict([a_scan(4.0), a_scan(6.0)])
    assert said.attention[0] == 0
    assert said.maps[0] is None
    assert said.probability == pytest.approx(without.probability, abs=1e-6)


def test_the_latest_scan_is_required(eager: LungNoduleModel) -> None:
    for scans in ([a_scan(), None], [a_scan(), a_scan(), None]):
        with pytest.raises(UnusablePicture, match="latest"):
            eager.predict(scans)


def test_four_scans_are_a_callers_error(eager: LungNoduleModel) -> None:
    with pytest.raises(ValueError, match="one to 3"):
        eager.predict([a_scan()] * 4)


def test_openvino_gives_the_probability_of_torch(
    files: dict[str, Path], eager: LungNoduleModel, tmp_path: Path
) -> None:
    served = LungNoduleModel.load(files, execution=Execution(tmp_path, "cpu", threads=1))
    for scans in ([a_scan()], [a_scan(4.0), a_scan(6.0), a_scan(8.0)]):
        ours, theirs = served.predict(scans), eager.predict(scans)
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-4)
        assert ours.maps[-1] is not None
        assert theirs.maps[-1] is not None
        assert np.abs(ours.maps[-1].values - theirs.maps[-1].values).max() < 0.02


def test_the_cubes_map_is_the_gradient_of_the_probability_times_the_features(eager: LungNoduleModel) -> None:
    """Autograd over encoder and head together, where the model multiplies two parts."""
    from ainode.models.lung_nodule.model import CubeReader

    several = eager.series_reader
    assert isinstance(several, CubeReader)
    scans = [a_scan(4.0), a_scan(5.0), a_scan(6.0)]
    said = several(scans)
    cells = [several.run(cube(scan)[0])[1] for scan in scans]
    leaf = torch.from_numpy(cells[1]).requires_grad_()
    features = [torch.from_numpy(one).mean(dim=(2, 3, 4)) for one in cells]
    features[1] = leaf.mean(dim=(2, 3, 4))
    logit, _ = several.recurrent.members[0](several.recurrent.scaler(torch.cat(features))[None])
    torch.sigmoid(logit).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    expected = (leaf.grad * leaf).sum(dim=1)[0].detach().numpy().clip(0)
    assert said.maps[1] is not None
    assert said.maps[1].values == pytest.approx(expected / max(expected.max(), 1e-30), abs=1e-3)
    assert said.maps[1].values.shape == (7, 7, 7)


def test_a_map_is_sampled_where_its_cells_lie() -> None:
    values = np.zeros((1, 4, 4), np.float32)
    values[0, 1, 2] = 1
    shown = SpatialMap(values, CellGrid((5.0, 10.0, 20.0), (1.0, 2.0, 3.0)))
    where = np.array([[5.0, 5.0, 6.0], [12.0, 10.0, 12.0], [26.0, 20.0, 26.0]])
    assert shown.values_at(where) == pytest.approx([1, 0, 0], abs=1e-6)


def test_a_profile_without_its_file_is_refused_by_name(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(MissingNetwork, match="temporal"):
        LungNoduleModel.load({"lidc": files["lidc"]}, execution=Execution(tmp_path, "torch-cpu"))
    with pytest.raises(MissingNetwork, match="fmcib_linear"):
        LungNoduleModel.load({"fmcib": files["temporal"]}, execution=Execution(tmp_path, "torch-cpu"))


def test_a_file_of_another_network_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match="missing"):
        LungNoduleModel.load(
            {"lidc": files["temporal"], "temporal": files["temporal"]}, execution=Execution(tmp_path, "torch-cpu")
        )


def test_the_card_is_complete_and_says_when_it_is_not(tmp_path: Path) -> None:
    assert set(read_card().files) == {"lidc", "temporal"}
    (tmp_path / "card.toml").write_text('name = "x"\nversion = "1"\n[profile]\n', "utf-8")
    with pytest.raises(CardError, match="threshold"):
        read_card(tmp_path / "card.toml")


def test_a_probability_is_the_logistic_of_its_logit() -> None:
    assert probability(np.array([0.0], np.float32)) == 0.5
    assert COMPACT.features == 96
