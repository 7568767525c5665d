"""The durations of whole readings: several methods read the same inputs in turn; each method is a row of a table.

This module imports neither torch nor TensorFlow: both sides of a comparison use it, each in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ainode.models.errors import ModelError, PrecisionRefused, installation
from ainode.models.running.keras_network import backend

if TYPE_CHECKING:
    from ainode.models.running.runtime import Execution

Input = TypeVar("Input")

_RANK_OF_MAPS = 4
# The last columns of a table: each compares a row with the first row.
_COMPARING_COLUMNS = 2


class Table(NamedTuple):
    """Titles and rows of a comparison, and a sentence about what the table lacks."""

    titles: tuple[str, ...]
    rows: list[Sequence[object]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations of one method's readings, in seconds, and its probabilities.

    Shapes: probabilities (inputs, ...).
    """

    seconds: list[float]
    probabilities: NDArray[np.float64]


def timings(
    methods: Mapping[str, Callable[[Input], ArrayLike]], inputs: Sequence[Input], runs: int, *, warm_up: int = 0
) -> dict[str, Timing]:
    """Return the timing of every method. Each round times each method once: other load delays all methods alike."""
    probabilities = {
        name: np.asarray([method(item) for item in inputs], np.float64) for name, method in methods.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for round_number in range(warm_up + runs):
        for name, method in methods.items():
            start_s = time.perf_counter()
            method(inputs[round_number % len(inputs)])
            seconds[name].append(time.perf_counter() - start_s)
    return {name: Timing(seconds[name][warm_up:], probabilities[name]) for name in methods}


def compared_timings(
    baseline: Callable[[], dict[str, Timing]], candidates: Mapping[str, Callable[[], Timing]]
) -> dict[str, Timing]:
    """Return the timings of the baseline, taken before and after the candidates', then those of the candidates."""
    first_timings, candidate_timings = baseline(), {}
    for name, method in candidates.items():
        # The model refuses a precision that moves a probability: such a precision has no row.
        with suppress(PrecisionRefused):
            candidate_timings[name] = method()
    second_timings = baseline()
    return {
        name: Timing(timing.seconds + second_timings[name].seconds, timing.probabilities)
        for name, timing in first_timings.items()
    } | candidate_timings


def eager_and_served(cache: Path, threads: int) -> dict[str, Execution]:
    """Return how a network runs in the row of eager PyTorch, and in the row of ainode."""
    from ainode.models.running.runtime import Execution  # noqa: PLC0415  # OpenVINO, which Keras' process does without

    return {
        "PyTorch eager, inference_mode": Execution(cache, "torch-cpu"),
        "ainode, OpenVINO f32": Execution(cache, "cpu", "f32", threads),
    }


def column_titles(*shared_titles: str, reference: str) -> tuple[str, ...]:
    """Return the titles over `table_rows`; `reference` names the first row, which the other rows are compared with."""
    return ("way", *shared_titles, "median ms", "quartiles ms", "runs", f"x {reference}", "largest dp")


def table_rows(
    timings_by_method: Mapping[str, Timing], *shared_values: object, digits: int = 0
) -> list[Sequence[object]]:
    """Return a row per method: name, shared values, median, quartiles, runs, speed, probabilities.

    The speed is a multiple of the first method's; of the probabilities, the largest difference from the first method's.
    """
    first, *_ = timings_by_method.values()
    reference_s = statistics.median(first.seconds)
    return [
        (
            name,
            *shared_values,
            f"{1000 * statistics.median(timing.seconds):.{digits}f}",
            "-".join(f"{1000 * float(np.percentile(timing.seconds, part)):.{digits}f}" for part in (25, 75)),
            len(timing.seconds),
            f"{reference_s / statistics.median(timing.seconds):.2f}",
            f"{np.abs(timing.probabilities - first.probabilities).max():.4f}",
        )
        for name, timing in timings_by_method.items()
    ]


def keras_table(titles: tuple[str, ...], rows: list[Sequence[object]]) -> Table:
    """Return a table whose first rows are Keras; without TensorFlow, a table without Keras and with a note."""
    if has_tensorflow():
        return Table(titles, rows)
    note = f"Keras column left out: tensorflow is not installed; {installation('train')}"
    return Table(titles[:-_COMPARING_COLUMNS], [row[:-_COMPARING_COLUMNS] for row in rows], note)


def has_tensorflow() -> bool:
    """Return whether TensorFlow is installed; it is not imported."""
    return importlib.util.find_spec("tensorflow") is not None


def timings_json(timings_by_method: Mapping[str, Timing]) -> str:
    """Return timings as JSON, which `keras_timings` reads in the parent process."""
    return json.dumps(
        {name: [timing.seconds, timing.probabilities.tolist()] for name, timing in timings_by_method.items()}
    )


def keras_timings(module: str, *arguments: object, threads: int) -> dict[str, Timing]:
    """Run a module with Keras on TensorFlow in a process of its own; return its timings, none without TensorFlow.

    Raises: ModelError with the end of the module's error output, if it fails.
    """
    if not has_tensorflow():
        return {}
    limits = {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.run(  # noqa: S603  # our own module
        [sys.executable, "-m", module, *map(str, arguments)],
        env=os.environ | limits | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise ModelError(f"Keras on TensorFlow ended: {process.stderr.strip()[-500:]}")
    timings_by_method = json.loads(process.stdout.splitlines()[-1])
    return {
        name: Timing(seconds, np.asarray(probabilities, np.float64))
        for name, (seconds, probabilities) in timings_by_method.items()
    }


def grad_cam_function(network: Any, output: int) -> Any:  # noqa: ANN401  # a keras.Model; a compiled function of tensors
    """Return a compiled function from a picture to its Grad-CAM map of an output, as Keras' own example writes it."""
    import tensorflow as tf  # noqa: PLC0415  # the process is TensorFlow's

    last_maps = next(layer for layer in reversed(network.layers) if len(layer.output.shape) == _RANK_OF_MAPS)
    features_and_answer = backend("tensorflow").Model(network.inputs, [last_maps.output, network.outputs[0]])

    @tf.function  # type: ignore[untyped-decorator]
    def activation_map(picture: Any) -> Any:  # noqa: ANN401  # tensors
        with tf.GradientTape() as tape:
            features, answer = features_and_answer(picture, training=False)
            score = answer[:, output]
        weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(weights * features, axis=3))[0]

    return activation_map
