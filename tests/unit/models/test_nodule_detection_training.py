from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from ainode.models.nodule_detection.evaluation import SMALLEST_MM
from ainode.models.nodule_detection.training import varied
from ainode.models.phantoms.thorax import Field, thorax
from ainode.models.training.experiment import TrainingOptions, evaluate, train

SPACING = (3.0, 2.0, 2.0)
DIAMETERS_MM = (7.0, 8.0, 9.0, 10.0, 11.0)


def put_nodules(path: Path) -> None:
    """Write balls of soft tissue in lung, each of another patient, as the data set stores nodules."""
    random = np.random.default_rng(0)
    values, masks, shapes = [], [], []
    for diameter in DIAMETERS_MM:
        reach = round(diameter / 2)
        z, y, x = np.meshgrid(*(np.arange(-n, n + 1) for n in (reach, reach + 8, reach + 8)), indexing="ij")
        mask = z**2 + y**2 + x**2 <= (diameter / 2) ** 2
        ball = ndimage.gaussian_filter(np.where(mask, 40.0, -860.0), 0.6) + random.normal(0, 20, mask.shape)
        values.append(ball.astype(np.int16).ravel())
        masks.append(mask.ravel())
        shapes.append(mask.shape)
    count = len(DIAMETERS_MM)
    np.savez(
        path,
        hu=np.concatenate(values),
        mask_packed=np.packbits(np.concatenate(masks)),
        offset=np.cumsum([0, *map(len, values)]),
        shape=np.asarray(shapes),
        spacing=np.full((count, 3), 1.0),
        diameter_mm=np.asarray(DIAMETERS_MM),
        patient=np.asarray([f"patient {number}" for number in range(count)]),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("nodule_lidc_hu", "chest_backgrounds"):
        (folder / name).mkdir()
    for part in ("train", "test"):
        put_nodules(folder / "nodule_lidc_hu" / f"{part}.npz")
    for number, name in enumerate(("normal001", "luna_normal_1", "luna_normal_2")):
        values = thorax(number, 1, scanned=Field((30, 110, 140), SPACING)).values
        if name == "luna_normal_2":
            # The lowest slices of this chest are blank in its file, and are cut off.
            values = np.concatenate([np.full((31, *values.shape[1:]), -1024.0), values])
        path = folder / "chest_backgrounds" / f"{name}.npz"
        np.savez(path, hu=values.astype(np.int16), spacing=np.asarray(SPACING))
    return folder


def test_a_training_ends_in_weights_that_the_evaluation_reads_beside_baselines(data: Path, tmp_path: Path) -> None:
    files = train("nodule_detection", data, tmp_path / "run", TrainingOptions(epochs=1, steps=1))
    assert not list((tmp_path / "run").glob("*.npz"))
    metrics = evaluate("nodule_detection", data, files, tmp_path / "evaluation")
    written = json.loads((tmp_path / "evaluation" / "metrics.json").read_text("utf-8"))
    assert written["froc"] == metrics["froc"]
    sensitivity = written["froc"][f"nodules of {SMALLEST_MM:.0f} mm and more"]["4"]
    assert sensitivity["n"] >= len(DIAMETERS_MM)
    assert {"shortcut", "pixels", "part"} <= {rule["kind"] for rule in written["baselines"].values()}
    assert written["chests_not_trained_on"] == ["luna_normal_2"]
    assert (tmp_path / "evaluation" / "froc.png").is_file()


def test_a_varied_cube_has_the_size_of_the_network_and_keeps_its_middle() -> None:
    cubes = torch.zeros(6, 2, 32, 32, 32)
    cubes[:, 0, 12:20, 12:20, 12:20] = 0.7
    cubes[:, 1, 14:18, 14:18, 14:18] = 0.7
    changed = varied(cubes, torch.Generator().manual_seed(0))
    assert changed.shape == (6, 2, 24, 24, 24)
    assert (changed[:, :, 11:13, 11:13, 11:13].mean(dim=(2, 3, 4)) > 0.5).all()
    assert (changed[:, :, :2].mean(dim=(2, 3, 4)) < 0.15).all()
