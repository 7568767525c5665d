"""How long one whole pneumonia read takes, ours beside what a user would write.

A read is: windowing and resizing of a 512 x 512 x 60 scan, DCG with its saliency, regions, priors, 25 steps of
sampling. The baseline is eager PyTorch in inference_mode behind the same preparation; the original's own preparation
(scipy.ndimage.zoom) is a row of its own, and not what we compare with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom

from ainode.models.benchmarking import Table, head, rows, timed
from ainode.models.ct_pneumonia.card import read_card
from ainode.models.ct_pneumonia.checkpoints import load_pneumonia
from ainode.models.ct_pneumonia.dcg import LARGE
from ainode.models.ct_pneumonia.diffusion import Pneumonia, answer
from ainode.models.ct_pneumonia.model import PneumoniaModel, noise
from ainode.models.ct_pneumonia.preprocess import SHAPE, Array, prepared, windowed
from ainode.models.phantoms.thorax import Field, thorax
from ainode.models.running.runtime import Execution, precisions, sha256_of

_SCANNED = Field((60, 512, 512), (5.0, 0.75, 0.75))
_SEED = 1


def benchmark(path: Path | None, *, cache: Path, runs: int = 9, threads: int = 2) -> Table:
    """Return a row per way; without a path the large network is timed with seeded random weights."""
    torch.set_num_threads(threads)
    card = read_card() if path else replace(read_card(), size="large")
    network = load_pneumonia(path, card.size) if path else _drawn()
    digest = sha256_of(path) if path else "seeded"
    ways: dict[str, Callable[[Array], float]] = {
        "PyTorch eager, inference_mode": lambda scan: _eager(network, prepared(scan)),
        "the same behind scipy.ndimage.zoom": lambda scan: _eager(network, _zoomed(scan)),
    }
    for precision in precisions():
        execution = Execution(cache / "benchmark", "cpu", precision, threads)
        ours = PneumoniaModel.of(lambda: network, digest, execution=execution, card=card)
        # The model takes f32 instead where bfloat16 moves its answers; that is no row of its own.
        if ours.precision == precision:
            ways[f"ainode, OpenVINO {precision}"] = partial(_ours, ours)
    scans = [thorax(seed, seed, scanned=_SCANNED, consolidations=3 * seed).values for seed in range(2)]
    return Table(head("network", pick="eager"), rows(timed(ways, scans, runs), card.size))


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
