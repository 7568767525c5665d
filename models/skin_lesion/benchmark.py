"""The duration of one whole reading, by ainode and by what a user would pick.

A reading is: preparation, the network, the activation map on the source grid. The shipped network is compared with
eager PyTorch; one like the original's with Keras on TensorFlow in a process of its own, `benchmark_keras`, before and
after ainode's side, on the same machine with as many threads: TensorFlow and torch share no process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
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
from ainode.models.errors import PrecisionRefused
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.running.keras_network import backend
from ainode.models.running.runtime import Execution, precisions
from ainode.models.skin_lesion.benchmark_keras import WARM_UP, like_the_original
from ainode.models.skin_lesion.card import read_card
from ainode.models.skin_lesion.model import SkinLesionModel
from ainode.models.skin_lesion.preprocess import Picture

_PICTURES = 4


def benchmark(
    paths: Mapping[str, Path], *, cache: Path, full_size: bool = False, runs: int = 15, threads: int = 2
) -> Table:
    """Return a row per way; `full_size` takes a network like the original's, with random weights."""
    torch.set_num_threads(threads)
    return _original(cache, runs, threads) if full_size else _shipped(paths, cache, runs, threads)


def _shipped(paths: Mapping[str, Path], cache: Path, runs: int, threads: int) -> Table:
    """Return the shipped network's rows, each of four views in one batch."""
    name = read_card().network
    executions = {"PyTorch eager, inference_mode": Execution(cache, "torch-cpu")} | {
        f"ainode, OpenVINO {precision}": Execution(cache, "cpu", precision, threads) for precision in precisions()
    }
    methods: dict[str, Callable[[Picture], float]] = {}
    for title, execution in executions.items():
        # The model refuses a precision that moves a probability: such a precision has no row.
        with suppress(PrecisionRefused):
            methods[title] = partial(_probability, SkinLesionModel.load(paths, execution=execution))
    rows = table_rows(timings(methods, pictures(), runs, warm_up=WARM_UP), name, digits=1)
    return Table(column_titles("network", reference="eager"), rows)


def _original(cache: Path, runs: int, threads: int) -> Table:
    """Return the rows of a network like the original's, which runs in torch for its Grad-CAM."""
    name = read_card().network
    with tempfile.TemporaryDirectory() as folder:
        weights, pictures_path = Path(folder) / "original.h5", Path(folder) / "pictures.npy"
        np.save(pictures_path, np.stack(pictures()))
        if not has_tensorflow():
            # With TensorFlow, `benchmark_keras` saves the file: to save it in this process would import TensorFlow.
            like_the_original(backend("torch"), read_card().original_side).save(weights)

        def ainode_timing() -> Timing:
            model = SkinLesionModel.load({name: weights}, execution=Execution(cache, "cpu", "f32", threads))
            return timings({"": partial(_probability, model)}, pictures(), runs, warm_up=WARM_UP)[""]

        timings_by_method = compared_timings(
            lambda: keras_timings(
                "ainode.models.skin_lesion.benchmark_keras", weights, pictures_path, runs, threads=threads
            ),
            {"ainode, torch f32 (the head has hidden layers: Grad-CAM by autograd)": ainode_timing},
        )
    network = "three convolutions, as the original"
    return keras_table(column_titles("network", reference="Keras"), table_rows(timings_by_method, network, digits=1))


def _probability(model: SkinLesionModel, picture: Picture) -> float:
    return model.predict(picture).probability


def pictures() -> tuple[Picture, ...]:
    """Return phantoms of the size of ISIC's smaller pictures."""
    return tuple(skin_lesion(np.random.default_rng(seed), rows=768, columns=1024) for seed in range(_PICTURES))
