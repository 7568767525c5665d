"""The pneumonia networks: the original's layers, corrected where the card says, and the same on OpenVINO."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from torch import nn
from unit.models import original_pneumonia as original
from unit.models.original_pneumonia import random_pneumonia

from ainode.models.ct_pneumonia.card import read_card
from ainode.models.ct_pneumonia.checkpoints import load_dcg, load_pneumonia, save_half
from ainode.models.ct_pneumonia.dataset import Volumes, stored_volumes, synthetic_volumes
from ainode.models.ct_pneumonia.dcg import LARGE, REGION, SMALL, Dcg, nearby_maxima, separate_maxima
from ainode.models.ct_pneumonia.diffusion import Pneumonia, distances, mixed_probabilities
from ainode.models.ct_pneumonia.model import PneumoniaModel, noise
from ainode.models.ct_pneumonia.phases import DiffusionPhase, map_loss
from ainode.models.ct_pneumonia.preprocess import SHAPE, network_input, source_index, windowed_values
from ainode.models.ct_pneumonia.recipe import ORIGINAL_DCG, ORIGINAL_DIFFUSION, SHORT_DIFFUSION, plateau, restarts
from ainode.models.ct_pneumonia.training import train
from ainode.models.errors import CheckpointRefused, ModelError, UnusablePicture
from ainode.models.phantoms.thorax import Field, thorax
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import TrainingOptions

SCAN = Field((40, 96, 96), (7.0, 4.0, 4.0))


def parameters(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def a_network(seed: int = 0) -> Pneumonia:
    """Return a network whose map points somewhere and whose logits are not 0, as those of a new one are."""
    return random_pneumonia(seed)


def test_the_parameters_are_as_many_as_the_originals() -> None:
    whole = a_network()
    assert parameters(Dcg(SMALL)) == 456_998
    assert parameters(Dcg(LARGE)) == 7_379_910
    assert parameters(whole.unet) == 1_779_722
    assert parameters(whole.prior_gen) == 599_456
    assert parameters(whole.classifier) == 8_386
    assert parameters(whole) == 2_844_562


@pytest.mark.parametrize(("size", "keys"), [(SMALL, (16, 3, 64)), (LARGE, (32, 4, 128))])
def test_the_dcg_has_the_keys_and_shapes_of_the_originals_checkpoint(size: object, keys: tuple[int, int, int]) -> None:
    ours = {key: tuple(value.shape) for key, value in Dcg(size).state_dict().items()}  # type: ignore[arg-type]
    assert ours == original.dcg_keys(*keys)


def test_the_whole_has_the_keys_and_shapes_of_the_originals_checkpoint() -> None:
    assert {key: tuple(value.shape) for key, value in a_network().state_dict().items()} == original.whole_keys()


def test_the_originals_final_model_gives_the_originals_answer_in_its_own_mode(tmp_path: Path) -> None:
    table = original.drawn(original.whole_keys())
    results = {"accuracy": 0.5, "confusion_matrix": [[1, 0], [0, 1]]}
    torch.save({"model_state_dict": table, "val_results": results}, tmp_path / "final_model.pth")
    network = load_pneumonia(tmp_path / "final_model.pth", "small", original=True)
    volume, start = torch.rand(1, 1, *SHAPE), torch.randn(1, 2, 8, 8, 8)
    with torch.inference_mode():
        ours, theirs = mixed_probabilities(network(volume, start), original=True), original.whole(table, volume, start)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("size", "keys", "k"), [("small", (16, 3, 64), 3), ("large", (32, 4, 128), 5)])
def test_the_originals_dcg_gives_the_originals_logits_in_its_own_mode(
    tmp_path: Path, size: str, keys: tuple[int, int, int], k: int
) -> None:
    table = original.drawn(original.dcg_keys(*keys))
    torch.save(table, tmp_path / "best_dcg_model.pth")
    network = load_dcg(tmp_path / "best_dcg_model.pth", size, original=True)
    volume = torch.rand(1, 1, 64, 64, 32)
    with torch.inference_mode():
        ours, theirs = network(volume), original.dcg(table, volume, keys[1], k)
    for a, b in zip((ours[0], ours[1], ours[3][0]), theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_the_originals_distances_in_a_file_do_not_replace_the_corrected_ones(tmp_path: Path) -> None:
    torch.save(original.drawn(original.whole_keys()), tmp_path / "best_diffusion_model2.pth")
    kept = load_pneumonia(tmp_path / "best_diffusion_model2.pth", "small").prior_gen.dense_map_gen.distance_matrix
    torch.testing.assert_close(kept, distances(8))


def test_a_pickle_or_another_networks_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "object.pth").write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(CheckpointRefused):
        load_pneumonia(tmp_path / "object.pth", "small")
    torch.save(original.drawn(original.dcg_keys(32, 4, 128)), tmp_path / "large.pth")
    with pytest.raises(CheckpointRefused, match="not the weights of this network"):
        load_dcg(tmp_path / "large.pth", "small")
    with pytest.raises(CheckpointRefused, match="size"):
        load_dcg(tmp_path / "large.pth", "huge")


def test_regions_lie_apart_and_inside_where_the_originals_nearly_coincide() -> None:
    saliency = np.random.default_rng(0).random((16, 16, 8)).astype(np.float32)
    saliency[0, 0, 0] = saliency[15, 15, 7] = 2
    starts = separate_maxima(saliency, SHAPE, 3)
    assert (starts >= 0).all()
    assert (starts + REGION <= np.asarray(SHAPE)).all()
    for a in range(3):
        for b in range(a):
            assert (np.abs(starts[a] - starts[b]) >= np.asarray(REGION) / 2).any()
    assert np.abs(np.diff(nearby_maxima(saliency, SHAPE, 3), axis=0)).max() <= 16
    assert [0, 0, 0] in starts.tolist()


def test_the_guidance_map_is_global_on_the_diagonal_and_local_in_the_far_corners() -> None:
    found = distances(8)
    for i in range(8):
        assert found[i, i, i] == 0
        for j in range(8):
            assert float(found[i, j, j]) == pytest.approx(abs(i - j) / 7)
    assert found[0, 0, 7] == found[7, 0, 0] == found[0, 7, 7] == 1
    torch.testing.assert_close(found, found.permute(2, 0, 1))


def test_the_network_sees_each_points_own_time_step_and_the_originals_only_their_mean() -> None:
    maps, features = torch.randn(1, 4, 8, 8, 8), torch.randn(1, 128)
    even = torch.full((1, 1, 8, 8, 8), 100.0)
    uneven = even.clone()
    uneven[..., :4], uneven[..., 4:] = 50.0, 150.0
    network, theirs = a_network().unet, Pneumonia(original=True).eval().unet
    with torch.inference_mode():
        assert (network(maps, even, features) - network(maps, uneven, features)).abs().max() > 1e-3
        torch.testing.assert_close(theirs(maps, even, features), theirs(maps, uneven, features))


def test_the_answer_is_a_probability_of_the_documented_shares_with_no_second_softmax() -> None:
    parts = torch.tensor([[[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.5, 0.5]]])
    torch.testing.assert_close(mixed_probabilities(parts)[0, 1], torch.tensor(0.5 * 0.9 + 0.3 * 0.8 + 0.2 * 0.7))
    wild = torch.tensor([[[-3.0, 2.0], [0.0, 1.0], [0.0, 1.0], [0.5, 0.5]]])
    assert 0.99 < float(mixed_probabilities(wild)[0, 1]) <= 1
    assert float(mixed_probabilities(wild, original=True)[0, 1]) < 0.96


@pytest.mark.parametrize("slices", [20, 64, 150])
def test_the_input_is_whole_slices_as_scipy_zooms_them_with_axes_left_back_head(slices: int) -> None:
    volume = np.random.default_rng(0).normal(-500, 500, (slices, 40, 30)).astype(np.float32)
    turned = windowed_values(volume).transpose(2, 1, 0)
    x, y, z = (size / count for size, count in zip(SHAPE, turned.shape, strict=True))
    expected = zoom(zoom(turned, (1, 1, z), order=0), (x, y, 1), order=1)
    np.testing.assert_allclose(network_input(volume)[0, 0], expected, atol=1e-5)
    assert source_index((127, 127, 63), volume.shape) == pytest.approx((slices - 1, 39, 29))


def test_the_read_on_openvino_is_that_of_pytorch_within_0_005(tmp_path: Path) -> None:
    network = a_network()
    card = read_card()
    ours = PneumoniaModel.of(lambda: network, "drawn", execution=Execution(tmp_path, "cpu", threads=2), card=card)
    for seed in range(2):
        scan = thorax(seed, seed, scanned=SCAN, consolidations=3 * seed).values
        made = ours.predict(scan, seed)
        with torch.inference_mode():
            volume, draws = torch.from_numpy(network_input(scan)), torch.from_numpy(noise(seed))
            parts = torch.cat([network(volume, draw[None]) for draw in draws])
            saliency = network.dcg_model.global_encoder(torch.from_numpy(network_input(scan)))[1].sigmoid()
        assert made.draws == pytest.approx(mixed_probabilities(parts)[:, 1].tolist(), abs=0.005)
        assert len(made.draws) == 8
        assert made.probability == pytest.approx(float(np.mean(made.draws)))
        assert made.deviation == pytest.approx(float(np.std(made.draws)))
        assert made.deviation > 0
        assert made.local_prior == pytest.approx(float(parts[0, 3, 1]), abs=0.005)
        np.testing.assert_allclose(made.saliency, saliency[0, 0], atol=0.005)
        assert math.fsum(region.attention for region in made.regions) == pytest.approx(1, abs=1e-5)
        assert ours.predict(scan, seed).probability == made.probability
    with pytest.raises(UnusablePicture):
        ours.predict(np.zeros((20, 32, 32), np.float32), 0)


def test_the_saliency_is_where_the_volumes_voxels_are(tmp_path: Path) -> None:
    network = a_network()
    made = PneumoniaModel.of(
        lambda: network, "drawn", execution=Execution(tmp_path, "torch-cpu"), card=read_card()
    ).predict(thorax(1, 1, scanned=SCAN).values, 0)
    # The middle of the coarse cell (5, 9, 3) of 8 voxels each, brought back to the volume.
    z, y, x = source_index((5 * 8 + 3.5, 9 * 8 + 3.5, 3 * 8 + 3.5), made.shape)
    assert made.saliency_at(np.asarray([[z], [y], [x]])).item() == pytest.approx(
        float(made.saliency[5, 9, 3]), abs=1e-4
    )


def some_volumes(count: int) -> Volumes:
    values = [thorax(n, n, consolidations=3 * (n % 2)).values for n in range(count)]
    lesions = np.zeros((count, 16, 16, 8), np.float32)
    lesions[1::2, 3:6, 5:8, 2:4] = 1
    names = np.asarray([f"phantom {n}" for n in range(count)])
    scans = np.full((count, 3), np.nan)
    return Volumes(np.stack(values).astype(np.int16), np.arange(count) % 2, names, lesions, scans)


def test_one_short_run_trains_both_phases_and_its_file_loads(tmp_path: Path) -> None:
    volumes = some_volumes(4)
    network = train((volumes, volumes.only(np.arange(4) < 2)), tmp_path, TrainingOptions(epochs=1))
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {"best.safetensors", "last.pt", "log.csv"}
    save_half(network, tmp_path / "half.safetensors")
    loaded = load_pneumonia(tmp_path / "half.safetensors", "small")
    for key, value in loaded.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[key], atol=1e-2, rtol=1e-2)


def test_the_frozen_dcg_does_not_change_in_the_second_phase(tmp_path: Path) -> None:
    network, volumes = a_network(), some_volumes(4)
    before = {key: value.clone() for key, value in network.dcg_model.state_dict().items()}
    phase = DiffusionPhase.after_pass(network, (volumes, volumes), 0, "cpu")
    network.train()
    loss = phase.loss(next(phase.batches(0, 4)), SHORT_DIFFUSION)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert all(one.grad is None for one in network.dcg_model.parameters())
    assert any(one.grad is not None for one in network.unet.parameters())
    for key, value in network.dcg_model.state_dict().items():
        torch.testing.assert_close(value, before[key])
    assert not list(tmp_path.iterdir())


def test_the_map_learns_from_labels_alone_where_nobody_marked_cells() -> None:
    saliency = torch.zeros(2, 1, 16, 16, 8, requires_grad=True)
    unmarked = torch.full((2, 16, 16, 8), float("nan"))
    loss = map_loss(saliency, torch.tensor([0, 1]), unmarked)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(math.log(2), abs=1e-4)
    assert saliency.grad is not None
    assert saliency.grad[0].sum() > 0 > saliency.grad[1].sum()


def test_the_originals_schedules_can_be_asked_for() -> None:
    dcg = ORIGINAL_DCG["small"]
    rates = [plateau(epoch, dcg.epochs) for epoch in range(dcg.epochs)]
    assert rates[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert rates[10:30] == [1.0] * 20
    assert rates[40] == pytest.approx(0.5)
    assert (dcg.batch, dcg.accumulate, dcg.clip, dcg.label_smoothing) == (4, 4, 1.0, 0.05)
    assert ORIGINAL_DCG["large"].learning_rate == 5e-3
    assert [restarts(n, 100) for n in (0, 10, 30)] == [1.0, 1.0, 1.0]
    assert ORIGINAL_DIFFUSION.epochs == 100


def test_real_volumes_keep_their_part_and_their_patient(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", hu=np.zeros((64, 128, 128), np.int16))
    (tmp_path / "manifest.csv").write_text("file,label,split,group\na.npz,abnormal,train,p1\n", "utf-8")
    volumes = stored_volumes(tmp_path, "train")
    assert volumes.labels.tolist() == [1]
    assert volumes.groups.tolist() == ["p1"]
    assert np.isnan(volumes.lesions).all()
    with pytest.raises(ValueError, match="no volume of the part test"):
        stored_volumes(tmp_path, "test")


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ("file,split\na.npz,train\n", r"manifest\.csv: no column label, group; there are file, split"),
        ("file,label,split,group\na.npz,ill,train,p1\n", r"manifest\.csv, line 2: label 'ill'"),
        ("file,label,split,group\nc.npz,normal,train,p1\n", r"c\.npz: no npz with a volume named hu"),
        (
            "file,label,split,group\na.npz,normal,train,p\nb.npz,normal,test,q\n",
            r"b\.npz and .*a\.npz are the same file",
        ),
        ("file,label,split,group\na.npz,0,train,p\nb.npz,1,train,q\n", r"b\.npz and .*a\.npz .* of two classes"),
    ],
)
def test_a_manifest_that_would_mislead_the_training_is_refused(tmp_path: Path, manifest: str, reason: str) -> None:
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, hu=np.zeros((64, 128, 128), np.int16))
    (tmp_path / "manifest.csv").write_text(manifest, "utf-8")
    with pytest.raises(ModelError, match=reason):
        stored_volumes(tmp_path, "train")


def test_spacing_and_slices_of_a_real_scan_are_among_its_shortcuts(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-1000, 400, (64, 128, 128)).astype(np.int16)
    spacing, shape = np.array([2.0, 0.7, 0.7]), np.array([131, 512, 512])
    np.savez(tmp_path / "told.npz", hu=values, label=1, spacing_orig=spacing, shape_orig=shape)
    np.savez(tmp_path / "untold.npz", hu=values, label=0)
    (tmp_path / "manifest.csv").write_text(
        "file,label,split,group\ntold.npz,abnormal,test,a\nuntold.npz,normal,test,b\n", "utf-8"
    )
    told, untold = stored_volumes(tmp_path, "test").shortcuts()
    assert (told["scan slices"], told["scan slice mm"], told["scan pixel mm"]) == (131, 2.0, 0.7)
    assert np.isnan(untold["scan slices"])


def test_the_spacing_of_a_phantom_is_the_one_that_was_drawn(tmp_path: Path) -> None:
    drawn = synthetic_volumes(tmp_path, count=2, seed=5)
    again = synthetic_volumes(tmp_path, count=2, seed=5)
    assert np.array_equal(drawn.scans, again.scans)
    assert ((drawn.scans[:, 0] > 30) & (drawn.scans[:, 0] <= 64)).all()
    assert ((drawn.scans[:, 2] * 128 > 330) & (drawn.scans[:, 2] * 128 < 420)).all()
