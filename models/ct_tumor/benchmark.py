"""How long a series takes, every slice and the maps of its key slices: ours beside Keras on TensorFlow.

The Keras side is run by `benchmark_keras`, before and after ours on the same machine with as many threads: TensorFlow
and torch share no process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ainode.models.ct_tumor.benchmark_keras import KEY_SLICES, WARM_UP
from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.ct_tumor.model import TumorModel
from ainode.models.ct_tumor.preprocess import windowed
from ainode.models.errors import PrecisionRefused
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.runtime import Precision, cpu_has_bf16

_SLICES = 24


@dataclass(frozen=True, slots=True)
class Row:
    """One way to run it.

    Units: milliseconds for a series of `slices`, median and quartiles; `times_faster` than Keras' predict with
    Grad-CAM; `max_dp` is the largest difference in probability from it.
    """

    way: str
    network: str
    slices: int
    median_ms: float
    low_ms: float
    high_ms: float
    runs: int
    times_faster: float
    max_dp: float


@dataclass(frozen=True, slots=True)
class _Measured:
    seconds: list[float]
    answers: NDArray[np.float64]


def benchmark(path: Path | None, *, cache: Path, runs: int = 5, threads: int = 2) -> tuple[Row, ...]:
    """Return one row per way for the lung's network in `path`; without one, for the original's ResNet50, untrained."""
    torch.set_num_threads(threads)
    organ = read_card().organ("lung")
    precisions: tuple[Precision, ...] = ("f32", "bf16") if cpu_has_bf16() else ("f32",)
    with tempfile.TemporaryDirectory() as folder:
        weights = path or Path(folder) / "original.h5"
        before = _keras(weights, organ, Path(folder), runs, threads)
        ours = {}
        for one in precisions:
            # A precision that moves an answer too far is refused, and has no figure.
            with suppress(PrecisionRefused):
                ours[f"ainode, OpenVINO {one}"] = _ours(weights, organ, cache, one, runs, threads)
        after = _keras(weights, organ, Path(folder), runs, threads)
    base = _Measured(before.seconds + after.seconds, before.answers)
    name = "efficientnet_lite0" if path else "ResNet50, as the original"
    measured = {"Keras predict on TensorFlow, Grad-CAM": base, **ours}
    return tuple(_row(way, name, one, base) for way, one in measured.items())


def series(organ: Organ) -> NDArray[np.uint8]:
    """Return a synthetic series of a usual size, windowed."""
    drawn = abdomen(np.random.default_rng(0), slices=_SLICES, side=512)
    return np.stack([windowed(one, organ.level, organ.width) for one in drawn.values])


def _row(way: str, name: str, one: _Measured, base: _Measured) -> Row:
    median = statistics.median(one.seconds)
    low, high = np.percentile(one.seconds, [25, 75])
    return Row(
        way=way,
        network=name,
        slices=_SLICES,
        median_ms=1000 * median,
        low_ms=1000 * float(low),
        high_ms=1000 * float(high),
        runs=len(one.seconds),
        times_faster=statistics.median(base.seconds) / median,
        max_dp=float(np.abs(one.answers - base.answers).max()),
    )


def _ours(  # what to run, where, and how
    weights: Path, organ: Organ, cache: Path, precision: Precision, runs: int, threads: int
) -> _Measured:
    model = TumorModel.load(weights, organ, cache=cache, device="cpu", precision=precision, threads=threads)
    # No temperature on either side.
    model = replace(model, calibration=Calibration())
    pictures = series(organ)

    def read() -> Sequence[NDArray[np.float64]]:
        found = model.read_pictures(pictures)
        for key in found.key_slices(KEY_SLICES, organ.positive_index):
            key.saliency()
        return [one.probabilities for one in found.slices]

    answers, seconds = np.stack(read()), []
    for _ in range(WARM_UP + runs):
        began = time.perf_counter()
        read()
        seconds.append(time.perf_counter() - began)
    return _Measured(seconds[WARM_UP:], answers)


def _keras(weights: Path, organ: Organ, folder: Path, runs: int, threads: int) -> _Measured:
    """Return what Keras on TensorFlow takes for the same slices; it makes the original-like file if it is absent."""
    drawn = folder / "slices.npy"
    np.save(drawn, series(organ))
    program = [sys.executable, "-m", "ainode.models.ct_tumor.benchmark_keras"]
    done = subprocess.run(  # noqa: S603  # our own module
        [*program, str(weights), str(drawn), str(runs), str(threads)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return _Measured(found["seconds"], np.asarray(found["answers"]))
