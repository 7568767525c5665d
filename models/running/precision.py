"""Chooses the precision of a network: of those whose answers to the reference inputs agree with f32's, the fastest.

"auto" measures once, and keeps the choice beside the converted graphs: for these weights, this processor and this
OpenVINO. A start that finds the choice measures nothing, and draws no reference inputs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Generic, TypeVar, get_args

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ainode.models.errors import PrecisionRefused
from ainode.models.running.runtime import (
    AGREEMENT,
    Execution,
    Precision,
    placed,
    precisions_on,
    processor_name,
    refuse_drift,
)

log = logging.getLogger(__name__)
Model = TypeVar("Model")
Inputs = TypeVar("Inputs")
CHOICES: Final = "precisions"
"""the folder of kept choices, in the folder of converted graphs"""
_ROUNDS: Final = 5
# A shorter advance over f32 is within what other load on the machine does to two medians of five.
_LEAST_ADVANCE: Final = 1.1
# Counted up when the rule or reference inputs change, so that every choice is made anew.
_RULE: Final = 2


@dataclass(frozen=True, slots=True)
class Trial(Generic[Model, Inputs]):
    """What a precision of a network, or of several that answer together, is tried with.

    Shapes: answers (n, ...), probabilities; two answers are as far apart as their further axes are in the mean.
    """

    name: str
    key: str
    """of the recipes: the weights, and what else changes an answer"""
    load: Callable[[Execution], Model]
    inputs: Callable[[], Inputs]
    """makes the reference inputs"""
    answers: Callable[[Model, Inputs], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A precision that was measured: the time of all reference inputs, and how far a probability moved from f32's."""

    precision: Precision
    median_ms: float
    largest_gap: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The precision that was chosen, and of what."""

    name: str
    processor: str
    openvino: str
    precision: Precision
    candidates: tuple[Candidate, ...]


def fitted(trial: Trial[Model, Inputs], execution: Execution) -> Model:
    """Return the network in the precision of an execution, with "auto" in the fastest that agrees with f32.

    Raises: PrecisionRefused if a precision was asked for that moves a probability by more than 0.005.
    """
    if execution.precision == "f32":
        return trial.load(execution)
    if execution.precision != "auto":
        model, exact = trial.load(execution), trial.load(replace(execution, precision="f32"))
        inputs = trial.inputs()
        gap = distance(trial.answers(model, inputs), trial.answers(exact, inputs))
        refuse_drift(trial.name, execution.precision, (gap,))
        return model
    path = _path(trial.key, execution)
    precision = _kept_precision(path)
    if precision is not None:
        # The graph of the precision may be gone; then the choice is made anew.
        with suppress(PrecisionRefused, ValueError):
            return trial.load(replace(execution, precision=precision))
    choice = _choice(trial, execution)
    _keep(choice, path)
    return trial.load(replace(execution, precision=choice.precision))


def distance(answers: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    """Return how far apart two sets of answers are; answers that are no numbers are 1 apart.

    Shapes: both (n, ...).
    """
    gaps = np.abs(answers - exact).reshape(len(exact), -1).mean(axis=1)
    return float(np.nan_to_num(gaps, nan=1.0).max(initial=0.0))


def fastest(candidates: Sequence[Candidate]) -> Precision:
    """Return the fastest precision that agrees with f32, which is the first candidate and stays unless one is faster.

    Faster is a tenth at least.
    """
    exact = candidates[0]
    agreeing = [candidate for candidate in candidates[1:] if candidate.largest_gap <= AGREEMENT]
    best = min(agreeing, key=lambda candidate: candidate.median_ms, default=exact)
    return best.precision if exact.median_ms >= _LEAST_ADVANCE * best.median_ms else exact.precision


def _choice(trial: Trial[Model, Inputs], execution: Execution) -> Choice:
    """Measure every precision of the device, in turn, and return the choice; a log line says it."""
    models: dict[Precision, Model] = {}
    for precision in precisions_on(placed(execution.device)):
        # No int8 graph was made of the network.
        with suppress(PrecisionRefused):
            models[precision] = trial.load(replace(execution, precision=precision))
    inputs = trial.inputs()
    answers = {precision: trial.answers(model, inputs) for precision, model in models.items()}
    medians_ms = _medians_ms({precision: partial(trial.answers, model, inputs) for precision, model in models.items()})
    candidates = tuple(
        Candidate(precision, round(medians_ms[precision], 3), round(distance(answers[precision], answers["f32"]), 6))
        for precision in models
    )
    device = placed(execution.device)
    choice = Choice(trial.name, processor_name(device), ov.__version__, fastest(candidates), candidates)
    tried = ", ".join(f"{c.precision} {c.median_ms:.1f} ms, gap {c.largest_gap:.4f}" for c in candidates)
    log.info("%s runs in %s: %s", trial.name, choice.precision, tried, extra={"action": "precision_chosen"})
    return choice


def _medians_ms(runs: Mapping[Precision, Callable[[], object]]) -> Mapping[Precision, float]:
    """Return the median time of each run. Each round has every run once: other load delays all alike."""
    seconds: dict[Precision, list[float]] = {precision: [] for precision in runs}
    for _ in range(_ROUNDS):
        for precision, run in runs.items():
            start_s = time.perf_counter()
            run()
            seconds[precision].append(time.perf_counter() - start_s)
    return {precision: 1000 * statistics.median(durations) for precision, durations in seconds.items()}


def _path(key: str, execution: Execution) -> Path:
    """Return the file of the choice for these weights, this processor and this OpenVINO."""
    device = placed(execution.device)
    origin = f"{_RULE}|{key}|{processor_name(device)}|{precisions_on(device)}|openvino {ov.__version__}"
    return execution.cache / CHOICES / f"{hashlib.sha256(origin.encode()).hexdigest()[:32]}.json"


def _kept_precision(path: Path) -> Precision | None:
    """Return the precision of a kept choice; None without one, and for a file that is none."""
    try:
        precision = json.loads(path.read_text("utf-8"))["precision"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return precision if precision in get_args(Precision) else None


def _keep(choice: Choice, path: Path) -> None:
    """Write a choice, whole or not at all; where that fails, a log line says why."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the folder of graphs, where a start of the node removes what a killed process left.
        folder = path.parent.parent
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part", encoding="utf-8", delete=False) as file:
            json.dump(asdict(choice), file, indent=1)
        Path(file.name).replace(path)
    except OSError as error:
        log.warning("the choice of a precision is not kept, and made again at the next start: %s", error)
