"""The original's layout, layer by layer, against computations made another way: MONAI, SciPy, plain NumPy."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import installed

installed("torch", "monai", "sklearn", "joblib", "safetensors")

import torch  # noqa: E402  # after the packages were seen to be here
from safetensors.torch import load_file, save_file  # noqa: E402

from ainode.models.errors import CheckpointRefused  # noqa: E402
from ainode.models.lung_nodule import pickles  # noqa: E402
from ainode.models.lung_nodule.checkpoints import weights_table  # noqa: E402
from ainode.models.lung_nodule.encoder import FMCIB, Encoder, EncoderShape  # noqa: E402
from ainode.models.lung_nodule.heads import ABSENT, Recurrent, linear_head, recurrent_head  # noqa: E402
from ainode.models.lung_nodule.patches import CUBE, Scan, cube  # noqa: E402
from ainode.models.running.checkpoints import with_weights  # noqa: E402

Array = NDArray[Any]
FEATURES, HIDDEN, ATTENDED = 6, 4, 3
_SMALL = EncoderShape((4, 8, 12, 16), (1, 1, 1, 1))

# The original's classes as its repository describes them, written by the tests to make a pickle of its layout.
COMMON = """
import torch
class GRUScratch(torch.nn.Module):
    def __init__(self, i, h):
        super().__init__()
        self.hidden_size = h
        self.W_z, self.W_r, self.W_h = (torch.nn.Linear(i + h, h) for _ in range(3))
class RNNClassifier(torch.nn.Module):
    def __init__(self, i, h, a):
        super().__init__()
        self.device, self.attention_type = torch.device("cpu"), "globalatt"
        self.rnn = GRUScratch(i, h)
        self.W_a, self.W_c, self.fc = torch.nn.Linear(h, h), torch.nn.Linear(2 * h, a), torch.nn.Linear(a, 1)
        self.dropout, self.sigmoid = torch.nn.Dropout(0.2), torch.nn.Sigmoid()
"""
WRITE = f"""
import joblib, numpy, pickle, torch, common
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
torch.manual_seed(0)
models = [common.RNNClassifier({FEATURES}, {HIDDEN}, {ATTENDED}) for _ in range(2)]
pickle.dump(models, open("models.pkl", "wb"))
pickle.dump(models[0], open("model.pkl", "wb"), protocol=2)
torch.save([m.state_dict() for m in models], "truth.pt")
random = numpy.random.default_rng(0)
x = random.normal(3, 2, (40, {FEATURES}))
scaler = StandardScaler().fit(x)
linear = LogisticRegression().fit(scaler.transform(x), (x[:, 0] > 3).astype(int))
joblib.dump(scaler, "scaler.pkl")
joblib.dump(linear, "linear.pkl")
joblib.dump(linear, "small.pkl", compress=3)
numpy.savez("linear.npz", x=x, scaled=scaler.transform(x), p=linear.predict_proba(scaler.transform(x))[:, 1])
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the original's pickles, written by another process that has its `common` module."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "common.py").write_text(COMMON, "utf-8")
    subprocess.run([sys.executable, "-c", WRITE], cwd=folder, check=True)
    return folder


def by_hand(weights: dict[str, Array], steps: Array) -> tuple[float, Array]:
    """The original's equations in NumPy, one patient, a step of -1 left out of everything."""

    def sigmoid(v: Array) -> Array:
        return 1 / (1 + np.exp(-v))

    def linear(name: str, v: Array) -> Array:
        return weights[f"{name}.weight"] @ v + weights[f"{name}.bias"]

    state, states = np.zeros(HIDDEN), []
    for step in steps:
        if not (step == ABSENT).any():
            z = sigmoid(linear("rnn.W_z", np.r_[step, state]))
            r = sigmoid(linear("rnn.W_r", np.r_[step, state]))
            state = z * state + (1 - z) * np.tanh(linear("rnn.W_h", np.r_[step, r * state]))
        states.append(state)
    scores = np.array([linear("W_a", s) @ state for s in states])
    scores[(steps == ABSENT).any(axis=1)] = -np.inf
    share = np.exp(scores - scores.max())
    share /= share.sum()
    attended = np.tanh(linear("W_c", np.r_[state, share @ np.array(states)]))
    return float(sigmoid(linear("fc", attended))[0]), share


