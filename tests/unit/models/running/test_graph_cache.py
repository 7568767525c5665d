"""Converted networks on the disk: whatever became of their files, a network answers as it was converted."""

import logging
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import installed

installed("openvino", "torch")

import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import nn  # noqa: E402

from ainode.models.running.graph_cache import _part_folder  # noqa: E402
from ainode.models.running.runtime import Execution, Recipe, runner  # noqa: E402
from ainode.node.app import _PARTS  # noqa: E402
from ainode.node.disk import remove_parts  # noqa: E402

SHAPE = (1, 3, 8, 8)
INPUT = np.linspace(-1, 1, 3 * 8 * 8, dtype=np.float32).reshape(SHAPE)


class Network(nn.Module):
    """A convolution with large weights, counted."""

    builds = 0

    def __init__(self) -> None:
        super().__init__()
        Network.builds += 1
        torch.manual_seed(1)
        self.layer = nn.Conv2d(3, 64, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the convolution."""
        output: torch.Tensor = self.layer(inputs)
        return output


def answer(cache: Path, key: str = "weights") -> NDArray[np.float32]:
    (output,) = runner(Recipe(Network, SHAPE, key), Execution(cache, "cpu", threads=1))(INPUT)
    return output


@pytest.fixture
def expected_answer() -> NDArray[np.float32]:
    """Return the answer of torch."""
    with torch.inference_mode():
        values: NDArray[np.float32] = Network()(torch.from_numpy(INPUT)).numpy()
    return values


def test_a_network_is_converted_once_for_the_same_weights(tmp_path: Path) -> None:
    first = answer(tmp_path)
    (folder,) = tmp_path.iterdir()
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert np.array_equal(answer(tmp_path), first)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps
    answer(tmp_path, "other weights")
    assert len(list(tmp_path.iterdir())) == 2


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _zero, _alter, Path.unlink])
@pytest.mark.parametrize("name", ["graph.xml", "graph.bin", "sha256.txt"])
def test_a_damaged_graph_is_converted_anew_with_one_line_in_the_log(
    name: str,
    damage: Callable[[Path], None],
    tmp_path: Path,
    expected_answer: NDArray[np.float32],
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer(tmp_path)
    (folder,) = tmp_path.iterdir()
    damage(folder / name)
    with caplog.at_level(logging.INFO, "ainode"):
        np.testing.assert_allclose(answer(tmp_path), expected_answer, atol=1e-5)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"the converted network in {folder.name} is damaged or of an earlier version, and is converted anew"
    ]
    caplog.clear()
    builds = Network.builds
    np.testing.assert_allclose(answer(tmp_path), expected_answer, atol=1e-5)
    assert Network.builds == builds
    assert not caplog.records


def test_without_a_folder_for_its_cache_a_network_runs(
    tmp_path: Path, expected_answer: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "networks").write_bytes(b"a file where the folder should be")
    np.testing.assert_allclose(answer(tmp_path / "networks"), expected_answer, atol=1e-5)
    assert [record.getMessage().split(",")[0] for record in caplog.records] == ["the converted network is not kept"]


def test_on_a_full_disk_a_network_runs_and_leaves_nothing(
    tmp_path: Path, expected_answer: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        output = answer(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    np.testing.assert_allclose(output, expected_answer, atol=1e-5)
    assert list(tmp_path.iterdir()) == []
    assert [record.getMessage().split(",")[0] for record in caplog.records] == ["the converted network is not kept"]


def test_the_folder_of_a_killed_conversion_is_one_that_a_node_removes_and_that_of_a_live_one_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "networks").mkdir()
    with _part_folder(tmp_path / "networks") as live:
        killed = live.with_name("killed.part")
        killed.mkdir()
        (killed / "graph.bin").touch()
        remove_parts(tmp_path, _PARTS)
        assert live.exists()
        assert not killed.exists()
