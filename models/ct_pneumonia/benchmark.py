"""How long one whole pneumonia read takes, ours beside what a user would write.

A read is: windowing and resizing of a 512 x 512 x 60 scan, DCG with its saliency, regions, priors, 25 steps of
sampling. The baseline is eager PyTorch in inference_mode behind the same preparation; the original's own preparation
(scipy.ndimage.zoom) is a row of its own, and not what we compare with.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom

from ainode.models.ct_pneumonia.card import read_card
from ainode.models.ct_pneumonia.checkpoints import load_pneumonia
from ainode.models.ct_pneumonia.dcg import LARGE
from ainode.models.ct_pneumonia.diffusion import Pneumonia, answer
from ainode.models.ct_pneumonia.model import PneumoniaModel, noise
from ainode.models.ct_pneumonia.preprocess import SHAPE, Array, prepared, windowed
from ainode.models.phantoms.thorax import Field, thorax
from ainode.models.runtime import Precision, cpu_has_bf16, sha256_of

_SCANNED = Field((60, 512, 512), (5.0, 0.75, 0.75))
_SEED = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One way to run it.

    Units: milliseconds for a whole read, median and quartiles of `runs` interleaved ones; `max_dp` is the largest
    difference in probability from the eager baseline.
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
class _Way:
    name: str
    read: Callable[[Array], float]


def benchmark(path: Path | None, *, cache: Path, runs: int = 9, threads: int = 2) -> tuple[Row, ...]:
    """Return one row per way; without a path the large network is timed with seeded random weights."""
    torch.set_num_threads(threads)
    card = read_card() if path else replace(read_card(), size="large")
    network = load_pneumonia(path, card.size) if path else _drawn()
    digest = sha256_of(path) if path else "seeded"
    ways = [
        _Way("PyTorch eager, inference_mode", lambda scan: _eager(network, prepared(scan))),
        _Way("the same behind scipy.ndimage.zoom", lambda scan: _eager(network, _zoomed(scan))),
    ]
    precisions: tuple[Precision, ...] = ("f32", "bf16") if cpu_has_bf16() else ("f32",)
    for precision in precisions:
        ours = PneumoniaModel.of(lambda: network, digest, cache / "benchmark", card, ("cpu", precision, threads))
        # The model takes f32 instead where bfloat16 moves its answers; that is no row of its own.
        if ours.precision == precision:
            ways.append(_Way(f"ainode, OpenVINO {precision}", partial(_ours, ours)))
    scans = [thorax(seed, seed, scanned=_SCANNED, consolidations=3 * seed).values for seed in range(2)]
    answers = [[way.read(scan) for scan in scans] for way in ways]
    seconds = _interleaved(ways, scans, runs)
    base = statistics.median(seconds[0])
    return tuple(
        Row(
            way=way.name,
            network=card.size,
            median_ms=1000 * statistics.median(times),
            low_ms=1000 * float(np.percentile(times, 25)),
            high_ms=1000 * float(np.percentile(times, 75)),
            runs=len(times),
            times_faster=base / statistics.median(times),
            max_dp=max(abs(a - b) for a, b in zip(found, answers[0], strict=True)),
        )
        for way, times, found in zip(ways, seconds, answers, strict=True)
    )


def _drawn() -> Pneumonia:
    torch.manual_seed(0)
    return Pneumonia(LARGE).eval()


def _ours(model: PneumoniaModel, scan: Array) -> float:
    return model.predict(scan, _SEED).probability


def _eager(network: Pneumonia, inputs: Array) -> float:
    with torch.inference_mode():
        return float(answer(network(torch.from_numpy(inputs), torch.from_numpy(noise(_SEED))))[0, 1])


def _zoomed(scan: Array) -> Array:
    """Return the input as the original prepares it, with the fixed window."""
    turned = windowed(scan).transpose(2, 1, 0)
    small = zoom(turned, [wanted / n for wanted, n in zip(SHAPE, turned.shape, strict=True)], order=1)
    return np.asarray(small, np.float32)[None, None]


def _interleaved(ways: list[_Way], scans: list[Array], runs: int) -> list[list[float]]:
    """Time every way once per round, so that what else the machine does meets all alike."""
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(runs):
        for index, way in enumerate(ways):
            began = time.perf_counter()
            way.read(scans[turn % len(scans)])
            seconds[index].append(time.perf_counter() - began)
    return seconds
