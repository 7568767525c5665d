"""The duration of one whole pneumonia read, by ainode and by the PyTorch that a user would write.

A read is: windowing and resizing of a 512 x 512 x 60 scan, DCG with its saliency, regions, priors, 25 steps of
sampling eight draws of noise in one batch. The baseline is eager PyTorch in inference_mode behind the same
preparation; the original's own preparation (scipy.ndimage.zoom) is a row of its own, and not the baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom

from ainode.models.benchmarking import Table, column_titles, table_rows, timings
from ainode.models.ct_pneumonia.card import read_card
from ainode.models.ct_pneumonia.checkpoints import load_pneumonia
from ainode.models.ct_pneumonia.dcg import LARGE
from ainode.models.ct_pneumonia.diffusion import Pneumonia, mixed_probabilities
from ainode.models.ct_pneumonia.model import PneumoniaModel, noise
from ainode.models.ct_pneumonia.preprocess import SHAPE, Array, network_input, windowed_values
from ainode.models.phantoms.thorax import Field, thorax
from ainode.models.running.runtime import Execution, precisions, sha256_of

_SCAN_FIELD = Field((60, 512, 512), (5.0, 0.75, 0.75))
_SEED = 1


def benchmark(path: Path | None, *, cache: Path, runs: int = 9, threads: int = 2) -> Table:
    """Return a row per method; without a path the large network is timed with seeded random weights."""
    torch.set_num_threads(threads)
    card = read_card() if path else replace(read_card(), size="large")
    network = load_pneumonia(path, card.size) if path else _seeded_network()
    digest = sha256_of(path) if path else "seeded"
    methods: dict[str, Callable[[Array], float]] = {
        "PyTorch eager, inference_mode": lambda scan: _eager_probability(network, network_input(scan)),
        "the same behind scipy.ndimage.zoom": lambda scan: _eager_probability(network, _zoomed_input(scan)),
    }
    for precision in precisions():
        execution = Execution(cache / "benchmark", "cpu", precision, threads)
        model = PneumoniaModel.of(lambda: network, digest, execution=execution, card=card)
        # Where bfloat16 moves a probability, the model takes f32 instead: then bfloat16 has no row.
        if model.precision == precision:
            methods[f"ainode, OpenVINO {precision}"] = partial(_ainode_probability, model)
    scans = [thorax(seed, seed, scanned=_SCAN_FIELD, consolidations=3 * seed).values for seed in range(2)]
    return Table(column_titles("network", reference="eager"), table_rows(timings(methods, scans, runs), card.size))


def _seeded_network() -> Pneumonia:
    torch.manual_seed(0)
    return Pneumonia(LARGE).eval()


def _ainode_probability(model: PneumoniaModel, scan: Array) -> float:
    return model.predict(scan, _SEED).probability


def _eager_probability(network: Pneumonia, inputs: Array) -> float:
    with torch.inference_mode():
        volume, draws = torch.from_numpy(inputs), torch.from_numpy(noise(_SEED))
        logits, local, _, regions = network.dcg_model(volume)
        features = network.prior_gen.features(volume, regions)
        same = (part.expand(len(draws), -1) for part in (logits, local, features))
        return float(mixed_probabilities(network.answer_parts(draws, *same))[:, 1].mean())


def _zoomed_input(scan: Array) -> Array:
    """Return the network's input as the original prepares a scan, with the fixed window."""
    transposed = windowed_values(scan).transpose(2, 1, 0)
    resized = zoom(transposed, [size / n for size, n in zip(SHAPE, transposed.shape, strict=True)], order=1)
    return np.asarray(resized, np.float32)[None, None]
