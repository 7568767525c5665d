"""How long a series takes, every slice and the maps of its key slices: ours beside Keras on TensorFlow.

The Keras side is run by `benchmark_keras`, before and after ours on the same machine with as many threads: TensorFlow
and torch share no process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ainode.models.benchmarking import Table, Timed, beside, has_tensorflow, head, keras_side, keras_table, rows, timed
from ainode.models.ct_tumor.benchmark_keras import KEY_SLICES, WARM_UP, like_the_original
from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.ct_tumor.model import TumorModel
from ainode.models.ct_tumor.preprocess import windowed
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.running.keras_network import backend
from ainode.models.running.runtime import Execution, precisions

_SLICES = 24


def benchmark(path: Path | None, *, cache: Path, runs: int = 5, threads: int = 2) -> Table:
    """Return a row per way for the lung's network in `path`; without one, for the original's ResNet50, untrained."""
    torch.set_num_threads(threads)
    organ = read_card().organ("lung")
    with tempfile.TemporaryDirectory() as folder:
        weights, drawn = path or Path(folder) / "original.h5", Path(folder) / "slices.npy"
        np.save(drawn, series(organ))
        if path is None and not has_tensorflow():
            # With TensorFlow, `benchmark_keras` saves the file: to save it in this process would import TensorFlow.
            like_the_original(backend("torch"), organ).save(weights)
        ways = beside(
            lambda: keras_side("ainode.models.ct_tumor.benchmark_keras", weights, drawn, runs, threads=threads),
            {
                f"ainode, OpenVINO {one}": partial(_ours, weights, organ, Execution(cache, "cpu", one, threads), runs)
                for one in precisions()
            },
        )
    network = "efficientnet_lite0" if path else "ResNet50, as the original"
    return keras_table(head("network", "slices", pick="Keras"), rows(ways, network, _SLICES))


def series(organ: Organ) -> NDArray[np.uint8]:
    """Return a synthetic series of a usual size, windowed."""
    drawn = abdomen(np.random.default_rng(0), slices=_SLICES, side=512)
    return np.stack([windowed(one, organ.level, organ.width) for one in drawn.values])


def _ours(weights: Path, organ: Organ, execution: Execution, runs: int) -> Timed:
    model = TumorModel.load(weights, organ, execution=execution)
    # No temperature on either side.
    model = replace(model, calibration=Calibration())

    def read(pictures: NDArray[np.uint8]) -> Sequence[NDArray[np.float64]]:
        found = model.read_pictures(pictures)
        for key in found.key_slices(KEY_SLICES, organ.positive_index):
            key.saliency()
        return [one.probabilities for one in found.slices]

    return timed({"ours": read}, [series(organ)], runs, warm_up=WARM_UP)["ours"]
