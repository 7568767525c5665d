"""The duration of one whole reading, by ainode and by Keras on TensorFlow in a process of its own.

A reading is: preparation, the network, the activation map on the source grid. `benchmark_keras` runs the Keras side,
before and after ainode's side, on the same machine with as many threads: TensorFlow and torch share no process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

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
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.running.keras_network import backend
from ainode.models.running.runtime import Execution, Precision, precisions
from ainode.models.skin_lesion.benchmark_keras import WARM_UP, like_the_original
from ainode.models.skin_lesion.calibration import Calibration
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.model import SkinLesionModel
from ainode.models.skin_lesion.preprocess import Picture

_PICTURES = 4


def benchmark(
    paths: Mapping[str, Path], *, cache: Path, full_size: bool = False, runs: int = 15, threads: int = 2
) -> Table:
    """Return a row per way; `full_size` takes a network like the original's, with random weights."""
    torch.set_num_threads(threads)
    name = read_card().network
    with tempfile.TemporaryDirectory() as folder:
        weights, pictures_path = (
            Path(folder) / "original.h5" if full_size else paths[name],
            Path(folder) / "pictures.npy",
        )
        np.save(pictures_path, np.stack(pictures()))
        if full_size and not has_tensorflow():
            # With TensorFlow, `benchmark_keras` saves the file: to save it in this process would import TensorFlow.
            like_the_original(backend("torch"), read_card().side).save(weights)
        timings_by_method = compared_timings(
            lambda: keras_timings(
                "ainode.models.skin_lesion.benchmark_keras", weights, pictures_path, runs, threads=threads
            ),
            {
                f"ainode, {engine} {precision}": partial(
                    _ainode_timing, {name: weights}, Execution(cache, "cpu", precision, threads), runs
                )
                for precision, engine in _precisions(full_size=full_size)
            },
        )
    network = "three convolutions, as the original" if full_size else name
    return keras_table(column_titles("network", reference="Keras"), table_rows(timings_by_method, network, digits=1))


def _precisions(*, full_size: bool) -> tuple[tuple[Precision, str], ...]:
    if full_size:
        return (("f32", "torch (the head has hidden layers: Grad-CAM by autograd)"),)
    return tuple((precision, "OpenVINO") for precision in precisions())


def pictures() -> tuple[Picture, ...]:
    """Return phantoms of the size of ISIC's smaller pictures."""
    return tuple(skin_lesion(np.random.default_rng(seed), rows=768, columns=1024) for seed in range(_PICTURES))


def _ainode_timing(paths: Mapping[str, Path], execution: Execution, runs: int) -> Timing:
    model = SkinLesionModel.load(paths, execution=execution)
    # Keras reads one view, so ainode reads one view too.
    model = replace(model, calibration=Calibration())
    methods = {"ainode": lambda picture: model.predict(picture).probability}
    return timings(methods, pictures(), runs, warm_up=WARM_UP)["ainode"]
