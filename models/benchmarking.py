"""How long whole readings take: ways of reading the same inputs, timed in turn, as rows of a table.

Imports neither torch nor TensorFlow: both sides of a comparison use it, each in a process of its own.
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
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ainode.models.errors import ModelError, PrecisionRefused
from ainode.models.running.keras_network import backend

Input = TypeVar("Input")

_RANK_OF_MAPS = 4
# The last columns of `head`: each compares a row with the first row.
_COMPARING_COLUMNS = 2


class Table(NamedTuple):
    """Titles and rows of a comparison, and a sentence about what the table lacks."""

    titles: tuple[str, ...]
    rows: list[Sequence[object]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Timed:
    """One way of reading, timed.

    Shapes: answers (inputs, ...), the probabilities that it gave.
    """

    seconds: list[float]
    answers: NDArray[np.float64]


def timed(
    ways: Mapping[str, Callable[[Input], ArrayLike]], inputs: Sequence[Input], runs: int, *, warm_up: int = 0
) -> dict[str, Timed]:
    """Return every way, timed once per round, so that what else the machine does meets all alike."""
    answers = {name: np.asarray([way(one) for one in inputs], np.float64) for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_up + runs):
        for name, way in ways.items():
            began = time.perf_counter()
            way(inputs[turn % len(inputs)])
            seconds[name].append(time.perf_counter() - began)
    return {name: Timed(seconds[name][warm_up:], answers[name]) for name in ways}


def beside(theirs: Callable[[], dict[str, Timed]], ours: Mapping[str, Callable[[], Timed]]) -> dict[str, Timed]:
    """Return their ways, timed before and after ours, and then ours."""
    before, found = theirs(), {}
    for name, way in ours.items():
        # A precision that moves a probability is refused by the model: then there is nothing to time.
        with suppress(PrecisionRefused):
            found[name] = way()
    after = theirs()
    return {name: Timed(one.seconds + after[name].seconds, one.answers) for name, one in before.items()} | found


def head(*said: str, pick: str) -> tuple[str, ...]:
    """Return the titles of `rows`; `pick` is what a user would pick, the first of the ways."""
    return ("way", *said, "median ms", "quartiles ms", "runs", f"x {pick}", "largest dp")


def rows(ways: Mapping[str, Timed], *said: object, digits: int = 0) -> list[Sequence[object]]:
    """Return a row per way: what is said of all, median and quartiles, how many times faster than the first way.

    Last comes the largest difference of a probability from the first way's.
    """
    first, *_ = ways.values()
    base = statistics.median(first.seconds)
    return [
        (
            name,
            *said,
            f"{1000 * statistics.median(one.seconds):.{digits}f}",
            "-".join(f"{1000 * float(np.percentile(one.seconds, part)):.{digits}f}" for part in (25, 75)),
            len(one.seconds),
            f"{base / statistics.median(one.seconds):.2f}",
            f"{np.abs(one.answers - first.answers).max():.4f}",
        )
        for name, one in ways.items()
    ]


def keras_table(titles: tuple[str, ...], rows: list[Sequence[object]]) -> Table:
    """Return a table whose first rows are Keras; without TensorFlow, a table without Keras and with a note."""
    if has_tensorflow():
        return Table(titles, rows)
    note = "Keras column left out: tensorflow is not installed; pip install 'ainode[train]'"
    return Table(titles[:-_COMPARING_COLUMNS], [row[:-_COMPARING_COLUMNS] for row in rows], note)


def has_tensorflow() -> bool:
    """Return whether TensorFlow is installed; it is not imported."""
    return importlib.util.find_spec("tensorflow") is not None


def written(ways: Mapping[str, Timed]) -> str:
    """Return what was timed in another process, for `keras_side` to read."""
    return json.dumps({name: [one.seconds, one.answers.tolist()] for name, one in ways.items()})


def keras_side(module: str, *arguments: object, threads: int) -> dict[str, Timed]:
    """Return what a module times that has Keras on TensorFlow to itself: TensorFlow and torch share no process.

    Without TensorFlow nothing is timed. Raises: ModelError with the end of the module's error output, if it fails.
    """
    if not has_tensorflow():
        return {}
    limits = {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(  # noqa: S603  # our own module
        [sys.executable, "-m", module, *map(str, arguments)],
        env=os.environ | limits | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ModelError(f"Keras on TensorFlow ended: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: Timed(seconds, np.asarray(answers, np.float64)) for name, (seconds, answers) in found.items()}


def grad_cam(network: Any, output: int) -> Any:  # noqa: ANN401  # a keras.Model; a compiled function of tensors
    """Return Grad-CAM of an output as Keras' own example writes it, compiled."""
    import tensorflow as tf  # noqa: PLC0415  # the process is TensorFlow's

    last = next(one for one in reversed(network.layers) if len(one.output.shape) == _RANK_OF_MAPS)
    both = backend("tensorflow").Model(network.inputs, [last.output, network.outputs[0]])

    @tf.function  # type: ignore[untyped-decorator]
    def weighed(square: Any) -> Any:  # noqa: ANN401  # tensors
        with tf.GradientTape() as tape:
            features, answer = both(square, training=False)
            score = answer[:, output]
        slope = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(slope * features, axis=3))[0]

    return weighed
