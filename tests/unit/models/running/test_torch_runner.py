"""The parts of the way by CUDA that need no CUDA device, on the CPU."""

from dataclasses import dataclass

import numpy as np
import pytest
from support import installed

installed("openvino", "torch")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from ainode.models.running.precision import distance  # noqa: E402
from ainode.models.running.runtime import Execution, Recipe, precisions_on, runner  # noqa: E402
from ainode.models.running.torch_runner import (  # noqa: E402
    RecordedRunner,
    TorchRunner,
    formatted_runner,
    in_format,
    torch_runner,
)

SHAPE = (2, 3, 16, 16)
PICTURES = np.random.default_rng(0).random(SHAPE, np.float32)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 1), nn.Sigmoid()
    return nn.Sequential(*layers)


RECIPE = Recipe(network, SHAPE, "small")


@dataclass
class Replay:
    """Computes anew from the inputs' place in memory into the outputs' place, as a CUDA graph does."""

    runner: TorchRunner
    inputs: Tensor
    outputs: tuple[Tensor, ...]
    count: int = 0

    def replay(self) -> None:
        self.count += 1
        for place, output in zip(self.outputs, self.runner.outputs(self.inputs), strict=True):
            place.copy_(output)


def test_channels_beside_each_other_answer_as_the_network_does() -> None:
    plain, formatted = torch_runner(RECIPE, "f32", "torch-cpu"), formatted_runner(RECIPE, "f32", "cpu")
    weights = formatted.module.get_parameter("0.weight")
    assert weights.is_contiguous(memory_format=torch.channels_last)
    assert formatted(PICTURES)[0] == pytest.approx(plain(PICTURES)[0], abs=1e-6)


def test_half_precision_computes_in_half_and_answers_in_single() -> None:
    exact, low = formatted_runner(RECIPE, "f32", "cpu"), formatted_runner(RECIPE, "bf16", "cpu")
    assert low.outputs(torch.from_numpy(PICTURES))[0].dtype == torch.bfloat16
    (answer,) = low(PICTURES)
    assert answer.dtype == np.float32
    assert 0 < distance(answer.astype(np.float64), exact(PICTURES)[0].astype(np.float64)) < 0.01


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((1, 3, 4, 4), torch.channels_last), ((1, 3, 4, 4, 4), torch.channels_last_3d), ((3, 4), torch.contiguous_format)],
)
def test_pictures_and_volumes_have_a_format_of_their_own(shape: tuple[int, ...], wanted: torch.memory_format) -> None:
    assert in_format(torch.zeros(shape)).is_contiguous(memory_format=wanted)


def test_a_recording_answers_for_each_input_and_another_shape_runs_without_it() -> None:
    live = formatted_runner(RECIPE, "f32", "cpu")
    inputs = in_format(torch.zeros(SHAPE))
    outputs = tuple(output.clone() for output in live.outputs(inputs))
    replay = Replay(live, inputs, outputs)
    recorded = RecordedRunner(live, replay, inputs, outputs)
    first, second = recorded(PICTURES)[0].copy(), recorded(1 - PICTURES)[0]
    assert first == pytest.approx(live(PICTURES)[0])
    assert second == pytest.approx(live(1 - PICTURES)[0])
    assert recorded(PICTURES[:1])[0] == pytest.approx(live(PICTURES[:1])[0])
    assert (replay.count, recorded.precision, recorded.device) == (2, "f32", "cpu")


def test_cuda_is_tried_in_both_half_precisions_and_int8_is_no_precision_of_torch() -> None:
    assert precisions_on("cuda:0") == ("f32", "bf16", "f16")
    with pytest.raises(ValueError, match="torch runs no int8"):
        torch_runner(RECIPE, "int8", "torch-cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_that_was_asked_for_and_is_absent_is_refused() -> None:
    from pathlib import Path

    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        runner(RECIPE, Execution(Path(), "cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_recording_on_cuda_answers_as_the_network() -> None:
    recording = torch_runner(RECIPE, "f32", "cuda")
    assert isinstance(recording, RecordedRunner)
    exact = torch_runner(RECIPE, "f32", "torch-cpu")
    for pictures in (PICTURES, 1 - PICTURES):
        assert recording(pictures)[0] == pytest.approx(exact(pictures)[0], abs=1e-4)
