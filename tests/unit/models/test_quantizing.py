"""An int8 graph is kept where it answers as f32 does, and nowhere else; NNCF itself is not needed for that."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import installed

installed("cv2", "keras", "openvino", "sklearn", "torch")

import torch  # noqa: E402
from torch import nn  # noqa: E402

from ainode.models.errors import PrecisionRefused  # noqa: E402
from ainode.models.quantizing import Judgement, Subject, nncf_quantize, quantized  # noqa: E402
from ainode.models.running.conversion import graph_of  # noqa: E402
from ainode.models.running.precision import CHOICES  # noqa: E402
from ainode.models.running.runtime import Array, Execution, Recipe, Runner, runner  # noqa: E402
from ainode.models.training.metrics import Estimate  # noqa: E402

SHAPE = (1, 1, 8, 8)
GOOD = Judgement(0.004, 0.001, 0.02, Estimate(0.9, 0.85, 0.95, 100), Estimate(0.89, 0.84, 0.94, 100))


def network(shift: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1)).eval()
    with torch.no_grad():
        layers[3].bias += shift
    return layers


@pytest.fixture
def subject() -> Subject:
    random = np.random.default_rng(0)
    pictures = random.normal(0, 3, (60, *SHAPE)).astype(np.float32)

    def answers(run: Runner) -> NDArray[np.float64]:
        logits = np.concatenate([run(picture)[0][:, 0] for picture in pictures])
        return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))))

    recipe = Recipe(network, SHAPE, "quantizing")
    return Subject("small", recipe, list(pictures[:20]), np.arange(60) % 2, np.arange(60), answers, answers)


def shifted(shift: float) -> Any:  # noqa: ANN401  # openvino has no stubs
    """Return what makes the graph of the same network, its logit moved."""
    return lambda _graph, _inputs: graph_of(Recipe(lambda: network(shift), SHAPE, "shifted"))


def test_a_graph_that_agrees_is_kept_and_runs_as_int8(subject: Subject, tmp_path: Path) -> None:
    (tmp_path / CHOICES).mkdir()
    with pytest.raises(PrecisionRefused, match="no int8 graph"):
        runner(subject.recipe, Execution(tmp_path, "cpu", "int8"))
    judgement = quantized(subject, shifted(0.01), tmp_path)
    assert not judgement.refusal
    assert 0.001 < judgement.reference_gap < 0.004
    exact, low = (runner(subject.recipe, Execution(tmp_path, "cpu", precision)) for precision in ("f32", "int8"))
    picture = subject.calibration[0]
    assert low.precision == "int8"
    assert low(picture)[0] - exact(picture)[0] == pytest.approx(0.01, abs=1e-5)
    assert not (tmp_path / CHOICES).exists()  # what "auto" chose before knew of no int8
    with pytest.raises(PrecisionRefused):
        runner(replace(subject.recipe, key="other weights"), Execution(tmp_path, "cpu", "int8"))


def test_a_graph_that_moves_a_probability_too_far_is_not_kept(subject: Subject, tmp_path: Path) -> None:
    judgement = quantized(subject, shifted(0.1), tmp_path)
    assert "more than 0.005" in judgement.refusal
    with pytest.raises(PrecisionRefused, match="no int8 graph"):
        runner(subject.recipe, Execution(tmp_path, "cpu", "int8"))
    assert not list(tmp_path.glob("*.part"))


def test_a_graph_whose_auc_leaves_the_interval_is_refused() -> None:
    assert not GOOD.refusal
    assert "AUC 0.840" in replace(GOOD, quantized=Estimate(0.84, 0.8, 0.9, 100)).refusal
    assert replace(GOOD, quantized=Estimate(float("nan"), 0, 1, 100)).refusal
    assert replace(GOOD, reference_gap=float("nan")).refusal


def test_nncf_makes_an_int8_graph_of_the_pictures(subject: Subject, tmp_path: Path) -> None:
    installed("nncf")
    shown: list[Sequence[Array]] = []

    def quantize(graph: Any, inputs: Sequence[Array]) -> Any:  # noqa: ANN401  # openvino has no stubs
        shown.append(inputs)
        made = nncf_quantize(graph, inputs)
        assert "FakeQuantize" in {node.get_type_name() for node in made.get_ops()}
        return made

    judgement = quantized(subject, quantize, tmp_path)
    assert len(shown[0]) == 20
    assert 0 < judgement.farthest_gap < 0.2
