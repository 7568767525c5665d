"""What ships is what the manifest says, and reads synthetic studies better than chance."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import numpy as np
import pytest

from ainode.models.phantoms.spine import spine_radiograph
from ainode.models.running.runtime import Execution
from ainode.models.spine_radiograph.card import read_card
from ainode.models.spine_radiograph.model import SpineRadiographModel, weights_in
from ainode.models.training.metrics import auc

WEIGHTS = Path(__file__).parents[3] / "weights"
_MIB = 1024 * 1024


def _entries() -> list[dict[str, object]]:
    table = tomllib.loads((WEIGHTS / "manifest.toml").read_text("utf-8"))
    return [entry for entry in table["weights"] if entry["model"] == "spine_radiograph"]


def test_every_file_is_the_bytes_that_the_manifest_names() -> None:
    for entry in _entries():
        content = (WEIGHTS / str(entry["file"])).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["bytes"]
        assert len(content) <= 25 * _MIB


def test_the_manifest_has_every_network_of_the_card() -> None:
    assert {entry["network"]: entry["file"] for entry in _entries()} == dict(read_card().files)


def test_every_entry_says_where_it_comes_from() -> None:
    for entry in _entries():
        assert entry["status"] == "demonstration"
        assert "synthetic" in str(entry["training_data"])
        assert entry["licence"]
        assert entry["metrics"]
        assert entry["version"]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> SpineRadiographModel:
    return SpineRadiographModel.load(weights_in(WEIGHTS), execution=Execution(tmp_path_factory.mktemp("graphs"), "cpu"))


def test_the_shipped_model_tells_abnormal_phantoms_from_normal_ones(shipped: SpineRadiographModel) -> None:
    labels, scores = [], []
    for seed in range(60):
        drawn = spine_radiograph(
            np.random.default_rng([90, seed]), rows=640, columns=480, region="LUMBAR", abnormal=bool(seed % 2)
        )
        labels.append(drawn.abnormal)
        scores.append(shipped.predict(drawn.image.astype(np.float32)).probability)
    assert auc(labels, scores) > 0.75
