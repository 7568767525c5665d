"""The duration of reading a series, every slice and the maps of its key slices, by ainode and by Keras on TensorFlow.

`benchmark_keras` runs the Keras side, before and after ainode's side, on the same machine with as many threads:
TensorFlow and torch share no process.
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

from ainode.models.benchmarking import (
    Table,
    Timing,
    column_titles,
    compared_timings,
    has_tensorflow,
    keras_table,
    keras_timings,
    table_rows,
    timings,
)
from ainode.models.ct_tumor.benchmark_keras import KEY_SLICES, WARM_UP, like_the_original
from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.ct_tumor.model import TumorModel
from ainode.models.ct_tumor.preprocess import windowed_slice
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.running.keras_network import backend
from ainode.models.running.runtime import Execution, precisions

_SLICES = 24


def benchmark(path: Path | None, *, cache: Path, runs: int = 5, threads: int = 2) -> Table:
    """Return a row per way for the lung's network in `path`; without one, for the original's ResNet50, untrained."""
    torch.set_num_threads(threads)
    organ = read_card().organ("lung")
    with tempfile.TemporaryDirectory() as folder:
        weights, series_path = path or Path(folder) / "original.h5", Path(folder) / "slices.npy"
        np.save(series_path, series(organ))
        if path is None and not has_tensorflow():
            # With TensorFlow, `benchmark_keras` saves the file: to save it in this process would import TensorFlow.
            like_the_original(backend("torch"), organ).save(weights)
        timings_by_method = compared_timings(
            lambda: keras_timings(
                "ainode.models.ct_tumor.benchmark_keras", weights, series_path, runs, threads=threads
            ),
            {
                f"ainode, OpenVINO {precision}": partial(
                    _ainode_timing, weights, organ, Execution(cache, "cpu", precision, threads), runs
                )
                for precision in precisions()
            },
        )
    network = "efficientnet_lite0" if path else "ResNet50, as the original"
    return keras_table(
        column_titles("network", "slices", reference="Keras"), table_rows(timings_by_method, network, _SLICES)
    )


def series(organ: Organ) -> NDArray[np.uint8]:
    """Return a synthetic series of a usual size, windowed."""
    phantom = abdomen(np.random.default_rng(0), slices=_SLICES, side=512)
    return np.stack([windowed_slice(slice_, organ.level, organ.width) for slice_ in phantom.values])


def _ainode_timing(weights: Path, organ: Organ, execution: Execution, runs: int) -> Timing:
    model = TumorModel.load(weights, organ, execution=execution)
    # Keras divides no logit by a temperature, so ainode does not either.
    model = replace(model, calibration=Calibration())

    def read(pictures: NDArray[np.uint8]) -> Sequence[NDArray[np.float64]]:
        reading = model.read_pictures(pictures)
        for key_slice in reading.key_slices(KEY_SLICES, organ.positive_index):
            key_slice.saliency()
        return [slice_.probabilities for slice_ in reading.slices]

    return timings({"ainode": read}, [series(organ)], runs, warm_up=WARM_UP)["ainode"]
