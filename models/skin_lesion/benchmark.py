"""How long one whole reading takes, ours beside Keras on TensorFlow in a process of its own.

A reading is: preparation, the network, the activation map on the source grid. The Keras side is run by
`benchmark_keras`, before and after ours on the same machine with as many threads: TensorFlow and
torch share no process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ainode.models.errors import ModelError, PrecisionRefused
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.runtime import Precision, cpu_has_bf16
from ainode.models.skin_lesion.calibration import Calibration
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.model import SkinLesionModel
from ainode.models.skin_lesion.preprocess import Picture

_PICTURES = 4
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One way to run it.

    Units: milliseconds for a whole reading, median and quartiles; `times_faster` than Keras' predict
    with Grad-CAM; `max_dp` is the largest difference in probability from it.
    """

    way: str
    network: str
    median_ms: float
    low_ms: float
    high_ms: float
    runs: int
    times_faster: float
    max_dp: float


@dataclass(frozen=True, slots=True)
class _Measured:
    seconds: list[float]
    answers: list[float]


def benchmark(
    paths: Mapping[str, Path], *, cache: Path, full_size: bool = False, runs: int = 15, threads: int = 2
) -> tuple[Row, ...]:
    """Return one row per way; `full_size` takes a network like the original's, with random weights."""
    torch.set_num_threads(threads)
    card = read_card()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "original.h5" if full_size else paths[card.network]
        before = _keras(weights, Path(folder), runs, threads)
        ours = {}
        for precision, where in _precisions(full_size=full_size):
            # A precision that moves a probability is refused by the model: then there is nothing to time.
            with suppress(PrecisionRefused):
                measured = _ours({card.network: weights}, cache, precision, runs, threads)
                ours[f"ainode, {where} {precision}"] = measured
        after = _keras(weights, Path(folder), runs, threads)
    both = {way: _Measured(one.seconds + after[way].seconds, one.answers) for way, one in before.items()}
    name = "three convolutions, as the original" if full_size else card.network
    base = next(iter(both.values()))
    return tuple(_row(way, name, one, base) for way, one in {**both, **ours}.items())


def _precisions(*, full_size: bool) -> tuple[tuple[Precision, str], ...]:
    if full_size:
        return (("f32", "torch (the head has hidden layers: Grad-CAM by autograd)"),)
    return (("f32", "OpenVINO"), ("bf16", "OpenVINO")) if cpu_has_bf16() else (("f32", "OpenVINO"),)


def _row(way: str, name: str, one: _Measured, base: _Measured) -> Row:
    median = statistics.median(one.seconds)
    low, high = np.percentile(one.seconds, [25, 75])
    return Row(
        way=way,
        network=name,
        median_ms=1000 * median,
        low_ms=1000 * float(low),
        high_ms=1000 * float(high),
        runs=len(one.seconds),
        times_faster=statistics.median(base.seconds) / median,
        max_dp=max(abs(a - b) for a, b in zip(one.answers, base.answers, strict=True)),
    )


def pictures() -> tuple[Picture, ...]:
    """Return phantoms of the size of ISIC's smaller pictures."""
    return tuple(skin_lesion(np.random.default_rng(seed), rows=768, columns=1024) for seed in range(_PICTURES))


def _ours(paths: Mapping[str, Path], cache: Path, precision: Precision, runs: int, threads: int) -> _Measured:
    model = SkinLesionModel.load(paths, cache=cache, device="cpu", precision=precision, threads=threads)
    # One view on both sides.
    model = replace(model, calibration=Calibration())
    drawn = pictures()
    answers = [model.predict(picture).probability for picture in drawn]
    seconds = []
    for turn in range(_WARM_UP + runs):
        began = time.perf_counter()
        model.predict(drawn[turn % _PICTURES])
        seconds.append(time.perf_counter() - began)
    return _Measured(seconds[_WARM_UP:], answers)


def _keras(weights: Path, folder: Path, runs: int, threads: int) -> dict[str, _Measured]:
    """Return what Keras on TensorFlow takes for the same pictures; it makes the original-like file if it is absent."""
    drawn = folder / "pictures.npy"
    np.save(drawn, np.stack(pictures()))
    program = [sys.executable, "-m", "ainode.models.skin_lesion.benchmark_keras"]
    alike = {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(  # noqa: S603  # our own module
        [*program, str(weights), str(drawn), str(runs)],
        env=os.environ | alike | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ModelError(f"Keras on TensorFlow ended: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {way: _Measured(one["seconds"], one["answers"]) for way, one in found.items()}
