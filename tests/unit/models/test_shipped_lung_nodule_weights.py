"""The weights that ship: the bytes the manifest names, and a model that tells what its card says."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
from support import installed, shared

installed("torch", "timm", "openvino", "safetensors")

from ainode.models.lung_nodule import lidc  # noqa: E402  # after the packages were seen to be here
from ainode.models.lung_nodule.card import read_card  # noqa: E402
from ainode.models.lung_nodule.model import LungNoduleModel, slice_recipe  # noqa: E402
from ainode.models.lung_nodule.patches import Scan, cube  # noqa: E402
from ainode.models.lung_nodule.temporal_training import drawn_case  # noqa: E402
from ainode.models.running.runtime import Execution, runner  # noqa: E402
from ainode.models.training.metrics import auc  # noqa: E402

WEIGHTS = Path(__file__).resolve().parents[3] / "weights"
_MIB = 2**20


def files() -> dict[str, Path]:
    return {profile: WEIGHTS / file for profile, file in read_card().files.items()}


def test_every_file_is_the_bytes_that_the_manifest_names() -> None:
    rows = tomllib.loads((WEIGHTS / "manifest.toml").read_text("utf-8"))["weights"]
    entries = {row["name"]: row for row in rows if row["model"] == "lung_nodule"}
    assert set(entries) == {f"lung_nodule/{profile}" for profile in files()}
    for profile, path in files().items():
        entry = entries[f"lung_nodule/{profile}"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert path.stat().st_size == entry["bytes"] <= 25 * _MIB
        assert entry["status"] == {"lidc": "research", "temporal": "demonstration"}[profile]


def test_the_ensemble_orders_training_nodules_far_better_than_their_pixels_do(tmp_path: Path) -> None:
    """On sixty nodules it was trained on: that the file is whole and stretched as in training, not how good it is."""
    nodules = lidc.read(shared("data/labelled/nodule3d_lidc"), "train")
    run = runner(slice_recipe(files()["lidc"]), Execution(tmp_path, "torch-cpu"))
    rows = np.random.default_rng(0).choice(len(nodules.labels), 60, replace=False)
    logits = [float(run(picture[None])[0][0]) for picture in nodules.middle_pictures(rows)]
    assert auc(nodules.labels[rows], logits) > 0.9


@pytest.mark.parametrize("dates", [2, 3])
def test_a_growing_phantom_is_more_suspicious_than_a_stable_one(tmp_path: Path, dates: int) -> None:
    model = LungNoduleModel.load(files(), execution=Execution(tmp_path, "torch-cpu"))
    said = []
    for grows in (False, True):
        made = [drawn_case(77, number, grows=grows)[0] for number in range(4)]
        scans = [
            [Scan(one.astype(np.float32) * 3072 - 1024, (1.0, 1.0, 1.0), (25.0, 25.0, 25.0)) for one in cubes[-dates:]]
            for cubes in made
        ]
        assert np.allclose(cube(scans[0][-1])[0][0, 0], made[0][-1], atol=1e-2)
        said.append(np.mean([model.predict(one).probability for one in scans]))
    assert said[1] > said[0] + 0.1