def random_table(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return Recurrent(FEATURES, HIDDEN, ATTENDED).state_dict()


@pytest.mark.parametrize("missing", [(), (0,), (1,), (0, 1)])
def test_the_recurrent_head_is_the_original_with_its_mask_for_one_patient(missing: tuple[int, ...]) -> None:
    weights = random_table(1)
    steps = np.random.default_rng(2).normal(size=(3, FEATURES)).astype(np.float32)
    steps[list(missing)] = ABSENT
    with torch.inference_mode():
        logit, attention = Recurrent.of(weights)(torch.from_numpy(steps)[None])
    probability, share = by_hand({k: v.numpy().astype(np.float64) for k, v in weights.items()}, steps)
    assert float(torch.sigmoid(logit)) == pytest.approx(probability, abs=1e-6)
    assert attention[0].numpy() == pytest.approx(share, abs=1e-6)
    assert all(attention[0, i] == 0 for i in missing)


def test_a_missing_scan_changes_nothing_wherever_its_slot_is() -> None:
    network = Recurrent.of(random_table(3))
    a, b = np.random.default_rng(4).normal(size=(2, FEATURES)).astype(np.float32)
    none = np.full(FEATURES, ABSENT, np.float32)
    with torch.inference_mode():
        early, _ = network(torch.from_numpy(np.stack([none, a, b]))[None])
        between, _ = network(torch.from_numpy(np.stack([a, none, b]))[None])
    assert float(early) == pytest.approx(float(between), abs=1e-6)


def test_attention_and_probability_are_averaged_over_the_ensemble() -> None:
    members = [random_table(5), random_table(6)]
    joined = {f"{n}.{k}": v for n, one in enumerate(members) for k, v in one.items()}
    joined |= {"scaler.mean": torch.full((FEATURES,), 0.5), "scaler.scale": torch.full((FEATURES,), 2.0)}
    features = list(np.random.default_rng(7).normal(size=(3, FEATURES)).astype(np.float32))
    said = recurrent_head(joined)([None, *features[1:]])
    steps = (np.stack(features) - 0.5) / 2
    steps[0] = ABSENT
    alone = [by_hand({k: v.numpy().astype(np.float64) for k, v in one.items()}, steps) for one in members]
    assert said.probability == pytest.approx(np.mean([p for p, _ in alone]), abs=1e-6)
    assert said.attention == pytest.approx(np.mean([share for _, share in alone], axis=0), abs=1e-6)
    assert said.attention[0] == 0
    assert not said.gradient[0].any()


def test_the_gradient_is_that_of_the_probability_shown() -> None:
    joined = {f"0.{k}": v for k, v in random_table(8).items()}
    joined |= {"scaler.mean": torch.zeros(FEATURES), "scaler.scale": torch.full((FEATURES,), 3.0)}
    head = recurrent_head(joined)
    features = list(np.random.default_rng(9).normal(size=(3, FEATURES)).astype(np.float32))
    up, down = ([one.copy() for one in features] for _ in range(2))
    up[2][2] += 0.1
    down[2][2] -= 0.1
    slope = (head(up).probability - head(down).probability) / 0.2
    assert abs(slope) > 1e-5
    assert head(features).gradient[2, 2] == pytest.approx(slope, rel=0.05)


def test_the_originals_pickles_become_the_same_numbers(original: Path, tmp_path: Path) -> None:
    found = pickles.recurrent_weights(original / "models.pkl", original / "scaler.pkl")
    truth = torch.load(original / "truth.pt", weights_only=True)
    for number, member in enumerate(truth):
        for key, value in member.items():
            assert torch.equal(found[f"{number}.{key}"], value)
    save_file(found, tmp_path / "converted.safetensors")
    assert len(recurrent_head(load_file(tmp_path / "converted.safetensors")).members) == 2
    single = pickles.recurrent_weights(original / "model.pkl", original / "scaler.pkl")
    assert len(recurrent_head(single).members) == 1


def test_the_linear_model_gives_what_scikit_learn_gives(original: Path) -> None:
    head = linear_head(pickles.linear_weights(original / "linear.pkl", original / "scaler.pkl"))
    truth = np.load(original / "linear.npz")
    for features, probability in zip(truth["x"], truth["p"], strict=True):
        assert head(features.astype(np.float32)).probability == pytest.approx(probability, abs=1e-5)


class _Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch {self.mark}",)


def test_a_hostile_pickle_is_refused_by_name_and_not_run(original: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps([_Hostile(mark)]))
    with pytest.raises(CheckpointRefused, match=r"(posix|os)\.system"):
        pickles.recurrent_weights(tmp_path / "hostile.pkl", original / "scaler.pkl")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "not a pickle of protocol 2"),
        (b"\x80\x04", "a broken pickle"),
        (pickle.dumps({"a": 1}), "holds no RNNClassifier"),
        (pickle.dumps(eval), "builtins.eval"),
        (pickle.dumps(torch.nn.functional.relu), "torch.nn.functional.relu"),
    ],
)
def test_what_is_no_model_of_the_original_is_refused_with_the_reason(
    original: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "odd.pkl").write_bytes(content)
    with pytest.raises(CheckpointRefused, match=said):
        pickles.recurrent_weights(tmp_path / "odd.pkl", original / "scaler.pkl")


