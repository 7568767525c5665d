"""The comparison with Keras on TensorFlow, where TensorFlow is not installed."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.node import ROOT

_PROGRAM = """
import json, sys
from pathlib import Path
from ainode.models.running.keras_network import backend, efficientnet_lite0, save_half
from ainode.models.skin_lesion.benchmark import benchmark
from ainode.models.skin_lesion.calibration import Calibration
from ainode.models.skin_lesion.card import read_card
card, folder = read_card(), Path(sys.argv[1])
backend("torch")
weights = folder / "untrained.safetensors"
save_half(efficientnet_lite0(card.side, 1), weights, Calibration(1, 0, 1, 0.5).metadata())
comparison = benchmark({card.network: weights}, cache=folder, full_size=sys.argv[2] == "full size", runs=1)
print(json.dumps(comparison._asdict()))
"""


@pytest.fixture(scope="module")
def packages_without_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith("tensorflow"):
            (folder / package.name).symlink_to(package)
    return folder


@pytest.mark.parametrize("size", ["shipped size", "full size"])
def test_without_tensorflow_the_keras_column_is_left_out_and_a_note_names_the_package(
    packages_without_tensorflow: Path, tmp_path: Path, size: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", _PROGRAM, tmp_path, size],
        env=os.environ | {"PYTHONPATH": f"{packages_without_tensorflow}:{ROOT / '.ns'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    comparison = json.loads(done.stdout.splitlines()[-1])
    assert comparison["note"] == "Keras column left out: tensorflow is not installed; pip install 'ainode[train]'"
    assert comparison["titles"] == ["way", "network", "median ms", "quartiles ms", "runs"]
    assert [len(row) for row in comparison["rows"]] == [5] * len(comparison["rows"])
    assert {row[0].split(",")[0] for row in comparison["rows"]} == {"ainode"}
