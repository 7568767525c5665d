"""The choice of a precision: the fastest that agrees with f32, made once for the weights and the processor."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import installed

installed("openvino")

from ainode.models.errors import PrecisionRefused  # noqa: E402
from ainode.models.running import precision  # noqa: E402
from ainode.models.running.precision import CHOICES, Candidate, Trial, distance, fastest, fitted  # noqa: E402
from ainode.models.running.runtime import Execution, precisions_on  # noqa: E402

EXACT = Candidate("f32", 10.0, 0.0)


@dataclass
class Laboratory:
    """Loads a network that is the name of its precision, and counts what is asked for."""

    gaps: dict[str, float]
    loads: list[str] = field(default_factory=list)
    drawn: int = 0

    def load(self, execution: Execution) -> str:
        if execution.precision not in {"f32", *self.gaps}:
            raise PrecisionRefused("no such graph")
        self.loads.append(execution.precision)
        return execution.precision

    def inputs(self) -> int:
        self.drawn += 1
        return 3

    def answers(self, model: str, count: int) -> NDArray[np.float64]:
        return np.full(count, 0.5 + self.gaps.get(model, 0.0))

    def trial(self, key: str = "weights") -> Trial[str, int]:
        return Trial("network", key, self.load, self.inputs, self.answers)


@pytest.fixture
def two_precisions(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], None]:
    """Have the processor offer f32, bf16 and int8, at times that the test names."""
    monkeypatch.setattr(precision, "precisions_on", lambda _: ("f32", "bf16", "int8"))

    def take(times_ms: dict[str, float]) -> None:
        monkeypatch.setattr(precision, "_medians_ms", lambda runs: {name: times_ms[name] for name in runs})

    return take


def test_the_fastest_precision_that_agrees_is_taken() -> None:
    assert fastest([EXACT, Candidate("bf16", 6.0, 0.004), Candidate("int8", 4.0, 0.005)]) == "int8"


def test_a_fast_precision_that_moves_a_probability_too_far_is_never_taken() -> None:
    assert fastest([EXACT, Candidate("bf16", 6.0, 0.004), Candidate("int8", 1.0, 0.0051)]) == "bf16"
    assert fastest([EXACT, Candidate("bf16", 6.0, 0.0053)]) == "f32"


def test_f32_stays_where_nothing_is_a_tenth_faster() -> None:
    assert fastest([EXACT, Candidate("bf16", 9.5, 0.0)]) == "f32"
    assert fastest([EXACT, Candidate("bf16", 14.0, 0.0)]) == "f32"
    assert fastest([EXACT]) == "f32"


def test_an_answer_that_is_no_number_is_one_apart() -> None:
    assert distance(np.asarray([0.5, np.nan]), np.asarray([0.5, 0.5])) == 1.0
    assert distance(np.asarray([[0.5, 0.52], [0.1, 0.1]]), np.asarray([[0.5, 0.5], [0.1, 0.1]])) == pytest.approx(0.01)


def test_auto_measures_once_and_a_later_start_draws_no_reference_inputs(
    tmp_path: Path, two_precisions: Callable[[dict[str, float]], None]
) -> None:
    two_precisions({"f32": 10.0, "bf16": 5.0})
    laboratory = Laboratory({"bf16": 0.001})
    assert fitted(laboratory.trial(), Execution(tmp_path, "cpu", "auto")) == "bf16"
    again = Laboratory({"bf16": 0.001})
    assert fitted(again.trial(), Execution(tmp_path, "cpu", "auto")) == "bf16"
    assert (laboratory.drawn, again.drawn, again.loads) == (1, 0, ["bf16"])
    assert not list(tmp_path.glob("*.part"))


def test_a_choice_is_of_one_set_of_weights(tmp_path: Path, two_precisions: Callable[[dict[str, float]], None]) -> None:
    two_precisions({"f32": 10.0, "bf16": 5.0})
    assert fitted(Laboratory({"bf16": 0.001}).trial(), Execution(tmp_path, "cpu", "auto")) == "bf16"
    other = Laboratory({"bf16": 0.02})
    assert fitted(other.trial("other weights"), Execution(tmp_path, "cpu", "auto")) == "f32"
    assert other.drawn == 1


def test_a_damaged_choice_and_one_whose_graph_is_gone_are_made_anew(
    tmp_path: Path, two_precisions: Callable[[dict[str, float]], None]
) -> None:
    two_precisions({"f32": 10.0, "bf16": 5.0, "int8": 2.0})
    execution = Execution(tmp_path, "cpu", "auto")
    assert fitted(Laboratory({"bf16": 0.001, "int8": 0.002}).trial(), execution) == "int8"
    assert fitted(Laboratory({"bf16": 0.001}).trial(), execution) == "bf16"
    (path,) = (tmp_path / CHOICES).iterdir()
    assert [entry["precision"] for entry in json.loads(path.read_text())["candidates"]] == ["f32", "bf16"]
    path.write_text('{"precision": "f8"}')
    assert fitted(Laboratory({}).trial(), execution) == "f32"


def test_a_choice_that_cannot_be_kept_is_made_all_the_same(
    tmp_path: Path, two_precisions: Callable[[dict[str, float]], None], caplog: pytest.LogCaptureFixture
) -> None:
    two_precisions({"f32": 10.0, "bf16": 5.0})
    (tmp_path / CHOICES).write_text("in the way")
    assert fitted(Laboratory({"bf16": 0.0}).trial(), Execution(tmp_path, "cpu", "auto")) == "bf16"
    assert "is not kept" in caplog.text


def test_a_precision_that_was_asked_for_is_refused_where_it_does_not_agree(tmp_path: Path) -> None:
    with pytest.raises(PrecisionRefused, match=r"network: bf16 moves a probability by 0\.0200"):
        fitted(Laboratory({"bf16": 0.02}).trial(), Execution(tmp_path, "cpu", "bf16"))
    assert fitted(Laboratory({"bf16": 0.002}).trial(), Execution(tmp_path, "cpu", "bf16")) == "bf16"


def test_f32_is_taken_without_a_trial(tmp_path: Path) -> None:
    laboratory = Laboratory({"bf16": 0.001})
    assert fitted(laboratory.trial(), Execution(tmp_path, "cpu", "f32")) == "f32"
    assert (laboratory.loads, laboratory.drawn, list(tmp_path.iterdir())) == (["f32"], 0, [])


def test_no_precision_that_the_processor_emulates_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    from ainode.models.running import runtime

    monkeypatch.setattr(runtime, "cpu_has_bf16", lambda: False)
    assert precisions_on("cpu") == ("f32", "int8")
    assert precisions_on("torch-cpu") == ("f32",)