def test_a_compressed_joblib_file_is_refused_with_what_to_do(original: Path) -> None:
    with pytest.raises(CheckpointRefused, match="compress=0"):
        pickles.linear_weights(original / "small.pkl", original / "scaler.pkl")


def monai_resnet(**words: object) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resnet: Any = import_module("monai.networks.nets.resnet").ResNet
        network: torch.nn.Module = resnet(
            n_input_channels=1, conv1_t_stride=2, feed_forward=False, bias_downsample=True, **words
        )
        return network


def test_the_encoder_is_monais_layer_by_layer() -> None:
    theirs = monai_resnet(block="bottleneck", layers=[1, 1, 1, 1], block_inplanes=[2, 4, 6, 8], widen_factor=2).eval()
    for value in theirs.state_dict().values():
        if value.is_floating_point():
            torch.nn.init.uniform_(value, 0.1, 0.4)
    ours = with_weights(Encoder(_SMALL), theirs.state_dict(), "monai")
    patch = torch.rand(1, 1, CUBE, CUBE, CUBE)
    with torch.inference_mode():
        features, cells = ours(patch)
        assert torch.allclose(features, theirs(patch), rtol=1e-4)
    assert cells.shape == (1, 64, 2, 2, 2)


def test_the_full_encoder_has_the_originals_size() -> None:
    with torch.device("meta"):
        network = Encoder(FMCIB)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(184.48e6, rel=1e-4)
    assert FMCIB.features == 4096


@pytest.mark.parametrize("layout", ["trunk_state_dict", "state_dict", "bare"])
def test_every_layout_of_fmcibs_weights_loads(tmp_path: Path, layout: str) -> None:
    torch.manual_seed(0)
    weights = Encoder(_SMALL).state_dict()
    head = torch.zeros(8)
    stored: dict[str, object] = {
        "trunk_state_dict": {"trunk_state_dict": weights, "head_state_dict": {"0.0.bias": head}},
        "state_dict": {"state_dict": {f"model.trunk.{k}": v for k, v in weights.items()} | {"model.heads.0": head}},
        "bare": dict(weights),
    }[layout]
    torch.save(stored, tmp_path / "weights.torch")
    ours = with_weights(Encoder(_SMALL), weights_table(tmp_path / "weights.torch"), layout)
    assert torch.equal(ours.state_dict()["layer4.0.conv3.weight"], weights["layer4.0.conv3.weight"])


