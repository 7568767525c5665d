"""Both trainings run, in seconds, and what they write can be served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import installed

installed("torch", "timm", "openvino", "safetensors", "sklearn", "tqdm")

import torch  # noqa: E402  # after the packages were seen to be here

from ainode.models.lung_nodule import experiment, lidc, lidc_training, temporal_training  # noqa: E402
from ainode.models.lung_nodule.model import LungNoduleModel, reference_scans  # noqa: E402
from ainode.models.running.runtime import Execution  # noqa: E402
from ainode.models.training.experiment import TrainingOptions  # noqa: E402

_ONE_EPOCH = TrainingOptions(epochs=1)


def balls(path: Path, count: int, seed: int) -> None:
    """Write nodules in the layout of nodule3d_lidc: large ones malignant, small ones benign, two of a patient."""
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.arange(64) - 32,) * 2, indexing="ij")
    labels = np.arange(count) % 2
    counts = random.integers(1, 5, count)
    slices, outlines = [], []
    for label, slices_of in zip(labels, counts, strict=True):
        for _ in range(slices_of):
            inside = np.hypot(y, x) < random.uniform(4, 7) + 6 * label
            outlines.append(inside)
            slices.append(np.clip(30 + 170 * inside + random.normal(0, 10, inside.shape), 0, 255))
    np.savez(
        path,
        slices=np.array(slices, np.uint8),
        mask_packed=np.packbits(np.array(outlines).reshape(len(outlines), -1), axis=1),
        offset=np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32),
        n_slices=counts.astype(np.int32),
        label=labels.astype(np.uint8),
        rating=np.where(labels == 1, 5, 1).astype(np.uint8),
        patient=np.array([f"P{number // 2}" for number in range(count)]),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lidc")
    balls(folder / "train.npz", 60, 0)
    balls(folder / "test.npz", 12, 1)
    return folder


def test_both_profiles_are_trained_served_and_evaluated(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    slices = lidc_training.train_ensemble(data, tmp_path / "lidc", _ONE_EPOCH)
    cubes = temporal_training.train(tmp_path / "temporal", _ONE_EPOCH, counts=(6, 6))
    model = LungNoduleModel.load({"lidc": slices, "temporal": cubes}, execution=Execution(tmp_path, "torch-cpu"))
    scans = reference_scans()
    assert 0 < model.predict(scans[:1]).probability < 1
    assert 0 < model.predict(scans).probability < 1
    found = experiment.evaluate(data, {"lung_nodule/lidc": slices}, "test")
    assert found.probabilities.shape == (12, 2)
    assert {name: rule.kind for name, rule in found.baselines.items() if "shortcut" not in name} == {
        "size alone, of the radiologists' outlines": "anatomy",
        "logistic regression on 32 x 32 pixels": "pixels",
    }
    assert "shortcut: all of these" in found.baselines
    few = {"train": (0, 6), "test": (1, 6)}
    dated = experiment.over_time(tmp_path / "temporal", {"lung_nodule/temporal": cubes}, "test", phantoms=few)
    assert dated.probabilities.shape == (6, 2)
    assert {"shortcut: gray", "these weights, two dates", "these weights, one date"} <= set(dated.baselines)


def test_no_patient_is_in_both_parts_of_a_fold(data: Path) -> None:
    nodules = lidc.read(data, "train")
    for train, validation in lidc_training.folds(nodules, 0):
        assert not set(nodules.patients[train]) & set(nodules.patients[validation])


def test_the_outline_moves_with_the_picture(data: Path) -> None:
    nodules = lidc.read(data, "train")
    pictures = torch.from_numpy(nodules.middle_pictures(range(16)))
    outlines = torch.from_numpy(nodules.outlines[[nodules.middle(row) for row in range(16)]].astype(np.float32))
    moved, cells = lidc_training.augmented_batch(pictures, outlines[:, None], torch.Generator().manual_seed(0))
    small = torch.nn.functional.interpolate(moved, size=(24, 24), mode="area")[:, 0]
    inside, outside = small[cells > 0.95], small[cells < 0.05]
    assert inside.mean() > outside.mean() + 0.4


def test_a_growing_nodule_grows_and_a_stable_one_does_not() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        grown, stable = (temporal_training.diameters(random, grows=grows) for grows in (True, False))
        assert (np.diff(np.log(grown)) > 0.12).all()
        assert (np.abs(np.diff(np.log(stable))) < 0.05).all()
