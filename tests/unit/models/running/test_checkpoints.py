"""Weights in the original's layouts load and give the reference numbers; pickles never open."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ainode.models.errors import CheckpointRefused
from ainode.models.running.checkpoints import load, state_dict
from ainode.models.spine_radiograph.checkpoints import class_names
from ainode.models.spine_radiograph.detector_network import yolo
from ainode.models.spine_radiograph.network import classifier


@pytest.fixture(scope="module")
def original() -> torch.nn.Module:
    torch.manual_seed(3)
    return classifier("resnet18").eval()


def _answers_alike(path: Path, original: torch.nn.Module) -> bool:
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return torch.equal(load(classifier("resnet18"), path)(picture), original(picture))


def test_a_full_training_checkpoint_loads(tmp_path: Path, original: torch.nn.Module) -> None:
    optimizer = torch.optim.Adam(original.parameters())
    original(torch.rand(2, 3, 64, 64)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    stored = {
        "epoch": 12,
        "model_state_dict": original.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "best_auroc": np.float64(0.8944),
    }
    torch.save(stored, tmp_path / "full.pth")
    assert _answers_alike(tmp_path / "full.pth", original)


def test_a_bare_state_dict_loads(tmp_path: Path, original: torch.nn.Module) -> None:
    torch.save(original.state_dict(), tmp_path / "bare.pth")
    assert _answers_alike(tmp_path / "bare.pth", original)


def test_a_state_dict_of_a_parallel_training_loads(tmp_path: Path, original: torch.nn.Module) -> None:
    torch.save({"module." + key: value for key, value in original.state_dict().items()}, tmp_path / "parallel.pth")
    assert _answers_alike(tmp_path / "parallel.pth", original)


def test_safetensors_load(tmp_path: Path, original: torch.nn.Module) -> None:
    save_file(original.state_dict(), tmp_path / "plain.safetensors")
    assert _answers_alike(tmp_path / "plain.safetensors", original)


class _Runs:
    """What a hostile file holds: opening it would write another file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"model_state_dict": _Runs(tmp_path / "ran")}, tmp_path / "evil.pt")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(_Runs(tmp_path / "ran"), protocol=2))
    for name in ("evil.pt", "evil.pkl"):
        with pytest.raises(CheckpointRefused, match="never opened"):
            state_dict(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_pickled_detector_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    torch.save({"model": yolo("yolo11n", 2)}, tmp_path / "best.pt")
    with pytest.raises(CheckpointRefused, match=r"checkpoints SOURCE\.pt TARGET\.safetensors"):
        state_dict(tmp_path / "best.pt")


def test_the_conversion_keeps_the_detectors_weights_and_its_own_class_names(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = yolo("yolo11n", 2)
    network.names = {0: "Osteophytes", 1: "Surgical implant"}  # type: ignore[assignment]
    torch.save({"model": network, "ema": None}, tmp_path / "best.pt")
    command = [sys.executable, "-m", "ainode.models.spine_radiograph.checkpoints"]
    subprocess.run([*command, tmp_path / "best.pt", tmp_path / "out.safetensors"], check=True, capture_output=True)
    assert class_names(tmp_path / "out.safetensors") == ("Osteophytes", "Surgical implant")
    key = "model.0.conv.weight"
    assert torch.allclose(state_dict(tmp_path / "out.safetensors")[key], network.state_dict()[key], atol=1e-3)


def test_the_conversion_refuses_a_file_that_would_run_code(tmp_path: Path) -> None:
    torch.save({"model": _Runs(tmp_path / "ran")}, tmp_path / "best.pt")
    command = [sys.executable, "-m", "ainode.models.spine_radiograph.checkpoints"]
    done = subprocess.run(
        [*command, tmp_path / "best.pt", tmp_path / "out.safetensors"], check=False, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(classifier("resnet10t").state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointRefused, match="not the weights of this network"):
        load(classifier("resnet18"), tmp_path / "other.pth")


def test_a_truncated_file_is_refused(tmp_path: Path, original: torch.nn.Module) -> None:
    save_file(original.state_dict(), tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:5000])
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 cut")
    for name in ("cut.safetensors", "cut.pt", "absent.pt"):
        with pytest.raises(CheckpointRefused):
            state_dict(tmp_path / name)
