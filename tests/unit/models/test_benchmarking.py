"""The comparison with Keras on TensorFlow, where TensorFlow is not installed, and with eager PyTorch."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.node import ROOT

from ainode.models.errors import installation
from ainode.models.running.checkpoints import save_half
from ainode.models.skin_lesion.benchmark import benchmark
from ainode.models.skin_lesion.calibration import Calibration
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.network import LesionNetwork

_PROGRAM = """
import json, sys
from pathlib import Path
from ainode.models.skin_lesion.benchmark import benchmark
comparison = benchmark({}, cache=Path(sys.argv[1]), full_size=True, runs=1)
print(json.dumps(comparison._asdict()))
"""


@pytest.fixture(scope="module")
def packages_without_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith("tensorflow"):
            (folder / package.name).symlink_to(package)
    return folder


def test_without_tensorflow_the_keras_column_is_left_out_and_a_note_names_the_package(
    packages_without_tensorflow: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", _PROGRAM, tmp_path],
        env=os.environ | {"PYTHONPATH": f"{packages_without_tensorflow}:{ROOT / '.ns'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    comparison = json.loads(done.stdout.splitlines()[-1])
    assert comparison["note"] == f"Keras column left out: tensorflow is not installed; {installation('train')}"
    assert comparison["titles"] == ["way", "network", "median ms", "quartiles ms", "runs"]
    assert [len(row) for row in comparison["rows"]] == [5] * len(comparison["rows"])
    assert {row[0].split(",")[0] for row in comparison["rows"]} == {"ainode"}


def test_the_shipped_network_is_timed_beside_eager_pytorch_and_answers_alike(tmp_path: Path) -> None:
    weights = tmp_path / "untrained.safetensors"
    save_half(LesionNetwork(), weights, Calibration().metadata())
    comparison = benchmark({read_card().network: weights}, cache=tmp_path, runs=1)
    assert comparison.rows[0][0] == "PyTorch eager, inference_mode"
    assert comparison.rows[1][0] == "ainode, OpenVINO f32"
    assert all(len(row) == len(comparison.titles) for row in comparison.rows)
    assert float(str(comparison.rows[1][-1])) < 0.001