def test_a_torch_file_with_an_object_in_it_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "object.torch")
    with pytest.raises(CheckpointRefused, match="never opened"):
        weights_table(tmp_path / "object.torch")


def monai_cube(values: Array, spacing: tuple[float, ...], origin: Array, position: Array) -> Array:
    """FMCIB's preprocessing by MONAI's own transforms; axes x, y, z and an affine in RAS, as ITK's reader gives."""
    transforms: Any = import_module("monai.transforms")
    MetaTensor: Any = import_module("monai.data").MetaTensor  # noqa: N806  # a class
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = -origin[0], -origin[1], origin[2]
    image = MetaTensor(torch.from_numpy(values.transpose(2, 1, 0).copy())[None], affine=torch.from_numpy(affine))
    image = transforms.NormalizeIntensity(subtrahend=-1024, divisor=3072)(image)
    words = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": True, "diagonal": True}
    image = transforms.Orientation(axcodes="LPS")(transforms.Spacing(pixdim=1, **words)(image))
    inverse = np.linalg.inv(image.affine.numpy())
    center = [int(v) for v in (inverse @ np.array([-position[0], -position[1], position[2], 1.0]))[:3]]
    low = [max(c - 25, 0) for c in center]
    high = [min(c + 25, n) for c, n in zip(center, image.shape[1:], strict=True)]
    cropped = image[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return np.asarray(transforms.SpatialPad((50, 50, 50))(cropped.permute(0, 3, 2, 1)).numpy())


@pytest.mark.parametrize("at", [(0.5, 0.5, 0.5), (0.1, 0.3, 0.9), (0.98, 0.02, 0.4)])
@pytest.mark.parametrize(
    ("spacing", "shape"),
    [((1.25, 0.7, 0.7), (60, 90, 100)), ((5.0, 0.83, 0.61), (18, 80, 80)), ((1.0, 1.0, 1.0), (40,) * 3)],
)
@pytest.mark.filterwarnings("ignore")
def test_the_cube_is_what_monais_transforms_cut(
    spacing: tuple[float, float, float], shape: tuple[int, int, int], at: tuple[float, float, float]
) -> None:
    values = np.random.default_rng(0).normal(-500, 300, shape).astype(np.float32)
    point = tuple(share * (n - 1) for share, n in zip(at, shape, strict=True))
    origin = np.array([-120.3, -80.7, 33.3])
    position = origin + np.array([point[2] * spacing[2], point[1] * spacing[1], point[0] * spacing[0]])
    ours, _ = cube(Scan(values, spacing, (point[0], point[1], point[2])))
    assert np.abs(ours[0] - monai_cube(values, spacing, origin, position)).max() < 1e-5


def test_a_part_of_the_scan_gives_the_same_cube_as_the_whole() -> None:
    values = np.random.default_rng(1).normal(-500, 300, (90, 70, 70)).astype(np.float32)
    spacing = (1.3, 0.8, 0.8)
    whole, _ = cube(Scan(values, spacing, (50.2, 35.0, 35.0)))
    part, _ = cube(Scan(values[25:76], spacing, (25.2, 35.0, 35.0), slices_below=25))
    assert np.abs(whole - part).max() < 1e-5


def test_the_grid_says_where_each_voxel_of_the_cube_is() -> None:
    z, y, x = np.meshgrid(*(np.arange(80.0),) * 3, indexing="ij")
    for values, axis in ((z, 0), (y, 1), (x, 2)):
        scan = Scan((values * 30).astype(np.float32), (1.5, 0.9, 0.7), (40.0, 41.0, 42.0))
        patch, grid = cube(scan)
        k = np.arange(CUBE)
        there = np.moveaxis(patch[0, 0], axis, 0)[:, 20, 20] * 3072 - 1024
        inside = there > -1000
        assert there[inside] / 30 == pytest.approx((grid.first[axis] + grid.step[axis] * k)[inside], abs=1e-2)
